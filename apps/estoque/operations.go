package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/api"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
)

// What the document allows.
const (
	bodyLimit   = 64 << 10 // bytes; the largest reservation has a few KiB
	mostLines   = 20
	mostUnits   = 1000
	defaultKeep = 900 // seconds
	mostKeep    = 86400
	defaultPage = 20
	mostPage    = 100
	mostTopUp   = 1_000_000
	// mostPrice is the schema's: so many of the dearest item still fit into an order.
	mostPrice            = 1_000_000_000_000
	mostNameRunes        = 100
	mostDescriptionRunes = 1000
	mostReasonRunes      = 200
)

var idempotencyKeyForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// unavailableFor is when to come back while the database is down.
const unavailableFor = time.Second

// newServer wires the operations to their addresses.
func newServer(settings server.Settings, logger *slog.Logger, provider trace.TracerProvider, goods *stock.Stock, counts *counts) (*server.Server, error) {
	srv, err := server.New(settings, logger, provider, server.Options{BodyLimit: bodyLimit, Explain: explain, Document: contract.Document})
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}
	srv.Metrics().MustRegister(counts.reservations, newUnits(goods))
	router := srv.Router()
	router.Use(func(c *gin.Context) { c.Header("Cache-Control", "no-store") })
	contract.RegisterHandlersWithOptions(router, contract.NewHandler(operations{goods, counts}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
	return srv, nil
}

// explain tells a database that is down, or too busy to answer in time, from
// faults of our own.
func explain(err error) *problem.Error {
	// lock_not_available, query_canceled, deadlock_detected, serialization_failure
	switch code := postgres.Code(err); {
	case postgres.Down(err), code == "55P03", code == "57014", code == "40P01", code == "40001":
		e := problem.Wrap(problem.Unavailable, "The stock cannot be reached right now. Please try again in a moment.", err)
		e.RetryAfter = unavailableFor
		return e
	}
	return nil
}

// operations are those of the document.
type operations struct {
	goods  *stock.Stock
	counts *counts
}

var _ contract.StrictServerInterface = operations{}

// ListItems implements GET /estoque.
func (o operations) ListItems(ctx context.Context, request contract.ListItemsRequestObject) (contract.ListItemsResponseObject, error) {
	limit, after := int32(defaultPage), ""
	var faults []problem.Field
	if given := request.Params.Limit; given != nil {
		if limit = *given; limit < 1 || limit > mostPage {
			faults = append(faults, outOfRange("limit", 1, mostPage))
		}
	}
	if given := request.Params.Cursor; given != nil {
		var ok bool
		if after, ok = readCursor(*given); !ok {
			faults = append(faults, problem.Field{Name: "cursor", Detail: "is not a next_cursor of this list"})
		}
	}
	if len(faults) > 0 {
		return nil, problem.At(problem.InvalidValue, faults...)
	}
	items, err := o.goods.Items(ctx, after, limit+1)
	if err != nil {
		return nil, err
	}
	page := contract.ItemPage{Items: []contract.Item{}}
	if len(items) > int(limit) {
		items = items[:limit]
		page.NextCursor = new(cursorAfter(items[limit-1].SKU))
	}
	for _, item := range items {
		page.Items = append(page.Items, itemOf(item))
	}
	return contract.ListItems200JSONResponse(page), nil
}

// ShowItem implements GET /estoque/{sku}.
func (o operations) ShowItem(ctx context.Context, request contract.ShowItemRequestObject) (contract.ShowItemResponseObject, error) {
	if faults := checkSKU(request.SKU); len(faults) > 0 {
		return nil, problem.At(problem.InvalidValue, faults...)
	}
	item, err := o.goods.Item(ctx, request.SKU)
	if errors.Is(err, stock.ErrNotFound) {
		return nil, noItem(request.SKU)
	}
	if err != nil {
		return nil, err
	}
	return contract.ShowItem200JSONResponse(itemOf(item)), nil
}

// Reserve implements PUT /reservations/{order_id}.
func (o operations) Reserve(ctx context.Context, request contract.ReserveRequestObject) (contract.ReserveResponseObject, error) {
	lines, keep, err := readReservation(request.Body)
	if err != nil {
		o.counts.changed(outcomeRefused, true, nil)
		return nil, err
	}
	r, made, err := o.goods.Reserve(ctx, request.OrderID, lines, keep)
	o.counts.changed(outcomeReserved, made, err)
	if err != nil {
		return nil, explainReserve(err, lines)
	}
	answer, err := reservationOf(r)
	if err != nil {
		return nil, err
	}
	if !made {
		return contract.Reserve200JSONResponse(answer), nil
	}
	fault.Here(fault.StockReserved)
	return contract.Reserve201JSONResponse(answer), nil
}

// explainReserve names the lines that are at fault.
func explainReserve(err error, lines []stock.Line) error {
	at := func(code problem.Code, detail func(stock.Line) string) error {
		var faults []problem.Field
		field := "quantity"
		if code == problem.UnknownSKU {
			field = "sku"
		}
		for i, line := range lines {
			if text := detail(line); text != "" {
				faults = append(faults, problem.Field{Name: fmt.Sprintf("lines[%d].%s", i, field), Detail: text})
			}
		}
		return problem.At(code, faults...)
	}
	var unknown *stock.UnknownError
	var short *stock.ShortError
	switch {
	case errors.As(err, &unknown):
		missing := map[string]bool{}
		for _, sku := range unknown.SKUs {
			missing[sku] = true
		}
		return at(problem.UnknownSKU, func(line stock.Line) string {
			if missing[line.SKU] {
				return notSold
			}
			return ""
		})
	case errors.As(err, &short):
		return at(problem.InsufficientStock, func(line stock.Line) string {
			if available, ok := short.Available[line.SKU]; ok {
				return fmt.Sprintf("is more than the %d that are available", available)
			}
			return ""
		})
	case errors.Is(err, stock.ErrCurrencies):
		return problem.At(problem.InvalidValue, problem.Field{Name: "lines", Detail: "are priced in different currencies"})
	case errors.Is(err, stock.ErrMismatch):
		return problem.At(problem.ReservationMismatch, problem.Field{Name: "lines", Detail: "differ from those that this order has reserved before"})
	}
	return explainReleased(err)
}

func explainReleased(err error) error {
	if errors.Is(err, stock.ErrReleased) {
		return problem.New(problem.ReservationReleased, "This order's reservation was released before, which is for good.")
	}
	return err
}

// ConfirmReservation implements POST /reservations/{order_id}/confirm.
func (o operations) ConfirmReservation(ctx context.Context, request contract.ConfirmReservationRequestObject) (contract.ConfirmReservationResponseObject, error) {
	r, moved, err := o.goods.Confirm(ctx, request.OrderID)
	o.counts.changed(outcomeConfirmed, moved, err)
	var short *stock.ShortError
	switch {
	case errors.Is(err, stock.ErrNotFound):
		return nil, problem.New(problem.NotFound, "Nothing was reserved for this order.")
	case errors.As(err, &short):
		return nil, problem.New(problem.ReservationExpired, "This order's reservation has expired, and its items are not all there any more.")
	case err != nil:
		return nil, explainReleased(err)
	}
	if moved {
		fault.Here(fault.StockConfirmed)
	}
	answer, err := reservationOf(r)
	if err != nil {
		return nil, err
	}
	return contract.ConfirmReservation200JSONResponse(answer), nil
}

// ReleaseReservation implements POST /reservations/{order_id}/release.
func (o operations) ReleaseReservation(ctx context.Context, request contract.ReleaseReservationRequestObject) (contract.ReleaseReservationResponseObject, error) {
	r, moved, err := o.goods.Release(ctx, request.OrderID)
	o.counts.changed(outcomeReleased, moved, err)
	if err != nil {
		return nil, err
	}
	if moved {
		fault.Here(fault.StockReleased)
	}
	answer, err := reservationOf(r)
	if err != nil {
		return nil, err
	}
	return contract.ReleaseReservation200JSONResponse(answer), nil
}

// PutItem implements PUT /admin/estoque/{sku}.
func (o operations) PutItem(ctx context.Context, request contract.PutItemRequestObject) (contract.PutItemResponseObject, error) {
	body := request.Body
	faults := checkSKU(request.SKU)
	text := func(field, value string, least, most int) {
		length := utf8.RuneCountInString(strings.TrimSpace(value))
		if length < least || utf8.RuneCountInString(value) > most || strings.ContainsFunc(value, unicode.IsControl) {
			faults = append(faults, problem.Field{Name: field, Detail: fmt.Sprintf("is not %d to %d characters without control characters", least, most)})
		}
	}
	text("name", body.Name, 1, mostNameRunes)
	text("description", body.Description, 0, mostDescriptionRunes)
	if body.Price.Amount < 1 || body.Price.Amount > mostPrice {
		faults = append(faults, outOfRange("price.amount", 1, mostPrice))
	}
	if !money.IsCurrency(body.Price.Currency) {
		faults = append(faults, problem.Field{Name: "price.currency", Detail: "is no ISO 4217 code such as BRL"})
	}
	if len(faults) > 0 {
		return nil, problem.At(problem.InvalidValue, faults...)
	}
	item, made, err := o.goods.Put(ctx, stock.Item{SKU: request.SKU, Name: body.Name, Description: body.Description, Price: body.Price})
	if err != nil {
		return nil, err
	}
	if made {
		return contract.PutItem201JSONResponse(itemOf(item)), nil
	}
	return contract.PutItem200JSONResponse(itemOf(item)), nil
}

// TopUp implements POST /admin/estoque/{sku}/top-ups.
func (o operations) TopUp(ctx context.Context, request contract.TopUpRequestObject) (contract.TopUpResponseObject, error) {
	key, body := request.Params.IdempotencyKey, request.Body
	faults := checkSKU(request.SKU)
	if !idempotencyKeyForm.MatchString(key) {
		faults = append(faults, problem.Field{Name: "Idempotency-Key", Detail: "is not 1 to 64 letters, digits, dots, dashes and underscores"})
	}
	if body.Quantity < 1 || body.Quantity > mostTopUp {
		faults = append(faults, outOfRange("quantity", 1, mostTopUp))
	}
	// PostgreSQL takes no NUL, and a log no line breaks.
	if length := utf8.RuneCountInString(body.Reason); length > mostReasonRunes || strings.TrimSpace(body.Reason) == "" ||
		strings.ContainsFunc(body.Reason, unicode.IsControl) {
		faults = append(faults, problem.Field{Name: "reason", Detail: fmt.Sprintf("is not 1 to %d characters without control characters", mostReasonRunes)})
	}
	if len(faults) > 0 {
		return nil, problem.At(problem.InvalidValue, faults...)
	}
	item, made, err := o.goods.TopUp(ctx, key, stock.Line{SKU: request.SKU, Quantity: int64(body.Quantity)}, body.Reason)
	switch {
	case errors.Is(err, stock.ErrNotFound):
		return nil, noItem(request.SKU)
	case errors.Is(err, stock.ErrKeyReused):
		return nil, problem.At(problem.IdempotencyKeyReused, problem.Field{Name: "Idempotency-Key", Detail: "was used for another top-up before"})
	case err != nil:
		return nil, err
	case made:
		return contract.TopUp201JSONResponse(itemOf(item)), nil
	}
	return contract.TopUp200JSONResponse(itemOf(item)), nil
}

const notSold = "is not sold here"

// readReservation checks all of a reservation that can be checked without the stock.
func readReservation(body *contract.ReservationRequest) (lines []stock.Line, keep time.Duration, err error) {
	var unknown, faults []problem.Field
	if n := len(body.Lines); n < 1 || n > mostLines {
		return nil, 0, problem.At(problem.InvalidValue, problem.Field{Name: "lines", Detail: fmt.Sprintf("has %d entries, not 1 to %d", n, mostLines)})
	}
	first := map[string]int{}
	for i, line := range body.Lines {
		sku := fmt.Sprintf("lines[%d].sku", i)
		if before, twice := first[line.SKU]; twice {
			faults = append(faults, problem.Field{Name: sku, Detail: fmt.Sprintf("is that of lines[%d] too", before)})
		} else {
			first[line.SKU] = i
		}
		if !skuForm.MatchString(line.SKU) {
			unknown = append(unknown, problem.Field{Name: sku, Detail: notSold})
		}
		if line.Quantity < 1 || line.Quantity > mostUnits {
			faults = append(faults, outOfRange(fmt.Sprintf("lines[%d].quantity", i), 1, mostUnits))
		}
		lines = append(lines, stock.Line{SKU: line.SKU, Quantity: int64(line.Quantity)})
	}
	seconds := int32(defaultKeep)
	if given := body.ExpiresInSeconds; given != nil {
		if seconds = *given; seconds < 1 || seconds > mostKeep {
			faults = append(faults, outOfRange("expires_in_seconds", 1, mostKeep))
		}
	}
	switch {
	case len(faults) > 0:
		return nil, 0, problem.At(problem.InvalidValue, faults...)
	case len(unknown) > 0: // of a form that no SKU has: the stock need not be asked
		return nil, 0, problem.At(problem.UnknownSKU, unknown...)
	}
	return lines, time.Duration(seconds) * time.Second, nil
}

func checkSKU(sku string) []problem.Field {
	if skuForm.MatchString(sku) {
		return nil
	}
	return []problem.Field{{Name: "sku", Detail: "is not 1 to 32 capital letters, digits and dashes"}}
}

func outOfRange(field string, least, most int) problem.Field {
	return problem.Field{Name: field, Detail: fmt.Sprintf("is not from %d to %d", least, most)}
}

// noItem is about a SKU of the right form.
func noItem(sku string) error {
	return problem.New(problem.NotFound, "There is no item with the SKU "+sku+".")
}

func itemOf(item stock.Item) contract.Item {
	return contract.Item{SKU: item.SKU, Name: item.Name, Description: item.Description, Price: item.Price, Available: item.Available}
}

func reservationOf(r stock.Reservation) (contract.Reservation, error) {
	answer := contract.Reservation{OrderID: r.OrderID, State: contract.ReservationState(r.State), Lines: []contract.ReservationLine{}}
	for _, line := range r.Lines {
		answer.Lines = append(answer.Lines, contract.ReservationLine{SKU: line.SKU, Quantity: int32(line.Quantity), Price: line.Price})
	}
	var err error
	if answer.Total, err = r.Total(); err != nil {
		return contract.Reservation{}, err
	}
	if r.State == stock.Reserved || r.State == stock.Expired {
		answer.ExpiresAt = new(r.ExpiresAt.UTC())
	}
	return answer, nil
}

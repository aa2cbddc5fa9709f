// Package httpapi is estoque's HTTP API, as its OpenAPI document describes it.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/api"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// BodyLimit is the largest request body in bytes. The largest reservation has a few KiB.
const BodyLimit = 64 << 10

// Limits of the OpenAPI document; a test compares them.
const (
	maxLines       = 20
	maxUnits       = 1000  // of a line
	defaultKeep    = 900   // seconds
	maxKeep        = 86400 // seconds
	maxTopUp       = 1_000_000
	maxName        = 100 // characters
	maxDescription = 1000
	maxReason      = 200
)

// maxPrice is what one payment can be: nobody could buy a dearer item.
const maxPrice = money.MaxCharge

// unavailableFor is the Retry-After while the database is down.
const unavailableFor = time.Second

// Register serves the operations on router.
func Register(router gin.IRouter, goods *stock.Stock, counts *stock.Counts) {
	contract.RegisterHandlersWithOptions(router, contract.NewHandler(operations{goods, counts}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
}

// Explain maps a database that is down, or too busy to answer in time, to 503
// with Retry-After.
func Explain(err error) *problem.Error {
	// lock_not_available, query_canceled, deadlock_detected, serialization_failure
	switch code := postgres.Code(err); {
	case postgres.Down(err), code == "55P03", code == "57014", code == "40P01", code == "40001":
		e := problem.Wrap(problem.Unavailable, "The stock is temporarily unavailable. Retry the same request.", err)
		e.RetryAfter = unavailableFor
		return e
	}
	return nil
}

// operations implements the operations of the OpenAPI document.
type operations struct {
	goods  *stock.Stock
	counts *stock.Counts
}

var _ contract.StrictServerInterface = operations{}

// itemList is sorted by SKU. The prefix distinguishes its cursors from those of other
// lists.
var itemList = page.List[value.SKU]{
	Format: func(sku value.SKU) string { return cursorPrefix + string(sku) },
	Parse: func(text string) (value.SKU, error) {
		return value.ParseSKU(strings.TrimPrefix(text, cursorPrefix))
	},
}

const cursorPrefix = "estoque:"

// ListItems implements GET /estoque.
func (o operations) ListItems(ctx context.Context, request contract.ListItemsRequestObject) (contract.ListItemsResponseObject, error) {
	asked, err := itemList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	items, err := o.goods.Items(ctx, asked.After, asked.Limit+1)
	if err != nil {
		return nil, err
	}
	items, next := page.Cut(itemList, asked, items, func(item stock.Item) value.SKU { return item.SKU })
	answer := contract.ListItems200JSONResponse{Items: []contract.Item{}, NextCursor: next}
	for _, item := range items {
		answer.Items = append(answer.Items, viewItem(item))
	}
	return answer, nil
}

// ShowItem implements GET /estoque/{sku}.
func (o operations) ShowItem(ctx context.Context, request contract.ShowItemRequestObject) (contract.ShowItemResponseObject, error) {
	sku, err := value.ParseSKU(request.SKU)
	if err != nil {
		return nil, problem.At(problem.InvalidValue, problem.Field{Name: "sku", Detail: err.Error()})
	}
	item, err := o.goods.Item(ctx, sku)
	if err != nil {
		return nil, explainItem(err, sku)
	}
	return contract.ShowItem200JSONResponse(viewItem(item)), nil
}

// Reserve implements PUT /reservations/{order_id}.
func (o operations) Reserve(ctx context.Context, request contract.ReserveRequestObject) (contract.ReserveResponseObject, error) {
	lines, keep, err := readReservation(request.Body)
	if err != nil {
		o.counts.Refused()
		return nil, err
	}
	r, created, err := o.goods.Reserve(ctx, request.OrderID, lines, keep)
	o.counts.Moved(stock.Reserved, created, err)
	if err != nil {
		return nil, explainReserve(err, lines)
	}
	answer, err := viewReservation(r)
	if err != nil {
		return nil, err
	}
	if !created {
		return contract.Reserve200JSONResponse(answer), nil
	}
	fault.Here(fault.StockReserved)
	return contract.Reserve201JSONResponse(answer), nil
}

const (
	unknownSKU = "is not a known SKU"
	plainText  = "must be %d to %d characters without control characters"
)

// explainReserve maps a refusal of the stock to a problem that names the lines.
func explainReserve(err error, lines []stock.Line) error {
	var unknown *stock.UnknownError
	var short *stock.ShortError
	var errs problem.Fields
	switch {
	case errors.As(err, &unknown):
		for i, line := range lines {
			if unknown.Has(line.SKU) {
				errs.Add(fmt.Sprintf("lines[%d].sku", i), unknownSKU)
			}
		}
		return errs.Err(problem.UnknownSKU)
	case errors.As(err, &short):
		for i, line := range lines {
			if available, ok := short.Available[line.SKU]; ok {
				errs.Add(fmt.Sprintf("lines[%d].quantity", i), fmt.Sprintf("is more than the %d available", available))
			}
		}
		return errs.Err(problem.InsufficientStock)
	case errors.Is(err, stock.ErrCurrencies):
		return problem.At(problem.InvalidValue, problem.Field{Name: "lines", Detail: "are priced in different currencies"})
	case errors.Is(err, stock.ErrMismatch):
		return problem.At(problem.ReservationMismatch,
			problem.Field{Name: "lines", Detail: "differ from the lines that this order has reserved"})
	}
	return explainReleased(err)
}

func explainReleased(err error) error {
	if errors.Is(err, stock.ErrReleased) {
		return problem.New(problem.ReservationReleased, "This order's reservation has been released and cannot be used again.")
	}
	return err
}

// ConfirmReservation implements POST /reservations/{order_id}/confirm.
func (o operations) ConfirmReservation(
	ctx context.Context, request contract.ConfirmReservationRequestObject,
) (contract.ConfirmReservationResponseObject, error) {
	run := ""
	if request.Params.ServerRun != nil {
		run = *request.Params.ServerRun
	}
	r, moved, err := o.goods.Confirm(ctx, request.OrderID, run)
	o.counts.Moved(stock.Confirmed, moved, err)
	var short *stock.ShortError
	switch {
	case errors.Is(err, stock.ErrNotFound):
		return nil, problem.New(problem.NotFound, "This order has no reservation.")
	case errors.As(err, &short):
		return nil, problem.New(problem.ReservationExpired,
			"This order's reservation has expired, and some of its items are no longer available.")
	case err != nil:
		return nil, explainReleased(err)
	}
	if moved {
		fault.Here(fault.StockConfirmed)
	}
	answer, err := viewReservation(r)
	if err != nil {
		return nil, err
	}
	return contract.ConfirmReservation200JSONResponse(answer), nil
}

// ReleaseReservation implements POST /reservations/{order_id}/release.
func (o operations) ReleaseReservation(
	ctx context.Context, request contract.ReleaseReservationRequestObject,
) (contract.ReleaseReservationResponseObject, error) {
	r, moved, err := o.goods.Release(ctx, request.OrderID)
	o.counts.Moved(stock.Released, moved, err)
	if err != nil {
		return nil, err
	}
	if moved {
		fault.Here(fault.StockReleased)
	}
	answer, err := viewReservation(r)
	if err != nil {
		return nil, err
	}
	return contract.ReleaseReservation200JSONResponse(answer), nil
}

// PutItem implements PUT /admin/estoque/{sku}.
func (o operations) PutItem(ctx context.Context, request contract.PutItemRequestObject) (contract.PutItemResponseObject, error) {
	body := request.Body
	var errs problem.Fields
	sku, err := value.ParseSKU(request.SKU)
	if err != nil {
		errs.Add("sku", err.Error())
	}
	if strings.TrimSpace(body.Name) == "" || !isPlain(body.Name, maxName) {
		errs.Add("name", fmt.Sprintf(plainText, 1, maxName))
	}
	if !isPlain(body.Description, maxDescription) {
		errs.Add("description", fmt.Sprintf(plainText, 0, maxDescription))
	}
	errs.Range("price.amount", body.Price.Amount, 1, maxPrice)
	if !money.IsCurrency(body.Price.Currency) {
		errs.Add("price.currency", money.WrongCurrency)
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return nil, err
	}
	item, created, err := o.goods.Put(ctx, stock.Item{SKU: sku, Name: body.Name, Description: body.Description, Price: body.Price})
	if err != nil {
		return nil, err
	}
	if created {
		return contract.PutItem201JSONResponse(viewItem(item)), nil
	}
	return contract.PutItem200JSONResponse(viewItem(item)), nil
}

// isPlain tells whether text has at most max characters and no control characters:
// PostgreSQL cannot store NUL, and line breaks would break lines of a log.
func isPlain(text string, max int) bool {
	return utf8.RuneCountInString(text) <= max && !strings.ContainsFunc(text, unicode.IsControl)
}

// TopUp implements POST /admin/estoque/{sku}/top-ups.
func (o operations) TopUp(ctx context.Context, request contract.TopUpRequestObject) (contract.TopUpResponseObject, error) {
	body := request.Body
	var errs problem.Fields
	sku, err := value.ParseSKU(request.SKU)
	if err != nil {
		errs.Add("sku", err.Error())
	}
	key, err := value.ParseIdempotencyKey(request.Params.IdempotencyKey)
	if err != nil {
		errs.Add("Idempotency-Key", err.Error())
	}
	errs.Range("quantity", int64(body.Quantity), 1, maxTopUp)
	if strings.TrimSpace(body.Reason) == "" || !isPlain(body.Reason, maxReason) {
		errs.Add("reason", fmt.Sprintf(plainText, 1, maxReason))
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return nil, err
	}
	item, created, err := o.goods.TopUp(ctx, key, stock.Line{SKU: sku, Quantity: int64(body.Quantity)}, body.Reason)
	if err != nil {
		return nil, explainItem(err, sku)
	}
	if created {
		return contract.TopUp201JSONResponse(viewItem(item)), nil
	}
	return contract.TopUp200JSONResponse(viewItem(item)), nil
}

func explainItem(err error, sku value.SKU) error {
	switch {
	case errors.Is(err, stock.ErrNotFound):
		return problem.New(problem.NotFound, "There is no item with the SKU "+string(sku)+".")
	case errors.Is(err, stock.ErrKeyReused):
		return problem.At(problem.IdempotencyKeyReused,
			problem.Field{Name: "Idempotency-Key", Detail: "has been used for a different top-up"})
	}
	return err
}

// readReservation checks everything that does not depend on the stock. A malformed SKU
// is reported as unknown, like a well-formed one that no item has.
func readReservation(body *contract.ReservationRequest) (lines []stock.Line, keep time.Duration, err error) {
	var unknown, errs problem.Fields
	if n := len(body.Lines); n < 1 || n > maxLines {
		errs.Add("lines", fmt.Sprintf("must have 1 to %d entries, not %d", maxLines, n))
		return nil, 0, errs.Err(problem.InvalidValue)
	}
	first := map[string]int{}
	for i, line := range body.Lines {
		field := fmt.Sprintf("lines[%d].", i)
		if before, twice := first[line.SKU]; twice {
			errs.Add(field+"sku", fmt.Sprintf("is the same as in lines[%d]", before))
		} else {
			first[line.SKU] = i
		}
		sku, err := value.ParseSKU(line.SKU)
		if err != nil {
			unknown.Add(field+"sku", unknownSKU)
		}
		errs.Range(field+"quantity", int64(line.Quantity), 1, maxUnits)
		lines = append(lines, stock.Line{SKU: sku, Quantity: int64(line.Quantity)})
	}
	seconds := int32(defaultKeep)
	if body.ExpiresInSeconds != nil {
		seconds = *body.ExpiresInSeconds
		errs.Range("expires_in_seconds", int64(seconds), 1, maxKeep)
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return nil, 0, err
	}
	return lines, time.Duration(seconds) * time.Second, unknown.Err(problem.UnknownSKU)
}

func viewItem(item stock.Item) contract.Item {
	return contract.Item{
		SKU: string(item.SKU), Name: item.Name, Description: item.Description, Price: item.Price, Available: item.Available,
	}
}

func viewReservation(r stock.Reservation) (contract.Reservation, error) {
	answer := contract.Reservation{OrderID: r.OrderID, State: contract.ReservationState(r.State), Lines: []contract.ReservationLine{}}
	for _, line := range r.Lines {
		answer.Lines = append(answer.Lines, contract.ReservationLine{
			SKU: string(line.SKU), Quantity: int32(line.Quantity), Price: line.Price,
		})
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

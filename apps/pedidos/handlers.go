package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/card"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

const (
	statusPlaced   = http.StatusCreated
	statusAccepted = http.StatusAccepted

	// answerWithin is how long a client waits for its order's end.
	answerWithin = 2 * time.Second
	retryAfter   = 1 // seconds, when the end was not seen

	maxLines    = 20
	maxQuantity = 100
	// maxAtOnce bounds the orders that a process carries to their ends at once;
	// more than that would only wait for connections to the database.
	maxAtOnce   = 256
	anonymous   = "anonymous"
	defaultPage = 20
	maxPage     = 100
)

var (
	keyForm    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	clientForm = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,128}$`)
	skuForm    = regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{0,31}$`)
	tokenForm  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// operations answer the requests of the contract.
type operations struct {
	checkouts *checkouts
	slots     chan struct{} // a place for each order being carried on
}

var _ pedidos.StrictServerInterface = (*operations)(nil)

func newOperations(cs *checkouts) *operations {
	return &operations{checkouts: cs, slots: make(chan struct{}, maxAtOnce)}
}

// explain makes of a database that cannot be used what a client can act on.
func explain(err error) *problem.Error {
	if postgres.Down(err) {
		e := problem.Wrap(problem.Unavailable, "Orders cannot be handled at the moment. The same request can be sent again.", err)
		e.RetryAfter = 2 * time.Second
		return e
	}
	return nil
}

// PlaceOrder stores the order, and then carries it to its end.
func (o *operations) PlaceOrder(ctx context.Context, request pedidos.PlaceOrderRequestObject) (pedidos.PlaceOrderResponseObject, error) {
	start := time.Now()
	client, err := clientID(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	key := request.Params.IdempotencyKey
	if !keyForm.MatchString(key) {
		return nil, problem.At(problem.Invalid, problem.Field{Name: "Idempotency-Key", Detail: "has to be 1 to 64 letters, digits, '.', '_' or '-'"})
	}
	if err := validate(request.Body); err != nil {
		return nil, err
	}
	hash, err := fingerprint(request.Body)
	if err != nil {
		return nil, err
	}
	select {
	case o.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, problem.Wrap(problem.Timeout, "The request was given up.", ctx.Err())
	case <-time.After(answerWithin / 2):
		e := problem.New(problem.Overloaded, "Too many orders are under way. The same request can be sent again.")
		e.RetryAfter = time.Second
		return nil, e
	}
	free := func() { <-o.slots }

	lines, priced := o.price(ctx, request.Body)
	c, err := o.place(ctx, client, key, hash, request.Body, lines, priced)
	if c == nil {
		free()
		if err != nil {
			return nil, err
		}
		return o.replay(ctx, start, client, key, hash)
	}
	mark(ctx, c.order.ID)
	fault.Here(fault.OrderStored)
	done := o.checkouts.begin(ctx, c)
	go func() { <-done; free() }()
	select {
	case <-done:
	case <-ctx.Done(): // nobody hears the answer; the order goes on
	case <-time.After(answerWithin - time.Since(start)):
	}
	c.mu.Lock()
	told := c.answer
	c.mu.Unlock()
	if told.status == 0 {
		if told, err = o.accept(ctx, c); err != nil {
			return nil, err
		}
	}
	return placed(told)
}

// price gives the order's lines with their prices. The error is what the client
// is told, unless its key turns out to be known.
func (o *operations) price(ctx context.Context, body *pedidos.OrderRequest) ([]order.Line, error) {
	// A replay does not hang on the prices.
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	total := money.Money{Currency: body.Total.Currency}
	lines := make([]order.Line, 0, len(body.Lines))
	var faults []problem.Field
	for i, asked := range body.Lines {
		price, err := o.checkouts.stock.Price(ctx, asked.SKU)
		if errors.Is(err, errUnknownSKU) {
			faults = append(faults, problem.Field{Name: fmt.Sprintf("lines[%d].sku", i), Detail: "is no article of ours"})
			continue
		}
		if err != nil {
			e := problem.Wrap(problem.Unavailable, "The prices cannot be had at the moment. The same request can be sent again.", err)
			e.RetryAfter = 2 * time.Second
			return nil, e
		}
		cost, err := price.Times(int64(asked.Quantity))
		if err == nil && price.Currency != total.Currency {
			return nil, problem.At(problem.InvalidValue, problem.Field{Name: "total.currency", Detail: "is not the currency of the prices, " + price.Currency})
		}
		if err == nil {
			total, err = total.Plus(cost)
		}
		if err != nil {
			return nil, problem.At(problem.InvalidValue, problem.Field{Name: fmt.Sprintf("lines[%d].quantity", i), Detail: "makes the total too large"})
		}
		lines = append(lines, order.Line{SKU: asked.SKU, Quantity: asked.Quantity, Price: price})
	}
	if len(faults) > 0 {
		return nil, problem.At(problem.UnknownSKU, faults...)
	}
	if total != body.Total {
		return nil, problem.At(problem.InvalidValue, problem.Field{Name: "total.amount", Detail: fmt.Sprintf("is not what the lines cost, %d", total.Amount)})
	}
	return lines, nil
}

// place stores the order. It returns neither an order nor an error if the key is
// taken.
func (o *operations) place(ctx context.Context, client, key string, hash []byte, body *pedidos.OrderRequest, lines []order.Line, priced error) (*checkout, error) {
	if priced != nil {
		// What was answered once is answered again, whatever prices are now.
		_, err := o.checkouts.queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: client, IdempotencyKey: key})
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("looking for the key: %w", err)
		}
		return nil, priced
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("making an order's id: %w", err)
	}
	created, err := o.checkouts.queries.Place(ctx, store.PlaceParams{
		ID: id, ClientID: client, IdempotencyKey: key, RequestHash: hash, Lines: lines,
		TotalAmount: body.Total.Amount, TotalCurrency: body.Total.Currency, CardToken: &body.CardToken,
		AttendAfter: o.checkouts.lease,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("storing the order: %w", err)
	}
	o.checkouts.metrics.orders.WithLabelValues(string(order.Pending)).Inc()
	return &checkout{
		order: order.Order{
			ID: id, ClientID: client, State: order.Pending, Lines: lines, Total: body.Total, CardToken: body.CardToken,
			CreatedAt: created, UpdatedAt: created,
			Transitions: []order.Transition{{To: order.Pending, At: created, Reason: "placed"}},
		},
		stored: 1, read: created, readAt: time.Now(),
	}, nil
}

// accept answers that the order goes on. What has become of it so far is stored,
// so that whoever asks sees it.
func (o *operations) accept(ctx context.Context, c *checkout) (answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := o.checkouts.saveProgress(ctx, c); err != nil && !errors.Is(err, errChanged) {
		return answer{}, err
	}
	c.mu.Lock()
	shown, told := view(&c.order), c.answer
	c.mu.Unlock()
	if told.status != 0 {
		return told, nil
	}
	return o.tell(ctx, shown)
}

// tell stores what a client is told of its order, unless it was told before.
func (o *operations) tell(ctx context.Context, shown pedidos.Order) (answer, error) {
	status := statusAccepted
	if order.State(shown.State).Final() {
		status = statusPlaced
	}
	body, err := json.Marshal(shown)
	if err != nil {
		return answer{}, fmt.Errorf("encoding order %s: %w", shown.ID, err)
	}
	row, err := o.checkouts.queries.Answer(ctx, store.AnswerParams{ID: shown.ID, AnswerStatus: int16(status), AnswerBody: body}) //nolint:gosec // an HTTP status
	if err != nil {
		return answer{}, fmt.Errorf("storing the answer for order %s: %w", shown.ID, err)
	}
	return answer{int(*row.AnswerStatus), row.AnswerBody}, nil
}

// replay answers a key that is known.
func (o *operations) replay(ctx context.Context, start time.Time, client, key string, hash []byte) (pedidos.PlaceOrderResponseObject, error) {
	for {
		row, err := o.checkouts.queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: client, IdempotencyKey: key})
		if err != nil {
			return nil, fmt.Errorf("reading the order of a key: %w", err)
		}
		mark(ctx, row.ID)
		if !bytes.Equal(row.RequestHash, hash) {
			return nil, problem.At(problem.IdempotencyKeyReused, problem.Field{Name: "Idempotency-Key", Detail: "belongs to an order with another body"})
		}
		if row.AnswerStatus != nil {
			return placed(answer{int(*row.AnswerStatus), row.AnswerBody})
		}
		if time.Since(start) >= answerWithin {
			c, err := o.checkouts.load(ctx, row.ID)
			if err != nil {
				return nil, err
			}
			told, err := o.tell(ctx, view(&c.order))
			if err != nil {
				return nil, err
			}
			return placed(told)
		}
		select {
		case <-ctx.Done():
			return nil, problem.Wrap(problem.Timeout, "The request was given up.", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func placed(told answer) (pedidos.PlaceOrderResponseObject, error) {
	var shown pedidos.Order
	if err := json.Unmarshal(told.body, &shown); err != nil {
		return nil, fmt.Errorf("decoding a stored answer: %w", err)
	}
	location := "/pedidos/" + shown.ID.String()
	if told.status == statusPlaced {
		return pedidos.PlaceOrder201JSONResponse{Body: shown, Headers: pedidos.PlaceOrder201ResponseHeaders{Location: &location}}, nil
	}
	return pedidos.PlaceOrder202JSONResponse{Body: shown, Headers: pedidos.PlaceOrder202ResponseHeaders{
		Location: &location, RetryAfter: new(int32(retryAfter)),
	}}, nil
}

// ShowOrder gives one order of the client.
func (o *operations) ShowOrder(ctx context.Context, request pedidos.ShowOrderRequestObject) (pedidos.ShowOrderResponseObject, error) {
	c, err := o.own(ctx, request.OrderID, request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	return pedidos.ShowOrder200JSONResponse(view(&c.order)), nil
}

// own loads an order of the client. Another's is as unknown as one that is not.
func (o *operations) own(ctx context.Context, id uuid.UUID, header *string) (*checkout, error) {
	client, err := clientID(header)
	if err != nil {
		return nil, err
	}
	mark(ctx, id)
	c, err := o.checkouts.load(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && c.order.ClientID != client {
		return nil, problem.New(problem.NotFound, "There is no such order.")
	}
	return c, err
}

// ListOrders gives the client's orders, newest first.
func (o *operations) ListOrders(ctx context.Context, request pedidos.ListOrdersRequestObject) (pedidos.ListOrdersResponseObject, error) {
	client, err := clientID(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	page := int32(defaultPage)
	if limit := request.Params.Limit; limit != nil {
		if page = *limit; page < 1 || page > maxPage {
			return nil, problem.At(problem.InvalidValue, problem.Field{Name: "limit", Detail: fmt.Sprintf("is not from 1 to %d", maxPage)})
		}
	}
	before := int64(math.MaxInt64)
	if cursor := request.Params.Cursor; cursor != nil {
		if before, err = readCursor(*cursor); err != nil {
			return nil, problem.At(problem.InvalidValue, problem.Field{Name: "cursor", Detail: "is none that was given out here"})
		}
	}
	rows, err := o.checkouts.queries.OrdersOfClient(ctx, store.OrdersOfClientParams{ClientID: client, Before: before, Page: page + 1})
	if err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	answer := pedidos.ListOrders200JSONResponse{Items: []pedidos.Order{}}
	if len(rows) > int(page) {
		rows = rows[:page]
		answer.NextCursor = new(writeCursor(rows[page-1].Number))
	}
	ids := make([]uuid.UUID, 0, len(rows))
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	transitions, err := o.checkouts.queries.TransitionsOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("listing transitions: %w", err)
	}
	byOrder := map[uuid.UUID][]store.Transition{}
	for _, t := range transitions {
		byOrder[t.OrderID] = append(byOrder[t.OrderID], t)
	}
	for _, row := range rows {
		o := toOrder(row, byOrder[row.ID])
		answer.Items = append(answer.Items, view(&o))
	}
	return answer, nil
}

// A cursor is the number of the last order shown, in a form that invites nobody
// to reckon with it.
func writeCursor(number int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(number, 36)))
}

func readCursor(cursor string) (int64, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return 0, fmt.Errorf("decoding a cursor: %w", err)
	}
	number, err := strconv.ParseInt(string(raw), 36, 64)
	if err != nil || number < 1 || writeCursor(number) != cursor {
		return 0, errors.New("no cursor")
	}
	return number, nil
}

// CancelOrder records the wish, and then carries it out.
func (o *operations) CancelOrder(ctx context.Context, request pedidos.CancelOrderRequestObject) (pedidos.CancelOrderResponseObject, error) {
	start := time.Now()
	c, err := o.wish(ctx, request.OrderID, request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	if !c.order.State.Final() {
		fault.Here(fault.CancelStored)
		done := o.checkouts.begin(ctx, c)
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(answerWithin - time.Since(start)):
		}
	}
	c.mu.Lock()
	shown := view(&c.order)
	c.mu.Unlock()
	if order.State(shown.State).Final() {
		return pedidos.CancelOrder200JSONResponse(shown), nil
	}
	return pedidos.CancelOrder202JSONResponse(shown), nil
}

// wish stores that the client wants the order cancelled.
func (o *operations) wish(ctx context.Context, id uuid.UUID, header *string) (*checkout, error) {
	for {
		c, err := o.own(ctx, id, header)
		if err != nil {
			return nil, err
		}
		if err := c.order.Cancel(c.now()); err != nil {
			return nil, problem.Wrap(problem.OrderState, "The order has failed: nothing was charged, and there is nothing to cancel.", err)
		}
		if c.order.State.Final() {
			return c, nil
		}
		err = o.checkouts.save(ctx, c)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errChanged) {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, problem.Wrap(problem.Timeout, "The request was given up.", err)
		}
	}
}

func clientID(header *string) (string, error) {
	if header == nil {
		return anonymous, nil
	}
	if !clientForm.MatchString(*header) {
		return "", problem.At(problem.Invalid, problem.Field{Name: "Client-Id", Detail: "has to be 1 to 128 letters, digits, '.', '_', '@' or '-'"})
	}
	return *header, nil
}

// validate reports everything that is wrong with the body by itself.
func validate(body *pedidos.OrderRequest) error {
	var faults []problem.Field
	add := func(name, detail string) { faults = append(faults, problem.Field{Name: name, Detail: detail}) }
	if len(body.Lines) < 1 || len(body.Lines) > maxLines {
		add("lines", fmt.Sprintf("has to have 1 to %d entries", maxLines))
	}
	seen := map[string]bool{}
	for i, line := range body.Lines[:min(len(body.Lines), maxLines)] {
		if !skuForm.MatchString(line.SKU) {
			add(fmt.Sprintf("lines[%d].sku", i), "has to be 1 to 32 capital letters, digits or '-'")
		} else if seen[line.SKU] {
			add(fmt.Sprintf("lines[%d].sku", i), "is there twice")
		}
		seen[line.SKU] = true
		if line.Quantity < 1 || line.Quantity > maxQuantity {
			add(fmt.Sprintf("lines[%d].quantity", i), fmt.Sprintf("is not from 1 to %d", maxQuantity))
		}
	}
	if body.Total.Amount < 1 {
		add("total.amount", "is not positive")
	}
	if !money.IsCurrency(body.Total.Currency) {
		add("total.currency", "is no ISO 4217 code such as BRL")
	}
	switch {
	case !tokenForm.MatchString(body.CardToken):
		add("card_token", "has to be 1 to 64 letters, digits, '_' or '-'")
	case card.LooksLikeNumber(body.CardToken):
		add("card_token", "looks like a card number: only the acquirer's token belongs here")
	}
	if len(faults) > 0 {
		return problem.At(problem.InvalidValue, faults...)
	}
	return nil
}

// fingerprint tells bodies apart by what they say, not by their spaces.
func fingerprint(body *pedidos.OrderRequest) ([]byte, error) {
	canonical, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return sum[:], nil
}

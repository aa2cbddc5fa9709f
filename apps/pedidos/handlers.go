package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
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
	maxAtOnce = 256
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

// explain maps a database outage to 503 with Retry-After.
func explain(err error) *problem.Error {
	if postgres.Down(err) {
		e := problem.Wrap(problem.Unavailable, "Orders are temporarily unavailable. Retry the same request.", err)
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
	key, err := value.ParseIdempotencyKey(request.Params.IdempotencyKey)
	if err != nil {
		return nil, problem.At(problem.Invalid, problem.Field{Name: "Idempotency-Key", Detail: err.Error()})
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
		return nil, problem.Wrap(problem.Timeout, "The client gave up the request.", ctx.Err())
	case <-time.After(answerWithin / 2):
		e := problem.New(problem.Overloaded, "Too many orders are in progress. Retry with the same Idempotency-Key.")
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
			faults = append(faults, problem.Field{Name: fmt.Sprintf("lines[%d].sku", i), Detail: "is not a known SKU"})
			continue
		}
		if err != nil {
			e := problem.Wrap(problem.Unavailable, "Prices are temporarily unavailable. Retry with the same Idempotency-Key.", err)
			e.RetryAfter = 2 * time.Second
			return nil, e
		}
		cost, err := price.Times(int64(asked.Quantity))
		if err == nil && price.Currency != total.Currency {
			return nil, problem.At(problem.InvalidValue, problem.Field{Name: "total.currency", Detail: "must be the currency of the prices, " + price.Currency})
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
func (o *operations) place(ctx context.Context, client value.ClientID, key value.IdempotencyKey, hash []byte, body *pedidos.OrderRequest, lines []order.Line, priced error) (*checkout, error) {
	if priced != nil {
		// What was answered once is answered again, whatever prices are now.
		_, err := o.checkouts.queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: string(client), IdempotencyKey: string(key)})
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
		ID: id, ClientID: string(client), IdempotencyKey: string(key), RequestHash: hash, Lines: lines,
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
			ID: id, ClientID: string(client), State: order.Pending, Lines: lines, Total: body.Total, CardToken: body.CardToken,
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
func (o *operations) replay(ctx context.Context, start time.Time, client value.ClientID, key value.IdempotencyKey, hash []byte) (pedidos.PlaceOrderResponseObject, error) {
	for {
		row, err := o.checkouts.queries.OrderByKey(ctx, store.OrderByKeyParams{ClientID: string(client), IdempotencyKey: string(key)})
		if err != nil {
			return nil, fmt.Errorf("reading the order of a key: %w", err)
		}
		mark(ctx, row.ID)
		if !bytes.Equal(row.RequestHash, hash) {
			return nil, problem.At(problem.IdempotencyKeyReused, problem.Field{Name: "Idempotency-Key", Detail: "has been used for an order with a different body"})
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
			return nil, problem.Wrap(problem.Timeout, "The client gave up the request.", ctx.Err())
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
	if errors.Is(err, pgx.ErrNoRows) || err == nil && c.order.ClientID != string(client) {
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
	asked, err := orderList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := o.checkouts.queries.OrdersOfClient(ctx, store.OrdersOfClientParams{
		ClientID: string(client), Before: asked.After, Page: asked.Limit + 1,
	})
	if err != nil {
		return nil, fmt.Errorf("listing orders: %w", err)
	}
	rows, next := page.Cut(orderList, asked, rows, func(row store.Order) int64 { return row.Number })
	answer := pedidos.ListOrders200JSONResponse{Items: []pedidos.Order{}, NextCursor: next}
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

// orderList is ordered by the orders' numbers, newest first.
var orderList = page.List[int64]{
	First:  math.MaxInt64,
	Format: func(number int64) string { return strconv.FormatInt(number, 36) },
	Parse: func(text string) (int64, error) {
		number, err := strconv.ParseInt(text, 36, 64)
		if err == nil && number < 1 {
			err = strconv.ErrRange
		}
		return number, err
	},
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
			return nil, problem.Wrap(problem.Timeout, "The client gave up the request.", err)
		}
	}
}

func clientID(header *string) (value.ClientID, error) {
	if header == nil {
		return value.Anonymous, nil
	}
	client, err := value.ParseClientID(*header)
	if err != nil {
		return "", problem.At(problem.Invalid, problem.Field{Name: "Client-Id", Detail: err.Error()})
	}
	return client, nil
}

// validate reports everything that is wrong with the body by itself.
func validate(body *pedidos.OrderRequest) error {
	var errs problem.Fields
	if len(body.Lines) < 1 || len(body.Lines) > maxLines {
		errs.Add("lines", fmt.Sprintf("must have 1 to %d entries", maxLines))
	}
	seen := map[string]bool{}
	for i, line := range body.Lines[:min(len(body.Lines), maxLines)] {
		if _, err := value.ParseSKU(line.SKU); err != nil {
			errs.Add(fmt.Sprintf("lines[%d].sku", i), err.Error())
		} else if seen[line.SKU] {
			errs.Add(fmt.Sprintf("lines[%d].sku", i), "occurs twice")
		}
		seen[line.SKU] = true
		errs.Range(fmt.Sprintf("lines[%d].quantity", i), int64(line.Quantity), 1, maxQuantity)
	}
	if body.Total.Amount < 1 {
		errs.Add("total.amount", "must be positive")
	}
	if !money.IsCurrency(body.Total.Currency) {
		errs.Add("total.currency", money.WrongCurrency)
	}
	if _, err := value.ParseCardToken(body.CardToken); err != nil {
		errs.Add("card_token", err.Error())
	}
	return errs.Err(problem.InvalidValue)
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

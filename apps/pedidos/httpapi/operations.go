// Package httpapi is the HTTP API of pedidos, as its OpenAPI document describes it.
package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/api"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/webhook"
)

// BodyLimit is the largest request body in bytes, several times the largest order.
const BodyLimit = 16 << 10

// Limits of the OpenAPI document.
const (
	maxLines    = 20
	maxQuantity = 100 // of a line
	maxShipment = 200 // characters
)

const (
	// acceptedRetry is the Retry-After in seconds of an order that is not final.
	acceptedRetry = 1
	// unavailableFor is the Retry-After while the database or the prices are unavailable.
	unavailableFor = 2 * time.Second
	// busyFor is the Retry-After while too many orders are in progress.
	busyFor = time.Second
)

// Register serves the operations on router.
func Register(router gin.IRouter, orders *checkout.Service, webhooks *webhook.Service) {
	view := View{orders.CancelWithin, orders.AuthenticateWithin}
	contract.RegisterHandlersWithOptions(router, contract.NewHandler(operations{orders, webhooks, view}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError, Middlewares: []contract.MiddlewareFunc{refuseUnknownParameters}})
}

// Explain maps a database outage to 503 with Retry-After.
func Explain(err error) *problem.Error {
	if !postgres.Down(err) {
		return nil
	}
	e := problem.Wrap(problem.Unavailable, "Orders are temporarily unavailable. Retry the same request.", err)
	e.RetryAfter = unavailableFor
	return e
}

// operations implements the operations of the OpenAPI document.
type operations struct {
	orders   *checkout.Service
	webhooks *webhook.Service
	view     View
}

var _ contract.StrictServerInterface = operations{}

// PlaceOrder implements POST /pedidos.
func (o operations) PlaceOrder(ctx context.Context, request contract.PlaceOrderRequestObject) (contract.PlaceOrderResponseObject, error) {
	caller, err := callerOf(request.Params.ClientID, request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	key, err := value.ParseIdempotencyKey(request.Params.IdempotencyKey)
	if err != nil {
		return nil, problem.At(problem.Invalid, problem.Field{Name: "Idempotency-Key", Detail: err.Error()})
	}
	asked, err := readOrder(request.Body)
	if err != nil {
		return nil, err
	}
	asked.Caller, asked.Key = caller, key
	if asked.Fingerprint, err = fingerprint(request.Body); err != nil {
		return nil, err
	}
	answer, err := o.orders.Place(ctx, asked)
	if err != nil {
		return nil, explainPlace(err, asked)
	}
	var shown contract.Order
	if err := json.Unmarshal(answer.Body, &shown); err != nil {
		return nil, fmt.Errorf("decoding a stored answer: %w", err)
	}
	location := "/pedidos/" + shown.ID.String()
	if answer.Final {
		return contract.PlaceOrder201JSONResponse{Body: shown, Headers: contract.PlaceOrder201ResponseHeaders{Location: &location}}, nil
	}
	return contract.PlaceOrder202JSONResponse{Body: shown, Headers: contract.PlaceOrder202ResponseHeaders{
		Location: &location, RetryAfter: new(int32(acceptedRetry)),
	}}, nil
}

// explain maps the errors of package checkout to problems.
func explain(err error) error {
	switch {
	case errors.Is(err, checkout.ErrNotFound):
		return problem.New(problem.NotFound, "There is no such order.")
	case errors.Is(err, order.ErrFailed):
		return problem.Wrap(problem.OrderState, "The order has failed: nothing was charged, and there is nothing to cancel.", err)
	case errors.Is(err, order.ErrShipped):
		return problem.Wrap(problem.OrderState, "The order has been shipped, and cannot be cancelled any more.", err)
	case errors.Is(err, order.ErrTooLate):
		return problem.Wrap(problem.OrderState, "The time to cancel the order is over.", err)
	case errors.Is(err, checkout.ErrNotSold):
		return problem.Wrap(problem.OrderState, "Only a confirmed order can be shipped.", err)
	case errors.Is(err, checkout.ErrKeyReused):
		return problem.At(problem.IdempotencyKeyReused,
			problem.Field{Name: "Idempotency-Key", Detail: "has been used for an order with a different body"})
	case errors.Is(err, checkout.ErrAbandoned):
		return problem.Wrap(problem.Timeout, "The client cancelled the request.", err)
	case errors.Is(err, checkout.ErrBusy):
		e := problem.New(problem.Overloaded, "Too many orders are in progress. Retry with the same Idempotency-Key.")
		e.RetryAfter = busyFor
		return e
	case errors.Is(err, checkout.ErrPrices):
		e := problem.Wrap(problem.Unavailable, "Prices are temporarily unavailable. Retry with the same Idempotency-Key.", err)
		e.RetryAfter = unavailableFor
		return e
	}
	return err
}

// explainPlace maps the errors of Place to problems that name the refused fields.
func explainPlace(err error, asked checkout.Request) error {
	var lines *checkout.LineError
	var total *checkout.WrongTotalError
	var errs problem.Fields
	switch {
	case errors.As(err, &lines) && errors.Is(err, checkout.ErrUnknownSKU):
		for _, i := range lines.Lines {
			errs.Add(fmt.Sprintf("lines[%d].sku", i), "is not a known SKU")
		}
		return errs.Err(problem.UnknownSKU)
	case errors.As(err, &lines):
		for _, i := range lines.Lines {
			errs.Add(fmt.Sprintf("lines[%d].quantity", i), "raises the total above the maximum")
		}
	case errors.As(err, &total) && total.Cost.Currency != asked.Total.Currency:
		errs.Add("total.currency", "must be the currency of the prices, "+total.Cost.Currency)
	case errors.As(err, &total):
		errs.Add("total.amount", fmt.Sprintf("is not what the lines cost, %d", total.Cost.Amount))
	default:
		return explain(err)
	}
	return errs.Err(problem.InvalidValue)
}

// ShowOrder implements GET /pedidos/{order_id}.
func (o operations) ShowOrder(ctx context.Context, request contract.ShowOrderRequestObject) (contract.ShowOrderResponseObject, error) {
	caller, err := callerOf(request.Params.ClientID, request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	found, err := o.orders.Show(ctx, caller, request.OrderID)
	if err != nil {
		return nil, explain(err)
	}
	return contract.ShowOrder200JSONResponse(o.view.show(caller, &found)), nil
}

// CancelOrder implements POST /pedidos/{order_id}/cancel.
func (o operations) CancelOrder(
	ctx context.Context, request contract.CancelOrderRequestObject,
) (contract.CancelOrderResponseObject, error) {
	caller, err := callerOf(request.Params.ClientID, request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	cancelled, err := o.orders.Cancel(ctx, caller, request.OrderID)
	if err != nil {
		return nil, explain(err)
	}
	if cancelled.State.Final() {
		return contract.CancelOrder200JSONResponse(o.view.of(&cancelled)), nil
	}
	return contract.CancelOrder202JSONResponse(o.view.of(&cancelled)), nil
}

// ContinuePayment implements POST /pedidos/{order_id}/payment.
func (o operations) ContinuePayment(
	ctx context.Context, request contract.ContinuePaymentRequestObject,
) (contract.ContinuePaymentResponseObject, error) {
	caller, err := callerOf(request.Params.ClientID, request.Params.ShopperID)
	if err != nil {
		return nil, err
	}
	continued, err := o.orders.ContinuePayment(ctx, caller, request.OrderID)
	if err != nil {
		return nil, explain(err)
	}
	if continued.State.Final() {
		return contract.ContinuePayment200JSONResponse(o.view.of(&continued)), nil
	}
	return contract.ContinuePayment202JSONResponse(o.view.show(caller, &continued)), nil
}

// ShipOrder implements POST /pedidos/{order_id}/ship.
func (o operations) ShipOrder(ctx context.Context, request contract.ShipOrderRequestObject) (contract.ShipOrderResponseObject, error) {
	if length := utf8.RuneCountInString(request.Body.Shipment); length < 1 || length > maxShipment {
		return nil, problem.At(problem.InvalidValue, problem.Field{
			Name: "shipment", Detail: fmt.Sprintf("must have 1 to %d characters", maxShipment),
		})
	}
	shipped, err := o.orders.Ship(ctx, request.OrderID, request.Body.Shipment)
	if err != nil {
		return nil, explain(err)
	}
	return contract.ShipOrder200JSONResponse(o.view.of(&shipped)), nil
}

// callerOf reads the headers Client-Id and Shopper-Id.
func callerOf(client, shopper *string) (caller checkout.Caller, err error) {
	if caller.Client, err = clientID(client); err != nil || shopper == nil {
		return caller, err
	}
	if caller.Shopper, err = value.ParseShopperID(*shopper); err != nil {
		return caller, problem.At(problem.Invalid, problem.Field{Name: "Shopper-Id", Detail: err.Error()})
	}
	return caller, nil
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

// readOrder checks everything about an order that does not depend on the stock.
func readOrder(body *contract.OrderRequest) (checkout.Request, error) {
	var errs problem.Fields
	asked := checkout.Request{Total: body.Total}
	if len(body.Lines) < 1 || len(body.Lines) > maxLines {
		errs.Add("lines", fmt.Sprintf("must have 1 to %d entries", maxLines))
	}
	asked.Lines = readLines(body.Lines, &errs)
	errs.Range("total.amount", body.Total.Amount, money.MinCharge, money.MaxCharge)
	if !money.IsCurrency(body.Total.Currency) {
		errs.Add("total.currency", money.WrongCurrency)
	}
	card, err := value.ParseCardToken(body.CardToken)
	if err != nil {
		errs.Add("card_token", err.Error())
	}
	asked.Card = card
	return asked, errs.Err(problem.InvalidValue)
}

// readLines returns the items and quantities of at most maxLines lines, without prices, and adds what is
// wrong to errs.
func readLines(lines []contract.OrderLineRequest, errs *problem.Fields) []order.Line {
	var read []order.Line
	seen := map[string]bool{}
	for i, line := range lines[:min(len(lines), maxLines)] {
		sku, err := value.ParseSKU(line.SKU)
		if err != nil {
			errs.Add(fmt.Sprintf("lines[%d].sku", i), err.Error())
		} else if seen[line.SKU] {
			errs.Add(fmt.Sprintf("lines[%d].sku", i), "occurs twice")
		}
		seen[line.SKU] = true
		errs.Range(fmt.Sprintf("lines[%d].quantity", i), int64(line.Quantity), 1, maxQuantity)
		read = append(read, order.Line{SKU: sku, Quantity: line.Quantity})
	}
	return read
}

// fingerprint returns the same hash for bodies that differ only in white space or in the
// order of their members.
func fingerprint(body any) ([]byte, error) {
	canonical, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	sum := sha256.Sum256(canonical)
	return sum[:], nil
}

// View converts orders to what clients see.
type View struct {
	CancelWithin       time.Duration // after its placement, an order may be cancelled
	AuthenticateWithin time.Duration // after its placement, the shopper may authenticate
}

// show converts an order to what its own shopper sees. A caller that does not name the shopper does not
// see the shopper's secret. Nor has Encode, and with it what is stored, the secret.
func (v View) show(caller checkout.Caller, o *order.Order) contract.Order {
	shown := v.of(o)
	if o.AwaitsShopper() && o.Shopper == caller.Shopper {
		shown.PaymentAction = &contract.PaymentAction{ClientSecret: o.ClientSecret, Until: cut(o.CreatedAt.Add(v.AuthenticateWithin))}
	}
	return shown
}

// Encode returns an order as the JSON that clients see.
func (v View) Encode(o *order.Order) ([]byte, error) { return json.Marshal(v.of(o)) }

// of converts an order to the contract's type.
func (v View) of(o *order.Order) contract.Order {
	shown := contract.Order{
		ID: o.ID, State: contract.State(o.State), Total: o.Total,
		Lines: make([]contract.OrderLine, 0, len(o.Lines)), Transitions: make([]contract.Transition, 0, len(o.Transitions)),
		CreatedAt: o.CreatedAt.UTC(), UpdatedAt: cut(o.UpdatedAt),
	}
	for _, line := range o.Lines {
		shown.Lines = append(shown.Lines, contract.OrderLine{SKU: string(line.SKU), Quantity: line.Quantity, Price: line.Price})
	}
	for _, t := range o.Transitions {
		moved := contract.Transition{To: contract.State(t.To), At: cut(t.At), Reason: t.Reason}
		if t.From != "" {
			moved.From = new(contract.State(t.From))
		}
		shown.Transitions = append(shown.Transitions, moved)
	}
	if o.FailureReason != "" {
		shown.FailureReason = &o.FailureReason
	}
	if until := o.CancelUntil(v.CancelWithin); !until.IsZero() {
		shown.CancelUntil = new(cut(until))
	}
	if !o.ShippedAt.IsZero() {
		shown.ShippedAt, shown.Shipment = new(cut(o.ShippedAt)), &o.Shipment
	}
	showRefunds(&shown, o)
	return shown
}

// cut rounds a time that is not stored yet to what reading it will return: PostgreSQL
// stores microseconds.
func cut(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

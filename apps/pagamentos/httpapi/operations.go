// Package httpapi is pagamentos' HTTP API, as its OpenAPI document describes it.
package httpapi

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/api"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
)

// BodyLimit is the largest request body in bytes: the events of an acquirer are larger than
// payments, Stripe's up to some 20 KiB.
const BodyLimit = 64 << 10

// maxWait is the longest time until the service takes a step by itself.
const maxWait = time.Hour

// retryAfter is the Retry-After of temporary failures.
const retryAfter = time.Second

// Register serves the operations on router. They accept payments in currencies.
func Register(router gin.IRouter, payments *charging.Payments, currencies []string) {
	contract.RegisterHandlersWithOptions(router, contract.NewHandler(operations{payments, currencies}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
}

// Explain maps the errors of package charging and a database outage to problems.
func Explain(err error) *problem.Error {
	var impossible *payment.NotPossibleError
	var wait *charging.WaitError
	switch {
	case errors.As(err, &wait):
		message := "The acquirer refuses the next step at the moment, or carries out the refund. The service goes on by itself."
		if wait.Wait > maxWait {
			message = "The refund failed after it was done. A person has to go on."
		}
		e := problem.Wrap(problem.AcquirerUnavailable, message, err)
		e.RetryAfter = min(wait.Wait, maxWait)
		return e
	case errors.Is(err, charging.ErrTooEarly):
		return problem.Wrap(problem.PaymentState, "The refund is not stored yet. Repeat the notice.", err)
	case errors.Is(err, charging.ErrOutcomeUnknown), errors.Is(err, acquirer.ErrUnknown):
		// Checked before an outage of the database, which may have caused it.
		e := problem.Wrap(problem.AcquirerUnavailable,
			"The outcome of the payment is not known yet. Retry the same request: nothing is charged twice.", err)
		e.RetryAfter = retryAfter
		return e
	case errors.Is(err, charging.ErrNotFound):
		return problem.New(problem.NotFound, "This order has no payment.")
	case errors.Is(err, charging.ErrMismatch):
		return problem.New(problem.PaymentMismatch, "This order has a payment with a different amount, card token or capture.")
	case errors.Is(err, charging.ErrCurrency):
		return problem.New(problem.PaymentMismatch, "This order's payment has another currency.")
	case errors.Is(err, charging.ErrRefundMismatch):
		return problem.New(problem.PaymentMismatch, "A refund with this id exists, with a different order, amount or reason.")
	case errors.Is(err, charging.ErrExceeds):
		return problem.New(problem.RefundExceeds, "The refunds of this payment would exceed what was charged.")
	case errors.Is(err, charging.ErrUndone):
		return problem.New(problem.PaymentVoided,
			"This order's payment has been undone: it can no longer be charged, captured or refunded in part.")
	case errors.As(err, &impossible):
		return problem.Wrap(problem.PaymentState,
			"The payment is "+string(impossible.State)+", which does not allow "+impossible.Operation+".", err)
	case postgres.Down(err), errors.Is(err, charging.ErrNotStored):
		e := problem.Wrap(problem.Unavailable, "Payments are temporarily unavailable. Retry the same request.", err)
		e.RetryAfter = retryAfter
		return e
	}
	return nil
}

// operations implements the operations of the OpenAPI document.
type operations struct {
	payments   *charging.Payments
	currencies []string
}

var _ contract.StrictServerInterface = operations{}

// Pay implements PUT /pagamentos/{order_id}.
func (o operations) Pay(ctx context.Context, request contract.PayRequestObject) (contract.PayResponseObject, error) {
	asked, err := o.readRequest(request)
	if err != nil {
		return nil, err
	}
	if asked.ClientID, err = client(request.Params.ClientID); err != nil {
		return nil, err
	}
	if request.Params.ServerRun != nil {
		asked.Run = *request.Params.ServerRun
	}
	paid, created, err := o.payments.Pay(ctx, asked)
	if err != nil {
		return nil, err
	}
	shown := view(paid)
	shown.ClientSecret = optional(paid.ClientSecret) // nobody else sees it
	if created {
		return contract.Pay201JSONResponse(shown), nil
	}
	return contract.Pay200JSONResponse(shown), nil
}

func (o operations) readRequest(request contract.PayRequestObject) (charging.Request, error) {
	body := request.Body
	var errs problem.Fields
	errs.Range("amount.amount", body.Amount.Amount, money.MinCharge, money.MaxCharge)
	if !slices.Contains(o.currencies, body.Amount.Currency) {
		errs.Add("amount.currency", "must be "+strings.Join(o.currencies, " or "))
	}
	token, err := value.ParseCardToken(body.CardToken)
	if err != nil {
		errs.Add("card_token", err.Error())
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return charging.Request{}, err
	}
	return charging.Request{
		OrderID: request.OrderID, Amount: body.Amount, CardToken: token, Capture: body.Capture == nil || *body.Capture,
	}, nil
}

// Capture implements POST /pagamentos/{order_id}/capture.
func (o operations) Capture(ctx context.Context, request contract.CaptureRequestObject) (contract.CaptureResponseObject, error) {
	captured, err := o.payments.Capture(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	return contract.Capture200JSONResponse(view(captured)), nil
}

// Refund implements POST /pagamentos/{order_id}/refund.
func (o operations) Refund(ctx context.Context, request contract.RefundRequestObject) (contract.RefundResponseObject, error) {
	whose, err := client(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	undone, err := o.payments.Refund(ctx, request.OrderID, whose)
	if pending := (*charging.WaitError)(nil); errors.As(err, &pending) && pending.Payment.Problem == "" {
		return contract.Refund202JSONResponse{
			Body:    view(pending.Payment),
			Headers: contract.Refund202ResponseHeaders{RetryAfter: new(int32(pending.Wait / time.Second))},
		}, nil
	}
	if err != nil {
		return nil, err
	}
	return contract.Refund200JSONResponse(view(undone)), nil
}

// client reads the header Client-Id, which api-gateway and pedidos set. "" is another caller
// inside the cluster.
func client(header *string) (value.ClientID, error) {
	if header == nil {
		return "", nil
	}
	id, err := value.ParseClientID(*header)
	if err != nil {
		return "", problem.At(problem.Invalid, problem.Field{Name: "Client-Id", Detail: err.Error()})
	}
	return id, nil
}

// ShowPayment implements GET /pagamentos/{order_id}. A payment of another client is not found.
func (o operations) ShowPayment(
	ctx context.Context, request contract.ShowPaymentRequestObject,
) (contract.ShowPaymentResponseObject, error) {
	whose, err := client(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	found, err := o.payments.Payment(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	if whose != "" && found.ClientID != whose {
		return nil, charging.ErrNotFound
	}
	return contract.ShowPayment200JSONResponse(view(found)), nil
}

// ListPayments implements GET /pagamentos.
func (o operations) ListPayments(
	ctx context.Context, request contract.ListPaymentsRequestObject,
) (contract.ListPaymentsResponseObject, error) {
	asked, err := paymentList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list := o.payments.Payments
	if only := request.Params.NeedingPerson; only != nil && *only {
		list = o.payments.NeedingPerson
	}
	found, err := list(ctx, asked.After, asked.Limit+1)
	if err != nil {
		return nil, err
	}
	found, next := page.Cut(paymentList, asked, found, func(p payment.Payment) uuid.UUID { return p.OrderID })
	answer := contract.ListPayments200JSONResponse{Items: []contract.Payment{}, NextCursor: next}
	for _, one := range found {
		answer.Items = append(answer.Items, view(one))
	}
	return answer, nil
}

// paymentList is sorted by the orders' ids, newest first.
var paymentList = page.List[uuid.UUID]{
	First:  uuid.Max,
	Format: func(order uuid.UUID) string { return string(order[:]) },
	Parse:  func(text string) (uuid.UUID, error) { return uuid.FromBytes([]byte(text)) },
}

// view converts a payment to the contract's type.
func view(p payment.Payment) contract.Payment {
	shown := contract.Payment{
		OrderID:           p.OrderID,
		State:             contract.PaymentState(p.State),
		Amount:            p.Amount,
		Refunded:          p.Refunded,
		DeclineReason:     optional(p.DeclineReason),
		Acquirer:          contract.PaymentAcquirer(p.Acquirer),
		AcquirerReference: optional(p.AcquirerReference),
		RefundReference:   optional(p.RefundReference),
		Problem:           optional(p.Problem),
		CreatedAt:         p.CreatedAt.UTC(),
		UpdatedAt:         p.UpdatedAt.UTC(),
	}
	if p.Problem != "" {
		shown.Refusals = &p.Refusals
	}
	return shown
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

package httpapi

import (
	"context"
	"errors"
	"fmt"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// RefundPart implements POST /pedidos/{order_id}/refunds.
func (o operations) RefundPart(ctx context.Context, request contract.RefundPartRequestObject) (contract.RefundPartResponseObject, error) {
	key, err := value.ParseIdempotencyKey(request.Params.IdempotencyKey)
	if err != nil {
		return nil, problem.At(problem.Invalid, problem.Field{Name: "Idempotency-Key", Detail: err.Error()})
	}
	asked, err := readRefund(request.Body)
	if err != nil {
		return nil, err
	}
	asked.OrderID, asked.Key = request.OrderID, key
	if asked.Fingerprint, err = fingerprint(request.Body); err != nil {
		return nil, err
	}
	refund, created, err := o.orders.RefundPart(ctx, asked)
	switch {
	case err != nil:
		return nil, explainRefund(err)
	case created:
		location := "/pedidos/" + request.OrderID.String() + "/refunds/" + refund.ID.String()
		return contract.RefundPart201JSONResponse{
			Body: viewRefund(refund), Headers: contract.RefundPart201ResponseHeaders{Location: &location},
		}, nil
	}
	return contract.RefundPart200JSONResponse(viewRefund(refund)), nil
}

// readRefund checks everything about a refund that does not depend on its order.
func readRefund(body *contract.RefundRequest) (checkout.RefundRequest, error) {
	var errs problem.Fields
	asked := checkout.RefundRequest{Amount: body.Amount}
	if body.Amount != nil {
		errs.Range("amount.amount", body.Amount.Amount, 1, money.MaxCharge)
		if !money.IsCurrency(body.Amount.Currency) {
			errs.Add("amount.currency", money.WrongCurrency)
		}
	}
	var lines []contract.OrderLineRequest
	if body.Lines != nil {
		lines = *body.Lines
	}
	switch {
	case body.Amount == nil && len(lines) == 0:
		errs.Add("amount", "is required without lines")
	case len(lines) > maxLines:
		errs.Add("lines", fmt.Sprintf("must have at most %d entries", maxLines))
	}
	for _, line := range readLines(lines, &errs) {
		asked.Lines = append(asked.Lines, order.RefundLine{SKU: line.SKU, Quantity: line.Quantity})
	}
	reason, err := value.ParseReason(body.Reason)
	if err != nil {
		errs.Add("reason", err.Error())
	}
	asked.Reason = reason
	return asked, errs.Err(problem.InvalidValue)
}

// explainRefund maps the errors of RefundPart to problems that name the refused fields.
func explainRefund(err error) error {
	var line *order.RefundLineError
	switch {
	case errors.As(err, &line) && line.Left < 0:
		return problem.At(problem.UnknownSKU, problem.Field{Name: fmt.Sprintf("lines[%d].sku", line.Line), Detail: "is not in the order"})
	case errors.As(err, &line):
		return problem.At(problem.InvalidValue, problem.Field{
			Name: fmt.Sprintf("lines[%d].quantity", line.Line), Detail: fmt.Sprintf("is more than the units that are not refunded, %d", line.Left),
		})
	case errors.Is(err, order.ErrOtherCurrency):
		return problem.At(problem.InvalidValue, problem.Field{Name: "amount.currency", Detail: "must be the currency of the order"})
	case errors.Is(err, order.ErrRefundsNothing):
		return problem.At(problem.InvalidValue, problem.Field{Name: "lines", Detail: "cost nothing"})
	case errors.Is(err, order.ErrRefundExceeds):
		return problem.Wrap(problem.RefundExceeds, "The refunds of the order would exceed what was charged.", err)
	case errors.Is(err, order.ErrNotRefundable):
		return problem.Wrap(problem.OrderState, "Only a confirmed order that is not being cancelled can be refunded in part.", err)
	case errors.Is(err, order.ErrTooManyRefunds):
		return problem.Wrap(problem.OrderState, fmt.Sprintf("The order has %d refunds already.", order.MaxRefunds), err)
	case errors.Is(err, checkout.ErrKeyReused):
		return problem.At(problem.IdempotencyKeyReused,
			problem.Field{Name: "Idempotency-Key", Detail: "has been used for a refund of this order with a different body"})
	}
	return explain(err)
}

// ShowRefund implements GET /pedidos/{order_id}/refunds/{refund_id}.
func (o operations) ShowRefund(ctx context.Context, request contract.ShowRefundRequestObject) (contract.ShowRefundResponseObject, error) {
	refund, err := o.orders.ShowRefund(ctx, request.OrderID, request.RefundID)
	if errors.Is(err, checkout.ErrNotFound) {
		return nil, problem.New(problem.NotFound, "There is no such refund.")
	}
	if err != nil {
		return nil, err
	}
	return contract.ShowRefund200JSONResponse(viewRefund(refund)), nil
}

// showRefunds adds what is refunded to an order.
func showRefunds(shown *contract.Order, o *order.Order) {
	if refunded := o.Refunded(); refunded.Amount > 0 {
		shown.Refunded = &refunded
	}
	if len(o.Refunds) == 0 {
		return
	}
	refunds := make([]contract.Refund, len(o.Refunds))
	for i, refund := range o.Refunds {
		refunds[i] = viewRefund(refund)
	}
	shown.Refunds = &refunds
}

// viewRefund converts a partial refund to the contract's type.
func viewRefund(r order.Refund) contract.Refund {
	shown := contract.Refund{
		ID: r.ID, Amount: r.Amount, Lines: make([]contract.RefundLine, 0, len(r.Lines)), Reason: r.Reason,
		State: contract.RefundState(r.State), CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	for _, line := range r.Lines {
		shown.Lines = append(shown.Lines, contract.RefundLine{SKU: string(line.SKU), Quantity: line.Quantity})
	}
	return shown
}

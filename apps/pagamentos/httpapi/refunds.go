package httpapi

import (
	"context"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
)

// RefundPart implements PUT /pagamentos/{order_id}/refunds/{refund_id}.
func (o operations) RefundPart(ctx context.Context, request contract.RefundPartRequestObject) (contract.RefundPartResponseObject, error) {
	body := request.Body
	var errs problem.Fields
	errs.Range("amount.amount", body.Amount.Amount, 1, money.MaxCharge)
	if !money.IsCurrency(body.Amount.Currency) {
		errs.Add("amount.currency", money.WrongCurrency)
	}
	reason, err := value.ParseReason(body.Reason)
	if err != nil {
		errs.Add("reason", err.Error())
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return nil, err
	}
	refund, created, err := o.payments.RefundPart(ctx, charging.RefundRequest{
		ID: request.RefundID, OrderID: request.OrderID, Amount: body.Amount, Reason: reason,
	})
	switch {
	case err != nil:
		return nil, err
	case created:
		return contract.RefundPart201JSONResponse(viewRefund(refund)), nil
	}
	return contract.RefundPart200JSONResponse(viewRefund(refund)), nil
}

// ListRefunds implements GET /pagamentos/{order_id}/refunds.
func (o operations) ListRefunds(
	ctx context.Context, request contract.ListRefundsRequestObject,
) (contract.ListRefundsResponseObject, error) {
	refunds, err := o.payments.Refunds(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	answer := contract.ListRefunds200JSONResponse{Items: []contract.PartialRefund{}}
	for _, refund := range refunds {
		answer.Items = append(answer.Items, viewRefund(refund))
	}
	return answer, nil
}

// viewRefund converts a partial refund to the contract's type.
func viewRefund(r payment.PartialRefund) contract.PartialRefund {
	shown := contract.PartialRefund{
		ID: r.ID, OrderID: r.OrderID, Amount: r.Amount, Reason: r.Reason, State: contract.PartialRefundState(r.State),
		RefundReference: optional(r.Reference), Problem: optional(r.Problem), CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	if r.NeedsPerson {
		shown.State = contract.NeedsPerson
	}
	if r.Problem != "" {
		shown.Refusals = &r.Refusals
	}
	return shown
}

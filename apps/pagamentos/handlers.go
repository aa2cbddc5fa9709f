package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

// maxAmount in minor units: Stripe takes eight digits,
// https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
const maxAmount = 99_999_999

// handlers are the operations of the contract.
type handlers struct {
	payments   *payments
	currencies []string
}

var _ contract.StrictServerInterface = (*handlers)(nil)

// Pay charges an order.
func (h *handlers) Pay(ctx context.Context, request contract.PayRequestObject) (contract.PayResponseObject, error) {
	asked, err := h.wish(request)
	if err != nil {
		return nil, err
	}
	paid, before, err := h.payments.pay(ctx, asked)
	switch {
	case err != nil:
		return nil, err
	case before:
		return contract.Pay200JSONResponse(document(paid)), nil
	}
	return contract.Pay201JSONResponse(document(paid)), nil
}

// wish reads what a request asks for.
func (h *handlers) wish(request contract.PayRequestObject) (wish, error) {
	body := request.Body
	var errs problem.Fields
	errs.Range("amount.amount", body.Amount.Amount, 1, maxAmount)
	if !slices.Contains(h.currencies, body.Amount.Currency) {
		errs.Add("amount.currency", "must be "+strings.Join(h.currencies, " or "))
	}
	token, err := value.ParseCardToken(body.CardToken)
	if err != nil {
		errs.Add("card_token", err.Error())
	}
	if err := errs.Err(problem.InvalidValue); err != nil {
		return wish{}, err
	}
	return wish{
		order:   request.OrderID,
		amount:  body.Amount,
		token:   token,
		capture: body.Capture == nil || *body.Capture,
	}, nil
}

// Capture takes what is authorised.
func (h *handlers) Capture(ctx context.Context, request contract.CaptureRequestObject) (contract.CaptureResponseObject, error) {
	captured, err := h.payments.capture(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	return contract.Capture200JSONResponse(document(captured)), nil
}

// Refund undoes a payment.
func (h *handlers) Refund(ctx context.Context, request contract.RefundRequestObject) (contract.RefundResponseObject, error) {
	undone, err := h.payments.refund(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	return contract.Refund200JSONResponse(document(undone)), nil
}

// ShowPayment shows a payment as it is stored.
func (h *handlers) ShowPayment(ctx context.Context, request contract.ShowPaymentRequestObject) (contract.ShowPaymentResponseObject, error) {
	found, err := h.payments.show(ctx, request.OrderID)
	if err != nil {
		return nil, err
	}
	return contract.ShowPayment200JSONResponse(document(found)), nil
}

// ListPayments shows a page of payments.
func (h *handlers) ListPayments(ctx context.Context, request contract.ListPaymentsRequestObject) (contract.ListPaymentsResponseObject, error) {
	asked, err := paymentList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	rows, err := h.payments.store.Payments(ctx, store.PaymentsParams{Before: asked.After, Most: asked.Limit + 1})
	if err != nil {
		return nil, fmt.Errorf("listing payments: %w", err)
	}
	rows, next := page.Cut(paymentList, asked, rows, func(p store.PaymentsRow) uuid.UUID { return p.OrderID })
	answer := contract.ListPayments200JSONResponse{Items: []contract.Payment{}, NextCursor: next}
	for _, one := range rows {
		answer.Items = append(answer.Items, document(row(one)))
	}
	return answer, nil
}

// paymentList is ordered by the orders' ids, newest first.
var paymentList = page.List[uuid.UUID]{
	First:  uuid.Max,
	Format: func(order uuid.UUID) string { return string(order[:]) },
	Parse:  func(text string) (uuid.UUID, error) { return uuid.FromBytes([]byte(text)) },
}

// document is a payment as clients see it.
func document(p row) contract.Payment {
	return contract.Payment{
		OrderID:           p.OrderID,
		State:             contract.PaymentState(p.State),
		Amount:            amountOf(p),
		Refunded:          money.Money{Amount: p.RefundedAmount, Currency: p.Currency},
		DeclineReason:     p.DeclineReason,
		Acquirer:          contract.PaymentAcquirer(p.Acquirer),
		AcquirerReference: p.AcquirerReference,
		CreatedAt:         p.CreatedAt.UTC(),
		UpdatedAt:         p.UpdatedAt.UTC(),
	}
}

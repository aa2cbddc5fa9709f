package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/card"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

const (
	// mostAmount in minor units: eight digits are what Stripe takes,
	// https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
	mostAmount = 99_999_999

	defaultLimit = 20
	mostLimit    = 100
)

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

var cardToken = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// wish is what a request asks for, if that is acceptable. No detail repeats a
// token: it may be what should never have been sent.
func (h *handlers) wish(request contract.PayRequestObject) (wish, error) {
	body := request.Body
	var faults []problem.Field
	fault := func(name, detail string) { faults = append(faults, problem.Field{Name: name, Detail: detail}) }

	if body.Amount.Amount < 1 || body.Amount.Amount > mostAmount {
		fault("amount.amount", "has to be from 1 to "+strconv.Itoa(mostAmount)+", in minor units")
	}
	switch {
	case !money.IsCurrency(body.Amount.Currency):
		fault("amount.currency", "has to be a code of three capital letters such as BRL")
	case !slices.Contains(h.currencies, body.Amount.Currency):
		fault("amount.currency", "has to be "+strings.Join(h.currencies, " or "))
	}
	switch {
	case card.LooksLikeNumber(body.CardToken):
		fault("card_token", "looks like a card number, which has no place here: send the token that stands for the card")
	case !cardToken.MatchString(body.CardToken):
		fault("card_token", "has to be 1 to 64 letters, digits, '-' and '_'")
	}
	if len(faults) > 0 {
		return wish{}, problem.At(problem.InvalidValue, faults...)
	}
	return wish{
		order:   request.OrderID,
		amount:  body.Amount,
		token:   body.CardToken,
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
	limit := int32(defaultLimit)
	if request.Params.Limit != nil {
		limit = *request.Params.Limit
	}
	if limit < 1 || limit > mostLimit {
		return nil, problem.At(problem.InvalidValue, problem.Field{Name: "limit", Detail: "has to be from 1 to " + strconv.Itoa(mostLimit)})
	}
	before := uuid.Max
	if request.Params.Cursor != nil {
		var err error
		if before, err = decodeCursor(*request.Params.Cursor); err != nil {
			e := problem.At(problem.InvalidValue, problem.Field{Name: "cursor", Detail: "is not a next_cursor of this list"})
			e.Cause = err
			return nil, e
		}
	}
	found, err := h.payments.store.Payments(ctx, store.PaymentsParams{Before: before, Most: limit + 1})
	if err != nil {
		return nil, fmt.Errorf("listing payments: %w", err)
	}
	page := contract.PaymentPage{Items: []contract.Payment{}}
	for i, one := range found {
		if i == int(limit) {
			page.NextCursor = new(encodeCursor(found[i-1].OrderID))
			break
		}
		page.Items = append(page.Items, document(row(one)))
	}
	return contract.ListPayments200JSONResponse(page), nil
}

// A cursor is the id of the last order on the page.
func encodeCursor(last uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(last[:]) }

func decodeCursor(text string) (uuid.UUID, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("decoding the cursor: %w", err)
	}
	return uuid.FromBytes(raw)
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

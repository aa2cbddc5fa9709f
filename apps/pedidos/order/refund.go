package order

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// MaxRefunds is the largest number of partial refunds of an order, so that one page of Stripe's list has all
// refunds of a charge (https://docs.stripe.com/api/refunds/list), unless many have failed.
const MaxRefunds = 50

// RefundState is how a partial refund stands.
type RefundState string

// The states, as pagamentos has them. Succeeded and failed are final, except that one that has
// succeeded needs a person if the bank sends the money back.
const (
	RefundPending     RefundState = "pending"
	RefundNeedsPerson RefundState = "needs_person"
	RefundSucceeded   RefundState = "succeeded"
	RefundFailed      RefundState = "failed"
)

// RefundLine is what units a refund is for.
type RefundLine struct {
	SKU      value.SKU `json:"sku"`
	Quantity int32     `json:"quantity"`
}

// Refund is a refund of a part of an order.
type Refund struct {
	ID        uuid.UUID
	Amount    money.Money
	Lines     []RefundLine // empty if it is for no units
	Reason    string
	State     RefundState
	CreatedAt time.Time
	UpdatedAt time.Time
}

// RefundThen is how a refund stood at a time. The database writes it with an event.
type RefundThen struct {
	ID        uuid.UUID   `json:"id"`
	State     RefundState `json:"state"`
	UpdatedAt time.Time   `json:"updated_at"`
}

// refundsThen returns the order's refunds as they stood then, without those that were placed later.
func (o *Order) refundsThen(then []RefundThen) []Refund {
	var refunds []Refund
	for _, refund := range o.Refunds {
		for _, was := range then {
			if was.ID == refund.ID {
				refund.State, refund.UpdatedAt = was.State, was.UpdatedAt
				refunds = append(refunds, refund)
			}
		}
	}
	return refunds
}

// The errors of PlanRefund.
var (
	ErrNotRefundable  = errors.New("only a confirmed order can be refunded in part")
	ErrTooManyRefunds = errors.New("the order has too many refunds")
	ErrRefundExceeds  = errors.New("the refunds would exceed what was charged")
	ErrRefundsNothing = errors.New("the lines cost nothing")
	ErrOtherCurrency  = errors.New("the order is in another currency")
)

// RefundLineError says that an order does not have the units of a refund's line.
type RefundLineError struct {
	Line int   // its index
	Left int32 // how many units are not refunded; -1: the order has no such item
}

func (e *RefundLineError) Error() string {
	return fmt.Sprintf("line %d: %d units are left to refund", e.Line, e.Left)
}

// PlanRefund returns what a refund of the lines refunds: the amount, or what the lines cost if amount
// is nil. No two lines may have the same SKU. It fails with one of the errors above, or with a
// *RefundLineError.
func (o *Order) PlanRefund(amount *money.Money, lines []RefundLine) (money.Money, error) {
	none := money.Money{Currency: o.Total.Currency}
	if o.State != Confirmed || o.CancelRequested {
		return none, ErrNotRefundable
	}
	if len(o.Refunds) >= MaxRefunds {
		return none, ErrTooManyRefunds
	}
	sum := none
	for i, line := range lines {
		price, left := o.unitsLeft(line.SKU)
		if line.Quantity > left {
			return none, &RefundLineError{i, left}
		}
		cost, err := price.Times(int64(line.Quantity))
		if err == nil {
			sum, err = sum.Plus(cost)
		}
		if err != nil {
			return none, ErrRefundExceeds
		}
	}
	if amount != nil {
		sum = *amount
	}
	rest := o.Total.Amount
	for _, refund := range o.Refunds {
		if refund.State != RefundFailed {
			rest -= refund.Amount.Amount
		}
	}
	switch {
	case sum.Currency != o.Total.Currency:
		return none, ErrOtherCurrency
	case sum.Amount < 1:
		return none, ErrRefundsNothing
	case sum.Amount > rest:
		return none, ErrRefundExceeds
	}
	return sum, nil
}

// unitsLeft returns the price of an item of the order and how many of its units no refund is for; -1 if
// the order has no such item.
func (o *Order) unitsLeft(sku value.SKU) (price money.Money, left int32) {
	left = -1
	for _, line := range o.Lines {
		if line.SKU == sku {
			price, left = line.Price, line.Quantity
		}
	}
	for _, refund := range o.Refunds {
		for _, line := range refund.Lines {
			if line.SKU == sku && refund.State != RefundFailed {
				left -= line.Quantity
			}
		}
	}
	return price, left
}

// Refunded returns what of the order's total is refunded, as a whole or in parts.
func (o *Order) Refunded() money.Money {
	if o.State == Refunded {
		return o.Total
	}
	sum := money.Money{Currency: o.Total.Currency}
	for _, refund := range o.Refunds {
		if refund.State == RefundSucceeded {
			sum.Amount += refund.Amount.Amount
		}
	}
	return sum
}

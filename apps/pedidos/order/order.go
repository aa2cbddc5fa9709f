// Package order is an order's state machine: the transitions that are possible, and the
// next step of an order. It depends neither on HTTP nor on a database.
package order

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// State is the state of an order.
type State string

// The states. A confirmed order is final, but the client can still cancel it.
const (
	Pending   State = "pending"   // stored; no step is known to have succeeded
	Reserved  State = "reserved"  // its stock is reserved
	Paid      State = "paid"      // its payment is captured
	Confirmed State = "confirmed" // its stock is sold
	Cancelled State = "cancelled" // by the client; nothing is charged
	Refunding State = "refunding" // charged; the refund is not known to have succeeded
	Refunded  State = "refunded"
	Failed    State = "failed" // never charged; FailureReason says why
)

// States lists all states.
var States = []State{Pending, Reserved, Paid, Confirmed, Cancelled, Refunding, Refunded, Failed}

// next lists the states that may follow each state.
var next = map[State][]State{
	Pending:   {Reserved, Cancelled, Failed, Refunding},
	Reserved:  {Paid, Cancelled, Failed, Refunding},
	Paid:      {Confirmed, Refunding},
	Confirmed: {Refunding},
	Refunding: {Refunded},
}

// Final tells whether an order in this state needs no further step.
func (s State) Final() bool {
	return s == Confirmed || s == Cancelled || s == Refunded || s == Failed
}

// Line is one item of an order, at the agreed price of one unit.
type Line struct {
	SKU      value.SKU   `json:"sku"`
	Quantity int32       `json:"quantity"`
	Price    money.Money `json:"price"`
}

// Transition is one change of an order's state.
type Transition struct {
	From   State // "" for the first
	To     State
	At     time.Time
	Reason string
}

// Order is one order.
type Order struct {
	ID uuid.UUID
	// Number increases with each order. It is 0 until the order is read from the store.
	Number   int64
	ClientID value.ClientID
	Shopper  value.ShopperID // among those of the client; "" if the client does not say
	State    State
	Lines    []Line
	Total    money.Money
	// CardToken identifies the card at the acquirer. It is kept until the order is final,
	// since only repeating the same payment finds out its outcome.
	CardToken value.CardToken
	// CancelRequested says that the client cancelled the order, which is irrevocable.
	CancelRequested bool
	// FailureReason is why the order failed or is refunded; "" for other orders.
	FailureReason string
	// GiveUp is why this order will fail once its stock and its payment are undone; ""
	// for other orders. It is stored before the process acts on it, so that a process
	// that takes the order over does not confirm it.
	GiveUp string
	// ClientSecret is what the shopper needs to authenticate; "" unless the order waits for that.
	ClientSecret string
	// Uncertain says that the order may have been charged although its state does not
	// say so, because another process may have charged it. It is not stored.
	Uncertain bool
	// ShippedAt is when the order was shipped, and Shipment how to find it: both zero before.
	ShippedAt   time.Time
	Shipment    string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Transitions []Transition
	Refunds     []Refund // of parts, the oldest first
}

// Step is one step of the checkout.
type Step string

// The steps. All except Done call other services, and may be repeated any number of
// times.
const (
	Reserve Step = "reserve" // reserve the stock
	Pay     Step = "pay"     // charge the card
	Confirm Step = "confirm" // sell the stock
	Undo    Step = "undo"    // refund the payment, then release the stock
	Release Step = "release" // release the stock; nothing was charged
	Done    Step = "done"
)

// Step returns the next step.
func (o *Order) Step() Step {
	switch {
	case o.State.Final():
		return Done
	case o.State == Refunding, o.CancelRequested, o.GiveUp != "" && o.Uncertain:
		return Undo
	case o.GiveUp != "":
		return Release
	case o.State == Pending:
		return Reserve
	case o.State == Reserved:
		return Pay
	}
	return Confirm
}

// Move changes the order's state. It fails if that state may not follow the current
// one.
func (o *Order) Move(to State, reason string, at time.Time) error {
	if !slices.Contains(next[o.State], to) {
		return fmt.Errorf("order %s: %s cannot become %s (%s)", o.ID, o.State, to, reason)
	}
	o.Transitions = append(o.Transitions, Transition{From: o.State, To: to, At: at, Reason: reason})
	o.State, o.UpdatedAt = to, at
	if to == Failed || to == Refunding {
		o.FailureReason = reason
	}
	return nil
}

// AsOf returns the order as it was at a time, after its transition at position and with the refunds that it
// had then. A transition that it does not have is taken for its last; an old order whose transitions have left
// is returned as it is, but for the refunds.
func (o *Order) AsOf(position int, at time.Time, refunds []RefundThen) Order {
	then := *o
	then.Refunds = o.refundsThen(refunds)
	if len(o.Transitions) == 0 {
		return then
	}
	then.Transitions = o.Transitions[:min(position+1, len(o.Transitions))]
	last := then.Transitions[len(then.Transitions)-1]
	then.State, then.UpdatedAt, then.FailureReason, then.CancelRequested = last.To, at, "", false
	for _, t := range then.Transitions {
		if t.To == Failed || t.To == Refunding {
			then.FailureReason = t.Reason
		}
	}
	if at.Before(o.ShippedAt) {
		then.ShippedAt, then.Shipment = time.Time{}, ""
	}
	return then
}

// Reserved reports that the stock is reserved and costs total. If the client agreed to
// another total, the order will fail.
func (o *Order) Reserved(total money.Money, at time.Time) error {
	if err := o.Move(Reserved, "stock_reserved", at); err != nil {
		return err
	}
	if total != o.Total {
		o.GiveUp = "price_changed"
	}
	return nil
}

// NotReserved reports that the stock was refused, so that none is reserved. If the
// order is uncertain, an earlier reservation may have been charged and expired.
func (o *Order) NotReserved(reason string, at time.Time) error {
	if o.Uncertain {
		o.GiveUp = reason
		return nil
	}
	return o.Move(Failed, reason, at)
}

// Captured reports that the card was charged.
func (o *Order) Captured(at time.Time) error {
	o.Uncertain = false
	return o.Move(Paid, "payment_captured", at)
}

// Declined reports that the card was not and will not be charged.
func (o *Order) Declined(reason string) { o.GiveUp, o.Uncertain = reason, false }

// authenticationTimeout is why an order fails whose shopper did not authenticate in time.
const authenticationTimeout = "authentication_timeout"

// NeedsAuthentication reports that the shopper has to authenticate, with the secret, before the card is
// charged. An order that was placed longer than window ago is undone.
func (o *Order) NeedsAuthentication(secret string, at time.Time, window time.Duration) {
	if at.After(o.CreatedAt.Add(window)) {
		o.GiveUp, o.Uncertain = authenticationTimeout, true
		return
	}
	o.ClientSecret = secret
}

// AwaitsShopper tells whether the next step is the shopper's, who has to authenticate.
func (o *Order) AwaitsShopper() bool { return o.ClientSecret != "" && o.Step() == Pay }

// Unpayable reports that pagamentos refuses the payment. The order is undone, since
// an earlier payment may exist.
func (o *Order) Unpayable(reason string) { o.GiveUp, o.Uncertain = reason, true }

// Confirmed reports that the stock is sold to this order.
func (o *Order) Confirmed(at time.Time) error { return o.Move(Confirmed, "stock_confirmed", at) }

// NotConfirmed reports that the stock is gone although the order is paid.
func (o *Order) NotConfirmed(reason string, at time.Time) error { return o.Move(Refunding, reason, at) }

const byClient = "cancelled_by_client"

// The errors of Cancel.
var (
	ErrFailed  = errors.New("the order has failed")
	ErrShipped = errors.New("the order has been shipped")
	ErrTooLate = errors.New("the time to cancel the order is over")
)

// CancelUntil returns the end of the time in which the client may cancel, of the length
// window. It is zero if the order cannot be cancelled any more, or has ended without a sale.
func (o *Order) CancelUntil(window time.Duration) time.Time {
	switch o.State {
	case Pending, Reserved, Paid, Confirmed:
		if o.ShippedAt.IsZero() && !o.CancelRequested {
			return o.CreatedAt.Add(window)
		}
	}
	return time.Time{}
}

// Cancel records that the client cancelled the order, at most window after it was placed. It
// does not change an order whose cancellation is recorded, or which is refunded. It fails with
// ErrFailed, ErrShipped or ErrTooLate.
func (o *Order) Cancel(at time.Time, window time.Duration) error {
	switch {
	case o.State == Failed:
		return ErrFailed
	case o.State == Cancelled, o.State == Refunded, o.State == Refunding, o.CancelRequested:
		return nil
	case !o.ShippedAt.IsZero():
		return ErrShipped
	case at.After(o.CreatedAt.Add(window)):
		return ErrTooLate
	}
	o.CancelRequested = true
	if o.State == Confirmed || o.State == Paid {
		return o.Move(Refunding, byClient, at)
	}
	return nil
}

// Undone reports that nothing is charged or reserved any more. The argument refunded
// says whether there was a charge.
func (o *Order) Undone(refunded bool, at time.Time) error {
	const refund = "payment_refunded"
	reason, end := o.GiveUp, Failed
	if o.CancelRequested {
		reason, end = byClient, Cancelled
	}
	switch {
	case o.State == Refunding:
		return o.Move(Refunded, refund, at)
	case !refunded:
		return o.Move(end, reason, at)
	}
	if err := o.Move(Refunding, reason, at); err != nil {
		return err
	}
	return o.Move(Refunded, refund, at)
}

// Released reports that the stock of an order with GiveUp is released.
func (o *Order) Released(at time.Time) error { return o.Move(Failed, o.GiveUp, at) }

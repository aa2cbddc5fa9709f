// Package order is an order's state machine: what an order can become, and what
// has to be done next for it. It knows neither HTTP nor a database.
package order

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

// State is where an order stands.
type State string

// The states. Confirmed is the end of an order that nobody cancels.
const (
	Pending   State = "pending"   // acknowledged, nothing done yet that is known of
	Reserved  State = "reserved"  // its stock is put aside
	Paid      State = "paid"      // its payment is captured
	Confirmed State = "confirmed" // its stock is taken out: sold
	Cancelled State = "cancelled" // by the client, before it was charged
	Refunding State = "refunding" // charged, and on the way back
	Refunded  State = "refunded"
	Failed    State = "failed" // never charged; FailureReason says why
)

// States are all of them.
var States = []State{Pending, Reserved, Paid, Confirmed, Cancelled, Refunding, Refunded, Failed}

// next are the states that may follow each other.
var next = map[State][]State{
	Pending:   {Reserved, Cancelled, Failed, Refunding},
	Reserved:  {Paid, Cancelled, Failed, Refunding},
	Paid:      {Confirmed, Refunding},
	Confirmed: {Refunding},
	Refunding: {Refunded},
}

// Final tells whether an order in this state needs nothing more done.
func (s State) Final() bool {
	return s == Confirmed || s == Cancelled || s == Refunded || s == Failed
}

// Line is one article of an order, at the price that was agreed on.
type Line struct {
	SKU      string      `json:"sku"`
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
	ID       uuid.UUID
	ClientID string
	State    State
	Lines    []Line
	Total    money.Money
	// CardToken stands for the card at the acquirer. It is kept until the order is
	// final, since only the same call again finds out what became of a payment.
	CardToken string
	// CancelRequested is the client's wish; it is not taken back.
	CancelRequested bool
	// FailureReason is why the order failed or is refunded, "" if it did not.
	FailureReason string
	// GiveUp is why this order will fail, once nothing is left of it elsewhere. A
	// decision that is stored before it is acted on: whoever else is at the order
	// must not go on to confirm it.
	GiveUp string
	// Uncertain says that the order may have been charged without its state saying
	// so, since another process has had it before. It is not stored.
	Uncertain   bool
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Transitions []Transition
}

// Step is what has to be done next for an order.
type Step string

// The steps. All but Done are calls to other services that may be made any number
// of times.
const (
	Reserve Step = "reserve" // put the stock aside
	Pay     Step = "pay"     // charge the card
	Confirm Step = "confirm" // take the stock out for good
	Undo    Step = "undo"    // give the money back, so that there is none to lose, then the stock
	Release Step = "release" // give the stock back, nothing having been charged
	Done    Step = "done"
)

// Step says what has to be done next.
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

// Move puts the order into another state. It fails when that may not follow the
// present one.
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

// Reserved reports that the stock is put aside, for the given total. One that
// differs from what was agreed on ends the order.
func (o *Order) Reserved(total money.Money, at time.Time) error {
	if err := o.Move(Reserved, "stock_reserved", at); err != nil {
		return err
	}
	if total != o.Total {
		o.GiveUp = "price_changed"
	}
	return nil
}

// NotReserved reports that the stock was refused, and that none is put aside. It
// may have been before, for long enough to be charged and to expire since.
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

// Unpayable reports that the payment cannot even be asked for. What there may be
// of one is undone.
func (o *Order) Unpayable(reason string) { o.GiveUp, o.Uncertain = reason, true }

// Confirmed reports that the stock is sold to this order.
func (o *Order) Confirmed(at time.Time) error { return o.Move(Confirmed, "stock_confirmed", at) }

// NotConfirmed reports that the stock is gone although it was paid for.
func (o *Order) NotConfirmed(reason string, at time.Time) error { return o.Move(Refunding, reason, at) }

const byClient = "cancelled_by_client"

// Cancel records the client's wish. It fails for an order that has failed; one
// that is cancelled or refunded already stays as it is.
func (o *Order) Cancel(at time.Time) error {
	switch o.State {
	case Failed:
		return fmt.Errorf("order %s has failed", o.ID)
	case Cancelled, Refunded, Refunding:
		return nil
	case Confirmed, Paid:
		o.CancelRequested = true
		return o.Move(Refunding, byClient, at)
	}
	o.CancelRequested = true
	return nil
}

// Undone reports that there is neither a charge nor a reservation any more;
// refunded says whether there had been a charge.
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

// Released reports that the stock is given back for an order that gave up.
func (o *Order) Released(at time.Time) error { return o.Move(Failed, o.GiveUp, at) }

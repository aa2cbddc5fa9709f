// Package payment is a payment and its state machine: the operations that each state
// allows, the next step, and the state after an acquirer's answer. It depends neither on
// the database nor on an acquirer.
package payment

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// Payment is the payment of an order.
type Payment struct {
	Standing
	OrderID           uuid.UUID
	Amount            money.Money
	Refunded          money.Money     // in the amount's currency
	CardToken         value.CardToken // erased once the card is charged or declined
	Fingerprint       []byte          // of the request; nil if the order was undone before it was charged
	ClientSecret      string          // with Action: lets the shopper authenticate; "" otherwise
	Acquirer          string
	AcquirerReference string         // "" if the charge is not prepared
	RefundReference   string         // "" unless the acquirer carries a refund out, or has done so
	DeclineReason     string         // "" unless declined
	ClientID          value.ClientID // whose order it is; "" if not known
	Attempts          int32          // of the resolver, since the payment last changed
	// Problem is why the acquirer refused the next step, and Refusals how often it has: both
	// since the payment last changed.
	Problem  string
	Refusals int32
	// DueIn is the time until the resolver takes the payment up, if a step is left.
	DueIn     time.Duration
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Wait returns how long the acquirer is not to be called: it has refused the next step, or
// carries out a refund.
func (p Payment) Wait() time.Duration {
	if p.Next() == Nothing || p.Problem == "" && (p.State != Refunding || p.RefundReference == "") {
		return 0
	}
	return max(p.DueIn, 0)
}

// State is the state of a payment.
type State string

// The states. Declined, refunded and voided are final.
const (
	Authorising State = "authorising" // to be charged; the acquirer's answer is not known
	Authorised  State = "authorised"
	Captured    State = "captured"
	Declined    State = "declined"
	Refunding   State = "refunding" // to be refunded; the acquirer's answer is not known
	Refunded    State = "refunded"
	Voided      State = "voided" // an authorisation was released, or the order must never be charged
)

// States lists all states.
var States = []State{Authorising, Authorised, Captured, Declined, Refunding, Refunded, Voided}

// Standing is the part of a payment that determines its next step.
type Standing struct {
	State   State
	Capture bool // the amount is to be captured
	Undo    bool // the payment is to be refunded, released or prevented; never becomes false again
	// Prepared says that the acquirer knows the charge, by its reference.
	Prepared bool
	// Prepares says that nothing can have been charged before the charge is prepared. It is
	// false for payments of earlier versions, which charged in a single call.
	Prepares bool
	// Action says that the shopper has to authenticate before the card is charged. Only a
	// payment that is authorising has it.
	Action bool
	// Partly says that a part of the payment is refunded, or is to be. If such a payment is undone,
	// the rest is one more partial refund, and no step is left for the payment itself.
	Partly bool
}

// Step is one step of a payment.
type Step string

// The steps. Each except BeginRefund is a call to the acquirer.
const (
	Nothing     Step = ""
	Prepare     Step = "prepare" // register the charge; nothing is charged
	Authorise   Step = "authorise"
	Await       Step = "await" // find out whether the shopper has authenticated
	Capture     Step = "capture"
	Void        Step = "void"
	BeginRefund Step = "begin refund" // store the intention to refund
	Refund      Step = "refund"
)

// Next returns the next step. A charge whose outcome is not known and that is to be undone
// is voided, never repeated: voiding finds out whether it was captured. The same holds for a
// capture.
func (s Standing) Next() Step {
	switch {
	case s.State == Authorising && !s.Prepared:
		return Prepare
	case s.State == Authorising && s.Undo:
		return Void
	case s.State == Authorising && s.Action:
		return Await
	case s.State == Authorising:
		return Authorise
	case s.State == Authorised && s.Undo:
		return Void
	case s.State == Authorised && s.Capture:
		return Capture
	case s.State == Captured && s.Undo:
		return BeginRefund
	case s.State == Refunding && !s.Partly:
		return Refund
	}
	return Nothing
}

// Undone tells whether the payment is undone, or is to be undone.
func (s Standing) Undone() bool {
	return s.Undo || s.State == Refunding || s.State == Refunded || s.State == Voided
}

// NotPossibleError says that the payment's state does not allow an operation.
type NotPossibleError struct {
	Operation string
	State     State
}

func (e *NotPossibleError) Error() string {
	return fmt.Sprintf("%s is not possible: the payment is %s", e.Operation, e.State)
}

// AskCapture requests the capture of an authorised amount. It does not change a captured
// payment.
func (s Standing) AskCapture() (Standing, error) {
	switch {
	case s.State == Captured && !s.Undo:
		return s, nil
	case s.State == Authorised && !s.Undo:
		s.Capture = true
		return s, nil
	}
	return s, &NotPossibleError{"a capture", s.State}
}

// AskUndo requests that the payment be undone, which is always possible. A charge that is
// not prepared is voided at once.
func (s Standing) AskUndo() Standing {
	switch {
	case s.State == Authorising && s.Prepares && !s.Prepared && !s.Undo:
		s.State, s.Undo = Voided, true
	case s.State == Authorising, s.State == Authorised:
		s.Undo = true
	case s.State == Captured:
		s.State, s.Undo = Refunding, true
	}
	return s
}

// outcomes lists the states that may follow each step. A charge that is prepared stays
// authorising, as does one for which the shopper has to authenticate. Preparing finds the outcome of a charge that an earlier version made.
// Capturing an expired authorisation voids the payment, as does authorising a charge that
// another process has voided.
var outcomes = map[Step][]State{
	Prepare:   {Authorising, Authorised, Captured, Declined, Voided},
	Authorise: {Authorising, Authorised, Captured, Declined, Voided},
	Await:     {Authorising, Authorised, Captured, Declined, Voided},
	Capture:   {Captured, Voided},
	Void:      {Voided, Captured},
	Refund:    {Refunded},
}

// Settle returns the standing after the acquirer's answer to the next step led to the
// state to.
func (s Standing) Settle(to State) (Standing, error) {
	step := s.Next()
	for _, possible := range outcomes[step] {
		if to == possible {
			s.State = to
			s.Prepared = s.Prepared || step == Prepare && (to == Authorising || to == Authorised || to == Captured)
			s.Action = to == Authorising && step != Prepare
			return s, nil
		}
	}
	return s, fmt.Errorf("the step %[3]q cannot take a payment from %[1]s to %[2]s", s.State, to, step)
}

// Package payment is the state machine of a payment: what may be asked of it,
// what is left to be done about it, and where an acquirer's answer leads. It
// knows neither the database nor the acquirer.
package payment

import "fmt"

// State is how far a payment is.
type State string

// The states. Declined, refunded and voided are final.
const (
	Authorising State = "authorising" // the acquirer is asked, or was and the answer is not known
	Authorised  State = "authorised"
	Captured    State = "captured"
	Declined    State = "declined"
	Refunding   State = "refunding" // likewise for the refund
	Refunded    State = "refunded"
	Voided      State = "voided" // an authorisation let go, or an order that is never to be charged
)

// States are all of them.
var States = []State{Authorising, Authorised, Captured, Declined, Refunding, Refunded, Voided}

// Standing is what is stored of a payment and decides what happens to it.
type Standing struct {
	State   State
	Capture bool // the amount is to be captured
	Undo    bool // the amount is to be given back, or never taken; not to be withdrawn
}

// Step is what is to be done next.
type Step string

// The steps. Each but BeginRefund is a call of the acquirer.
const (
	Nothing     Step = ""
	Authorise   Step = "authorise"
	Capture     Step = "capture"
	Void        Step = "void"
	BeginRefund Step = "begin refund" // write down that the refund is going to be asked for
	Refund      Step = "refund"
)

// Next tells what is left to be done. A capture that was asked for may have
// happened, so it is brought to its end even if it is to be undone then.
func (s Standing) Next() Step {
	switch {
	case s.State == Authorising:
		return Authorise
	case s.State == Authorised && s.Capture:
		return Capture
	case s.State == Authorised && s.Undo:
		return Void
	case s.State == Captured && s.Undo:
		return BeginRefund
	case s.State == Refunding:
		return Refund
	}
	return Nothing
}

// Undone tells whether the payment is undone, or on its way there.
func (s Standing) Undone() bool {
	return s.Undo || s.State == Refunding || s.State == Refunded || s.State == Voided
}

// NotPossibleError says that what was asked for cannot be in the payment's state.
type NotPossibleError struct {
	Wish  string
	State State
}

func (e *NotPossibleError) Error() string {
	return fmt.Sprintf("%s is not possible: the payment is %s", e.Wish, e.State)
}

// AskCapture is the wish to have an authorised amount captured. A payment that
// is captured already stays as it is.
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

// AskUndo is the wish to have the payment undone, which is always possible.
func (s Standing) AskUndo() Standing {
	switch s.State {
	case Authorising, Authorised:
		s.Undo = true
	case Captured:
		s.State, s.Undo = Refunding, true
	}
	return s
}

// leads has the states to which the acquirer's answer to a step leads. An
// authorisation that has run out cannot be captured any more, and is voided.
var leads = map[Step][]State{
	Authorise: {Authorised, Captured, Declined},
	Capture:   {Captured, Voided},
	Void:      {Voided, Captured},
	Refund:    {Refunded},
}

// Settle is the payment after the acquirer has answered the next step.
func (s Standing) Settle(to State) (Standing, error) {
	step := s.Next()
	for _, possible := range leads[step] {
		if to == possible {
			s.State = to
			return s, nil
		}
	}
	return s, fmt.Errorf("a payment that is %s does not become %s by the step %q", s.State, to, step)
}

package payment_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/loja-veloz/platform/apps/pagamentos/payment"
)

// card is a model of the acquirer's side of one payment.
type card struct {
	approves, voided   bool
	asks, acted        bool // the bank asks the shopper, who has answered
	charged, captured  int
	refunded, declined int
}

// answer performs a step, at most once, and returns the resulting state.
func (c *card) answer(step payment.Step, capture bool) payment.State {
	switch step {
	case payment.Prepare:
		if c.captured == 1 {
			return payment.Captured
		}
		return payment.Authorising
	case payment.Authorise, payment.Await:
		switch {
		case c.voided:
			return payment.Voided
		case c.asks && !c.acted:
			return payment.Authorising
		case !c.approves:
			c.declined = 1
			return payment.Declined
		}
		c.charged = 1
		if capture {
			c.captured = 1
			return payment.Captured
		}
		return payment.Authorised
	case payment.Capture:
		c.captured = 1
		return payment.Captured
	case payment.Void:
		if c.captured == 1 {
			return payment.Captured
		}
		c.voided = true
		return payment.Voided
	case payment.Refund:
		c.refunded = 1
		return payment.Refunded
	}
	return ""
}

func TestEveryPaymentIsResolvedAfterLostAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		acquirer := &card{approves: rapid.Bool().Draw(t, "approves"), asks: rapid.Bool().Draw(t, "asks")}
		now := payment.Standing{
			State: payment.Authorising, Capture: rapid.Bool().Draw(t, "capture"), Prepares: rapid.Bool().Draw(t, "prepares"),
		}
		asked := now.Capture
		if !now.Prepares && acquirer.approves && rapid.Bool().Draw(t, "charged by an earlier version") {
			acquirer.answer(payment.Authorise, true)
		}
		undo := false
		seen := []payment.State{now.State}
		drive := func(lost bool) {
			step := now.Next()
			if step == payment.BeginRefund {
				now = now.AskUndo()
			} else if step != payment.Nothing {
				to := acquirer.answer(step, asked)
				if lost {
					return // the step took effect, but its answer is lost
				}
				next, err := now.Settle(to)
				if err != nil {
					t.Fatal(err)
				}
				now = next
			}
			if last := seen[len(seen)-1]; last != now.State {
				if slices.Contains(seen, now.State) {
					t.Fatalf("entered %s twice: %v", now.State, seen)
				}
				seen = append(seen, now.State)
			}
		}
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			before := now
			switch rapid.SampledFrom([]string{"drive", "lose", "act", "capture", "undo"}).Draw(t, "what") {
			case "drive":
				drive(false)
			case "lose":
				drive(true)
			case "act":
				acquirer.acted = true
			case "capture":
				next, err := now.AskCapture()
				if refused := new(payment.NotPossibleError); err != nil && (!errors.As(err, &refused) || next != before) {
					t.Fatalf("AskCapture of %+v: %v, and %+v", before, err, next)
				}
				now = next
			case "undo":
				undo = true
				charged, unknown := acquirer.charged, now.State == payment.Authorising
				now = now.AskUndo()
				defer func() {
					if unknown && acquirer.charged > charged {
						t.Fatalf("charged after the request to undo: %+v", acquirer)
					}
				}()
				if again := now.AskUndo(); again != now {
					t.Fatalf("a second request to undo changed %+v to %+v", now, again)
				}
			}
			if before.Undo && !now.Undo {
				t.Fatalf("the request to undo was lost: %+v, then %+v", before, now)
			}
		}
		// From any state, repeated calls resolve the payment, once the shopper has acted.
		acquirer.acted = true
		for range 10 {
			drive(false)
		}
		if now.Next() != payment.Nothing {
			t.Fatalf("the payment is not resolved: %+v", now)
		}
		kept := acquirer.captured - acquirer.refunded
		switch {
		case kept < 0:
			t.Fatalf("refunded without a capture: %+v", acquirer)
		case undo && (kept != 0 || acquirer.charged == 1 && acquirer.captured == 0 && !acquirer.voided):
			t.Fatalf("undone, but the acquirer has %+v, at %+v", acquirer, now)
		case !undo && now.State == payment.Captured && kept != 1, now.State != payment.Captured && kept != 0:
			t.Fatalf("%+v, but the acquirer has %+v", now, acquirer)
		}
	})
}

func TestImpossibleOperationsAreRefused(t *testing.T) {
	for _, state := range payment.States {
		for _, undo := range []bool{false, true} {
			_, err := payment.Standing{State: state, Undo: undo}.AskCapture()
			possible := !undo && (state == payment.Authorised || state == payment.Captured)
			if (err == nil) != possible {
				t.Errorf("capture while %s, undo %t: %v", state, undo, err)
			}
		}
		for _, to := range payment.States {
			s := payment.Standing{State: state}
			next, err := s.Settle(to)
			if err != nil && next != s {
				t.Errorf("a refusal changed %s to %s", state, next.State)
			}
			if err == nil && (state == payment.Declined || state == payment.Refunded || state == payment.Voided) {
				t.Errorf("%s is final, but became %s", state, to)
			}
		}
	}
}

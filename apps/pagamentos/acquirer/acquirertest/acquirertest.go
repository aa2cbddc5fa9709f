// Package acquirertest is what every acquirer has to do, so that none drifts
// from what the service relies on.
package acquirertest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
)

// Cards are tokens that an acquirer's test mode knows.
type Cards struct {
	Approved      string
	Declined      string
	DeclineReason string // of Declined
	Unknown       string // a token of no card: declined as invalid_token
	// Silent is charged, and the first answer takes longer than patience.
	Silent string
	// Unavailable is refused at first, charging nothing, and then approved.
	Unavailable string
}

// patience is how long the suite waits for Silent; others answer in time.
const patience = 300 * time.Millisecond

var price = money.BRL(12990)

// Run runs the suite.
func Run(t *testing.T, a acquirer.Acquirer, cards Cards) {
	charge := func(token string, capture bool) acquirer.Charge {
		order, err := uuid.NewV7()
		if err != nil {
			t.Fatal(err)
		}
		return acquirer.Charge{Key: order.String() + ":authorise", OrderID: order, Amount: price, CardToken: token, Capture: capture}
	}
	authorise := func(t *testing.T, c acquirer.Charge, want acquirer.State) acquirer.Result {
		t.Helper()
		result, err := a.Authorise(t.Context(), c)
		if err != nil || result.State != want {
			t.Fatalf("Authorise = %+v, %v; want it %s", result, err, want)
		}
		if want != acquirer.Declined && (result.Reference == "" || result.DeclineReason != "") {
			t.Fatalf("Authorise = %+v: want a reference and no reason", result)
		}
		return result
	}
	is := func(t *testing.T, doing string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", doing, err, want)
		}
	}

	t.Run("approve", func(t *testing.T) {
		c := charge(cards.Approved, true)
		first := authorise(t, c, acquirer.Captured)
		if again := authorise(t, c, acquirer.Captured); again != first {
			t.Errorf("the same call again gave %+v, and %+v at first", again, first)
		}
		if other := authorise(t, charge(cards.Approved, true), acquirer.Captured); other.Reference == first.Reference {
			t.Errorf("two orders share the charge %s", other.Reference)
		}
	})
	t.Run("capture later", func(t *testing.T) {
		c := charge(cards.Approved, false)
		held := authorise(t, c, acquirer.Authorised)
		for range 2 {
			is(t, "Capture", a.Capture(t.Context(), c.OrderID.String()+":capture", held.Reference), nil)
		}
		is(t, "Void of a capture", a.Void(t.Context(), c.OrderID.String()+":void", held.Reference), acquirer.ErrCaptured)
		is(t, "Refund", a.Refund(t.Context(), c.OrderID.String()+":refund", held.Reference, price), nil)
		// What is answered is the first call's outcome, not what became of it.
		if again := authorise(t, c, acquirer.Authorised); again != held {
			t.Errorf("the same call again gave %+v, and %+v at first", again, held)
		}
	})
	t.Run("void", func(t *testing.T) {
		c := charge(cards.Approved, false)
		held := authorise(t, c, acquirer.Authorised)
		for range 2 {
			is(t, "Void", a.Void(t.Context(), c.OrderID.String()+":void", held.Reference), nil)
		}
		is(t, "Capture of what is let go", a.Capture(t.Context(), c.OrderID.String()+":capture", held.Reference), acquirer.ErrVoided)
	})
	t.Run("decline", func(t *testing.T) {
		c := charge(cards.Declined, true)
		first := authorise(t, c, acquirer.Declined)
		if first.DeclineReason != cards.DeclineReason {
			t.Errorf("declined for %q, want %q", first.DeclineReason, cards.DeclineReason)
		}
		if again := authorise(t, c, acquirer.Declined); again != first {
			t.Errorf("the same call again gave %+v, and %+v at first", again, first)
		}
		if none := authorise(t, charge(cards.Unknown, true), acquirer.Declined); none.DeclineReason != "invalid_token" {
			t.Errorf("a token of no card is declined for %q", none.DeclineReason)
		}
	})
	t.Run("refund", func(t *testing.T) {
		c := charge(cards.Approved, true)
		taken := authorise(t, c, acquirer.Captured)
		for range 2 {
			is(t, "Refund", a.Refund(t.Context(), c.OrderID.String()+":refund", taken.Reference, price), nil)
		}
		is(t, "Refund with the key of another",
			a.Refund(t.Context(), c.OrderID.String()+":refund", taken.Reference, money.BRL(1)), acquirer.ErrRefused)
	})
	t.Run("a key is for one call", func(t *testing.T) {
		c := charge(cards.Approved, true)
		authorise(t, c, acquirer.Captured)
		for name, change := range map[string]func(*acquirer.Charge){
			"amount":  func(c *acquirer.Charge) { c.Amount = money.BRL(price.Amount + 1) },
			"capture": func(c *acquirer.Charge) { c.Capture = false },
			"card":    func(c *acquirer.Charge) { c.CardToken = cards.Declined },
		} {
			other := c
			change(&other)
			if result, err := a.Authorise(t.Context(), other); !errors.Is(err, acquirer.ErrRefused) {
				t.Errorf("another %s with the same key: %+v, %v", name, result, err)
			}
		}
	})
	t.Run("no answer", func(t *testing.T) {
		c := charge(cards.Silent, true)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if result, err := a.Authorise(ctx, c); !acquirer.Unknown(err) || strings.Contains(err.Error(), cards.Silent) {
			t.Fatalf("Authorise without an answer = %+v, %v", result, err)
		}
		first := authorise(t, c, acquirer.Captured)
		if again := authorise(t, c, acquirer.Captured); again != first {
			t.Errorf("the same call again gave %+v, and %+v", first, again)
		}
	})
	t.Run("unavailable", func(t *testing.T) {
		c := charge(cards.Unavailable, true)
		if result, err := a.Authorise(t.Context(), c); !acquirer.Unknown(err) {
			t.Fatalf("Authorise while unavailable = %+v, %v", result, err)
		}
		var err error
		for range 5 {
			if _, err = a.Authorise(t.Context(), c); err == nil {
				return
			}
		}
		t.Errorf("it stays unavailable: %v", err)
	})
	t.Run("a charge that is not there", func(t *testing.T) {
		order := uuid.NewString()
		is(t, "Capture", a.Capture(t.Context(), order+":capture", "pi_nowhere"), acquirer.ErrRefused)
		is(t, "Void", a.Void(t.Context(), order+":void", "pi_nowhere"), acquirer.ErrRefused)
		is(t, "Refund", a.Refund(t.Context(), order+":refund", "pi_nowhere", price), acquirer.ErrRefused)
	})
	t.Run("all at once", func(t *testing.T) {
		c := charge(cards.Approved, true)
		references := make(chan string, 8)
		for range cap(references) {
			go func() {
				// A call may say that another one with its key is under way.
				for try := 0; ; try++ {
					result, err := a.Authorise(t.Context(), c)
					if err == nil || !acquirer.Unknown(err) || try == 100 {
						references <- result.Reference
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}
		first := <-references
		for range cap(references) - 1 {
			if next := <-references; next != first || first == "" {
				t.Errorf("one order, and the charges %q and %q", first, next)
			}
		}
	})
}

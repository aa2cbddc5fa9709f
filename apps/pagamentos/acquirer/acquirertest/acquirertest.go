// Package acquirertest is the test suite for every acquirer. It checks the behaviour that
// the service relies on.
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

// Cards are card tokens of an acquirer's test mode.
type Cards struct {
	Approved      string
	Declined      string
	DeclineReason string // of Declined
	Unknown       string // not a card: declined with invalid_token
	// Silent is charged; the first call gets no answer within patience.
	Silent string
	// Unavailable is approved after some calls that fail without charging.
	Unavailable string
}

// patience is how long the suite waits for Silent. The charge must take effect by then.
const patience = time.Second

var price = money.BRL(12990)

// Run runs the suite.
func Run(t *testing.T, a acquirer.Acquirer, cards Cards) {
	for _, test := range []struct {
		name string
		run  func(suite)
	}{
		{"approve", suite.testApprove},
		{"capture later", suite.testCaptureLater},
		{"void", suite.testVoid},
		{"decline", suite.testDecline},
		{"refund", suite.testRefund},
		{"a key with another call", suite.testKeyReused},
		{"no answer", suite.testNoAnswer},
		{"unavailable", suite.testUnavailable},
		{"an unknown charge", suite.testMissingCharge},
		{"concurrent calls", suite.testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(suite{t, a, cards}) })
	}
}

// suite is one test of an acquirer.
type suite struct {
	t *testing.T
	acquirer.Acquirer
	cards Cards
}

// charge returns a charge for a new order.
func (s suite) charge(token string, capture bool) acquirer.Charge {
	order := uuid.Must(uuid.NewV7())
	return acquirer.Charge{Key: order.String() + ":authorise", OrderID: order, Amount: price, CardToken: token, Capture: capture}
}

func (s suite) authorise(c acquirer.Charge, want acquirer.State) acquirer.Result {
	s.t.Helper()
	result, err := s.Authorise(s.t.Context(), c)
	if err != nil || result.State != want {
		s.t.Fatalf("Authorise = %+v, %v; want the state %s", result, err, want)
	}
	if want != acquirer.Declined && (result.Reference == "" || result.DeclineReason != "") {
		s.t.Fatalf("Authorise = %+v: want a reference and no reason", result)
	}
	return result
}

func (s suite) is(doing string, err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Fatalf("%s: %v, want %v", doing, err, want)
	}
}

func (s suite) testApprove() {
	c := s.charge(s.cards.Approved, true)
	first := s.authorise(c, acquirer.Captured)
	if again := s.authorise(c, acquirer.Captured); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
	if other := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured); other.Reference == first.Reference {
		s.t.Errorf("two orders share the charge %s", other.Reference)
	}
}

func (s suite) testCaptureLater() {
	c := s.charge(s.cards.Approved, false)
	held := s.authorise(c, acquirer.Authorised)
	for range 2 {
		s.is("Capture", s.Capture(s.t.Context(), c.OrderID.String()+":capture", held.Reference), nil)
	}
	s.is("Void of a capture", s.Void(s.t.Context(), c.OrderID.String()+":void", held.Reference), acquirer.ErrCaptured)
	s.is("Refund", s.Refund(s.t.Context(), c.OrderID.String()+":refund", held.Reference, price), nil)
	// The answer is the first call's outcome, not the current state.
	if again := s.authorise(c, acquirer.Authorised); again != held {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, held)
	}
}

func (s suite) testVoid() {
	c := s.charge(s.cards.Approved, false)
	held := s.authorise(c, acquirer.Authorised)
	for range 2 {
		s.is("Void", s.Void(s.t.Context(), c.OrderID.String()+":void", held.Reference), nil)
	}
	s.is("Capture of a voided charge", s.Capture(s.t.Context(), c.OrderID.String()+":capture", held.Reference), acquirer.ErrVoided)
}

func (s suite) testDecline() {
	c := s.charge(s.cards.Declined, true)
	first := s.authorise(c, acquirer.Declined)
	if first.DeclineReason != s.cards.DeclineReason {
		s.t.Errorf("declined for %q, want %q", first.DeclineReason, s.cards.DeclineReason)
	}
	if again := s.authorise(c, acquirer.Declined); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
	if none := s.authorise(s.charge(s.cards.Unknown, true), acquirer.Declined); none.DeclineReason != "invalid_token" {
		s.t.Errorf("an unknown token is declined for %q", none.DeclineReason)
	}
}

func (s suite) testRefund() {
	c := s.charge(s.cards.Approved, true)
	taken := s.authorise(c, acquirer.Captured)
	for range 2 {
		s.is("Refund", s.Refund(s.t.Context(), c.OrderID.String()+":refund", taken.Reference, price), nil)
	}
	s.is("Refund with the key of a different refund",
		s.Refund(s.t.Context(), c.OrderID.String()+":refund", taken.Reference, money.BRL(1)), acquirer.ErrRefused)
}

func (s suite) testKeyReused() {
	c := s.charge(s.cards.Approved, true)
	s.authorise(c, acquirer.Captured)
	for name, change := range map[string]func(*acquirer.Charge){
		"amount":  func(c *acquirer.Charge) { c.Amount = money.BRL(price.Amount + 1) },
		"capture": func(c *acquirer.Charge) { c.Capture = false },
		"card":    func(c *acquirer.Charge) { c.CardToken = s.cards.Declined },
	} {
		other := c
		change(&other)
		if result, err := s.Authorise(s.t.Context(), other); !errors.Is(err, acquirer.ErrRefused) {
			s.t.Errorf("another %s with the same key: %+v, %v", name, result, err)
		}
	}
}

func (s suite) testNoAnswer() {
	c := s.charge(s.cards.Silent, true)
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if result, err := s.Authorise(ctx, c); !acquirer.Unknown(err) || strings.Contains(err.Error(), s.cards.Silent) {
		s.t.Fatalf("Authorise without an answer = %+v, %v", result, err)
	}
	first := s.authorise(c, acquirer.Captured)
	if again := s.authorise(c, acquirer.Captured); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
}

func (s suite) testUnavailable() {
	c := s.charge(s.cards.Unavailable, true)
	if result, err := s.Authorise(s.t.Context(), c); !acquirer.Unknown(err) {
		s.t.Fatalf("Authorise while unavailable = %+v, %v", result, err)
	}
	var err error
	for range 5 {
		if _, err = s.Authorise(s.t.Context(), c); err == nil {
			return
		}
	}
	s.t.Errorf("the acquirer stays unavailable: %v", err)
}

func (s suite) testMissingCharge() {
	order := uuid.NewString()
	s.is("Capture", s.Capture(s.t.Context(), order+":capture", "pi_nowhere"), acquirer.ErrRefused)
	s.is("Void", s.Void(s.t.Context(), order+":void", "pi_nowhere"), acquirer.ErrRefused)
	s.is("Refund", s.Refund(s.t.Context(), order+":refund", "pi_nowhere", price), acquirer.ErrRefused)
}

func (s suite) testConcurrent() {
	c := s.charge(s.cards.Approved, true)
	references := make(chan string, 8)
	for range cap(references) {
		go func() {
			// A call may fail while another call with the same key runs.
			for end := time.Now().Add(time.Minute); ; {
				result, err := s.Authorise(s.t.Context(), c)
				if err == nil || !acquirer.Unknown(err) || time.Now().After(end) {
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
			s.t.Errorf("one order has the charges %q and %q", first, next)
		}
	}
}

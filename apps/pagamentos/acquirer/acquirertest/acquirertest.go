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
	// RefundRefused is approved; its first refund is refused, one with another key is not.
	RefundRefused string
	// RefundPending is approved; its refund is pending at first.
	RefundPending string
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
		{"void before the charge", suite.testVoidFirst},
		{"decline", suite.testDecline},
		{"refund", suite.testRefund},
		{"refunds of parts", suite.testRefundParts},
		{"a part refused", suite.testPartRefused},
		{"a part pending", suite.testPartPending},
		{"refund refused", suite.testRefundRefused},
		{"refund pending", suite.testRefundPending},
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

// charge returns a charge for a new order, before it is prepared.
func (s suite) charge(token string, capture bool) acquirer.Charge {
	return acquirer.Charge{OrderID: uuid.Must(uuid.NewV7()), Amount: price, CardToken: token, Capture: capture}
}

// prepare prepares a charge, and returns it with its reference. A card that the acquirer
// refuses at once is declined.
func (s suite) prepare(c acquirer.Charge) (acquirer.Charge, acquirer.Result) {
	s.t.Helper()
	if c.Reference = s.Reference(c.OrderID); c.Reference != "" {
		return c, acquirer.Result{State: acquirer.Prepared, Reference: c.Reference}
	}
	var result acquirer.Result
	err := acquirer.ErrUnknown
	for try := 0; try < 5 && acquirer.Unknown(err); try++ {
		result, err = s.Prepare(s.t.Context(), key(c, "prepare"), c)
	}
	if err != nil || result.State != acquirer.Prepared && result.State != acquirer.Declined {
		s.t.Fatalf("Prepare = %+v, %v", result, err)
	}
	c.Reference = result.Reference
	return c, result
}

func key(c acquirer.Charge, step string) string { return c.OrderID.String() + ":" + step }

// authorise prepares a charge for a card and authorises it.
func (s suite) authorise(c acquirer.Charge, want acquirer.State) (acquirer.Charge, acquirer.Result) {
	s.t.Helper()
	c, result := s.prepare(c)
	if result.State == acquirer.Prepared {
		result = s.repeat(c, want)
	}
	if result.State != want {
		s.t.Fatalf("Prepare = %+v; want the state %s", result, want)
	}
	return c, result
}

// repeat authorises a prepared charge, perhaps for the second time.
func (s suite) repeat(c acquirer.Charge, want acquirer.State) acquirer.Result {
	s.t.Helper()
	result, err := s.Authorise(s.t.Context(), key(c, "authorise"), c)
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
	c, first := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured)
	if again := s.repeat(c, acquirer.Captured); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
	if _, other := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured); other.Reference == first.Reference {
		s.t.Errorf("two orders share the charge %s", other.Reference)
	}
}

func (s suite) testCaptureLater() {
	c, held := s.authorise(s.charge(s.cards.Approved, false), acquirer.Authorised)
	for range 2 {
		s.is("Capture", s.Capture(s.t.Context(), key(c, "capture"), held.Reference), nil)
	}
	s.is("Void of a capture", s.Void(s.t.Context(), key(c, "void"), c), acquirer.ErrCaptured)
	if _, err := s.Refund(s.t.Context(), key(c, "refund"), held.Reference, price); err != nil {
		s.t.Errorf("Refund: %v", err)
	}
	// The answer is the first call's outcome, not the current state.
	if again := s.repeat(c, acquirer.Authorised); again != held {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, held)
	}
}

func (s suite) testVoid() {
	c, held := s.authorise(s.charge(s.cards.Approved, false), acquirer.Authorised)
	for range 2 {
		s.is("Void", s.Void(s.t.Context(), key(c, "void"), c), nil)
	}
	s.is("Capture of a voided charge", s.Capture(s.t.Context(), key(c, "capture"), held.Reference), acquirer.ErrVoided)
}

// A call that arrives after the charge was voided charges nothing.
func (s suite) testVoidFirst() {
	c, _ := s.prepare(s.charge(s.cards.Approved, true))
	for range 2 {
		s.is("Void", s.Void(s.t.Context(), key(c, "void"), c), nil)
	}
	for range 2 {
		s.repeat(c, acquirer.Voided)
	}
	if _, err := s.Refund(s.t.Context(), key(c, "refund"), c.Reference, price); !errors.Is(err, acquirer.ErrRefused) {
		s.t.Errorf("Refund of a charge that was never made: %v, want %v", err, acquirer.ErrRefused)
	}
}

func (s suite) testDecline() {
	c, first := s.authorise(s.charge(s.cards.Declined, true), acquirer.Declined)
	if first.DeclineReason != s.cards.DeclineReason {
		s.t.Errorf("declined for %q, want %q", first.DeclineReason, s.cards.DeclineReason)
	}
	if again := s.repeat(c, acquirer.Declined); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
	if _, none := s.authorise(s.charge(s.cards.Unknown, true), acquirer.Declined); none.DeclineReason != "invalid_token" {
		s.t.Errorf("an unknown token is declined for %q", none.DeclineReason)
	}
}

func (s suite) testRefund() {
	c, taken := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured)
	var first acquirer.Refund
	for try := range 2 {
		refund, err := s.Refund(s.t.Context(), key(c, "refund"), taken.Reference, price)
		if err != nil || refund.State != acquirer.RefundDone || refund.Reference == "" || try > 0 && refund != first {
			s.t.Fatalf("Refund = %+v, %v; before %+v", refund, err, first)
		}
		first = refund
	}
	if found, err := s.FindRefund(s.t.Context(), first.Reference); err != nil || found != first {
		s.t.Errorf("FindRefund = %+v, %v; want %+v", found, err, first)
	}
	if refund, err := s.Refund(s.t.Context(), key(c, "refund"), taken.Reference, money.BRL(1)); err == nil {
		s.t.Errorf("Refund with the key of a different refund = %+v", refund)
	}
}

func (s suite) part(c acquirer.Charge, step string, amount int64, old bool) (acquirer.Refund, error) {
	return s.RefundPart(s.t.Context(), key(c, step), c.Reference, money.BRL(amount), old)
}

// Parts are refunded until nothing is left, each once, however often and late its call is repeated.
func (s suite) testRefundParts() {
	c, _ := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured)
	_, err := s.part(c, "whole and more", price.Amount+1, false)
	s.is("a part that is more than the whole", err, acquirer.ErrRefused)
	seen := map[string]acquirer.Refund{}
	for range 2 {
		for _, one := range []string{"first", "second"} { // of equal amounts
			for _, old := range []bool{false, true} {
				refund, err := s.part(c, one, 5000, old)
				if err != nil || refund.State != acquirer.RefundDone || refund.Reference == "" {
					s.t.Fatalf("RefundPart %s = %+v, %v", one, refund, err)
				}
				if before, there := seen[one]; there && before != refund {
					s.t.Fatalf("RefundPart %s = %+v again, before %+v", one, refund, before)
				}
				seen[one] = refund
			}
		}
	}
	if seen["first"].Reference == seen["second"].Reference {
		s.t.Errorf("two parts share the refund %s", seen["first"].Reference)
	}
	if found, err := s.FindRefund(s.t.Context(), seen["first"].Reference); err != nil || found != seen["first"] {
		s.t.Errorf("FindRefund = %+v, %v; want %+v", found, err, seen["first"])
	}
	_, err = s.Refund(s.t.Context(), key(c, "refund"), c.Reference, price)
	s.is("the whole after parts", err, acquirer.ErrRefused)
	_, err = s.part(c, "too much", price.Amount-10000+1, false)
	s.is("a part that is more than the rest", err, acquirer.ErrRefused)
	if rest, err := s.part(c, "rest", price.Amount-10000, true); err != nil || rest.State != acquirer.RefundDone {
		s.t.Fatalf("RefundPart of the rest = %+v, %v", rest, err)
	}
	_, err = s.part(c, "one more", 1, false)
	s.is("a part of nothing", err, acquirer.ErrRefused)
	if again, err := s.part(c, "first", 5000, true); err != nil || again != seen["first"] {
		s.t.Errorf("RefundPart again = %+v, %v; want %+v", again, err, seen["first"])
	}
}

func (s suite) testPartRefused() {
	c, _ := s.authorise(s.charge(s.cards.RefundRefused, true), acquirer.Captured)
	for range 2 {
		_, err := s.part(c, "part", 5000, false)
		s.is("RefundPart", err, acquirer.ErrRefused)
	}
	if refund, err := s.part(c, "part:1", 5000, true); err != nil || refund.State != acquirer.RefundDone {
		s.t.Errorf("RefundPart with another key = %+v, %v", refund, err)
	}
}

func (s suite) testPartPending() {
	c, _ := s.authorise(s.charge(s.cards.RefundPending, true), acquirer.Captured)
	first, err := s.part(c, "first", 5000, false)
	if err != nil || first.State != acquirer.RefundPending {
		s.t.Fatalf("RefundPart = %+v, %v", first, err)
	}
	if again, err := s.part(c, "first", 5000, true); err != nil || again.Reference != first.Reference {
		s.t.Errorf("RefundPart of a part that is pending = %+v, %v; want %+v", again, err, first)
	}
	_, err = s.part(c, "second", price.Amount-5000+1, false)
	s.is("a part that is more than the rest of one that is pending", err, acquirer.ErrRefused)
}

func (s suite) testRefundRefused() {
	c, taken := s.authorise(s.charge(s.cards.RefundRefused, true), acquirer.Captured)
	for range 2 {
		_, err := s.Refund(s.t.Context(), key(c, "refund"), taken.Reference, price)
		s.is("Refund", err, acquirer.ErrRefused)
	}
	refund, err := s.Refund(s.t.Context(), key(c, "refund:1"), taken.Reference, price)
	if err != nil || refund.State != acquirer.RefundDone {
		s.t.Errorf("Refund with another key = %+v, %v", refund, err)
	}
}

func (s suite) testRefundPending() {
	pending := ""
	c, taken := s.authorise(s.charge(s.cards.RefundPending, true), acquirer.Captured)
	for range 2 {
		refund, err := s.Refund(s.t.Context(), key(c, "refund"), taken.Reference, price)
		if err != nil || refund.State != acquirer.RefundPending {
			s.t.Fatalf("Refund = %+v, %v", refund, err)
		}
		pending = refund.Reference
	}
	if found, err := s.FindRefund(s.t.Context(), pending); err != nil || found.State != acquirer.RefundDone {
		s.t.Errorf("FindRefund = %+v, %v", found, err)
	}
}

func (s suite) testKeyReused() {
	c, _ := s.authorise(s.charge(s.cards.Approved, true), acquirer.Captured)
	step := "authorise"
	call := s.Authorise
	if s.Reference(c.OrderID) == "" { // the acquirer knows the details since Prepare
		step, call = "prepare", s.Prepare
	}
	for name, change := range map[string]func(*acquirer.Charge){
		"amount":  func(c *acquirer.Charge) { c.Amount = money.BRL(price.Amount + 1) },
		"capture": func(c *acquirer.Charge) { c.Capture = false },
		"card":    func(c *acquirer.Charge) { c.CardToken = s.cards.Declined },
	} {
		other := c
		change(&other)
		if result, err := call(s.t.Context(), key(c, step), other); err == nil {
			s.t.Errorf("another %s with the same key: %+v", name, result)
		}
	}
}

func (s suite) testNoAnswer() {
	c, _ := s.prepare(s.charge(s.cards.Silent, true))
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if result, err := s.Authorise(ctx, key(c, "authorise"), c); !acquirer.Unknown(err) || strings.Contains(err.Error(), s.cards.Silent) {
		s.t.Fatalf("Authorise without an answer = %+v, %v", result, err)
	}
	first := s.repeat(c, acquirer.Captured)
	if again := s.repeat(c, acquirer.Captured); again != first {
		s.t.Errorf("the repeated call returned %+v, the first call %+v", again, first)
	}
	s.is("Void after a lost answer", s.Void(s.t.Context(), key(c, "void"), c), acquirer.ErrCaptured)
}

func (s suite) testUnavailable() {
	c, _ := s.prepare(s.charge(s.cards.Unavailable, true))
	if result, err := s.Authorise(s.t.Context(), key(c, "authorise"), c); !acquirer.Unknown(err) {
		s.t.Fatalf("Authorise while unavailable = %+v, %v", result, err)
	}
	var err error
	for range 5 {
		if _, err = s.Authorise(s.t.Context(), key(c, "authorise"), c); err == nil {
			return
		}
	}
	s.t.Errorf("the acquirer stays unavailable: %v", err)
}

func (s suite) testMissingCharge() {
	order := uuid.NewString()
	s.is("Capture", s.Capture(s.t.Context(), order+":capture", "pi_nowhere"), acquirer.ErrRefused)
	_, err := s.Refund(s.t.Context(), order+":refund", "pi_nowhere", price)
	s.is("Refund", err, acquirer.ErrRefused)
	_, err = s.FindRefund(s.t.Context(), "re_nowhere")
	s.is("FindRefund", err, acquirer.ErrRefused)
}

func (s suite) testConcurrent() {
	c, _ := s.prepare(s.charge(s.cards.Approved, true))
	references := make(chan string, 8)
	for range cap(references) {
		go func() {
			// A call may fail while another call with the same key runs.
			for end := time.Now().Add(time.Minute); ; {
				result, err := s.Authorise(s.t.Context(), key(c, "authorise"), c)
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

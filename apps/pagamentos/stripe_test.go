package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-go/v84/webhook"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe/stripetest"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
)

const (
	stripeKey     = "sk_test_0123456789abcdef"
	webhookSecret = "whsec_test"
	webhookPath   = "/webhooks/stripe"
)

// stripeApp is the service with the stand-in for Stripe, which sends it webhooks.
type stripeApp struct {
	*app
	*stripetest.StandIn
}

func newStripeApp(t *testing.T) stripeApp {
	t.Helper()
	var s stripeApp
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.bare.ServeHTTP(w, r) }))
	standIn, err := stripetest.New(stripetest.Options{
		APIKey: stripeKey, WebhookURL: hook.URL + webhookPath, WebhookSecret: webhookSecret,
		Pauses: []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(standIn)
	t.Cleanup(func() { standIn.Close(); api.Close(); hook.Close() })
	s.StandIn = standIn
	standIn.Hold() // until a test says otherwise
	s.app = newApp(t, func(acquirer.Acquirer) acquirer.Acquirer {
		return stripe.New(stripe.Settings{APIKey: stripeKey, APIBase: api.URL, WebhookSecret: webhookSecret}, 10*time.Second, noTraces)
	})
	return s
}

// payWith charges the order by a card that the shopper enters on the page, which behaves like the
// payment method.
func (s stripeApp) payWith(order uuid.UUID, method string) (func() answer, answer) {
	token := s.ConfirmationToken(method)
	again := func() answer { return s.pay(order, token) }
	return again, again()
}

// eventually waits until the payment has the state.
func (s stripeApp) eventually(order uuid.UUID, state contract.PaymentState) contract.Payment {
	s.t.Helper()
	var shown answer
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if shown = s.show(order); shown.payment.State == state {
			return shown.payment
		}
	}
	s.t.Fatalf("the payment is %s, want %s", shown.body, state)
	return contract.Payment{}
}

// delivered waits until every event has been answered, and returns the last answers.
func (s stripeApp) delivered() (statuses []int) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		statuses = nil
		for _, event := range s.Events() {
			if tries := len(event.Attempts); !event.Held && tries > 0 && event.Attempts[tries-1].Status/100 == 2 {
				statuses = append(statuses, event.Attempts[tries-1].Status)
			}
		}
		if len(statuses) == len(s.Events()) {
			return statuses
		}
	}
	s.t.Fatalf("not all events are delivered: %+v", s.Events())
	return nil
}

func TestAStripePaymentWaitsForItsShopper(t *testing.T) {
	for name, notice := range map[string]bool{"with a webhook": true, "without": false} {
		for succeeds, want := range map[bool]contract.PaymentState{true: contract.Captured, false: contract.Declined} {
			t.Run(fmt.Sprint(name, succeeds), func(t *testing.T) {
				s, order := newStripeApp(t), newOrder(t)
				pay, first := s.payWith(order, stripetest.Authentication)
				for _, got := range []answer{first, pay()} {
					if got.payment.State != contract.Authorising || got.payment.ClientSecret == nil ||
						!strings.HasPrefix(*got.payment.ClientSecret, *got.payment.AcquirerReference+"_secret_") {
						t.Fatalf("PUT = %d %s", got.status, got.body)
					}
				}
				for _, got := range []string{s.show(order).body, s.get("/pagamentos"), s.get("/pagamentos?needing_person=true"), s.log.String()} {
					if strings.Contains(got, "_secret_") {
						t.Errorf("the client secret is shown: %s", got)
					}
				}
				s.exec(`UPDATE pagamentos SET due_at = now(), attempts = 3`) // the resolver changes nothing, and complains of nothing
				if _, err := s.payments.ResolveDue(t.Context()); err != nil || !strings.Contains(s.get("/metrics"), `payments_overdue{service="pagamentos"} 0`) {
					t.Errorf("the payment is overdue, or %v", err)
				}
				s.want("GET", s.show(order), 200, contract.Authorising)

				reference := *first.payment.AcquirerReference
				if !s.Authenticate(reference, succeeds) {
					t.Fatal("the shopper cannot authenticate")
				}
				if notice {
					if err := s.Release(); err != nil {
						t.Fatal(err)
					}
					s.eventually(order, want)
				}
				s.want("the repeated PUT", pay(), 200, want)
				for _, column := range []string{"client_secret", "card_token"} {
					var kept int
					if err := s.database.Pool.QueryRow(t.Context(), `SELECT count(`+column+`) FROM pagamentos`).Scan(&kept); err != nil || kept != 0 {
						t.Errorf("%s is still stored: %v", column, err)
					}
				}
			})
		}
	}
}

// Every order of events, each of them twice, leads to the same end, which is asked for at Stripe.
func TestWebhooksMayComeTwiceLateAndOutOfOrder(t *testing.T) {
	s, order, other := newStripeApp(t), newOrder(t), newOrder(t)
	_, first := s.payWith(order, stripetest.Authentication)
	s.Authenticate(*first.payment.AcquirerReference, true)
	_, second := s.payWith(other, stripetest.Authentication)
	s.want("refund", s.refund(other), 200, contract.Voided)
	events := s.Events()
	for i := range events {
		backwards := len(events) - i
		for range 2 {
			if attempt, there := s.SendAgain(backwards); !there || attempt.Status != http.StatusNoContent {
				t.Errorf("%s: %+v", events[backwards-1].Type, attempt)
			}
		}
	}
	s.want("GET", s.show(order), 200, contract.Captured)
	s.want("GET", s.show(other), 200, contract.Voided)
	if s.Status(*second.payment.AcquirerReference) != "canceled" {
		t.Errorf("the undone charge is %s", s.Status(*second.payment.AcquirerReference))
	}
	if got, want := s.history(order), "authorising authorising>captured"; got != want {
		t.Errorf("the history is %q, want %q", got, want)
	}
	s.want("refund", s.refund(order), 200, contract.Refunded)
	for n := range s.Events() {
		if attempt, _ := s.SendAgain(n + 1); attempt.Status != http.StatusNoContent {
			t.Errorf("after the refund: %+v", attempt)
		}
	}
	s.want("GET", s.show(order), 200, contract.Refunded)
}

// A card issuer can send a refund back, weeks later: then a person has to find another way.
func TestARefundThatFailsLater(t *testing.T) {
	s, order := newStripeApp(t), newOrder(t)
	s.payWith(order, stripetest.Approved)
	refunded := s.refund(order)
	s.want("refund", refunded, 200, contract.Refunded)
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	s.delivered()
	s.want("GET", s.show(order), 200, contract.Refunded)
	failed := *refunded.payment.RefundReference
	if !s.FailRefund(failed, "lost_or_stolen_card") {
		t.Fatal("the refund cannot fail")
	}
	shown := s.eventually(order, contract.Refunding)
	s.delivered()
	if shown.Problem == nil || !strings.Contains(*shown.Problem, "lost_or_stolen_card") || shown.Refunded != money.BRL(0) {
		t.Errorf("the payment is %+v", shown)
	}
	if list := s.get("/pagamentos?needing_person=true"); !strings.Contains(list, order.String()) {
		t.Errorf("nobody is told: %s", list)
	}
	if log := s.log.String(); !strings.Contains(log, "a refund has failed after it was done") {
		t.Error("the failure is not logged")
	}
	// Nothing happens by itself, and a repeated event changes nothing.
	if n, err := s.payments.ResolveDue(t.Context()); n != 0 || err != nil {
		t.Errorf("the resolver took %d payments up, %v", n, err)
	}
	for n := range s.Events() {
		s.SendAgain(n + 1)
	}
	stands := s.refund(order)
	s.wantProblem("refund", stands, 503, problem.AcquirerUnavailable)
	if stands.header.Get("Retry-After") != "3600" || !strings.Contains(stands.problem.Detail, "A person has to go on") {
		t.Errorf("Retry-After: %s, %s", stands.header.Get("Retry-After"), stands.body)
	}

	// A person tries again, which is a new refund.
	if err := s.payments.Retry(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	if _, err := s.payments.ResolveDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := s.show(order)
	s.want("GET", again, 200, contract.Refunded)
	if again.payment.RefundReference == nil || *again.payment.RefundReference == failed {
		t.Errorf("the refund is %v again", again.payment.RefundReference)
	}
	if !s.FailRefund(*again.payment.RefundReference, "lost_or_stolen_card") {
		t.Fatal("the second refund cannot fail")
	}
	s.eventually(order, contract.Refunding)
	if err := s.payments.RefundedElsewhere(t.Context(), order, "bank transfer 7"); err != nil {
		t.Fatal(err)
	}
	s.want("GET", s.show(order), 200, contract.Refunded)
}

// Money that the acquirer holds although the payment is declined is a fault, which is logged as an error.
func TestMoneyOfADeclinedPaymentIsNoticed(t *testing.T) {
	const line = "the acquirer holds money of a payment that is not charged"
	s, order := newStripeApp(t), newOrder(t)
	s.payWith(order, stripetest.Declined)
	for n := range s.Events() {
		s.SendAgain(n + 1)
	}
	if strings.Contains(s.log.String(), line) {
		t.Error("a declined payment is taken for a fault")
	}
	order = newOrder(t)
	s.payWith(order, stripetest.Approved)
	s.exec(`UPDATE pagamentos SET state = 'declined', decline_reason = 'test' WHERE order_id = '` + order.String() + `'`)
	if attempt, _ := s.SendAgain(len(s.Events())); attempt.Status != http.StatusNoContent || !strings.Contains(s.log.String(), line) {
		t.Errorf("%+v, and the log is\n%s", attempt, s.log.String())
	}
}

// Another refund of the same charge, made in Stripe's dashboard, is none of the service's.
func TestANoticeOfAnotherRefund(t *testing.T) {
	s, order := newStripeApp(t), newOrder(t)
	pay := func(method string) answer { _, first := s.payWith(order, method); return first }
	reference := *pay(stripetest.RefundPending).payment.AcquirerReference
	s.want("refund", s.refund(order), 202, contract.Refunding)
	for _, foreign := range []string{"re_other", ""} {
		err := s.payments.Noticed(t.Context(), acquirer.Notice{OrderID: order, Reference: reference, Refund: foreign})
		if err != nil {
			t.Errorf("a notice of the refund %q: %v", foreign, err)
		}
	}
	s.want("GET", s.show(order), 200, contract.Refunding)
	// Before the answer to our own call is stored, a notice has to come again.
	s.exec(`UPDATE pagamentos SET refund_reference = NULL`)
	err := s.payments.Noticed(t.Context(), acquirer.Notice{OrderID: order, Reference: reference, Refund: "re_ours"})
	if !errors.Is(err, charging.ErrTooEarly) {
		t.Errorf("a notice that is too early: %v", err)
	}
}

func TestOnlyStripeSendsWebhooks(t *testing.T) {
	s, order := newStripeApp(t), newOrder(t)
	_, first := s.payWith(order, stripetest.Authentication)
	s.Authenticate(*first.payment.AcquirerReference, true)
	events := s.Events()
	body := string(events[len(events)-1].Payload)
	send := func(header ...string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(http.MethodPost, webhookPath, strings.NewReader(body))
		if len(header) > 0 {
			request.Header.Set("Stripe-Signature", header[0])
		}
		recorder := httptest.NewRecorder()
		s.bare.ServeHTTP(recorder, request)
		return recorder
	}
	for _, header := range [][]string{
		{}, {"t=1,v1=00"}, {signature(body, "whsec_other", time.Now())}, {signature(body, webhookSecret, time.Now().Add(-6*time.Minute))},
		{signature(body+" ", webhookSecret, time.Now())},
	} {
		if got := send(header...); got.Code != http.StatusBadRequest || !strings.Contains(got.Body.String(), "Stripe-Signature") {
			t.Errorf("%v: %d %s", header, got.Code, got.Body)
		}
	}
	s.want("GET", s.show(order), 200, contract.Authorising)
	if got := send(signature(body, webhookSecret, time.Now())); got.Code != http.StatusNoContent {
		t.Errorf("a genuine event: %d %s", got.Code, got.Body)
	}
	s.want("GET", s.show(order), 200, contract.Captured)
	for _, foreign := range []string{
		`{"id":"evt_1","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{}}}}`,
		`{"id":"evt_2","object":"event","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{"order_id":"` + newOrder(t).String() + `"}}}}`,
		`{"id":"evt_3","object":"event","type":"customer.created","data":{"object":{"id":"cus_1","object":"customer"}}}`,
	} {
		body = foreign
		if got := send(signature(body, webhookSecret, time.Now())); got.Code != http.StatusNoContent {
			t.Errorf("%s: %d %s", foreign, got.Code, got.Body)
		}
	}
	body = strings.Repeat("x", 70<<10)
	if got := send(signature(body, webhookSecret, time.Now())); got.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 70 KiB: %d", got.Code)
	}
	simulated := newApp(t)
	recorder := httptest.NewRecorder()
	simulated.bare.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, webhookPath, strings.NewReader("{}")))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("with the simulator: %d", recorder.Code)
	}
}

func signature(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

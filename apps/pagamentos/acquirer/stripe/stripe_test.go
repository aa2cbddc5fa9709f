package stripe_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/acquirertest"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe/stripetest"
)

// Payment methods of the stand-in.
const (
	approved       = stripetest.Approved
	declined       = stripetest.Declined
	authentication = stripetest.Authentication
)

const apiKey = "sk_test_0123456789abcdef"

func newStripe(t testing.TB) (*stripe.Stripe, *stripetest.StandIn, *tracetest.InMemoryExporter) {
	t.Helper()
	m, err := stripetest.New(stripetest.Options{APIKey: apiKey, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	live := httptest.NewServer(m)
	t.Cleanup(func() {
		live.Close()
		m.Close()
	})
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	return stripe.New(stripe.Settings{APIKey: apiKey, APIBase: live.URL + "/"}, time.Minute, provider), m, spans
}

func TestItBehavesLikeAnAcquirer(t *testing.T) {
	a, _, _ := newStripe(t)
	acquirertest.Run(t, a, acquirertest.Cards{
		Approved:      approved,
		Declined:      declined,
		DeclineReason: "insufficient_funds",
		Unknown:       stripetest.Unknown,
		Silent:        stripetest.Silent,
		Unavailable:   stripetest.Unavailable,
		RefundRefused: stripetest.RefundRefused,
		RefundPending: stripetest.RefundPending,
	})
}

func newCharge(token string) acquirer.Charge {
	return acquirer.Charge{OrderID: uuid.New(), Amount: money.BRL(12990), CardToken: token, Capture: true}
}

// charge prepares a charge, unless it has a reference, and authorises it.
func charge(t testing.TB, a *stripe.Stripe, c *acquirer.Charge) (acquirer.Result, error) {
	t.Helper()
	if c.Reference == "" {
		prepared, err := a.Prepare(t.Context(), c.OrderID.String()+":prepare", *c)
		if err != nil || prepared.State != acquirer.Prepared {
			return prepared, err
		}
		c.Reference = prepared.Reference
	}
	return a.Authorise(t.Context(), c.OrderID.String()+":authorise", *c)
}

// The shopper's bank asks: the charge waits, and is then captured, or declined for good.
func TestTheShopperAuthenticates(t *testing.T) {
	for _, token := range []string{"ConfirmationToken", "PaymentMethod"} {
		for succeeds, want := range map[bool]acquirer.State{true: acquirer.Captured, false: acquirer.Declined} {
			a, m, _ := newStripe(t)
			c := newCharge(authentication)
			if token == "ConfirmationToken" {
				c.CardToken = m.ConfirmationToken(authentication)
			}
			for range 2 { // the second call finds the intent
				result, err := charge(t, a, &c)
				if err != nil || result.State != acquirer.ActionRequired || !strings.HasPrefix(result.ClientSecret, c.Reference+"_secret_") {
					t.Fatalf("%s: Authorise = %+v, %v", token, result, err)
				}
				m.ForgetKeys()
			}
			if result, err := a.Find(t.Context(), c); err != nil || result.State != acquirer.ActionRequired {
				t.Errorf("%s: Find = %+v, %v", token, result, err)
			}
			m.Authenticate(c.Reference, succeeds)
			for range 2 {
				result, err := a.Find(t.Context(), c)
				if err != nil || result.State != want {
					t.Errorf("%s, authenticated %t: Find = %+v, %v", token, succeeds, result, err)
				}
				if result.State == acquirer.Declined && result.DeclineReason != "authentication_failed" {
					t.Errorf("declined because of %s", result.DeclineReason)
				}
			}
			// Whoever still has the client secret cannot charge another card.
			if got := m.Status(c.Reference); !succeeds && got != "canceled" {
				t.Errorf("%s: the intent is %s after a failed authentication", token, got)
			}
		}
	}
}

func TestACancelWhileTheShopperIsAsked(t *testing.T) {
	a, m, _ := newStripe(t)
	c := newCharge(authentication)
	if _, err := charge(t, a, &c); err != nil {
		t.Fatal(err)
	}
	if err := a.Void(t.Context(), "v", c); err != nil || m.Authenticate(c.Reference, true) || m.Status(c.Reference) != "canceled" {
		t.Errorf("Void: %v; the intent is %s", err, m.Status(c.Reference))
	}
}

func TestAConfirmationTokenIsCharged(t *testing.T) {
	a, m, _ := newStripe(t)
	for of, want := range map[string]acquirer.State{approved: acquirer.Captured, declined: acquirer.Declined} {
		c := newCharge(m.ConfirmationToken(of))
		for range 2 {
			if result, err := charge(t, a, &c); err != nil || result.State != want {
				t.Errorf("%s: %+v, %v", of, result, err)
			}
			m.ForgetKeys()
		}
	}
	used := newCharge(m.ConfirmationToken(approved))
	if _, err := charge(t, a, &used); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{used.CardToken, "ctoken_unknown"} {
		c := newCharge(token)
		if result, err := charge(t, a, &c); err != nil || result.State != acquirer.Declined || result.DeclineReason != "invalid_token" {
			t.Errorf("%s, for another order: %+v, %v", token, result, err)
		}
		if got := m.Status(c.Reference); got != "canceled" { // a call that was delayed could confirm it
			t.Errorf("%s: the declined intent is %s", token, got)
		}
	}
}

func TestPreparingChargesNothing(t *testing.T) {
	a, m, _ := newStripe(t)
	c := newCharge(approved)
	prepared, err := a.Prepare(t.Context(), "k", c)
	if err != nil || prepared.State != acquirer.Prepared || m.Status(prepared.Reference) != "requires_confirmation" {
		t.Errorf("Prepare = %+v, %v; the intent is %q", prepared, err, m.Status(prepared.Reference))
	}
}

// Stripe drops keys after a day.
func TestADroppedKeyChargesNothingTwice(t *testing.T) {
	for token, want := range map[string]acquirer.State{approved: acquirer.Captured, declined: acquirer.Declined} {
		a, m, _ := newStripe(t)
		c := newCharge(token)
		if _, err := charge(t, a, &c); err != nil {
			t.Fatal(err)
		}
		m.ForgetKeys()
		again, err := charge(t, a, &c)
		if err != nil || again.State != want || m.Intents() != 1 {
			t.Errorf("%s, a day later: %+v, %v, %d intents; want %s", token, again, err, m.Intents(), want)
		}
	}
}

// Earlier versions created and confirmed the intent in one call.
func TestAChargeOfAnEarlierVersionIsFound(t *testing.T) {
	a, m, _ := newStripe(t)
	old := newCharge(approved)
	old.MayExist = true
	m.AddIntent("pi_old", "succeeded", map[string]string{"order_id": old.OrderID.String()})
	if found, err := charge(t, a, &old); err != nil || found.State != acquirer.Captured || found.Reference != "pi_old" || m.Intents() != 0 {
		t.Errorf("Prepare = %+v, %v, and %d intents", found, err, m.Intents())
	}
	// The earlier version has stored its intention only: its key is taken, and then the charge confirmed.
	unsent := newCharge(approved)
	unsent.MayExist = true
	if found, err := charge(t, a, &unsent); err != nil || found.State != acquirer.Captured {
		t.Errorf("a charge that was never sent: %+v, %v", found, err)
	}
	// The search does not find it yet, but Stripe knows the key.
	late := newCharge(approved)
	late.MayExist = true
	m.TakeKey(late.OrderID.String() + ":authorise")
	if found, err := charge(t, a, &late); !acquirer.Unknown(err) {
		t.Errorf("Prepare = %+v, %v; want an outcome that is not known", found, err)
	}
}

func TestAChargeIsLookedUpAfterARepeatedError(t *testing.T) {
	a, m, _ := newStripe(t)
	c := newCharge(stripetest.Broken)
	if _, err := charge(t, a, &c); !acquirer.Unknown(err) {
		t.Fatalf("500: %v", err)
	}
	result, err := charge(t, a, &c)
	if err != nil || result.State != acquirer.Captured || m.Intents() != 1 {
		t.Errorf("repeated 500: %+v, %v, %d intents", result, err, m.Intents())
	}

	for _, token := range []string{stripetest.HalfCreated, stripetest.HalfConfirmed} {
		a, _, _ = newStripe(t)
		c = newCharge(token)
		if _, err := charge(t, a, &c); !acquirer.Unknown(err) {
			t.Fatalf("500: %v", err)
		}
		if result, err = charge(t, a, &c); err != nil || result.State != acquirer.Captured {
			t.Errorf("%s, repeated 500: %+v, %v", token, result, err)
		}
	}
}

func TestARefundThatFailsLaterIsRefused(t *testing.T) {
	a, _, _ := newStripe(t)
	c := newCharge(stripetest.RefundFails)
	if _, err := charge(t, a, &c); err != nil {
		t.Fatal(err)
	}
	pending, err := a.Refund(t.Context(), "r", c.Reference, c.Amount)
	if err != nil || pending.State != acquirer.RefundPending {
		t.Fatalf("Refund = %+v, %v", pending, err)
	}
	if found, err := a.FindRefund(t.Context(), pending.Reference); err != nil || found.State != acquirer.RefundFailed ||
		found.Reason != "lost_or_stolen_card" {
		t.Errorf("FindRefund = %+v, %v", found, err)
	}
}

// A refund by hand in Stripe's dashboard counts.
func TestARefundMadeElsewhereIsFound(t *testing.T) {
	a, _, _ := newStripe(t)
	c := newCharge(approved)
	if _, err := charge(t, a, &c); err != nil {
		t.Fatal(err)
	}
	first, err := a.Refund(t.Context(), "dashboard", c.Reference, c.Amount)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Refund(t.Context(), "ours", c.Reference, c.Amount); err != nil || again != first {
		t.Errorf("Refund = %+v, %v; want %+v", again, err, first)
	}
}

// Stripe may drop a key after a day: the call that is repeated then refunds nothing again.
func TestADroppedKeyRefundsNoPartTwice(t *testing.T) {
	a, live, _ := newStripe(t)
	c := newCharge(stripetest.Approved)
	if _, err := charge(t, a, &c); err != nil {
		t.Fatal(err)
	}
	first, err := a.RefundPart(t.Context(), "key", c.Reference, money.BRL(1000), false)
	if err != nil {
		t.Fatal(err)
	}
	live.ForgetKeys()
	again, err := a.RefundPart(t.Context(), "key", c.Reference, money.BRL(1000), true)
	if err != nil || again != first {
		t.Errorf("RefundPart after the key was dropped = %+v, %v; before %+v", again, err, first)
	}
	// A refund that somebody has made in Stripe's dashboard is another one, also of the same amount.
	other, err := a.Refund(t.Context(), "dashboard", c.Reference, money.BRL(2000))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := a.RefundPart(t.Context(), "second", c.Reference, money.BRL(2000), true); err != nil || second.Reference == other.Reference {
		t.Errorf("RefundPart after another of the same amount = %+v, %v", second, err)
	}
	rest := c.Amount.Amount - 5000
	if _, err := a.Refund(t.Context(), "dashboard rest", c.Reference, money.BRL(rest)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.RefundPart(t.Context(), "rest", c.Reference, money.BRL(rest), false); !errors.Is(err, acquirer.ErrRefused) {
		t.Errorf("RefundPart of a charge that was refunded elsewhere: %v", err)
	}
}

// Refunds that have failed stay in Stripe's list: a refund is found, or known to be missing, behind a full page.
func TestAPartIsFoundBehindManyRefundsThatHaveFailed(t *testing.T) {
	a, live, _ := newStripe(t)
	c := newCharge(stripetest.Approved)
	if _, err := charge(t, a, &c); err != nil {
		t.Fatal(err)
	}
	first, err := a.RefundPart(t.Context(), "first", c.Reference, money.BRL(100), false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		refund, err := a.RefundPart(t.Context(), fmt.Sprint("failing:", i), c.Reference, money.BRL(100), false)
		if err != nil || !live.FailRefund(refund.Reference, "lost_or_stolen_card") {
			t.Fatalf("refund %d does not fail: %+v, %v", i, refund, err)
		}
	}
	live.ForgetKeys()
	if again, err := a.RefundPart(t.Context(), "first", c.Reference, money.BRL(100), true); err != nil || again != first {
		t.Errorf("the first part again = %+v, %v; before %+v", again, err, first)
	}
	if next, err := a.RefundPart(t.Context(), "next", c.Reference, money.BRL(100), true); err != nil || next.Reference == first.Reference {
		t.Errorf("another part = %+v, %v", next, err)
	}
}

func TestRequestsAndSpansLeakNothing(t *testing.T) {
	a, m, spans := newStripe(t)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	ctx, span := provider.Tracer("test").Start(t.Context(), "request")
	for range 2 {
		c := newCharge(approved)
		prepared, err := a.Prepare(ctx, c.OrderID.String(), c)
		if err != nil {
			t.Fatal(err)
		}
		c.Reference = prepared.Reference
		if _, err := a.Authorise(ctx, c.OrderID.String()+":authorise", c); err != nil {
			t.Fatal(err)
		}
	}
	span.End()
	for _, name := range []string{"Traceparent", "Baggage", "X-Stripe-Client-Telemetry"} {
		if value := m.Header().Get(name); value != "" {
			t.Errorf("%s: %s was sent to Stripe", name, value)
		}
	}
	if got := m.Header().Get("Authorization"); got != "Bearer "+apiKey {
		t.Errorf("Authorization = %q", got)
	}
	for _, span := range spans.GetSpans() {
		if text := fmt.Sprint(span.Attributes); strings.Contains(text, apiKey) || strings.Contains(text, approved) {
			t.Errorf("the span %s contains a secret: %s", span.Name, text)
		}
	}
}

func TestErrorsAreClassifiedAndShowNoSecret(t *testing.T) {
	status, body := 0, ""
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer live.Close()
	a := stripe.New(stripe.Settings{APIKey: apiKey, APIBase: live.URL}, time.Minute, sdktrace.NewTracerProvider())
	for _, test := range []struct {
		status  int
		body    string
		unknown bool
	}{
		{401, `{"error":{"type":"invalid_request_error","message":"Invalid API Key provided: ` + apiKey + `"}}`, true},
		{409, `{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}`, true},
		{429, `{"error":{"type":"invalid_request_error","code":"lock_timeout"}}`, true},
		{500, `{"error":{"type":"api_error"}}`, true},
		{502, `<html>bad gateway</html>`, true},
		{200, `{`, true},
		{200, `{"id":"pi_1","status":"processing"}`, true},
		{302, ``, true},
		{400, `{"error":{"type":"idempotency_error","message":"` + approved + `"}}`, true},
		{400, `{"error":{"type":"invalid_request_error","code":"parameter_unknown","message":"` + approved + `"}}`, false},
	} {
		status, body = test.status, test.body
		c := newCharge(approved)
		c.Reference = "pi_1"
		for _, call := range []func(context.Context, string, acquirer.Charge) (acquirer.Result, error){a.Prepare, a.Authorise} {
			result, err := call(t.Context(), "k", c)
			if err == nil || acquirer.Unknown(err) != test.unknown {
				t.Errorf("%d %s: %+v, %v", test.status, test.body, result, err)
				continue
			}
			if strings.Contains(err.Error(), apiKey) || strings.Contains(err.Error(), approved) {
				t.Errorf("%d: the error shows a secret: %v", test.status, err)
			}
		}
	}
	status, body = 400, `{"error":{"type":"invalid_request_error","code":"amount_too_small"}}`
	if result, err := charge(t, a, new(newCharge(approved))); err != nil || result.DeclineReason != "amount_too_small" {
		t.Errorf("an amount that Stripe refuses: %+v, %v", result, err)
	}
	live.Close()
	if _, err := charge(t, a, new(newCharge(approved))); !acquirer.Unknown(err) {
		t.Errorf("with the server down: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for _, test := range []struct{ key, base, webhook, want string }{
		{"", "", "", "STRIPE_API_KEY"},
		{"pk_test_public", "", "", "STRIPE_API_KEY"},
		{apiKey, "localhost", "", "STRIPE_API_BASE"},
		{apiKey, "http://localhost:12111", "", ""},
		{apiKey, "", apiKey, "STRIPE_WEBHOOK_SECRET"},
		{apiKey, "", "whsec_test", ""},
	} {
		env := config.NewReader(nil, func(name string) string {
			return map[string]string{"STRIPE_API_KEY": test.key, "STRIPE_API_BASE": test.base, "STRIPE_WEBHOOK_SECRET": test.webhook}[name]
		})
		settings := stripe.ReadSettings(env)
		err := env.Err()
		if (err == nil) != (test.want == "") ||
			err != nil && (!strings.Contains(err.Error(), test.want) || test.key != "" && strings.Contains(err.Error(), test.key)) {
			t.Errorf("%+v: %v", test, err)
		}
		text := fmt.Sprintf("%v %+v %#v", settings, settings, settings)
		if test.key != "" && strings.Contains(text, test.key) || strings.Contains(text, "whsec_") {
			t.Errorf("the settings show the key: %s", text)
		}
	}
}

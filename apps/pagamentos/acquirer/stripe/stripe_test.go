package stripe_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stripe/stripe-mock/embedded"
	mock "github.com/stripe/stripe-mock/server"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/acquirertest"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
)

// The mock's payment methods. The first three are Stripe's own names for testing,
// https://docs.stripe.com/testing#declined-payments
const (
	approved       = "pm_card_visa"
	declined       = "pm_card_visa_chargeDeclinedInsufficientFunds"
	authentication = "pm_card_authenticationRequired"
	unknown        = "pm_unknown"       // does not exist
	silent         = "pm_silent"        // charged, but the first confirmation gets no answer
	unavailable    = "pm_unavailable"   // the first two confirmations get 503 and charge nothing
	broken         = "pm_broken"        // charged, but the answer is 500, also to repeated confirmations
	halfCreated    = "pm_halfCreated"   // the first creation is answered with 500, also if it is repeated
	halfConfirmed  = "pm_halfConfirmed" // the first confirmation is answered with 500, and charges nothing
	refundRefused  = "pm_refundRefused"
	refundPending  = "pm_refundPending"
	refundFails    = "pm_refundFails" // the refund is pending, and fails later
)

const apiKey = "sk_test_0123456789abcdef"

// statefulMock is a mock of Stripe's API. Behind it is stripe-mock, which checks requests
// against Stripe's OpenAPI document and answers with its fixtures, but keeps no state.
// statefulMock adds the documented behaviour that the service relies on: idempotency keys,
// the states of PaymentIntents, declines as 402, and Stripe's refusals. It does not prove
// that Stripe itself behaves like this.
type statefulMock struct {
	t    testing.TB
	mock http.Handler

	mu      sync.Mutex
	answers map[string]*answer // by idempotency key
	intents map[string]map[string]any
	refunds map[string]map[string]any
	charges int         // intents
	header  http.Header // of the last request
}

type answer struct {
	fingerprint string
	status      int
	body        []byte
	done        bool
	tries       int
}

// stripeMock loads stripe-mock's 8 MB of documents once. They may describe a later version
// of the API than the one that stripe-go requests.
var stripeMock = sync.OnceValues(func() (*mock.StubServer, error) {
	spec, err := mock.LoadSpec(embedded.OpenAPISpec, "")
	if err != nil {
		return nil, err
	}
	fixtures, err := mock.LoadFixtures(embedded.OpenAPIFixtures, "")
	if err != nil {
		return nil, err
	}
	return mock.NewStubServer(fixtures, spec, false, false)
})

func newStatefulMock(t testing.TB) (*statefulMock, *httptest.Server) {
	t.Helper()
	stub, err := stripeMock()
	if err != nil {
		t.Fatal(err)
	}
	m := &statefulMock{
		t: t, mock: http.HandlerFunc(stub.HandleRequest), answers: map[string]*answer{}, intents: map[string]map[string]any{}, refunds: map[string]map[string]any{},
	}
	live := httptest.NewServer(m)
	t.Cleanup(live.Close)
	return m, live
}

func refusal(status int, members map[string]any) (int, []byte) {
	body, _ := json.Marshal(map[string]any{"error": members}) // texts always encode
	return status, body
}

func (m *statefulMock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // stripe-mock refuses an incomplete body
	form, _ := url.ParseQuery(string(body))
	key := r.Header.Get("Idempotency-Key")
	w.Header().Set("Request-Id", "req_mock")
	w.Header().Set("Content-Type", "application/json")
	send := func(status int, body []byte) {
		w.WriteHeader(status)
		_, _ = w.Write(body) // the client may have disconnected
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.header = r.Header.Clone()
	if r.Method == http.MethodGet {
		send(m.read(r))
		return
	}
	if key == "" {
		send(refusal(400, map[string]any{
			"type": "invalid_request_error", "message": "the mock refuses a POST without an Idempotency-Key",
		}))
		return
	}
	fingerprint := r.URL.Path + "?" + form.Encode()
	known, found := m.answers[key]
	switch {
	case found && known.fingerprint != fingerprint:
		send(refusal(400, map[string]any{
			"type":    "idempotency_error",
			"message": "Keys for idempotent requests can only be used with the same parameters they were first used with.",
		}))
		return
	case found && known.done:
		w.Header().Set("Idempotent-Replayed", "true")
		send(known.status, known.body)
		return
	case !found:
		known = &answer{fingerprint: fingerprint}
		m.answers[key] = known
	}
	known.tries++

	confirms, method := strings.HasSuffix(r.URL.Path, "/confirm"), form.Get("payment_method")
	if parts := strings.Split(r.URL.Path, "/"); confirms && m.intents[parts[3]] != nil {
		method = m.intents[parts[3]]["method"].(string)
	}
	if confirms && method == unavailable && known.tries < 3 {
		send(refusal(503, map[string]any{"type": "api_error", "message": "try again"})) // not stored under the key
		return
	}
	known.status, known.body = m.carryOut(r, form, body)
	known.done = true
	if confirms && method == silent {
		m.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
		m.mu.Lock()
		return
	}
	send(known.status, known.body)
}

// carryOut lets stripe-mock check and answer the request, and adds the state to the answer.
func (m *statefulMock) carryOut(r *http.Request, form url.Values, body []byte) (int, []byte) {
	inner := r.Clone(r.Context())
	inner.Body = io.NopCloser(bytes.NewReader(body))
	recorder := httptest.NewRecorder()
	m.mock.ServeHTTP(recorder, inner)
	if recorder.Code != http.StatusOK {
		m.t.Logf("stripe-mock refuses %s: %s", r.URL.Path, recorder.Body)
		return recorder.Code, recorder.Body.Bytes()
	}
	object := map[string]any{}
	if err := json.Unmarshal(recorder.Body.Bytes(), &object); err != nil {
		m.t.Errorf("stripe-mock's answer: %v", err)
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 2 && parts[1] == "payment_intents":
		return m.create(form, object)
	case len(parts) == 4 && parts[1] == "payment_intents":
		return m.change(parts[2], parts[3])
	case len(parts) == 2 && parts[1] == "refunds":
		return m.refund(form, object)
	}
	return refusal(404, map[string]any{"type": "invalid_request_error"})
}

func encode(object map[string]any) (int, []byte) {
	body, _ := json.Marshal(object) // it was decoded from JSON
	return http.StatusOK, body
}

func (m *statefulMock) create(form url.Values, intent map[string]any) (int, []byte) {
	if currency := form.Get("currency"); currency != strings.ToLower(currency) || len(currency) != 3 {
		return refusal(400, map[string]any{"type": "invalid_request_error", "param": "currency", "message": "Invalid currency"})
	}
	m.charges++
	amount, _ := strconv.ParseInt(form.Get("amount"), 10, 64) // stripe-mock has checked it
	method := form.Get("payment_method")
	switch {
	case method == unknown:
		return refusal(400, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "payment_method",
			"message": "No such PaymentMethod: '" + method + "'"})
	case method == halfCreated && m.charges == 1:
		return refusal(500, map[string]any{"type": "api_error", "message": "An unknown error occurred"})
	}
	maps.Copy(intent, map[string]any{
		"id": fmt.Sprintf("pi_%d", m.charges), "amount": amount, "currency": form.Get("currency"),
		"metadata": map[string]any{"order_id": form.Get("metadata[order_id]")}, "status": "requires_confirmation", "refunded": false,
		"method": method, "manual": form.Get("capture_method") == "manual",
	})
	m.intents[intent["id"].(string)] = intent
	if form.Get("confirm") == "true" {
		return m.confirm(intent)
	}
	return encode(intent)
}

func (m *statefulMock) confirm(intent map[string]any) (int, []byte) {
	switch intent["method"] {
	case declined:
		intent["status"] = "requires_payment_method"
		return refusal(402, map[string]any{"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
			"message": "Your card has insufficient funds.", "payment_intent": maps.Clone(intent)})
	case authentication:
		intent["status"] = "requires_payment_method"
		return refusal(402, map[string]any{
			"type": "card_error", "code": "authentication_required", "decline_code": "authentication_required",
			"message": "Your card was declined. This transaction requires authentication.", "payment_intent": maps.Clone(intent)})
	}
	if intent["method"] == halfConfirmed && intent["tried"] == nil {
		intent["tried"] = true
		return refusal(500, map[string]any{"type": "api_error", "message": "An unknown error occurred"})
	}
	intent["status"] = "succeeded"
	if intent["manual"] == true {
		intent["status"] = "requires_capture"
	}
	if intent["method"] == broken {
		return refusal(500, map[string]any{"type": "api_error", "message": "An unknown error occurred"})
	}
	return encode(intent)
}

func (m *statefulMock) change(id, verb string) (int, []byte) {
	intent, found := m.intents[id]
	if !found {
		return refusal(404, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "intent"})
	}
	from := map[string][]any{
		"confirm": {"requires_confirmation"},
		"capture": {"requires_capture"},
		"cancel":  {"requires_capture", "requires_confirmation", "requires_payment_method"},
	}[verb]
	if !slices.Contains(from, intent["status"]) {
		return refusal(400, map[string]any{
			"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "payment_intent": maps.Clone(intent),
		})
	}
	if verb == "confirm" {
		return m.confirm(intent)
	}
	intent["status"] = map[string]string{"capture": "succeeded", "cancel": "canceled"}[verb]
	return encode(intent)
}

func (m *statefulMock) refund(form url.Values, refund map[string]any) (int, []byte) {
	intent, found := m.intents[form.Get("payment_intent")]
	switch {
	case !found:
		return refusal(404, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "payment_intent"})
	case intent["refunded"] == true:
		return refusal(400, map[string]any{"type": "invalid_request_error", "code": "charge_already_refunded"})
	case intent["status"] != "succeeded":
		return refusal(400, map[string]any{"type": "invalid_request_error", "code": "payment_intent_unexpected_state"})
	case intent["method"] == refundRefused && intent["disputed"] == nil:
		intent["disputed"] = true
		return refusal(400, map[string]any{"type": "invalid_request_error", "code": "charge_disputed"})
	}
	intent["refunded"] = true
	refund["amount"], _ = strconv.ParseInt(form.Get("amount"), 10, 64) // stripe-mock has checked it
	refund["id"], refund["intent"], refund["status"] = fmt.Sprintf("re_%d", len(m.refunds)+1), intent["id"], "succeeded"
	if method := intent["method"]; method == refundPending || method == refundFails {
		refund["status"] = "pending"
	}
	m.refunds[refund["id"].(string)] = refund
	return encode(refund)
}

// read answers a GET: of an intent, of a refund, of the refunds of an intent, and a search
// for the intents of an order.
func (m *statefulMock) read(r *http.Request) (int, []byte) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := parts[len(parts)-1]
	data := []any{}
	switch {
	case last == "search":
		for _, intent := range m.intents {
			order := intent["metadata"].(map[string]any)["order_id"]
			if r.URL.Query().Get("query") == fmt.Sprintf("metadata['order_id']:'%s'", order) {
				data = append(data, intent)
			}
		}
		return encode(map[string]any{"object": "search_result", "url": r.URL.Path, "has_more": false, "data": data})
	case last == "refunds":
		for _, refund := range m.refunds {
			if refund["intent"] == r.URL.Query().Get("payment_intent") {
				data = append(data, refund)
			}
		}
		return encode(map[string]any{"object": "list", "url": r.URL.Path, "has_more": false, "data": data})
	case m.intents[last] != nil:
		return encode(m.intents[last])
	case m.refunds[last] != nil:
		refund := m.refunds[last]
		if refund["status"] == "pending" { // it is done when it is asked for
			refund["status"] = "succeeded"
			if m.intents[refund["intent"].(string)]["method"] == refundFails {
				refund["status"], refund["failure_reason"] = "failed", "lost_or_stolen_card"
				m.intents[refund["intent"].(string)]["refunded"] = false
			}
		}
		return encode(refund)
	}
	return refusal(404, map[string]any{"type": "invalid_request_error", "code": "resource_missing", "param": "id"})
}

func newStripe(t testing.TB) (*stripe.Stripe, *statefulMock, *tracetest.InMemoryExporter) {
	t.Helper()
	m, live := newStatefulMock(t)
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
		Unknown:       unknown,
		Silent:        silent,
		Unavailable:   unavailable,
		RefundRefused: refundRefused,
		RefundPending: refundPending,
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

func TestACardThatRequiresAuthenticationIsDeclined(t *testing.T) {
	a, _, _ := newStripe(t)
	result, err := charge(t, a, new(newCharge(authentication)))
	if err != nil || result.State != acquirer.Declined || result.DeclineReason != "authentication_required" || result.Reference == "" {
		t.Errorf("Authorise = %+v, %v", result, err)
	}
}

func TestPreparingChargesNothing(t *testing.T) {
	a, m, _ := newStripe(t)
	c := newCharge(approved)
	prepared, err := a.Prepare(t.Context(), "k", c)
	if err != nil || prepared.State != acquirer.Prepared || m.intents[prepared.Reference]["status"] != "requires_confirmation" {
		t.Errorf("Prepare = %+v, %v; the intent is %v", prepared, err, m.intents[prepared.Reference])
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
		m.answers = map[string]*answer{}
		again, err := charge(t, a, &c)
		if err != nil || again.State != want || m.charges != 1 {
			t.Errorf("%s, a day later: %+v, %v, %d intents; want %s", token, again, err, m.charges, want)
		}
	}
}

// Earlier versions created and confirmed the intent in one call.
func TestAChargeOfAnEarlierVersionIsFound(t *testing.T) {
	a, m, _ := newStripe(t)
	old := newCharge(approved)
	old.MayExist = true
	m.intents["pi_old"] = map[string]any{
		"id": "pi_old", "object": "payment_intent", "status": "succeeded", "metadata": map[string]any{"order_id": old.OrderID.String()},
	}
	if found, err := charge(t, a, &old); err != nil || found.State != acquirer.Captured || found.Reference != "pi_old" || m.charges != 0 {
		t.Errorf("Prepare = %+v, %v, and %d intents", found, err, m.charges)
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
	m.answers[late.OrderID.String()+":authorise"] = &answer{fingerprint: "another", done: true}
	if found, err := charge(t, a, &late); !acquirer.Unknown(err) {
		t.Errorf("Prepare = %+v, %v; want an outcome that is not known", found, err)
	}
}

func TestAChargeIsLookedUpAfterARepeatedError(t *testing.T) {
	a, m, _ := newStripe(t)
	c := newCharge(broken)
	if _, err := charge(t, a, &c); !acquirer.Unknown(err) {
		t.Fatalf("500: %v", err)
	}
	result, err := charge(t, a, &c)
	if err != nil || result.State != acquirer.Captured || m.charges != 1 {
		t.Errorf("repeated 500: %+v, %v, %d intents", result, err, m.charges)
	}

	for _, token := range []string{halfCreated, halfConfirmed} {
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
	c := newCharge(refundFails)
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
		if value := m.header.Get(name); value != "" {
			t.Errorf("%s: %s was sent to Stripe", name, value)
		}
	}
	if got := m.header.Get("Authorization"); got != "Bearer "+apiKey {
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
	for _, test := range []struct{ key, base, want string }{
		{"", "", "STRIPE_API_KEY"},
		{"pk_test_public", "", "STRIPE_API_KEY"},
		{apiKey, "localhost", "STRIPE_API_BASE"},
		{apiKey, "http://localhost:12111", ""},
	} {
		env := config.NewReader(nil, func(name string) string {
			return map[string]string{"STRIPE_API_KEY": test.key, "STRIPE_API_BASE": test.base}[name]
		})
		settings := stripe.ReadSettings(env)
		err := env.Err()
		if (err == nil) != (test.want == "") ||
			err != nil && (!strings.Contains(err.Error(), test.want) || test.key != "" && strings.Contains(err.Error(), test.key)) {
			t.Errorf("%+v: %v", test, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", settings, settings, settings); test.key != "" && strings.Contains(text, test.key) {
			t.Errorf("the settings show the key: %s", text)
		}
	}
}

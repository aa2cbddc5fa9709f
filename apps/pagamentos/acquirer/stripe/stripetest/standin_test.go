package stripetest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v84"
	"github.com/stripe/stripe-go/v84/webhook"

	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe/stripetest"
)

const (
	secretKey      = "sk_test_0123456789abcdef"
	publishableKey = "pk_test_0123456789abcdef"
	webhookSecret  = "whsec_0123456789abcdef"
)

// api is a client of the stand-in.
type api struct {
	t *testing.T
	*stripetest.StandIn
	url  string
	keys int // idempotency keys that were used
}

func newAPI(t *testing.T, options stripetest.Options) *api {
	t.Helper()
	options.APIKey, options.PublishableKey, options.Log = secretKey, publishableKey, t.Logf
	s, err := stripetest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	live := httptest.NewServer(s)
	t.Cleanup(func() {
		live.Close()
		s.Close()
	})
	return &api{t: t, StandIn: s, url: live.URL}
}

// answer has the members of all answers that the tests look at.
type answer struct {
	Status int `json:"-"` // of HTTP

	ID            string            `json:"id"`
	State         string            `json:"status"`
	ClientSecret  string            `json:"client_secret"`
	Amount        int64             `json:"amount"`
	Metadata      map[string]string `json:"metadata"`
	PaymentMethod *string           `json:"payment_method"`
	NextAction    *struct {
		Type string `json:"type"`
	} `json:"next_action"`
	LastPaymentError     *stripe.Error `json:"last_payment_error"`
	PaymentIntent        any           `json:"payment_intent"`
	PaymentMethodPreview struct {
		Card struct{ Brand, Last4 string } `json:"card"`
	} `json:"payment_method_preview"`
	Error json.RawMessage `json:"error"`

	failure *stripe.Error
}

// send sends a request with a header, and with a body that is a form or JSON.
func (a *api) send(method, path, body string, header ...string) answer {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	got := answer{Status: response.StatusCode}
	if err := json.Unmarshal(text, &got); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	if strings.HasPrefix(string(got.Error), "{") {
		if err := json.Unmarshal(got.Error, &got.failure); err != nil {
			a.t.Fatal(err)
		}
	}
	return got
}

// post sends a form, name by name and value by value, with the secret key and a new idempotency key.
func (a *api) post(path string, form ...string) answer {
	a.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	a.keys++
	return a.send("POST", path, values.Encode(), "Authorization", "Bearer "+secretKey,
		"Content-Type", "application/x-www-form-urlencoded", "Idempotency-Key", fmt.Sprint("key-", a.keys))
}

func (a *api) get(path string) answer {
	a.t.Helper()
	return a.send("GET", path, "", "Authorization", "Bearer "+secretKey)
}

// create creates an intent without a payment method, and returns its path and its secret.
func (a *api) create(form ...string) (path string, created answer) {
	a.t.Helper()
	created = a.post("/v1/payment_intents", append([]string{"amount", "12990", "currency", "brl", "payment_method_types[]", "card",
		"metadata[order_id]", "order-1"}, form...)...)
	if created.Status != http.StatusOK {
		a.t.Fatalf("creating an intent: %+v", created.failure)
	}
	return "/v1/payment_intents/" + created.ID, created
}

func (a *api) state(path, want string) {
	a.t.Helper()
	if got := a.get(path); got.State != want {
		a.t.Errorf("the intent is %q, want %q", got.State, want)
	}
}

func (a *api) refused(what string, got answer, status int, kind stripe.ErrorType, code stripe.ErrorCode, param string) {
	a.t.Helper()
	if got.failure == nil || got.Status != status || got.failure.Type != kind || got.failure.Code != code || got.failure.Param != param {
		a.t.Errorf("%s: %d %+v; want %d %s %s %s", what, got.Status, got.failure, status, kind, code, param)
	}
}

func TestOptions(t *testing.T) {
	for _, options := range []stripetest.Options{
		{},
		{APIKey: publishableKey},
		{APIKey: secretKey, PublishableKey: secretKey},
		{APIKey: secretKey, WebhookURL: "http://localhost"},
	} {
		if _, err := stripetest.New(options); err == nil {
			t.Errorf("New(%+v) succeeds", options)
		}
	}
}

func TestKeys(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	path, created := a.create()
	for _, test := range []struct {
		key    string
		status int
		code   stripe.ErrorCode
	}{
		{"", 401, ""},
		{"Bearer sk_test_another", 401, ""},
		{"Bearer " + publishableKey, 403, "secret_key_required"},
		{"Basic c2tfdGVzdF9hbm90aGVyOg==", 401, ""},
	} {
		a.refused("GET with "+test.key, a.send("GET", path, "", "Authorization", test.key), test.status, "invalid_request_error", test.code, "")
		a.refused("POST with "+test.key, a.send("POST", path+"/cancel", "", "Authorization", test.key, "Idempotency-Key", "k"),
			test.status, "invalid_request_error", test.code, "")
	}
	// A page has the publishable key and the client secret.
	public := func(key, secret string) answer {
		return a.send("GET", path+"?"+url.Values{"key": {key}, "client_secret": {secret}}.Encode(), "")
	}
	if got := public(publishableKey, created.ClientSecret); got.State != "requires_payment_method" || got.Metadata != nil {
		t.Errorf("the intent as a page sees it: %+v", got)
	}
	a.refused("another client secret", public(publishableKey, created.ID+"_secret_x"), 400, "invalid_request_error",
		"payment_intent_invalid_parameter", "client_secret")
	a.refused("no such intent", public(publishableKey, "pi_x_secret_x"), 404, "invalid_request_error", "resource_missing", "intent")
	a.refused("another publishable key", public("pk_test_another", created.ClientSecret), 401, "invalid_request_error", "", "")
}

func TestStripeMockChecksRequests(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	if got := a.post("/v1/payment_intents", "amount", "1", "currency", "brl", "no_such_parameter", "1"); got.Status != 400 {
		t.Errorf("an unknown parameter: %+v", got)
	}
	if got := a.post("/v1/payment_intents", "amount", "one", "currency", "brl"); got.Status != 400 {
		t.Errorf("an amount that is no number: %+v", got)
	}
	a.refused("upper case", a.post("/v1/payment_intents", "amount", "1", "currency", "BRL"), 400, "invalid_request_error", "", "currency")
	a.refused("off_session without a confirmation", a.post("/v1/payment_intents", "amount", "1", "currency", "brl", "off_session", "true"),
		400, "invalid_request_error", "", "off_session")
	a.refused("no such method", a.post("/v1/payment_intents", "amount", "1", "currency", "brl", "payment_method", stripetest.Unknown),
		400, "invalid_request_error", "resource_missing", "payment_method")
}

func TestStates(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	path, created := a.create()
	if created.State != "requires_payment_method" || !strings.HasPrefix(created.ClientSecret, created.ID+"_secret_") ||
		created.NextAction != nil || created.LastPaymentError != nil || created.Metadata["order_id"] != "order-1" {
		t.Errorf("a new intent: %+v", created)
	}
	a.refused("a confirmation without a card", a.post(path+"/confirm"), 400, "invalid_request_error", "payment_intent_unexpected_state", "")
	a.refused("a capture", a.post(path+"/capture"), 400, "invalid_request_error", "payment_intent_unexpected_state", "")

	// Declined, and then paid with another card.
	declined := a.post(path+"/confirm", "payment_method", stripetest.DeclinedPlain)
	a.refused("a declined card", declined, 402, "card_error", "card_declined", "")
	if declined.failure.DeclineCode != "generic_decline" || declined.failure.PaymentIntent == nil ||
		declined.failure.PaymentIntent.Status != "requires_payment_method" || declined.failure.PaymentIntent.LastPaymentError == nil {
		t.Errorf("a declined card: %+v", declined.failure)
	}
	if again := a.post(path+"/confirm", "payment_method", stripetest.Approved); again.State != "succeeded" || again.LastPaymentError != nil {
		t.Errorf("another card: %+v", again)
	}
	a.refused("a cancellation of a charge", a.post(path+"/cancel"), 400, "invalid_request_error", "payment_intent_unexpected_state", "")

	with, created := a.create("payment_method", stripetest.Approved, "capture_method", "manual")
	if created.State != "requires_confirmation" {
		t.Errorf("an intent with a card: %+v", created)
	}
	if held := a.post(with + "/confirm"); held.State != "requires_capture" {
		t.Errorf("a card to be charged later: %+v", held)
	}
	if cancelled := a.post(with + "/cancel"); cancelled.State != "canceled" {
		t.Errorf("a cancellation: %+v", cancelled)
	}
	for _, form := range [][]string{nil, {"payment_method", stripetest.Approved}} { // requires_payment_method, requires_confirmation
		path, _ := a.create(form...)
		if cancelled := a.post(path + "/cancel"); cancelled.State != "canceled" {
			t.Errorf("a cancellation: %+v", cancelled)
		}
	}
}

func TestAuthentication(t *testing.T) {
	for _, test := range []struct{ capture, end, state string }{
		{"automatic", "complete", "succeeded"}, {"manual", "complete", "requires_capture"}, {"automatic", "fail", "requires_payment_method"},
	} {
		a := newAPI(t, stripetest.Options{})
		path, created := a.create("capture_method", test.capture)
		waiting := a.post(path+"/confirm", "confirmation_token", a.ConfirmationToken(stripetest.Authentication), "use_stripe_sdk", "true")
		if waiting.State != "requires_action" || waiting.NextAction == nil || waiting.NextAction.Type != "use_stripe_sdk" {
			t.Fatalf("a card that requires authentication: %+v", waiting)
		}
		a.refused("a second confirmation", a.post(path+"/confirm", "payment_method", stripetest.Approved), 400,
			"invalid_request_error", "payment_intent_unexpected_state", "")
		secret := fmt.Sprintf(`{"client_secret":%q}`, created.ClientSecret)
		a.refused("another publishable key", a.send("POST", "/js/challenge/"+test.end, secret, "Authorization", "Bearer pk_test_another"),
			401, "invalid_request_error", "", "")
		a.send("POST", "/js/challenge/"+test.end, secret, "Authorization", "Bearer "+publishableKey)
		ended := a.get(path)
		if ended.State != test.state || ended.NextAction != nil {
			t.Errorf("%s: %+v", test.end, ended)
		}
		if test.end == "fail" && (ended.LastPaymentError == nil || ended.PaymentMethod != nil ||
			ended.LastPaymentError.Code != "payment_intent_authentication_failure" || ended.LastPaymentError.Type != "invalid_request_error") {
			t.Errorf("after a failed challenge: %+v", ended.LastPaymentError)
		}
		a.refused("a second end", a.send("POST", "/js/challenge/complete", secret, "Authorization", "Bearer "+publishableKey), 400,
			"invalid_request_error", "payment_intent_unexpected_state", "")
	}
	for _, name := range []string{"off_session", "error_on_requires_action"} {
		a := newAPI(t, stripetest.Options{})
		path, _ := a.create("payment_method", stripetest.Authentication)
		a.refused(name, a.post(path+"/confirm", name, "true"), 402, "card_error", "authentication_required", "")
		a.state(path, "requires_payment_method")
	}
	a := newAPI(t, stripetest.Options{})
	path, _ := a.create("payment_method", stripetest.Authentication)
	got := a.post(path+"/confirm", "return_url", "https://shop.example/")
	if got.NextAction == nil || got.NextAction.Type != "redirect_to_url" {
		t.Errorf("a return_url without use_stripe_sdk: %+v", got.NextAction)
	}
	if cancelled := a.post(path + "/cancel"); cancelled.State != "canceled" || cancelled.NextAction != nil {
		t.Errorf("a cancellation before the authentication: %+v", cancelled)
	}
}

func TestConfirmationTokens(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	enter := func(number, expiry, cvc, key string) answer {
		return a.send("POST", "/js/confirmation_tokens",
			fmt.Sprintf(`{"card":{"number":%q,"expiry":%q,"cvc":%q},"amount":12990,"currency":"brl"}`, number, expiry, cvc),
			"Authorization", "Bearer "+key)
	}
	next := time.Now().AddDate(1, 0, 0).Format("0106")
	for number, want := range map[string]string{
		"4242424242424242": "succeeded", "4000000000009995": "insufficient_funds", "4000000000000002": "generic_decline",
		"4000002760003184": "requires_action", "5555555555554444": "test_mode_live_card",
	} {
		made := enter(number, next, "123", publishableKey)
		if made.Status != 200 || !strings.HasPrefix(made.ID, "ctoken_") || made.PaymentMethodPreview.Card.Last4 != number[12:] {
			t.Fatalf("the card %s: %+v %+v", number, made, made.failure)
		}
		path, _ := a.create()
		got := a.post(path+"/confirm", "confirmation_token", made.ID)
		if outcome := got.State; got.failure != nil && string(got.failure.DeclineCode) != want || got.failure == nil && outcome != want {
			t.Errorf("the card %s: %s %+v, want %s", number, outcome, got.failure, want)
		}
		if used := a.get("/v1/confirmation_tokens/" + made.ID); used.PaymentIntent == nil {
			t.Errorf("the token does not show that it is used: %+v", used)
		}
		other, _ := a.create()
		a.refused("a used token", a.post(other+"/confirm", "confirmation_token", made.ID), 400, "invalid_request_error", "", "confirmation_token")
		a.state(other, "requires_payment_method")
	}
	path, _ := a.create()
	a.refused("an unknown token", a.post(path+"/confirm", "confirmation_token", a.ConfirmationToken(stripetest.Unknown)), 400,
		"invalid_request_error", "resource_missing", "confirmation_token")
	for _, card := range []struct {
		number, expiry, cvc string
		code                stripe.ErrorCode
		param               string
	}{
		{"4242424242424241", next, "123", "incorrect_number", "number"},
		{"4242424242424242", "0120", "123", "invalid_expiry_year", "exp_year"},
		{"4242424242424242", "1330", "123", "invalid_expiry_month", "exp_month"},
		{"4242424242424242", "", "123", "invalid_expiry_month", "exp_month"},
		{"4242424242424242", next, "12", "invalid_cvc", "cvc"},
		{"", next, "123", "incorrect_number", "number"},
	} {
		a.refused(fmt.Sprint(card), enter(card.number, card.expiry, card.cvc, publishableKey), 402, "card_error", card.code, card.param)
	}
	a.refused("the secret key", enter("4242424242424242", next, "123", secretKey), 401, "invalid_request_error", "", "")
	a.refused("a test token of nothing", a.post("/v1/test_helpers/confirmation_tokens", "payment_method", stripetest.Unknown), 400,
		"invalid_request_error", "resource_missing", "payment_method")
	made := a.post("/v1/test_helpers/confirmation_tokens", "payment_method", stripetest.Approved)
	if got := a.post(path+"/confirm", "confirmation_token", made.ID); got.State != "succeeded" {
		t.Errorf("a test token: %+v", got)
	}
}

// receiver is a webhook endpoint that refuses the first deliveries.
type receiver struct {
	t      *testing.T
	refuse int

	mu     sync.Mutex
	events []stripe.Event
}

func newReceiver(t *testing.T, refuse int) (*receiver, string) {
	r := &receiver{t: t, refuse: refuse}
	live := httptest.NewServer(r)
	t.Cleanup(live.Close)
	return r, live.URL
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	event, err := webhook.ConstructEvent(body, request.Header.Get("Stripe-Signature"), webhookSecret)
	if err != nil {
		r.t.Errorf("an event: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse > 0 {
		r.refuse--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.events = append(r.events, event)
}

func (r *receiver) types() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var types []string
	for _, event := range r.events {
		types = append(types, string(event.Type))
	}
	return types
}

// until waits until a condition is true, and fails after a minute.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func TestEventsAreSignedAndRepeated(t *testing.T) {
	receiver, address := newReceiver(t, 2)
	a := newAPI(t, stripetest.Options{
		WebhookURL: address, WebhookSecret: webhookSecret, Pauses: []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond},
	})
	path, created := a.create()
	a.post(path+"/confirm", "payment_method", stripetest.Approved)
	until(t, "the event", func() bool { return a.Events()[0].Delivered() })
	if got := a.Events()[0]; len(got.Attempts) != 3 || got.Object != created.ID || got.Attempts[0].Status != 503 {
		t.Errorf("the event: %+v", got)
	}
	_, found := a.SendAgain(1)
	if !found || !slices.Equal(receiver.types(), []string{"payment_intent.succeeded", "payment_intent.succeeded"}) {
		t.Errorf("sent again: %v", receiver.types())
	}
	if receiver.events[0].ID != receiver.events[1].ID || receiver.events[0].APIVersion != stripe.APIVersion {
		t.Errorf("sent again: %+v", receiver.events)
	}
	if _, found := a.SendAgain(2); found {
		t.Error("the stand-in sends an event that there is not")
	}
}

func TestAnEventIsGivenUp(t *testing.T) {
	receiver, address := newReceiver(t, 1000)
	a := newAPI(t, stripetest.Options{WebhookURL: address, WebhookSecret: webhookSecret, Pauses: []time.Duration{time.Millisecond}})
	path, _ := a.create()
	a.post(path + "/cancel")
	until(t, "two attempts", func() bool { return len(a.Events()[0].Attempts) == 2 })
	a.Close() // waits for the deliveries
	if got := a.Events()[0]; len(got.Attempts) != 2 || got.Delivered() || len(receiver.types()) > 0 {
		t.Errorf("after two attempts: %+v", got)
	}
}

func TestEventsInAnotherOrder(t *testing.T) {
	receiver, address := newReceiver(t, 0)
	a := newAPI(t, stripetest.Options{WebhookURL: address, WebhookSecret: webhookSecret})
	a.Hold()
	path, created := a.create("capture_method", "manual")
	a.post(path+"/confirm", "payment_method", stripetest.Declined)
	a.post(path+"/confirm", "payment_method", stripetest.Authentication)
	if got := a.send("POST", "/control/intents/"+created.ID+"/challenge/complete", ""); got.Status != 200 {
		t.Fatalf("ending the challenge: %+v", got)
	}
	a.post(path + "/capture")
	if got := receiver.types(); got != nil {
		t.Fatalf("events that are held back were sent: %v", got)
	}
	for _, order := range []string{"[5]", "[0]", "[1,1]"} {
		if got := a.send("POST", "/control/release", `{"order":`+order+`}`); got.Status != 400 {
			t.Errorf("an order of no events: %+v", got)
		}
	}
	if got := a.send("POST", "/control/release", `{"order":[4,2]}`); got.Status != 200 {
		t.Fatalf("releasing: %+v", got)
	}
	want := []string{
		"payment_intent.succeeded", "payment_intent.requires_action", "payment_intent.payment_failed", "payment_intent.amount_capturable_updated",
	}
	if got := receiver.types(); !slices.Equal(got, want) {
		t.Errorf("the events %v, want %v", got, want)
	}
	// An event shows the intent as it was.
	for i, status := range []string{"succeeded", "requires_action", "requires_payment_method", "requires_capture"} {
		if got := receiver.events[i].GetObjectValue("status"); got != status {
			t.Errorf("the event %s shows the status %s, want %s", want[i], got, status)
		}
	}
	// The hold has ended.
	path, _ = a.create()
	a.post(path + "/cancel")
	until(t, "the cancellation", func() bool { return slices.Contains(receiver.types(), "payment_intent.canceled") })
}

func TestRefunds(t *testing.T) {
	receiver, address := newReceiver(t, 0)
	a := newAPI(t, stripetest.Options{WebhookURL: address, WebhookSecret: webhookSecret})
	path, created := a.create("payment_method", stripetest.Approved)
	a.refused("before the charge", a.post("/v1/refunds", "payment_intent", created.ID), 400, "invalid_request_error",
		"payment_intent_unexpected_state", "")
	a.post(path + "/confirm")
	made := a.post("/v1/refunds", "payment_intent", created.ID)
	if made.State != "succeeded" || made.Amount != 12990 {
		t.Fatalf("a refund: %+v %+v", made, made.failure)
	}
	a.refused("a second refund", a.post("/v1/refunds", "payment_intent", created.ID), 400, "invalid_request_error",
		"charge_already_refunded", "")
	if got := a.send("POST", "/control/refunds/"+made.ID+"/fail", `{"reason":"expired_or_canceled_card"}`); got.Status != 200 {
		t.Fatalf("a refund that fails: %+v", got)
	}
	if got := a.get("/v1/refunds/" + made.ID); got.State != "failed" {
		t.Errorf("the refund: %+v", got)
	}
	if got := a.send("POST", "/control/refunds/"+made.ID+"/fail", ""); got.Status != 409 {
		t.Errorf("a refund that fails twice: %+v", got)
	}
	if again := a.post("/v1/refunds", "payment_intent", created.ID); again.State != "succeeded" {
		t.Errorf("a refund after one that failed: %+v", again.failure)
	}

	path, created = a.create("payment_method", stripetest.RefundPending)
	a.post(path + "/confirm")
	pending := a.post("/v1/refunds", "payment_intent", created.ID)
	if got := a.send("POST", "/control/refunds/"+pending.ID+"/succeed", ""); pending.State != "pending" || got.Status != 200 {
		t.Errorf("a refund that is pending: %+v, %+v", pending, got)
	}
	want := []string{
		"charge.refund.updated", "charge.refund.updated", "payment_intent.succeeded", "payment_intent.succeeded",
		"refund.created", "refund.created", "refund.created", "refund.failed", "refund.updated", "refund.updated",
	}
	until(t, "the events of the refunds", func() bool { return len(receiver.types()) >= len(want) })
	if got := slices.Sorted(slices.Values(receiver.types())); !slices.Equal(got, want) {
		t.Errorf("the events %v, want %v", got, want)
	}
}

// Parts are refunded until nothing is left, in the currency of the charge.
func TestRefundsOfParts(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	path, created := a.create("payment_method", stripetest.Approved)
	a.post(path + "/confirm")
	part := func(form ...string) answer {
		return a.post("/v1/refunds", append([]string{"payment_intent", created.ID}, form...)...)
	}
	a.refused("more than the whole", part("amount", "12991"), 400, "invalid_request_error", "", "amount")
	a.refused("nothing", part("amount", "0"), 400, "invalid_request_error", "parameter_invalid_integer", "amount")
	a.refused("a currency", part("amount", "5", "currency", "usd"), 400, "invalid_request_error", "parameter_unknown", "currency")
	first := part("amount", "12000", "metadata[refund_key]", "k")
	if first.State != "succeeded" || first.Amount != 12000 || first.Metadata["refund_key"] != "k" {
		t.Fatalf("a part: %+v %+v", first, first.failure)
	}
	a.refused("more than the rest", part("amount", "991"), 400, "invalid_request_error", "", "amount")
	if rest := part(); rest.State != "succeeded" || rest.Amount != 990 {
		t.Fatalf("the rest: %+v %+v", rest, rest.failure)
	}
	a.refused("a part of nothing", part("amount", "1"), 400, "invalid_request_error", "charge_already_refunded", "")
	if got := a.send("POST", "/control/refunds/"+first.ID+"/fail", ""); got.Status != 200 {
		t.Fatalf("a part that fails: %+v", got)
	}
	if again := part("amount", "12000"); again.State != "succeeded" {
		t.Errorf("a part after one that failed: %+v", again.failure)
	}
}

func TestAPageCannotControl(t *testing.T) {
	a := newAPI(t, stripetest.Options{})
	if got := a.send("POST", "/control/hold", "", "Origin", "https://shop.example"); got.Status != 403 {
		t.Errorf("a call of a page: %+v", got)
	}
}

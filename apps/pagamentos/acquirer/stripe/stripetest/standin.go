// Package stripetest is a stand-in for Stripe, for tests: of the API that the acquirer
// calls, of the script that the shop's page loads, and of the webhooks.
//
// Behind it is stripe-mock, which checks requests against Stripe's OpenAPI document and
// answers with its fixtures, but keeps no state. The stand-in adds the documented behaviour
// that the shop relies on: keys, idempotency keys, the states of PaymentIntents, declines
// as 402, ConfirmationTokens, 3-D Secure, refunds, events, and Stripe's refusals. It does
// not prove that Stripe itself behaves like this: it shows what we read in Stripe's
// documents. Where a document says nothing, the comment says that the stand-in chose.
package stripetest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stripe/stripe-mock/embedded"
	mock "github.com/stripe/stripe-mock/server"
)

// Options are the stand-in's settings.
type Options struct {
	APIKey         string // required: the secret or restricted key that the API accepts
	PublishableKey string // the key that the script accepts; "" means none
	WebhookURL     string // where events are sent; "" means that they are listed only
	WebhookSecret  string // signs the events; required with WebhookURL
	// Pauses are the pauses between the attempts to deliver an event; there is one attempt
	// more than pauses. nil means DefaultPauses.
	Pauses []time.Duration
	// Log gets what stripe-mock refuses; nil means that nothing does.
	Log func(format string, args ...any)
}

// StandIn is a stand-in for Stripe. It is safe for concurrent use.
type StandIn struct {
	options Options
	mux     *http.ServeMux
	mock    http.Handler
	run     string // part of all ids, so that two runs on one database do not share them
	hooks   *hooks

	mu      sync.Mutex
	answers map[string]*answer // by idempotency key
	intents []*intent
	refunds []*refund
	tokens  []*token
	header  http.Header // of the last call of the API
}

// answer is what the API answered to the first request with an idempotency key.
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

// New returns a stand-in, which the caller closes.
func New(options Options) (*StandIn, error) {
	switch {
	case !strings.HasPrefix(options.APIKey, "sk_test_") && !strings.HasPrefix(options.APIKey, "rk_test_"):
		return nil, errors.New("stripetest: the API key is not a secret or restricted test key: sk_test_... or rk_test_...")
	case options.PublishableKey != "" && !strings.HasPrefix(options.PublishableKey, "pk_test_"):
		return nil, errors.New("stripetest: the publishable key is not one of test mode: pk_test_...")
	case options.WebhookURL != "" && options.WebhookSecret == "":
		return nil, errors.New("stripetest: a webhook needs the secret that signs its events")
	}
	if options.Log == nil {
		options.Log = func(string, ...any) {}
	}
	if options.Pauses == nil {
		options.Pauses = DefaultPauses
	}
	stub, err := stripeMock()
	if err != nil {
		return nil, fmt.Errorf("stripetest: loading stripe-mock: %w", err)
	}
	run := strings.ToLower(rand.Text()[:8])
	s := &StandIn{
		options: options, mux: http.NewServeMux(), mock: http.HandlerFunc(stub.HandleRequest), run: run,
		hooks: newHooks(options, run), answers: map[string]*answer{},
	}
	s.mux.HandleFunc("/v1/", s.api)
	s.browserRoutes()
	s.controlRoutes()
	return s, nil
}

// ServeHTTP serves the API below /v1/, the script at /clover/stripe.js, what the script
// loads below /js/, and the control of tests below /control/.
func (s *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Close ends the deliveries of events and waits for those that run.
func (s *StandIn) Close() { s.hooks.close() }

// id returns the id of the nth object of a kind, such as pi_abcdefgh1.
func (s *StandIn) id(kind string, n int) string { return fmt.Sprintf("%s_%s%d", kind, s.run, n) }

// A reply is an answer of the API.
type reply struct {
	status int
	body   any
	// unsaved tells that the reply is not repeated for the request's idempotency key.
	unsaved bool
}

func ok(body any) reply { return reply{status: http.StatusOK, body: body} }

// A failure is Stripe's error object, https://docs.stripe.com/api/errors
type failure map[string]any

func (f failure) as(status int) reply { return reply{status: status, body: map[string]any{"error": f}} }

// invalid returns an invalid_request_error.
func invalid(code, param, message string) failure {
	f := failure{"type": "invalid_request_error", "message": message}
	if code != "" {
		f["code"] = code
	}
	if param != "" {
		f["param"] = param
	}
	return f
}

// internal is a failure of Stripe itself.
var internal = failure{"type": "api_error", "message": "An error occurred inside the stand-in, as the payment method asks for."}

func missing(param, id string) failure {
	return invalid("resource_missing", param, "There is no such object: '"+id+"'.")
}

// send answers with JSON.
func send(w http.ResponseWriter, status int, body any) {
	text, _ := json.Marshal(body) // texts, numbers and maps of them always encode
	sendText(w, status, text)
}

func sendText(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may have disconnected
}

// sentKey returns the API key of a request: https://docs.stripe.com/api/authentication
func sentKey(r *http.Request) string {
	header := r.Header.Get("Authorization")
	if key, found := strings.CutPrefix(header, "Bearer "); found {
		return key
	}
	if encoded, found := strings.CutPrefix(header, "Basic "); found {
		text, _ := base64.StdEncoding.DecodeString(encoded) // "" is refused
		key, _, _ := strings.Cut(string(text), ":")
		return key
	}
	return ""
}

// authorised returns nil if a request has the secret key. Stripe answers a missing or wrong key
// with 401, and a publishable key with 403 and secret_key_required:
// https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes
func (s *StandIn) authorised(key string) *reply {
	switch key {
	case s.options.APIKey:
		return nil
	case "":
		return new(invalid("", "", "The request has no API key.").as(http.StatusUnauthorized))
	case s.options.PublishableKey:
		return new(invalid("secret_key_required", "", "This call needs a secret key.").as(http.StatusForbidden))
	}
	return new(invalid("", "", "The API key is not known.").as(http.StatusUnauthorized))
}

// api serves Stripe's API.
func (s *StandIn) api(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // stripe-mock refuses an incomplete body
	form, _ := url.ParseQuery(string(body))
	w.Header().Set("Request-Id", "req_standin")
	if r.Method == http.MethodGet && r.URL.Query().Has("key") {
		s.retrievePublic(w, r)
		return
	}
	if refused := s.authorised(sentKey(r)); refused != nil {
		send(w, refused.status, refused.body)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = r.Header.Clone()
	if r.Method == http.MethodGet {
		answer := s.read(r)
		send(w, answer.status, answer.body)
		return
	}
	s.post(w, r, form, body)
}

// post carries a POST out once per idempotency key: https://docs.stripe.com/api/idempotent_requests
// Stripe makes the key optional; the stand-in requires it, because the service must send one.
func (s *StandIn) post(w http.ResponseWriter, r *http.Request, form url.Values, body []byte) {
	refuse := func(f failure) { send(w, http.StatusBadRequest, f.as(http.StatusBadRequest).body) }
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		refuse(invalid("", "", "The stand-in refuses a POST without an Idempotency-Key."))
		return
	}
	fingerprint := r.URL.Path + "?" + form.Encode()
	known, found := s.answers[key]
	switch {
	case found && known.fingerprint != fingerprint:
		refuse(failure{"type": "idempotency_error", "message": "Another request has used this idempotency key with other parameters."})
		return
	case found && known.done:
		w.Header().Set("Idempotent-Replayed", "true")
		sendText(w, known.status, known.body)
		return
	case !found:
		known = &answer{fingerprint: fingerprint}
		s.answers[key] = known
	}
	known.tries++

	method := s.confirmed(r.URL.Path, form)
	if method == Unavailable && known.tries < 3 {
		// Not stored under the key.
		send(w, http.StatusServiceUnavailable, failure{"type": "api_error", "message": "Try again."}.as(0).body)
		return
	}
	result := s.carryOut(r, form, body)
	if result.unsaved {
		delete(s.answers, key)
		send(w, result.status, result.body)
		return
	}
	known.status, known.done = result.status, true
	known.body, _ = json.Marshal(result.body) // texts, numbers and maps of them always encode
	if method == Silent {
		s.mu.Unlock()
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
		s.mu.Lock()
		return
	}
	sendText(w, known.status, known.body)
}

// carryOut lets stripe-mock check and answer the request, and adds the state to the answer.
func (s *StandIn) carryOut(r *http.Request, form url.Values, body []byte) reply {
	inner := r.Clone(r.Context())
	inner.Body = io.NopCloser(bytes.NewReader(body))
	inner.Header.Set("Authorization", "Bearer sk_test_1") // stripe-mock refuses keys with more underscores
	recorder := httptest.NewRecorder()
	s.mock.ServeHTTP(recorder, inner)
	object := map[string]any{}
	if err := json.Unmarshal(recorder.Body.Bytes(), &object); err != nil {
		s.options.Log("stripe-mock's answer to %s: %v", r.URL.Path, err)
		return internal.as(http.StatusInternalServerError)
	}
	if recorder.Code != http.StatusOK {
		s.options.Log("stripe-mock refuses %s: %s", r.URL.Path, recorder.Body)
		// Stripe saves no answer for parameters that it finds invalid.
		return reply{status: recorder.Code, body: object, unsaved: true}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 2 && parts[1] == "payment_intents":
		return s.create(form, object)
	case len(parts) == 4 && parts[1] == "payment_intents":
		return s.change(parts[2], parts[3], form)
	case len(parts) == 2 && parts[1] == "refunds":
		return s.refund(form, object)
	case len(parts) == 3 && parts[1] == "test_helpers" && parts[2] == "confirmation_tokens":
		return s.createTestToken(form)
	}
	return invalid("", "", "The stand-in does not know "+r.URL.Path+".").as(http.StatusNotFound)
}

// Header returns the header of the last call of the API.
func (s *StandIn) Header() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header
}

// ForgetKeys forgets all idempotency keys, as Stripe may after 24 hours.
func (s *StandIn) ForgetKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.answers)
}

// TakeKey makes an idempotency key one that another request has used.
func (s *StandIn) TakeKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[key] = &answer{fingerprint: "another request", done: true}
}

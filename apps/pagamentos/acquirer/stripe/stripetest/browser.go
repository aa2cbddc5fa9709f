package stripetest

import (
	"embed"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// browserFiles are the script and the pages of its frames. We wrote them: nothing in them is
// Stripe's.
//
//go:embed browser
var browserFiles embed.FS

// The frames' own policy. A shop may frame them, and nothing else may load there.
const framePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"

func (s *StandIn) browserRoutes() {
	file := func(pattern, name, kind string) {
		content, err := browserFiles.ReadFile("browser/" + name)
		if err != nil {
			panic(err) // the file is compiled in
		}
		s.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			w.Header().Set("Content-Security-Policy", framePolicy)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(content) // the browser may have disconnected
		})
	}
	file("/clover/stripe.js", "stripe.js", "text/javascript")
	file("/js/element", "element.html", "text/html")
	file("/js/challenge", "challenge.html", "text/html")
	file("/js/element.js", "element.js", "text/javascript")
	file("/js/challenge.js", "challenge.js", "text/javascript")
	file("/js/frame.css", "frame.css", "text/css")
	s.mux.HandleFunc("GET /js/account", s.browser(s.showAccount))
	s.mux.HandleFunc("POST /js/confirmation_tokens", s.browser(s.createToken))
	s.mux.HandleFunc("POST /js/challenge/{end}", s.browser(s.endOwnChallenge))
}

// browser serves a call of the stand-in's own frames with the publishable key. The paths are the
// stand-in's: Stripe does not document its own. Only the frames can call them, which have the same
// origin, so that there is no CORS.
func (s *StandIn) browser(serve func(*http.Request) reply) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer := s.publishable(sentKey(r))
		if answer == nil {
			answer = new(serve(r))
		}
		send(w, answer.status, answer.body)
	}
}

// publishable returns nil for the publishable key.
func (s *StandIn) publishable(key string) *reply {
	if key == "" || key != s.options.PublishableKey {
		return new(invalid("", "", "The publishable key is not known.").as(http.StatusUnauthorized))
	}
	return nil
}

func (s *StandIn) showAccount(*http.Request) reply { return ok(map[string]any{"livemode": false}) }

// createToken makes a ConfirmationToken of a card.
func (s *StandIn) createToken(r *http.Request) reply {
	var body struct {
		Card      card   `json:"card"`
		Amount    int64  `json:"amount"`
		Currency  string `json:"currency"`
		ReturnURL string `json:"return_url"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return invalid("", "", "The body is not what the element sends.").as(http.StatusBadRequest)
	}
	made, refused := body.Card.token(time.Now())
	if refused != nil {
		return refused.as(http.StatusPaymentRequired)
	}
	made.amount, made.currency, made.returnURL = body.Amount, body.Currency, body.ReturnURL
	return ok(s.addToken(made).object())
}

// bySecret returns the intent of a client secret, or the refusal.
func (s *StandIn) bySecret(secret string) (*intent, *reply) {
	id, _, _ := strings.Cut(secret, "_secret_")
	i := s.findIntent(id)
	switch {
	case i == nil:
		return nil, new(missing("intent", id).as(http.StatusNotFound))
	case i.secret != secret:
		refused := invalid("payment_intent_invalid_parameter", "client_secret", "The client secret is not the intent's.")
		return nil, new(refused.as(http.StatusBadRequest))
	}
	return i, nil
}

// endOwnChallenge ends a challenge as the shopper chose in its frame.
func (s *StandIn) endOwnChallenge(r *http.Request) reply {
	var body struct {
		ClientSecret string `json:"client_secret"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return invalid("", "", "The body is not what the challenge sends.").as(http.StatusBadRequest)
	}
	i, refused := s.bySecret(body.ClientSecret)
	if refused != nil {
		return *refused
	}
	return s.authenticate(i, r.PathValue("end") == "complete")
}

// retrievePublic shows an intent to a page, which has the publishable key and the client secret, both
// in the query: https://docs.stripe.com/api/payment_intents/retrieve
func (s *StandIn) retrievePublic(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Access-Control-Allow-Origin", "*")
	query := r.URL.Query()
	refused := s.publishable(query.Get("key"))
	var i *intent
	if refused == nil {
		i, refused = s.bySecret(query.Get("client_secret"))
	}
	switch {
	case refused != nil:
		send(w, refused.status, refused.body)
	case r.URL.Path != "/v1/payment_intents/"+i.id:
		answer := missing("intent", r.URL.Path).as(http.StatusNotFound)
		send(w, answer.status, answer.body)
	default:
		send(w, http.StatusOK, i.public())
	}
}

package stripetest

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The states of an intent: https://docs.stripe.com/payments/paymentintents/lifecycle
const (
	requiresPaymentMethod = "requires_payment_method"
	requiresConfirmation  = "requires_confirmation"
	requiresAction        = "requires_action"
	processing            = "processing"
	requiresCapture       = "requires_capture"
	succeeded             = "succeeded"
	canceled              = "canceled"
)

// An intent is a PaymentIntent: https://docs.stripe.com/api/payment_intents/object
type intent struct {
	fixture  map[string]any // what stripe-mock answered to its creation
	id       string
	secret   string // client_secret
	status   string
	amount   int64
	currency string
	metadata map[string]string
	manual   bool

	method        string // how the card behaves; "" if there is none
	paymentMethod string // id of the PaymentMethod; "" if there is none
	token         *token // that confirmed it, or nil
	created       time.Time
	canceled      time.Time
	action        map[string]any // next_action, in the state requires_action
	problem       failure        // last_payment_error
	charge        string         // id of the charge that was made or held, or ""
	tried         bool           // HalfConfirmed: the first confirmation has failed
	disputed      bool           // RefundRefused: the first refund was refused
}

// metadata returns the metadata of a form.
func metadata(form url.Values) map[string]string {
	found := map[string]string{}
	for name, values := range form {
		if key, there := strings.CutPrefix(name, "metadata["); there {
			found[strings.TrimSuffix(key, "]")] = values[0]
		}
	}
	return found
}

func text(value string) any {
	if value == "" {
		return nil
	}
	return value
}

// object returns the intent as the API shows it.
func (i *intent) object() map[string]any {
	object := maps.Clone(i.fixture)
	if object == nil {
		object = map[string]any{}
	}
	maps.Copy(object, map[string]any{
		"id": i.id, "object": "payment_intent", "client_secret": i.secret, "status": i.status, "amount": i.amount,
		"currency": i.currency, "metadata": i.metadata, "livemode": false, "created": i.created.Unix(),
		"capture_method": "automatic", "payment_method": text(i.paymentMethod), "latest_charge": text(i.charge),
		"amount_capturable": 0, "amount_received": 0, "canceled_at": nil, "cancellation_reason": nil, "processing": nil,
		"next_action": nil, "last_payment_error": nil,
	})
	if i.manual {
		object["capture_method"] = "manual"
	}
	switch i.status {
	case requiresCapture:
		object["amount_capturable"] = i.amount
	case succeeded:
		object["amount_received"] = i.amount
	case requiresAction:
		object["next_action"] = i.action
	case canceled:
		object["canceled_at"] = i.canceled.Unix()
	}
	if i.problem != nil {
		object["last_payment_error"] = i.problem
	}
	return object
}

// public returns what a publishable key shows of the intent: no metadata and no charge.
// https://docs.stripe.com/api/payment_intents/retrieve
func (i *intent) public() map[string]any {
	object := i.object()
	shown := map[string]any{}
	for _, name := range []string{
		"id", "object", "amount", "currency", "status", "client_secret", "capture_method", "created", "livemode", "next_action",
		"last_payment_error", "payment_method", "canceled_at", "cancellation_reason",
	} {
		shown[name] = object[name]
	}
	return shown
}

func (s *StandIn) findIntent(id string) *intent {
	if i := slices.IndexFunc(s.intents, func(i *intent) bool { return i.id == id }); i >= 0 {
		return s.intents[i]
	}
	return nil
}

// Status returns the status of an intent, or "".
func (s *StandIn) Status(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.findIntent(id); i != nil {
		return i.status
	}
	return ""
}

// Intents returns the number of intents that were created, also by calls that failed.
func (s *StandIn) Intents() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(s.intents), func(i *intent) bool { return i.fixture == nil }))
}

// AddIntent adds an intent as if another client had created it. Intents does not count it.
func (s *StandIn) AddIntent(id, status string, metadata map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intents = append(s.intents, &intent{
		id: id, secret: id + "_secret_" + rand.Text(), status: status, metadata: metadata, created: time.Now(),
	})
}

// create creates an intent: https://docs.stripe.com/api/payment_intents/create
func (s *StandIn) create(form url.Values, fixture map[string]any) reply {
	if currency := form.Get("currency"); currency != strings.ToLower(currency) || len(currency) != 3 {
		return invalid("", "currency", "The currency is not valid.").as(http.StatusBadRequest)
	}
	confirm := form.Get("confirm") == "true"
	for _, name := range []string{"off_session", "error_on_requires_action", "confirmation_token", "use_stripe_sdk"} {
		if form.Has(name) && !confirm {
			return invalid("", name, name+" needs confirm=true.").as(http.StatusBadRequest)
		}
	}
	method := form.Get("payment_method")
	if method != "" && !slices.Contains(methods, method) {
		return missing("payment_method", method).as(http.StatusBadRequest)
	}
	created := &intent{
		fixture: fixture, id: s.id("pi", len(s.intents)+1), currency: form.Get("currency"), status: requiresPaymentMethod,
		metadata: metadata(form), manual: form.Get("capture_method") == "manual", created: time.Now(),
	}
	created.secret = created.id + "_secret_" + rand.Text()
	created.amount, _ = strconv.ParseInt(form.Get("amount"), 10, 64) // stripe-mock has checked it
	if method != "" {
		created.status, created.method, created.paymentMethod = requiresConfirmation, method, method
	}
	first := len(s.intents) == 0
	s.intents = append(s.intents, created)
	if method == HalfCreated && first {
		return internal.as(http.StatusInternalServerError)
	}
	if confirm {
		return s.confirm(created, form)
	}
	return ok(created.object())
}

// change confirms, captures or cancels an intent. https://docs.stripe.com/api/payment_intents/cancel
// and https://docs.stripe.com/api/payment_intents/capture list the states that allow it. A confirmation
// needs a payment method, which the intent has or the call gives:
// https://docs.stripe.com/api/payment_intents/confirm
func (s *StandIn) change(id, verb string, form url.Values) reply {
	changed := s.findIntent(id)
	if changed == nil {
		return missing("intent", id).as(http.StatusNotFound)
	}
	from := map[string][]string{
		"confirm": {requiresConfirmation, requiresPaymentMethod},
		"capture": {requiresCapture},
		"cancel":  {requiresPaymentMethod, requiresCapture, requiresConfirmation, requiresAction, processing},
	}[verb]
	if !slices.Contains(from, changed.status) {
		return unexpected(changed, "The intent is "+changed.status+", which does not allow to "+verb+" it.")
	}
	switch verb {
	case "confirm":
		return s.confirm(changed, form)
	case "capture":
		changed.status = succeeded
	case "cancel":
		changed.status, changed.canceled, changed.action = canceled, time.Now(), nil
	}
	s.changed(changed)
	return ok(changed.object())
}

func unexpected(i *intent, message string) reply {
	refused := invalid("payment_intent_unexpected_state", "", message)
	refused["payment_intent"] = i.object()
	return refused.as(http.StatusBadRequest)
}

// confirmed returns how the card of a confirmation behaves, or "" if the call is none.
func (s *StandIn) confirmed(path string, form url.Values) string {
	parts := strings.Split(path, "/")
	if len(parts) != 5 || parts[4] != "confirm" {
		return ""
	}
	if method := form.Get("payment_method"); method != "" {
		return method
	}
	if used := s.findToken(form.Get("confirmation_token")); used != nil {
		return used.method
	}
	if i := s.findIntent(parts[3]); i != nil {
		return i.method
	}
	return ""
}

// attach gives an intent the payment method of a confirmation. payment_method takes precedence
// over confirmation_token: https://docs.stripe.com/api/payment_intents/confirm
func (s *StandIn) attach(i *intent, form url.Values) *reply {
	if method := form.Get("payment_method"); method != "" {
		if !slices.Contains(methods, method) {
			return new(missing("payment_method", method).as(http.StatusBadRequest))
		}
		i.method, i.paymentMethod = method, method
	} else if id := form.Get("confirmation_token"); id != "" {
		used := s.findToken(id)
		switch {
		case used == nil:
			return new(missing("confirmation_token", id).as(http.StatusBadRequest))
		// The documents say that a token is used once, and not what the refusal says. The stand-in
		// lets the same intent use it again, so that a call which failed halfway can be repeated.
		case used.intent != "" && used.intent != i.id:
			return new(invalid("", "confirmation_token", "Another intent has used the confirmation token.").as(http.StatusBadRequest))
		case time.Since(used.created) > tokenLife:
			return new(invalid("", "confirmation_token", "The confirmation token has expired.").as(http.StatusBadRequest))
		}
		used.intent, i.token = i.id, used
		i.method, i.paymentMethod = used.method, used.paymentMethod
	}
	if i.method == "" {
		return new(unexpected(i, "The intent has no payment method, so that it cannot be confirmed."))
	}
	return nil
}

// confirm charges the card, or asks the shopper to authenticate.
func (s *StandIn) confirm(i *intent, form url.Values) reply {
	if refused := s.attach(i, form); refused != nil {
		return *refused
	}
	if decline, found := declines[i.method]; found {
		return s.decline(i, failure{"type": "card_error", "code": "card_declined", "decline_code": decline[0], "message": decline[1]})
	}
	switch {
	case i.method == Authentication && (form.Get("off_session") == "true" || form.Get("error_on_requires_action") == "true"):
		return s.decline(i, failure{
			"type": "card_error", "code": "authentication_required", "decline_code": "authentication_required",
			"message": "The card was declined, because the shopper must authenticate.",
		})
	case i.method == Authentication:
		i.status, i.problem, i.action = requiresAction, nil, nextAction(i, form)
		s.changed(i)
		return ok(i.object())
	case i.method == HalfConfirmed && !i.tried:
		i.tried = true
		return internal.as(http.StatusInternalServerError)
	}
	s.charge(i)
	if i.method == Broken {
		return internal.as(http.StatusInternalServerError)
	}
	return ok(i.object())
}

// nextAction is what the shopper must do. With use_stripe_sdk, which a ConfirmationToken brings
// along, or without a return_url, the script shows the challenge:
// https://docs.stripe.com/payments/finalize-payments-on-the-server
// Otherwise Stripe redirects the shopper, which the stand-in announces and does not offer.
func nextAction(i *intent, form url.Values) map[string]any {
	if form.Get("use_stripe_sdk") == "true" || i.token != nil && form.Get("use_stripe_sdk") != "false" || !form.Has("return_url") {
		return map[string]any{"type": "use_stripe_sdk", "use_stripe_sdk": map[string]any{}}
	}
	return map[string]any{"type": "redirect_to_url", "redirect_to_url": map[string]any{
		"url": "https://standin.invalid/", "return_url": form.Get("return_url"),
	}}
}

// charge holds or takes the amount.
func (s *StandIn) charge(i *intent) {
	i.status, i.problem, i.action, i.charge = succeeded, nil, nil, "ch_"+strings.TrimPrefix(i.id, "pi_")
	if i.manual {
		i.status = requiresCapture
	}
	s.changed(i)
}

// decline returns the intent to the state in which it needs another payment method.
func (s *StandIn) decline(i *intent, problem failure) reply {
	s.fail(i, problem)
	refused := maps.Clone(problem)
	refused["payment_intent"] = i.object()
	return refused.as(http.StatusPaymentRequired)
}

func (s *StandIn) fail(i *intent, problem failure) {
	i.status, i.problem, i.action = requiresPaymentMethod, problem, nil
	i.method, i.paymentMethod = "", ""
	s.changed(i)
}

// authenticate ends the challenge of an intent. If the shopper fails it, the intent needs another
// payment method: https://docs.stripe.com/payments/3d-secure/authentication-flow. The code is of
// https://docs.stripe.com/error-codes; the type is the one that events of Stripe show for it.
func (s *StandIn) authenticate(i *intent, succeeds bool) reply {
	if i.status != requiresAction {
		return unexpected(i, "The intent is "+i.status+" and waits for no authentication.")
	}
	if succeeds {
		s.charge(i)
	} else {
		s.fail(i, invalid("payment_intent_authentication_failure", "",
			"The card could not be authenticated. Choose another way to pay, and try again."))
	}
	return ok(i.public())
}

// Authenticate ends the challenge of an intent as the shopper does. It reports whether the intent
// waited for one.
func (s *StandIn) Authenticate(id string, succeeds bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.findIntent(id)
	return i != nil && s.authenticate(i, succeeds).status == http.StatusOK
}

// changed sends the event of an intent's new state: https://docs.stripe.com/api/events/types
func (s *StandIn) changed(i *intent) {
	kind := map[string]string{
		succeeded:             "payment_intent.succeeded",
		requiresCapture:       "payment_intent.amount_capturable_updated",
		requiresPaymentMethod: "payment_intent.payment_failed",
		requiresAction:        "payment_intent.requires_action",
		canceled:              "payment_intent.canceled",
	}[i.status]
	s.hooks.emit(kind, i.id, i.object())
}

// search is the query that the stand-in understands: https://docs.stripe.com/search#search-query-language
var search = regexp.MustCompile(`^metadata\['([^']+)'\]:'([^']*)'$`)

// read answers a GET: of an intent, of a refund, of the refunds of an intent, of a confirmation
// token, and a search for intents by their metadata.
func (s *StandIn) read(r *http.Request) reply {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	kind, last := parts[1], parts[len(parts)-1]
	data := []any{}
	switch {
	case last == "search":
		query := search.FindStringSubmatch(r.URL.Query().Get("query"))
		if query == nil {
			return invalid("", "query", "The stand-in finds intents by one key of their metadata.").as(http.StatusBadRequest)
		}
		for _, i := range s.intents {
			if value, found := i.metadata[query[1]]; found && value == query[2] {
				data = append(data, i.object())
			}
		}
		return ok(map[string]any{"object": "search_result", "url": r.URL.Path, "has_more": false, "data": data})
	case last == "refunds":
		return s.pageOfRefunds(r)
	case kind == "payment_intents" && s.findIntent(last) != nil:
		return ok(s.findIntent(last).object())
	case kind == "confirmation_tokens" && s.findToken(last) != nil:
		return ok(s.findToken(last).object())
	case kind == "refunds" && s.findRefund(last) != nil:
		found := s.findRefund(last)
		if found.status == "pending" { // it is done when it is asked for
			s.endRefund(found, found.intent.method != RefundFails, "lost_or_stolen_card")
		}
		return ok(found.object())
	}
	return missing("id", last).as(http.StatusNotFound)
}

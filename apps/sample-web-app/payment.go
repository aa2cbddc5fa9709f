package main

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/internal/config"
)

const (
	byStripe    = "stripe"
	bySimulator = "simulator"
	// stripeScript is Stripe.js of the API version that pagamentos uses. Stripe demands that it is
	// loaded from there: https://docs.stripe.com/js/including
	stripeScript = "https://js.stripe.com/clover/stripe.js"
)

// card is a test card of the payment simulator.
type card struct{ Token, Does string }

// cards lists the simulator's test cards. The first one is preselected.
var cards = []card{
	{"tok_approved", "is approved"},
	{"tok_declined", "is declined: not enough money"},
	{"tok_lost_card", "is declined: reported lost"},
	{"tok_slow", "is approved after 3 seconds"},
	{"tok_timeout", "is charged, but the first answer gets lost"},
	{"tok_timeout_declined", "is declined, but the first answer gets lost"},
	{"tok_unavailable", "is approved on the third try"},
	{"tok_refund_fails_once", "is approved; its first refund fails"},
	{"tok_refund_refused", "is approved; its first refund is refused"},
	{"tok_refund_pending", "is approved; its refund takes a minute"},
}

// A shopper's card at Stripe: a ConfirmationToken, and what the element says of the card.
var (
	tokenForm    = regexp.MustCompile(`^ctoken_[A-Za-z0-9_]{1,57}$`)
	cardNameForm = regexp.MustCompile(`^[a-z_]{2,20} [0-9]{4}$`)
)

// till is how the shop takes payments: with the simulator's test cards or, if Key is set, with Stripe's
// Payment Element.
type till struct {
	Key    string // STRIPE_PUBLISHABLE_KEY: it is in the page for everybody to see
	Script string // STRIPE_JS_URL: address of Stripe.js
	// sources are the Content-Security-Policy's directives that Stripe.js needs.
	sources string
	closed  bool // nobody can pay
}

// readTill reads ACQUIRER (simulator or stripe; default simulator), STRIPE_PUBLISHABLE_KEY and
// STRIPE_JS_URL. With stripe and no key, the shop takes no orders.
func readTill(env *config.Reader) till {
	t := till{Key: env.Text("STRIPE_PUBLISHABLE_KEY", ""), Script: env.HTTPURL("STRIPE_JS_URL")}
	acquirer := env.Text("ACQUIRER", bySimulator)
	switch {
	case acquirer != byStripe && acquirer != bySimulator:
		env.Reject("ACQUIRER", "%q is neither %s nor %s", acquirer, bySimulator, byStripe)
	case acquirer == bySimulator:
		return till{}
	case t.Key != "" && !strings.HasPrefix(t.Key, "pk_"):
		env.Reject("STRIPE_PUBLISHABLE_KEY", "is not a publishable key, which begins with pk_")
		return till{}
	}
	t.closed = t.Key == ""
	// https://docs.stripe.com/security/guide#content-security-policy, for cards
	script, frame, call := "https://js.stripe.com https://*.js.stripe.com", " https://hooks.stripe.com", "https://api.stripe.com"
	if t.Script == "" {
		t.Script = stripeScript
	} else if at, err := url.Parse(t.Script); err == nil { // a stand-in, all of which is at one origin
		script, frame = at.Scheme+"://"+at.Host, ""
		call = script
	}
	t.sources = "; script-src 'self' " + script + "; frame-src " + script + frame + "; connect-src 'self' " + call
	return t
}

// stripe tells whether Stripe's element takes the payments.
func (t till) stripe() bool { return t.Key != "" }

// accepts tells whether a token can be of a card that the page offered.
func (t till) accepts(token string) bool {
	if t.stripe() {
		return tokenForm.MatchString(token)
	}
	return slices.ContainsFunc(cards, func(known card) bool { return known.Token == token })
}

// cardMissing asks for a card.
func (t till) cardMissing() string {
	if t.stripe() {
		return "Enter your card."
	}
	return "Choose one of the test cards."
}

// again asks for the card again, which Stripe takes once.
func (t till) again() string {
	if t.stripe() {
		return " Enter your card for it."
	}
	return ""
}

// payment is the part of a page in which the shopper pays.
type payment struct {
	Element *element     // Stripe's; nil: the simulator's cards
	Cards   []cardOption // of the simulator
	Bad     string       // the error of the card
}

// element is Stripe's Payment Element.
type element struct {
	till
	Token, Name string // of the card that the shopper entered before; "" if there is none
}

// Test tells whether no real money moves.
func (e element) Test() bool { return strings.HasPrefix(e.Key, "pk_test_") }

// Label is the name of the card for people.
func (e element) Label() string {
	brand, last, _ := strings.Cut(e.Name, " ")
	return strings.ReplaceAll(brand, "_", " ") + " •••• " + last
}

type cardOption struct {
	card
	Chosen bool
}

// ask returns the part of a page in which the shopper pays with the card of the basket, or with another.
func (t till) ask(b basket) payment {
	if t.stripe() {
		return payment{Element: &element{t, b.card, b.cardName}}
	}
	part := payment{}
	for _, known := range cards {
		part.Cards = append(part.Cards, cardOption{known, known.Token == b.card})
	}
	return part
}

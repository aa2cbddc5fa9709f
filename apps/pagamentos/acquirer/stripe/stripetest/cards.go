package stripetest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Payment methods. The first four are Stripe's own names for testing,
// https://docs.stripe.com/testing. Every other name is refused as missing.
const (
	Approved       = "pm_card_visa"
	Declined       = "pm_card_visa_chargeDeclinedInsufficientFunds"
	DeclinedPlain  = "pm_card_visa_chargeDeclined" // generic_decline
	Authentication = "pm_card_authenticationRequired"
	Unknown        = "pm_unknown"       // does not exist
	Silent         = "pm_silent"        // charged, but the first confirmation gets no answer
	Unavailable    = "pm_unavailable"   // the first two confirmations get 503 and charge nothing
	Broken         = "pm_broken"        // charged, but the answer is 500, also to repeated confirmations
	HalfCreated    = "pm_halfCreated"   // the first creation is answered with 500, also if it is repeated
	HalfConfirmed  = "pm_halfConfirmed" // the first confirmation is answered with 500, and charges nothing
	RefundRefused  = "pm_refundRefused" // the first refund is refused
	RefundPending  = "pm_refundPending" // the refund is pending until it is asked for
	RefundFails    = "pm_refundFails"   // the refund is pending, and fails when it is asked for
)

// untested is a card that is none of Stripe's test cards. Stripe declines it in test mode.
const untested = "pm_untested"

var methods = []string{
	Approved, Declined, DeclinedPlain, Authentication, Silent, Unavailable, Broken, HalfCreated, HalfConfirmed,
	RefundRefused, RefundPending, RefundFails, untested,
}

// cards are Stripe's public test cards that the element knows, and the payment methods that
// behave like them: https://docs.stripe.com/testing
var cards = map[string]string{
	"4242424242424242": Approved,
	"4000000000009995": Declined,
	"4000000000000002": DeclinedPlain,
	"4000002760003184": Authentication,
}

// declines are the decline codes with which payment methods are declined, and the messages
// for the shopper: https://docs.stripe.com/declines/codes
var declines = map[string][2]string{
	Declined:      {"insufficient_funds", "The card has not enough money."},
	DeclinedPlain: {"generic_decline", "The card was declined."},
	untested:      {"test_mode_live_card", "The card was declined: it is none of the test cards."},
}

// A token is a ConfirmationToken: what the shopper entered, until it confirms an intent.
// It keeps no card number. https://docs.stripe.com/api/confirmation_tokens/object
type token struct {
	id, method    string
	brand, last4  string
	month, year   int
	created       time.Time
	amount        int64 // that the element was created with; 0: made without an element
	currency      string
	returnURL     string
	intent        string // that it has confirmed, or ""
	paymentMethod string // id of the PaymentMethod that the confirmation made of it
}

// tokenLife is how long a ConfirmationToken can be used: 12 hours, by the example in
// https://docs.stripe.com/api/confirmation_tokens/object
const tokenLife = 12 * time.Hour

func (t *token) object() map[string]any {
	object := map[string]any{
		"id": t.id, "object": "confirmation_token", "created": t.created.Unix(), "expires_at": t.created.Add(tokenLife).Unix(),
		"livemode": false, "mandate_data": nil, "payment_intent": nil, "payment_method_options": nil, "return_url": nil,
		"setup_future_usage": nil, "setup_intent": nil, "shipping": nil, "use_stripe_sdk": true,
		"payment_method_preview": map[string]any{"type": "card", "card": map[string]any{
			"brand": t.brand, "last4": t.last4, "exp_month": t.month, "exp_year": t.year,
		}},
	}
	if t.intent != "" {
		object["payment_intent"], object["expires_at"] = t.intent, nil
	}
	if t.returnURL != "" {
		object["return_url"] = t.returnURL
	}
	return object
}

// addToken gives a token its id. The caller holds the lock.
func (s *StandIn) addToken(t token) *token {
	t.id, t.created = s.id("ctoken", len(s.tokens)+1), time.Now()
	t.paymentMethod = s.id("pm", len(s.tokens)+1)
	s.tokens = append(s.tokens, &t)
	return &t
}

func (s *StandIn) findToken(id string) *token {
	if i := slices.IndexFunc(s.tokens, func(t *token) bool { return t.id == id }); i >= 0 {
		return s.tokens[i]
	}
	return nil
}

// ConfirmationToken returns the id of a new ConfirmationToken for a card that behaves like
// the payment method. For a method that does not exist, there is no token of that id either.
func (s *StandIn) ConfirmationToken(method string) string {
	if !slices.Contains(methods, method) {
		return "ctoken_unknown"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.testToken(method).id
}

func (s *StandIn) testToken(method string) *token {
	return s.addToken(token{method: method, brand: "visa", last4: "4242", month: 12, year: time.Now().Year() + 1})
}

// createTestToken makes a token of a payment method, in test mode only:
// https://docs.stripe.com/api/confirmation_tokens/test_create
func (s *StandIn) createTestToken(form map[string][]string) reply {
	method := strings.Join(form["payment_method"], "")
	if !slices.Contains(methods, method) {
		return missing("payment_method", method).as(http.StatusBadRequest)
	}
	return ok(s.testToken(method).object())
}

// A card is what the shopper entered.
type card struct {
	Number string `json:"number"`
	Expiry string `json:"expiry"` // month and year: MMYY
	CVC    string `json:"cvc"`
}

// token converts a card, or tells why it is none. The codes are those of
// https://docs.stripe.com/error-codes
func (c card) token(now time.Time) (token, failure) {
	refuse := func(code, param, message string) (token, failure) {
		return token{}, failure{"type": "card_error", "code": code, "param": param, "message": message}
	}
	if !luhn(c.Number) {
		return refuse("incorrect_number", "number", "The card number is not valid.")
	}
	date, err := strconv.Atoi(c.Expiry)
	month, year := date/100, 2000+date%100
	switch {
	case err != nil || len(c.Expiry) != 4 || month < 1 || month > 12:
		return refuse("invalid_expiry_month", "exp_month", "The expiry date is not valid.")
	case year > now.Year()+50, year < now.Year(), year == now.Year() && month < int(now.Month()):
		return refuse("invalid_expiry_year", "exp_year", "The card has expired.")
	}
	if _, err := strconv.ParseUint(c.CVC, 10, 16); err != nil || len(c.CVC) < 3 || len(c.CVC) > 4 {
		return refuse("invalid_cvc", "cvc", "The security code is not valid.")
	}
	method, found := cards[c.Number]
	if !found {
		method = untested
	}
	return token{method: method, brand: brand(c.Number), last4: c.Number[len(c.Number)-4:], month: month, year: year}, nil
}

// luhn checks the length and the check digit of a card number.
func luhn(number string) bool {
	if len(number) < 13 || len(number) > 19 {
		return false
	}
	sum := 0
	for i := range len(number) {
		digit := int(number[len(number)-1-i] - '0')
		if digit < 0 || digit > 9 {
			return false
		}
		if i%2 == 1 {
			digit = digit*2/10 + digit*2%10
		}
		sum += digit
	}
	return sum%10 == 0
}

func brand(number string) string {
	switch number[0] {
	case '4':
		return "visa"
	case '5':
		return "mastercard"
	}
	return "unknown"
}

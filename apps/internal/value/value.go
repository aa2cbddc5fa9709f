// Package value holds the values that clients send and services pass on, one type
// each. Parse accepts exactly the form that the OpenAPI documents give; a test
// compares the two.
//
// The text of an error of Parse completes a sentence that begins with the field's
// name. It is written for clients and never repeats the value.
package value

import (
	"errors"
	"log/slog"
	"regexp"
)

// SKU names an item of the shop.
type SKU string

// IdempotencyKey is what a client chooses to repeat one request safely.
type IdempotencyKey string

// ClientID names a client of the API. Only api-gateway sets it.
type ClientID string

// Anonymous is the client of a request that names none.
const Anonymous ClientID = "anonymous"

// CardToken stands for a card at the acquirer. It is a secret.
type CardToken string

// form is what a value has to look like, and what a client reads if it does not.
type form struct {
	pattern *regexp.Regexp
	err     error
}

var (
	skuForm = form{
		regexp.MustCompile(`^[A-Z0-9][A-Z0-9-]{0,31}$`),
		errors.New("must be 1 to 32 capital letters, digits or '-', and must not begin with '-'"),
	}
	keyForm = form{
		regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`),
		errors.New("must be 1 to 64 letters, digits, '.', '_' or '-'"),
	}
	clientForm = form{
		regexp.MustCompile(`^[A-Za-z0-9._@-]{1,128}$`),
		errors.New("must be 1 to 128 letters, digits, '.', '_', '@' or '-'"),
	}
	tokenForm = form{
		regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`),
		errors.New("must be 1 to 64 letters, digits, '_' or '-'"),
	}
)

func parse[T ~string](text string, f form) (T, error) {
	if !f.pattern.MatchString(text) {
		return "", f.err
	}
	return T(text), nil
}

// ParseSKU returns the SKU that text is.
func ParseSKU(text string) (SKU, error) { return parse[SKU](text, skuForm) }

// ParseIdempotencyKey returns the key that text is.
func ParseIdempotencyKey(text string) (IdempotencyKey, error) {
	return parse[IdempotencyKey](text, keyForm)
}

// ParseClientID returns the client that text names.
func ParseClientID(text string) (ClientID, error) { return parse[ClientID](text, clientForm) }

var errCardNumber = errors.New("looks like a card number: send the acquirer's token for the card instead")

// ParseCardToken returns the token that text is. It refuses what may be the number
// of a card, which no service may hold.
func ParseCardToken(text string) (CardToken, error) {
	if looksLikeCardNumber(text) {
		return "", errCardNumber
	}
	return parse[CardToken](text, tokenForm)
}

// String hides the token from formatted text.
func (CardToken) String() string { return "[card token]" }

// LogValue hides the token from logs.
func (t CardToken) LogValue() slog.Value { return slog.StringValue(t.String()) }

// minCardDigits is the least number of digits in a card's number (ISO/IEC 7812).
const minCardDigits = 12

// looksLikeCardNumber tells whether text has as many digits in a row as a card's
// number, whatever separates them.
func looksLikeCardNumber(text string) bool {
	digits := 0
	for _, char := range text {
		switch {
		case char >= '0' && char <= '9':
			if digits++; digits >= minCardDigits {
				return true
			}
		case char == '-' || char == '_' || char == ' ' || char == '.':
		default:
			digits = 0
		}
	}
	return false
}

// Package value holds one type for each value that clients send and services forward.
// The Parse functions accept exactly the form in the OpenAPI documents; a test
// compares the two.
//
// The text of their errors completes a sentence that begins with the field's name. It
// is written for clients and never repeats the value.
package value

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SKU names an item of the shop.
type SKU string

// IdempotencyKey identifies one request of a client, which can repeat it safely.
type IdempotencyKey string

// ClientID names a client of the API. Only api-gateway sets it.
type ClientID string

// ShopperID names one of the shoppers of a client: the SHA-256, in hexadecimal, of a secret
// that the shopper has. It only narrows what the client may see.
type ShopperID string

// Anonymous is the client of a request that names none.
const Anonymous ClientID = "anonymous"

// CardToken stands for a card at the acquirer. It is a secret.
type CardToken string

// form is the pattern of a value, and the error for a text that does not match it.
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
	shopperForm = form{
		regexp.MustCompile(`^[0-9a-f]{64}$`),
		errors.New("must be 64 hexadecimal digits"),
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

// ParseSKU returns text as a SKU.
func ParseSKU(text string) (SKU, error) { return parse[SKU](text, skuForm) }

// ParseIdempotencyKey returns text as an idempotency key.
func ParseIdempotencyKey(text string) (IdempotencyKey, error) {
	return parse[IdempotencyKey](text, keyForm)
}

// ParseClientID returns text as a client's name.
func ParseClientID(text string) (ClientID, error) { return parse[ClientID](text, clientForm) }

// ParseShopperID returns text as a shopper's name.
func ParseShopperID(text string) (ShopperID, error) { return parse[ShopperID](text, shopperForm) }

var errCardNumber = errors.New("looks like a card number: send the acquirer's token for the card instead")

// ParseCardToken returns text as a card token. It refuses what may be a card number,
// since no service may store one.
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

// minCardDigits is the smallest number of digits in a card number (ISO/IEC 7812).
const minCardDigits = 12

// looksLikeCardNumber tells whether text has as many digits in a row as a card number.
// Separators between digits do not end a row.
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

// MaxReason is how many characters a refund's reason may have.
const MaxReason = 200

// ParseReason returns text as the reason of a refund, which the client sees. It refuses what may be a
// card number.
func ParseReason(text string) (string, error) {
	if looksLikeCardNumber(text) {
		return "", errCardNumber
	}
	length := utf8.RuneCountInString(text)
	if length < 1 || length > MaxReason || strings.TrimSpace(text) == "" || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("must have 1 to %d characters, not all of them spaces, and no control characters", MaxReason)
	}
	return text, nil
}

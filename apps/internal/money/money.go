// Package money holds amounts in whole minor units of a currency, such as centavos. It
// uses no fractions and no floating point.
package money

import (
	"errors"
	"fmt"
	"math"
	"regexp"
)

// Money is an amount in minor units of the currency with the given ISO 4217 code.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// MinCharge is the smallest amount of one payment, in minor units: Stripe's for BRL, USD and EUR,
// https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
const MinCharge = 50

// MaxCharge is the largest amount of one payment, in minor units. Stripe accepts eight digits
// (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts). So no price and no
// order's total may be larger: nobody could pay it.
const MaxCharge = 99_999_999

// BRL is an amount in centavos.
func BRL(amount int64) Money { return Money{amount, "BRL"} }

var code = regexp.MustCompile(`^[A-Z]{3}$`)

// ErrOverflow means that a sum or product does not fit into 64 bits.
var ErrOverflow = errors.New("the amount is too large")

// CurrencyError means that two amounts have different currencies.
type CurrencyError struct{ Left, Right string }

func (e CurrencyError) Error() string {
	return fmt.Sprintf("cannot add amounts in %s and %s", e.Left, e.Right)
}

// WrongCurrency is the error's text for a field that is not a currency. It completes a
// sentence that begins with the field's name.
const WrongCurrency = "must be an ISO 4217 code of three capital letters, such as BRL"

// IsCurrency tells whether text has the form of an ISO 4217 code.
func IsCurrency(text string) bool { return code.MatchString(text) }

// Plus returns the sum. It fails on different currencies and with ErrOverflow.
func (m Money) Plus(other Money) (Money, error) {
	if m.Currency != other.Currency {
		return Money{}, CurrencyError{m.Currency, other.Currency}
	}
	if other.Amount > 0 && m.Amount > math.MaxInt64-other.Amount || other.Amount < 0 && m.Amount < math.MinInt64-other.Amount {
		return Money{}, ErrOverflow
	}
	return Money{m.Amount + other.Amount, m.Currency}, nil
}

// Times returns the amount times a count that is not negative, or ErrOverflow.
func (m Money) Times(count int64) (Money, error) {
	if count < 0 {
		return Money{}, fmt.Errorf("cannot multiply an amount by %d", count)
	}
	if count == 0 || m.Amount == 0 {
		return Money{0, m.Currency}, nil
	}
	product := m.Amount * count
	if product/count != m.Amount || m.Amount == math.MinInt64 {
		return Money{}, ErrOverflow
	}
	return Money{product, m.Currency}, nil
}

// String is for logs: minor units and currency, 12990 BRL.
func (m Money) String() string { return fmt.Sprintf("%d %s", m.Amount, m.Currency) }

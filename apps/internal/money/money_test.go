package money_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

func TestArithmeticIsExactOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		count := rapid.Int64Range(0, math.MaxInt64).Draw(t, "count")
		check := func(what string, got money.Money, err error, want *big.Int) {
			if !want.IsInt64() {
				if !errors.Is(err, money.ErrOverflow) {
					t.Fatalf("%s = %v, %v; want ErrOverflow", what, got, err)
				}
				return
			}
			if err != nil || got.Amount != want.Int64() {
				t.Fatalf("%s = %v, %v; want %s", what, got, err, want)
			}
		}
		sum, err := money.BRL(a).Plus(money.BRL(b))
		check("sum", sum, err, new(big.Int).Add(big.NewInt(a), big.NewInt(b)))
		if a == math.MinInt64 {
			return
		}
		product, err := money.BRL(a).Times(count)
		check("product", product, err, new(big.Int).Mul(big.NewInt(a), big.NewInt(count)))
	})
}

func TestCurrenciesDoNotMix(t *testing.T) {
	var mixed money.CurrencyError
	if _, err := money.BRL(1).Plus(money.Money{Amount: 1, Currency: "EUR"}); !errors.As(err, &mixed) {
		t.Errorf("BRL + EUR = %v, want a CurrencyError", err)
	}
	if _, err := money.BRL(1).Times(-1); err == nil {
		t.Error("minus one times an amount was accepted")
	}
}

func TestCurrencyCodes(t *testing.T) {
	for text, want := range map[string]bool{"BRL": true, "brl": false, "BR": false, "BRLX": false, "": false, "B1L": false} {
		if money.IsCurrency(text) != want {
			t.Errorf("IsCurrency(%q) = %v", text, !want)
		}
	}
}

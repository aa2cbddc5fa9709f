package value

import "testing"

func TestTokensAreNotTakenForCardNumbers(t *testing.T) {
	for _, token := range []string{"tok_approved", "pm_1NqLkX2eZvKYlo2C", "tok_12345678901", ""} {
		if looksLikeCardNumber(token) {
			t.Errorf("%q was taken for a card number", token)
		}
	}
}

func FuzzCardNumbers(f *testing.F) {
	f.Add("tok_", "4111111111111111", "-")
	f.Fuzz(func(t *testing.T, before, digits, separator string) {
		number := ""
		for i := range 16 {
			digit := byte('0')
			if i < len(digits) && digits[i] >= '0' && digits[i] <= '9' {
				digit = digits[i]
			}
			number += string(digit)
			if separator == "-" || separator == "_" || separator == " " {
				number += separator
			}
		}
		if !looksLikeCardNumber(before + number) {
			t.Errorf("%q was not taken for a card number", before+number)
		}
	})
}

// Package card keeps card numbers out of where only tokens belong.
package card

// numberDigits is the fewest that a card's number has (ISO/IEC 7812).
const numberDigits = 12

// LooksLikeNumber tells whether a text has as many digits in a row as a card's
// number, whatever separates them.
func LooksLikeNumber(text string) bool {
	digits := 0
	for _, char := range text {
		switch {
		case char >= '0' && char <= '9':
			if digits++; digits >= numberDigits {
				return true
			}
		case char == '-' || char == '_' || char == ' ' || char == '.':
		default:
			digits = 0
		}
	}
	return false
}

package telemetry

import "strings"

// Clean returns a text of a client's, such as a path or a user agent, in the form that spans
// and logs may have. It replaces each word that could be a card token or an e-mail address
// by "*": one with a character that is neither a letter, a digit, '.', '+' nor '-'. Blanks
// and "/:;,()" separate words. Ids of orders, SKUs, file names and versions stay as they are.
func Clean(text string) string {
	if !suspicious(text) {
		return text
	}
	var clean strings.Builder
	for text != "" {
		end := strings.IndexAny(text, separators)
		if end < 0 {
			end = len(text)
		}
		if word := text[:end]; suspicious(word) {
			clean.WriteByte('*')
		} else {
			clean.WriteString(word)
		}
		if text = text[end:]; text != "" {
			clean.WriteByte(text[0])
			text = text[1:]
		}
	}
	return clean.String()
}

const separators = " /:;,()"

// suspicious tells whether a text has a character that is neither plain nor a separator. It
// runs several times for each request.
func suspicious(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '-' <= c && c <= ';': // - . / digits : ;
		case c == ' ' || '(' <= c && c <= ',' && c != '*':
		default:
			return true
		}
	}
	return false
}

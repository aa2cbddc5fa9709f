package telemetry

import "strings"

// Clean returns a text of a client's, such as a path or a user agent, in the form that spans
// and logs may have. It replaces each word that could be a card token or an e-mail address
// by "*": one with a character that is neither a letter, a digit, '.', '+' nor '-'. Blanks
// and "/:;,()" separate words. Ids of orders, SKUs, file names and versions stay as they are.
func Clean(text string) string {
	if strings.IndexFunc(text, suspicious) < 0 {
		return text
	}
	var clean strings.Builder
	for text != "" {
		end := strings.IndexAny(text, separators)
		if end < 0 {
			end = len(text)
		}
		if word := text[:end]; strings.IndexFunc(word, suspicious) < 0 {
			clean.WriteString(word)
		} else {
			clean.WriteByte('*')
		}
		if text = text[end:]; text != "" {
			clean.WriteByte(text[0])
			text = text[1:]
		}
	}
	return clean.String()
}

const separators = " /:;,()"

func suspicious(r rune) bool {
	plain := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '.' || r == '+' || r == '-'
	return !plain && !strings.ContainsRune(separators, r)
}

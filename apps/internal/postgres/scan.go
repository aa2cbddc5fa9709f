package postgres

import (
	"iter"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a part of a statement: a word, the digits of a number, a sign, or one of
// the other kinds.
type token struct {
	kind tokenKind
	text string // as written; of a quoted identifier and of a string, the text between the quotes
	line int
}

type tokenKind int

const (
	plain tokenKind = iota
	quotedName
	stringText
	comment
)

// is tells whether the token is the given keyword or sign, in any case.
func (t token) is(word string) bool { return t.kind == plain && strings.EqualFold(t.text, word) }

var dollarTag = regexp.MustCompile(`^\$([\pL_][\pL\pN_]*)?\$`)

// scan splits SQL into tokens by PostgreSQL's lexical rules, without comments.
func scan(sql string) []token {
	return slices.DeleteFunc(scanAll(sql), func(t token) bool { return t.kind == comment })
}

// scanAll is like scan, but includes comments.
func scanAll(sql string) []token { return slices.Collect(tokens(sql)) }

// tokens reads no further than its caller does.
func tokens(sql string) iter.Seq[token] {
	return func(yield func(token) bool) {
		line := 1
		for len(sql) > 0 {
			var (
				length int
				found  token
			)
			switch char, size := utf8.DecodeRuneInString(sql); {
			case unicode.IsSpace(char):
				length = size
			case strings.HasPrefix(sql, "--"):
				length = until(sql, 2, "\n")
				found = token{kind: comment, text: sql[:length]}
			case strings.HasPrefix(sql, "/*"):
				length = blockComment(sql)
				found = token{kind: comment, text: sql[:length]}
			case char == '\'':
				length = quotedLength(sql, '\'', false)
				found = token{kind: stringText, text: unquote(sql[:length], "'")}
			case (char == 'E' || char == 'e') && strings.HasPrefix(sql[size:], "'"):
				length = size + quotedLength(sql[size:], '\'', true)
				found = token{kind: stringText, text: unquote(sql[size:length], "'")}
			case char == '"':
				length = quotedLength(sql, '"', false)
				found = token{kind: quotedName, text: unquote(sql[:length], `"`)}
			case char == '$' && dollarTag.MatchString(sql):
				tag := dollarTag.FindString(sql)
				length = until(sql, len(tag), tag)
				found = token{kind: stringText, text: strings.TrimSuffix(sql[len(tag):length], tag)}
			case unicode.IsLetter(char) || unicode.IsDigit(char) || char == '_':
				length = len(sql)
				if end := strings.IndexFunc(sql, func(r rune) bool {
					return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '$'
				}); end >= 0 {
					length = end
				}
				found = token{text: sql[:length]}
			default:
				length, found = size, token{text: sql[:size]}
			}
			if found.text != "" || found.kind != plain {
				found.line = line
				if !yield(found) {
					return
				}
			}
			line += strings.Count(sql[:length], "\n")
			sql = sql[length:]
		}
	}
}

// unquote returns the text between the quotes.
func unquote(text, quote string) string {
	text = strings.TrimSuffix(strings.TrimPrefix(text, quote), quote)
	return strings.ReplaceAll(text, quote+quote, quote)
}

// until returns the length of sql up to and including the first end after start, or
// the whole length if there is none.
func until(sql string, start int, end string) int {
	if at := strings.Index(sql[start:], end); at >= 0 {
		return start + at + len(end)
	}
	return len(sql)
}

// blockComment returns the length of the comment at the start of sql. Comments nest.
func blockComment(sql string) int {
	depth, at := 0, 0
	for at < len(sql) {
		switch {
		case strings.HasPrefix(sql[at:], "/*"):
			depth++
			at += 2
		case strings.HasPrefix(sql[at:], "*/"):
			depth--
			at += 2
			if depth == 0 {
				return at
			}
		default:
			at++
		}
	}
	return at
}

// quotedLength returns the length of the quoted text at the start of sql. A quote in it
// is doubled or, with escapes, follows a backslash.
func quotedLength(sql string, quote byte, escapes bool) int {
	for at := 1; at < len(sql); at++ {
		switch {
		case escapes && sql[at] == '\\':
			at++
		case sql[at] == quote && at+1 < len(sql) && sql[at+1] == quote:
			at++
		case sql[at] == quote:
			return at + 1
		}
	}
	return len(sql)
}

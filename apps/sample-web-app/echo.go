package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

const (
	// echoLimit is the largest body that is echoed, in bytes.
	echoLimit = 64 << 10
	// dumpLimit is how many bytes of a binary body are shown.
	dumpLimit = 1 << 10
)

// echoMethods are the methods that HTTP defines for a path (RFC 9110, RFC 5789).
// GET includes HEAD.
var echoMethods = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch,
	http.MethodDelete, http.MethodOptions, http.MethodTrace,
}

// pair is a name and a value as they are shown.
type pair struct {
	Name   string
	Value  string
	Masked bool
}

// echoed is the request as the page shows it. printable has escaped all texts.
type echoed struct {
	Method  string
	Path    string
	Proto   string
	Host    string
	Headers []pair
	Query   []pair
	Body    body
}

// showEcho shows a request back to its sender.
func (p *pages) showEcho(c *gin.Context) error {
	request := c.Request
	content, err := io.ReadAll(request.Body)
	if err != nil {
		return problem.FromBody(err)
	}
	return p.render(c, http.StatusOK, "echo", echoed{
		Method:  request.Method,
		Path:    printable(request.URL.Path),
		Proto:   request.Proto,
		Host:    printable(request.Host),
		Headers: headerPairs(request.Header),
		Query:   formPairs(request.URL.RawQuery),
		Body:    describeBody(request.Header.Get("Content-Type"), content),
	})
}

// headerPairs lists the headers sorted by name, and masks credentials.
func headerPairs(header http.Header) []pair {
	var pairs []pair
	for name, values := range header {
		for _, value := range values {
			if isSensitive(name) {
				pairs = append(pairs, pair{Name: printable(name), Masked: true})
				continue
			}
			pairs = append(pairs, pair{Name: printable(name), Value: printable(value)})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.Name, b.Name) })
	return pairs
}

// isSensitive tells whether a header carries credentials: the standard ones, and
// any whose name suggests it, such as X-Api-Key or X-Amz-Security-Token. A page that
// showed them would leak them to everyone who sees the screen.
func isSensitive(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{
		"authorization", "cookie", "api-key", "apikey", "token", "secret", "password", "session", "signature", "client-cert",
	} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// formPairs decodes name=value&name=value in the order sent. It keeps wrongly encoded
// parts as they are: this page helps to find out what is wrong with a request.
func formPairs(raw string) []pair {
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		pairs = append(pairs, pair{Name: unescape(name), Value: unescape(value)})
	}
	return pairs
}

func unescape(raw string) string {
	if decoded, err := url.QueryUnescape(raw); err == nil {
		raw = decoded
	}
	return printable(raw)
}

// body is a request's body as the page shows it: either Text or Dump, or neither if
// the request had no body.
type body struct {
	Size   int // bytes
	Type   string
	Fields []pair // if the body is a form
	Text   string
	Dump   string // hexadecimal, of the first Shown bytes
	Shown  int    // bytes in Dump
}

// describeBody decides how to show a body: text as text, a form also as its
// fields, and anything else as a hexadecimal dump.
func describeBody(contentType string, content []byte) body {
	b := body{Size: len(content), Type: printable(contentType)}
	switch {
	case len(content) == 0:
	case isText(content):
		b.Text = printable(string(content))
		if kind, _, err := mime.ParseMediaType(contentType); err == nil && kind == "application/x-www-form-urlencoded" {
			b.Fields = formPairs(string(content))
		}
	default:
		b.Shown = min(len(content), dumpLimit)
		b.Dump = hex.Dump(content[:b.Shown])
	}
	return b
}

// isText tells whether content is valid UTF-8 without control characters other than
// white space.
func isText(content []byte) bool {
	if !utf8.Valid(content) {
		return false
	}
	for _, r := range string(content) {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
	}
	return true
}

// printable escapes what would be invisible or misleading on a page: bytes that are
// not UTF-8, control characters, and characters that reverse the direction of the
// text after them. The templates escape HTML's special characters.
func printable(text string) string {
	var out strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case r == '\n' || r == '\t':
			out.WriteRune(r)
		case r == '\r' && strings.HasPrefix(text[i:], "\r\n"):
			// Shown as the line break that follows.
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

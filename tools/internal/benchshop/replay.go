package benchshop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A statement is one that the server logged while an order was placed.
type statement struct {
	database string
	text     string
	params   []param
	types    []string // of params, as the server infers them
}

type param struct {
	value string
	null  bool
}

// bare returns the statement without comments and without the semicolon.
func (s statement) bare() string {
	return strings.TrimSuffix(strings.TrimSpace(comment.ReplaceAllString(s.text, "")), ";")
}

// first describes the statement in one line: its name in queries.sql and its beginning.
func (s statement) first() string {
	name, text := "", s.text
	if rest, ok := strings.CutPrefix(text, "-- name: "); ok {
		head, body, _ := strings.Cut(rest, "\n")
		name, _, _ = strings.Cut(head, " ")
		text = body
	}
	words := strings.Fields(text)
	text = strings.Join(words[:min(len(words), 7)], " ")
	if len(text) > 60 {
		text = text[:60]
	}
	if name != "" {
		return name + " (" + text + " ...)"
	}
	return text + " ..."
}

// readLog reads the statements of the shop's databases from a log of PostgreSQL in
// JSON.
func readLog(log io.Reader, databases []string) ([]statement, error) {
	var all []statement
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Database string `json:"dbname"`
			Message  string `json:"message"`
			Detail   string `json:"detail"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			continue // the server has not written the whole line yet
		}
		if !slices.Contains(databases, line.Database) {
			continue
		}
		kind, text, ok := strings.Cut(line.Message, ": ")
		if !ok || kind != "statement" && !strings.HasPrefix(kind, "execute ") {
			continue
		}
		s := statement{database: line.Database, text: strings.TrimSpace(text)}
		if _, params, ok := strings.Cut(strings.ToLower(line.Detail), "parameters: "); ok {
			var err error
			if s.params, err = readParams(line.Detail[len(line.Detail)-len(params):]); err != nil {
				return nil, fmt.Errorf("parameters of %q: %w", s.first(), err)
			}
		}
		all = append(all, s)
	}
	return all, lines.Err()
}

// readParams parses $1 = 'value', $2 = NULL and so on.
func readParams(text string) ([]param, error) {
	var params []param
	for rest := text; rest != ""; {
		prefix := fmt.Sprintf("$%d = ", len(params)+1)
		if !strings.HasPrefix(rest, prefix) {
			return nil, fmt.Errorf("%q does not begin with %q", rest, prefix)
		}
		rest = rest[len(prefix):]
		if after, ok := strings.CutPrefix(rest, "NULL"); ok {
			params = append(params, param{null: true})
			rest = strings.TrimPrefix(after, ", ")
			continue
		}
		if !strings.HasPrefix(rest, "'") {
			return nil, fmt.Errorf("%q is not a quoted value", rest)
		}
		var value strings.Builder
		i := 1
		for {
			end := strings.IndexByte(rest[i:], '\'')
			if end < 0 {
				return nil, errors.New("a value has no closing quote")
			}
			value.WriteString(rest[i : i+end])
			i += end + 1
			if i >= len(rest) || rest[i] != '\'' {
				break
			}
			value.WriteByte('\'')
			i++
		}
		params = append(params, param{value: value.String()})
		rest = strings.TrimPrefix(rest[i:], ", ")
	}
	return params, nil
}

// signature returns a text that is the same for orders with the same statements.
func signature(statements []statement) string {
	var b strings.Builder
	for _, s := range statements {
		fmt.Fprintf(&b, "%s: %s\x00", s.database, s.text)
	}
	return b.String()
}

// An example is the order whose statements are replayed.
type example struct {
	key, sku   string   // idempotency key and SKU of the order
	skus       []string // each replay orders one of them at random
	statements []statement
}

// Expressions for the values that differ between replays. The server computes them from
// numbers that pgbench counts itself, so that they cost no statement. Like an order's id,
// newID grows with time.
const (
	newID  = "(lpad(to_hex(:seq::bigint), 16, '0') || lpad(to_hex(:client_id::bigint), 16, '0'))"
	newKey = "('bench-' || :seq::bigint || '-' || :client_id::bigint)"
	anySKU = "(:skus::text[])[:sku::integer]"
)

var (
	anID        = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	placeholder = regexp.MustCompile(`\$(\d+)`)
	comment     = regexp.MustCompile(`(?m)^\s*--.*$`)
)

// script turns the statements into a script for pgbench, and returns it with the variables
// that it needs. It replaces only the parameters in a statement: by an expression if the
// value must differ between replays, and by a variable otherwise. pgbench turns each variable
// into a parameter, so each has a cast to its type. A statement outside a transaction block
// stays a transaction by itself.
func (e example) script() (script string, variables []string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "\\set seq :seq + 1\n\\set sku random(1, %d)\n", len(e.skus))
	variables = append(variables, "skus={"+strings.Join(e.skus, ",")+"}")
	for i, s := range e.statements {
		var failed error
		text := placeholder.ReplaceAllStringFunc(s.bare(), func(found string) string {
			n, err := strconv.Atoi(found[1:])
			if err != nil || n < 1 || n > len(s.params) || n > len(s.types) {
				failed = fmt.Errorf("%s: the server logged no value for %s", s.first(), found)
				return found
			}
			p := s.params[n-1]
			value := e.fresh(p.value)
			switch {
			case p.null:
				value = "NULL" // a variable of pgbench cannot be NULL
			case value == "":
				value = fmt.Sprintf(":s%dp%d", i+1, n)
			}
			return "(" + value + ")::" + s.types[n-1]
		})
		if failed != nil {
			return "", nil, failed
		}
		for n, p := range s.params {
			if !p.null && e.fresh(p.value) == "" {
				variables = append(variables, fmt.Sprintf("s%dp%d=%s", i+1, n+1, p.value))
			}
		}
		fmt.Fprintf(&b, "%s;\n", text)
	}
	return b.String(), variables, nil
}

// fresh returns the expression for a value that must differ between two orders, or "" for any
// other value. JSON documents may stay the same: no statement looks up their content.
func (e example) fresh(value string) string {
	id := anID.FindStringIndex(value)
	switch {
	case value == e.key:
		return newKey
	case value == e.sku:
		return anySKU
	case value == "{"+e.sku+"}":
		return "ARRAY[" + anySKU + "]"
	case id == nil || strings.HasPrefix(value, "{\"") || strings.HasPrefix(value, "["):
		return ""
	case id[0] == 0 && id[1] == len(value):
		return newID
	case value == "{"+value[id[0]:id[1]]+"}":
		return "ARRAY[" + newID + "]"
	}
	return "(" + quote(value[:id[0]]) + " || " + newID + " || " + quote(value[id[1]:]) + ")"
}

// quote returns a SQL literal without a colon, after which pgbench would look for a variable.
func quote(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, `:`, `\x3a`).Replace(s) + "'"
}

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

// bare is the statement without its comments and its semicolon.
func (s statement) bare() string {
	return strings.TrimSuffix(strings.TrimSpace(comment.ReplaceAllString(s.text, "")), ";")
}

// first is the statement in a line, for people: how it begins, and what it is
// called in queries.sql.
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

// readLog reads the statements of the shop's databases out of a log of
// PostgreSQL in JSON.
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
			continue // being written still
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

// readParams reads $1 = 'value', $2 = NULL and so on.
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
			return nil, fmt.Errorf("%q is no quoted value", rest)
		}
		var value strings.Builder
		i := 1
		for {
			end := strings.IndexByte(rest[i:], '\'')
			if end < 0 {
				return nil, errors.New("a value does not end")
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

// signature is what two recordings of the same work have in common.
func signature(statements []statement) string {
	var b strings.Builder
	for _, s := range statements {
		fmt.Fprintf(&b, "%s: %s\x00", s.database, s.text)
	}
	return b.String()
}

// An example is the order whose statements are replayed.
type example struct {
	key, sku   string
	skus       []string // of which each replay takes one at random
	statements []statement
}

// Expressions of values that are new for each replay. They are computed by the
// server from numbers that pgbench counts by itself, so that they cost no
// statement of their own. An id grows with time as those of orders do.
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

// script makes of the statements a script for pgbench, and the variables that it
// needs. A statement's text stays as it is, but for parameters that have to be
// others each time. pgbench makes a parameter of each place where a variable
// stands, so that each is given its type. Each statement is a transaction of its
// own where it was one.
func (e example) script() (script string, variables []string, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "\\set seq :seq + 1\n\\set sku random(1, %d)\n", len(e.skus))
	variables = append(variables, "skus={"+strings.Join(e.skus, ",")+"}")
	for i, s := range e.statements {
		var failed error
		text := placeholder.ReplaceAllStringFunc(s.bare(), func(found string) string {
			n, err := strconv.Atoi(found[1:])
			if err != nil || n < 1 || n > len(s.params) || n > len(s.types) {
				failed = fmt.Errorf("%s: no value for %s was logged", s.first(), found)
				return found
			}
			p := s.params[n-1]
			value := e.fresh(p.value)
			switch {
			case p.null:
				value = "NULL" // of which pgbench has no variable
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

// fresh is the expression that stands for a value which must not be the same for
// two orders, or "". Documents stay: nothing is looked up by what is in them.
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

// quote writes a literal in which pgbench finds no variable.
func quote(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, `:`, `\x3a`).Replace(s) + "'"
}

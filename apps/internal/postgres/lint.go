package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

var (
	migrationName = regexp.MustCompile(`^(\d{5})_[a-z0-9_]+\.sql$`)
	gooseMark     = regexp.MustCompile(`(?m)^--\s*\+goose\s+(.*?)\s*$`)
	contractMark  = regexp.MustCompile(`^--\s*contract\b`)
)

// Lint says what is wrong with the migrations at the root of files, all of it.
//
// Two versions of a service run at once while one replaces the other, and the
// older may come back, on the schema of the newer: a migration has to leave what
// the version before works with (https://martinfowler.com/bliki/ParallelChange.html).
// And it must not hold a table's lock while it reads or rewrites all of it. So
// what removes, renames or narrows is refused, unless the file has a line
// `-- contract`: by that its author says that nobody uses it any more. Tables
// that the same file creates are free.
//
// What a string executes is not seen, apart from a DO block's, which may not
// change the schema at all.
func Lint(files fs.FS) error {
	names, err := migrationNames(files)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errors.New("there are no migrations: *.sql has to be at the root")
	}
	var errs []error
	for i, name := range names {
		match := migrationName.FindStringSubmatch(name)
		switch want := fmt.Sprintf("%05d", i+1); {
		case match == nil:
			errs = append(errs, fmt.Errorf("%s: the name is not of the form %s_what_it_does.sql", name, want))
		case match[1] != want:
			errs = append(errs, fmt.Errorf("%s: number %s comes next, without gaps", name, want))
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return fmt.Errorf("reading migration %s: %w", name, err)
		}
		for _, err := range lintFile(string(content)) {
			errs = append(errs, fmt.Errorf("%s:%w", name, err))
		}
	}
	return errors.Join(errs...)
}

// lintFile returns the errors of one migration, each after its line.
func lintFile(sql string) []error {
	marks := gooseMark.FindAllStringSubmatchIndex(sql, -1)
	up, transaction := false, true
	for _, mark := range marks {
		switch strings.ToUpper(sql[mark[2]:mark[3]]) {
		case "UP":
			up = true
		case "NO TRANSACTION":
			transaction = false
		case "DOWN":
			sql = sql[:mark[0]] // never run
		}
		if len(sql) == mark[0] {
			break
		}
	}
	if !up {
		return []error{errors.New("1: there is no line `-- +goose Up`")}
	}

	var (
		linter    = linter{created: map[string]bool{}, transaction: transaction}
		contract  bool
		statement []token
		count     int
	)
	for _, token := range append(scanAll(sql), token{text: ";"}) {
		switch {
		case token.kind == comment:
			contract = contract || contractMark.MatchString(token.text)
		case !token.is(";"):
			statement = append(statement, token)
		case len(statement) > 0:
			linter.check(statement)
			statement = nil
			count++
		}
	}
	switch {
	case count == 0:
		return []error{errors.New("1: there is no statement")}
	case contract:
		return linter.broken
	}
	return append(linter.broken, linter.errs...)
}

// linter checks one file's statements in turn.
type linter struct {
	created     map[string]bool // tables
	transaction bool
	errs        []error // lifted by `-- contract`
	broken      []error // not lifted
}

func (l *linter) refuse(at token, format string, args ...any) {
	l.errs = append(l.errs, fmt.Errorf("%d: %s; if no version in use needs it, say so in a line `-- contract`",
		at.line, fmt.Sprintf(format, args...)))
}

func (l *linter) check(statement []token) {
	first, s := statement[0], cursor{tokens: statement}
	switch {
	case s.take("CREATE"):
		l.checkCreate(&s, first)
	case s.take("ALTER", "TABLE"):
		l.checkAlterTable(&s)
	case s.take("ALTER"):
		for s.more() {
			switch {
			case s.take("RENAME"), s.take("SET", "SCHEMA"), s.take("DROP"):
				l.refuse(first, "ALTER with %s takes away what is in use", strings.ToUpper(s.tokens[s.at-1].text))
			}
			s.at++
		}
	case s.take("DROP", "INDEX", "CONCURRENTLY"):
		l.needNoTransaction(first, "DROP INDEX CONCURRENTLY")
	case s.take("DROP"):
		l.refuse(first, "DROP takes away what is in use")
	case s.take("TRUNCATE"):
		l.refuse(first, "TRUNCATE loses data")
	case s.take("DO"):
		l.checkBlock(&s, first)
	}
	l.checkDeletes(statement)
}

func (l *linter) needNoTransaction(at token, what string) {
	if l.transaction {
		l.broken = append(l.broken, fmt.Errorf("%d: %s needs a line `-- +goose NO TRANSACTION` in the file", at.line, what))
	}
}

func (l *linter) checkCreate(s *cursor, first token) {
	for s.take("UNLOGGED") || s.take("TEMPORARY") || s.take("TEMP") || s.take("GLOBAL") || s.take("LOCAL") {
		continue
	}
	if s.take("TABLE") {
		s.take("IF", "NOT", "EXISTS")
		l.created[s.name()] = true
		return
	}
	s.take("UNIQUE")
	if !s.take("INDEX") {
		return
	}
	if s.take("CONCURRENTLY") {
		l.needNoTransaction(first, "CREATE INDEX CONCURRENTLY")
		return
	}
	for s.more() && !s.take("ON") {
		s.at++
	}
	s.take("ONLY")
	if table := s.name(); !l.created[table] {
		l.refuse(first, "CREATE INDEX without CONCURRENTLY stops writes to %s until it is built", table)
	}
}

func (l *linter) checkAlterTable(s *cursor) {
	s.take("IF", "EXISTS")
	s.take("ONLY")
	table := s.name()
	s.take("*")
	if l.created[table] {
		return
	}
	for _, action := range s.list() {
		if len(action) > 0 {
			l.checkAction(table, &cursor{tokens: action}, action[0])
		}
	}
}

// checkAction checks one of the actions of an ALTER TABLE.
func (l *linter) checkAction(table string, s *cursor, first token) {
	switch {
	case s.take("RENAME"):
		l.refuse(first, "RENAME takes the old name away from %s", table)
	case s.take("SET", "SCHEMA"):
		l.refuse(first, "SET SCHEMA takes %s away from where it is looked for", table)
	case s.take("DROP"):
		l.refuse(first, "DROP takes away a part of %s that is in use", table)
	case s.take("ALTER"):
		if s.take("CONSTRAINT") {
			return
		}
		s.take("COLUMN")
		column := s.name()
		switch {
		case s.take("TYPE"), s.take("SET", "DATA", "TYPE"):
			l.refuse(first, "another TYPE of %s.%s rewrites the table, and the version before knows the old one", table, column)
		case s.take("SET", "NOT", "NULL"):
			l.refuse(first, "NOT NULL on %s.%s reads the whole table under its lock, and the version before may leave it empty", table, column)
		case s.take("DROP", "DEFAULT"), s.take("DROP", "IDENTITY"):
			l.refuse(first, "the version before may rely on the default of %s.%s", table, column)
		}
	case s.take("ADD"):
		if s.take("CONSTRAINT") {
			s.name()
			l.checkConstraint(table, s, first)
			return
		}
		for _, kind := range []string{"CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"} {
			if s.looking(kind) {
				l.checkConstraint(table, s, first)
				return
			}
		}
		s.take("COLUMN")
		s.take("IF", "NOT", "EXISTS")
		column := s.name()
		switch {
		case s.has("NOT", "NULL") && !s.has("DEFAULT"):
			l.refuse(first, "ADD COLUMN %s.%s NOT NULL without DEFAULT: the version before does not fill it", table, column)
		case s.has("GENERATED"):
			l.refuse(first, "ADD COLUMN %s.%s GENERATED rewrites the table", table, column)
		case s.has("UNIQUE"), s.has("PRIMARY", "KEY"), s.has("CHECK"), s.has("REFERENCES"):
			l.refuse(
				first,
				"ADD COLUMN %s.%s with a constraint reads the whole table under its lock: add it as NOT VALID and validate it in the next migration",
				table,
				column,
			)
		}
	}
}

// checkConstraint checks an ADD CONSTRAINT from the kind on.
func (l *linter) checkConstraint(table string, s *cursor, first token) {
	switch {
	case s.has("USING", "INDEX") && (s.looking("UNIQUE") || s.looking("PRIMARY")), s.has("NOT", "VALID"):
	case s.looking("UNIQUE"), s.looking("PRIMARY"), s.looking("EXCLUDE"):
		l.refuse(
			first,
			"ADD CONSTRAINT on %s builds an index under its lock: build it CONCURRENTLY before and add the constraint USING INDEX",
			table,
		)
	default:
		l.refuse(first, "ADD CONSTRAINT without NOT VALID reads all of %s under its lock: validate it in the next migration", table)
	}
}

// checkBlock refuses what a DO block's text could do to the schema.
func (l *linter) checkBlock(s *cursor, first token) {
	for ; s.more(); s.at++ {
		if s.tokens[s.at].kind != stringText {
			continue
		}
		body := scan(s.tokens[s.at].text)
		for _, token := range body {
			for _, word := range []string{"ALTER", "DROP", "TRUNCATE", "EXECUTE", "INDEX"} {
				if token.is(word) {
					l.refuse(first, "a DO block with %s cannot be judged", word)
					return
				}
			}
		}
		l.checkDeletes(body)
	}
}

// checkDeletes looks for DELETE FROM, also within WITH, that has no WHERE of its own.
func (l *linter) checkDeletes(statement []token) {
	for at := range statement {
		s := cursor{tokens: statement, at: at}
		if !s.take("DELETE", "FROM") {
			continue
		}
		s.take("ONLY")
		table := s.name()
		limited := l.created[table]
		for depth := 0; s.more() && depth >= 0 && !s.looking(";"); s.at++ {
			switch {
			case s.looking("("):
				depth++
			case s.looking(")"):
				depth--
			case depth == 0 && s.looking("WHERE"):
				limited = true
			}
		}
		if !limited {
			l.refuse(statement[at], "DELETE without WHERE empties %s", table)
		}
	}
}

// cursor walks through a statement.
type cursor struct {
	tokens []token
	at     int
}

func (s *cursor) more() bool { return s.at < len(s.tokens) }

// looking tells whether the next tokens are these keywords.
func (s *cursor) looking(words ...string) bool {
	if len(s.tokens)-s.at < len(words) {
		return false
	}
	for i, word := range words {
		if !s.tokens[s.at+i].is(word) {
			return false
		}
	}
	return true
}

// take goes past these keywords, if they are next.
func (s *cursor) take(words ...string) bool {
	if !s.looking(words...) {
		return false
	}
	s.at += len(words)
	return true
}

// has tells whether these keywords come later, outside of parentheses.
func (s *cursor) has(words ...string) bool {
	depth := 0
	for rest := *s; rest.more(); rest.at++ {
		switch {
		case rest.looking("("):
			depth++
		case rest.looking(")"):
			depth--
		case depth == 0 && rest.looking(words...):
			return true
		}
	}
	return false
}

// name goes past a name and returns it as the server knows it, without the
// schema public.
func (s *cursor) name() string {
	var parts []string
	for s.more() {
		part := s.tokens[s.at]
		if part.kind == plain {
			part.text = strings.ToLower(part.text)
		}
		s.at++
		parts = append(parts, part.text)
		if !s.take(".") {
			break
		}
	}
	return strings.TrimPrefix(strings.Join(parts, "."), "public.")
}

// list splits the rest at the commas outside of parentheses.
func (s *cursor) list() [][]token {
	depth, from := 0, s.at
	var parts [][]token
	for ; s.more(); s.at++ {
		switch {
		case s.looking("("):
			depth++
		case s.looking(")"):
			depth--
		case depth == 0 && s.looking(","):
			parts = append(parts, s.tokens[from:s.at])
			from = s.at + 1
		}
	}
	return append(parts, s.tokens[from:])
}

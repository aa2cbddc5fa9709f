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

// Lint returns all errors of the migrations at the root of files.
//
// During a rollout two versions of a service run on the newer schema, and after a
// rollback the older one does. So a migration must keep what the previous version
// uses (https://martinfowler.com/bliki/ParallelChange.html). It must also not hold a
// table's lock while it scans or rewrites the table. Lint refuses statements that
// remove, rename or restrict something, unless the file has a line `-- contract`, with
// which its author states that no version in use needs it. Statements on a table that
// the same file creates are allowed.
//
// An index on a table with rows is created CONCURRENTLY, in a file of this form, which can be
// repeated after any interruption:
//
//	-- +goose NO TRANSACTION
//	SET lock_timeout = 0;
//	DROP INDEX CONCURRENTLY IF EXISTS pedidos_by_name;
//	CREATE INDEX CONCURRENTLY pedidos_by_name ON pedidos (name);
//	RESET lock_timeout;
//
// PostgreSQL waits for the transactions that run, and counts that wait as one for a lock; it
// blocks nobody meanwhile. An attempt that fails leaves an invalid index, which a plain CREATE
// finds in its way and IF NOT EXISTS takes for the index:
// https://www.postgresql.org/docs/current/sql-createindex.html#SQL-CREATEINDEX-CONCURRENTLY
//
// Lint does not see the statements that a string executes. A DO block is an
// exception: it must not change the schema.
func Lint(files fs.FS) error {
	names, err := migrationNames(files)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errNoMigrations
	}
	var errs []error
	for i, name := range names {
		match := migrationName.FindStringSubmatch(name)
		switch want := fmt.Sprintf("%05d", i+1); {
		case match == nil:
			errs = append(errs, fmt.Errorf("%s: the name must have the form %s_what_it_does.sql", name, want))
		case match[1] != want:
			errs = append(errs, fmt.Errorf("%s: number %s must come next, without gaps", name, want))
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

// lintFile returns the errors of one migration. Each begins with its line's number.
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
			sql = sql[:mark[0]] // Migrate never runs it
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
		return linter.invalid
	}
	return append(linter.invalid, linter.breaking...)
}

// linter checks one file's statements in turn.
type linter struct {
	created     map[string]bool // tables
	transaction bool
	waits       bool    // lock_timeout is 0
	dropped     string  // the index that the statement before dropped, CONCURRENTLY IF EXISTS
	breaking    []error // allowed by `-- contract`
	invalid     []error // never allowed
}

func (l *linter) refuse(at token, format string, args ...any) {
	l.breaking = append(l.breaking, fmt.Errorf("%d: %s; if no version in use needs it, add a line `-- contract`",
		at.line, fmt.Sprintf(format, args...)))
}

func (l *linter) forbid(at token, format string, args ...any) {
	l.invalid = append(l.invalid, fmt.Errorf("%d: %s", at.line, fmt.Sprintf(format, args...)))
}

func (l *linter) check(statement []token) {
	first, s := statement[0], cursor{tokens: statement}
	before := l.dropped
	l.dropped = ""
	switch {
	case s.take("SET", "LOCK_TIMEOUT"):
		l.waits = (s.take("=") || s.take("TO")) && s.more() && strings.Trim(s.tokens[s.at].text, "'") == "0"
	case s.take("RESET", "LOCK_TIMEOUT"):
		l.waits = false
	case s.take("CREATE"):
		l.checkCreate(&s, first, before)
	case s.take("ALTER", "TABLE"):
		l.checkAlterTable(&s)
	case s.take("ALTER"):
		for s.more() {
			switch {
			case s.take("RENAME"), s.take("SET", "SCHEMA"), s.take("DROP"):
				l.refuse(first, "ALTER with %s removes what the previous version may use", strings.ToUpper(s.tokens[s.at-1].text))
			}
			s.at++
		}
	case s.take("DROP", "INDEX", "CONCURRENTLY"):
		l.checkConcurrent(first, "DROP INDEX CONCURRENTLY")
		if !s.take("IF", "EXISTS") {
			l.forbid(first, "DROP INDEX CONCURRENTLY needs IF EXISTS, so that it can be repeated")
		}
		l.dropped = s.name()
	case s.take("DROP"):
		l.refuse(first, "DROP removes what the previous version may use")
	case s.take("TRUNCATE"):
		l.refuse(first, "TRUNCATE deletes all rows")
	case s.take("DO"):
		l.checkBlock(&s, first)
	}
	l.checkDeletes(statement)
}

func (l *linter) checkConcurrent(at token, what string) {
	if l.transaction {
		l.forbid(at, "%s needs a line `-- +goose NO TRANSACTION` in the file", what)
	}
	if !l.waits {
		l.forbid(at, "%s needs `SET lock_timeout = 0;` before it: it waits for the transactions that run, and blocks nobody meanwhile", what)
	}
}

// checkCreate checks a CREATE. dropped is the index that the statement before dropped.
func (l *linter) checkCreate(s *cursor, first token, dropped string) {
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
		l.checkConcurrent(first, "CREATE INDEX CONCURRENTLY")
		if s.take("IF", "NOT", "EXISTS") {
			l.forbid(first, "CREATE INDEX CONCURRENTLY IF NOT EXISTS accepts the invalid index that an attempt left: leave IF NOT EXISTS out")
		}
		if name := s.name(); name == "on" || name != dropped {
			l.forbid(first, "CREATE INDEX CONCURRENTLY needs a name, and `DROP INDEX CONCURRENTLY IF EXISTS` of that name directly before it: "+
				"an attempt that fails leaves an invalid index in its way")
		}
		return
	}
	for s.more() && !s.take("ON") {
		s.at++
	}
	s.take("ONLY")
	if table := s.name(); !l.created[table] {
		l.refuse(first, "CREATE INDEX without CONCURRENTLY blocks writes to %s until the index is built", table)
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
		l.refuse(first, "RENAME removes a name of %s that the previous version may use", table)
	case s.take("SET", "SCHEMA"):
		l.refuse(first, "SET SCHEMA moves %s to where the previous version does not find it", table)
	case s.take("DROP"):
		l.refuse(first, "DROP removes a part of %s that the previous version may use", table)
	case s.take("ALTER"):
		if s.take("CONSTRAINT") {
			return
		}
		s.take("COLUMN")
		column := s.name()
		switch {
		case s.take("TYPE"), s.take("SET", "DATA", "TYPE"):
			l.refuse(first, "a new TYPE of %s.%s rewrites the table, and the previous version expects the old type", table, column)
		case s.take("SET", "NOT", "NULL"):
			l.refuse(first, "NOT NULL on %s.%s scans the table while it is locked, and the previous version may write NULL", table, column)
		case s.take("DROP", "DEFAULT"), s.take("DROP", "IDENTITY"):
			l.refuse(first, "the previous version may rely on the default of %s.%s", table, column)
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
			l.refuse(first, "ADD COLUMN %s.%s NOT NULL without DEFAULT: the previous version does not set the column", table, column)
		case s.has("GENERATED"):
			l.refuse(first, "ADD COLUMN %s.%s GENERATED rewrites the table", table, column)
		case s.has("UNIQUE"), s.has("PRIMARY", "KEY"), s.has("CHECK"), s.has("REFERENCES"):
			l.refuse(
				first,
				"ADD COLUMN %s.%s with a constraint scans the table while it is locked: "+
					"add the constraint as NOT VALID, and validate it in the next migration",
				table,
				column,
			)
		}
	}
}

// checkConstraint checks an ADD CONSTRAINT, from the constraint's kind on.
func (l *linter) checkConstraint(table string, s *cursor, first token) {
	switch {
	case s.has("USING", "INDEX") && (s.looking("UNIQUE") || s.looking("PRIMARY")), s.has("NOT", "VALID"):
	case s.looking("UNIQUE"), s.looking("PRIMARY"), s.looking("EXCLUDE"):
		l.refuse(
			first,
			"ADD CONSTRAINT on %s builds an index while the table is locked: "+
				"create the index CONCURRENTLY first, then add the constraint USING INDEX",
			table,
		)
	default:
		l.refuse(
			first,
			"ADD CONSTRAINT without NOT VALID scans %s while it is locked: add it as NOT VALID, and validate it in the next migration",
			table,
		)
	}
}

// checkBlock refuses a DO block whose text could change the schema.
func (l *linter) checkBlock(s *cursor, first token) {
	for ; s.more(); s.at++ {
		if s.tokens[s.at].kind != stringText {
			continue
		}
		body := scan(s.tokens[s.at].text)
		for _, token := range body {
			for _, word := range []string{"ALTER", "DROP", "TRUNCATE", "EXECUTE", "INDEX"} {
				if token.is(word) {
					l.refuse(first, "a DO block with %s cannot be checked", word)
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
			l.refuse(statement[at], "DELETE without WHERE deletes all rows of %s", table)
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

// take skips these keywords if they are next, and returns whether they are.
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

// name skips a name and returns it in the server's case, without the schema public.
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

// list splits the rest at the commas that are outside of parentheses.
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

package postgrestest

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Queries returns the statements of a file that sqlc has generated, by their names in queries.sql.
func Queries(t testing.TB, file string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	queries := map[string]string{}
	for _, declaration := range parsed.Decls {
		constants, ok := declaration.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		value, ok := constants.Specs[0].(*ast.ValueSpec).Values[0].(*ast.BasicLit)
		if !ok {
			continue
		}
		sql, err := strconv.Unquote(value.Value)
		if name, found := strings.CutPrefix(sql, "-- name: "); err == nil && found {
			name, _, _ = strings.Cut(name, " ")
			queries[name] = sql
		}
	}
	if len(queries) == 0 {
		t.Fatalf("%s has no queries", file)
	}
	return queries
}

// CheckPlans fails for each query in a file that sqlc has generated whose plan may read a large part of
// a table, and for each of the exceptions, by query with the reason, that does not.
func CheckPlans(t *testing.T, d Database, file string, exceptions map[string]string) {
	t.Helper()
	found := Unbounded(t, d, Queries(t, file))
	for name, what := range found {
		if exceptions[name] == "" {
			t.Errorf("the query %s %s: it lacks an index, or is an exception with a reason", name, what)
		}
	}
	for name := range exceptions {
		if found[name] == "" {
			t.Errorf("the query %s is an exception, and needs to be none", name)
		}
	}
}

// Unbounded returns the queries whose generic plans may read a large part of a table, and why. It
// makes sequential scans so expensive that the planner takes one only if no index serves: the
// tests' tables are empty, and the planner would prefer to scan them.
func Unbounded(t testing.TB, d Database, queries map[string]string) map[string]string {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, d.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SET enable_seqscan = off; SET enable_bitmapscan = off;
		SET plan_cache_mode = force_generic_plan`); err != nil {
		t.Fatal(err)
	}
	var partial map[string]bool
	if err := conn.QueryRow(ctx, `SELECT coalesce(json_object_agg(indexrelid::regclass, true), '{}') FROM pg_index WHERE indpred IS NOT NULL`).
		Scan(&partial); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for name, sql := range queries {
		plan, err := Explain(ctx, conn, "EXPLAIN (FORMAT JSON)", name, sql)
		if err != nil {
			t.Fatal(err)
		}
		if what := plan.unbounded(partial, false); what != "" {
			found[name] = what
		}
	}
	return found
}

// Plan is a node of a plan. Times are in milliseconds, and rows are of one loop.
type Plan struct {
	Type      string  `json:"Node Type"`
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	IndexCond string  `json:"Index Cond"`
	Filter    string  `json:"Filter"`
	Removed   float64 `json:"Rows Removed by Filter"`
	Rows      float64 `json:"Actual Rows"`
	Loops     float64 `json:"Actual Loops"`
	Time      float64 `json:"Actual Total Time"`
	Hit       int64   `json:"Shared Hit Blocks"`
	Read      int64   `json:"Shared Read Blocks"`
	Plans     []Plan  `json:"Plans"`
}

// unbounded returns what the node or one below it does, or "". limited says that the node is below a
// LIMIT, which does not help if rows are sorted or left out before it counts them. An index that is
// read without a condition is as long as its table, unless it is partial.
func (p Plan) unbounded(partial map[string]bool, limited bool) string {
	switch {
	case p.Type == "Seq Scan":
		return "reads the whole table " + p.Relation
	case p.Index != "" && p.IndexCond == "" && !partial[p.Index]:
		return "reads the whole index " + p.Index
	case limited && (p.Type == "Sort" || p.Type == "Incremental Sort"):
		return "sorts all rows before its limit"
	case limited && p.Filter != "" && p.Index != "" && !partial[p.Index]:
		return "leaves rows of the index " + p.Index + " out before its limit"
	}
	for _, below := range p.Plans {
		if what := below.unbounded(partial, limited || p.Type == "Limit"); what != "" {
			return what
		}
	}
	return ""
}

// Reads returns the nodes that read tables or sort, in the order of the plan.
func (p Plan) Reads() []string {
	var nodes []string
	if p.Relation != "" && p.Type != "ModifyTable" || p.Index != "" || strings.HasSuffix(p.Type, "Sort") {
		node := p.Type
		for _, name := range []string{p.Index, p.Relation} {
			if name != "" && !strings.Contains(node, name) {
				node += " " + name
			}
		}
		nodes = append(nodes, node)
	}
	for _, below := range p.Plans {
		nodes = append(nodes, below.Reads()...)
	}
	return nodes
}

// Explain prepares a statement by its name and returns its plan. The arguments are SQL; a missing one
// is NULL.
func Explain(ctx context.Context, conn *pgx.Conn, command, name, sql string, args ...string) (Plan, error) {
	description, err := conn.Prepare(ctx, name, sql)
	if err != nil {
		return Plan{}, fmt.Errorf("preparing %s: %w", name, err)
	}
	for len(args) < len(description.ParamOIDs) {
		args = append(args, "NULL")
	}
	statement := command + " EXECUTE " + pgx.Identifier{name}.Sanitize()
	if len(args) > 0 {
		statement += "(" + strings.Join(args, ", ") + ")"
	}
	var text string
	if err := conn.QueryRow(ctx, statement, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		return Plan{}, fmt.Errorf("explaining %s: %w", name, err)
	}
	var plans []struct{ Plan Plan }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return Plan{}, fmt.Errorf("reading the plan of %s: %w", name, err)
	}
	return plans[0].Plan, nil
}

package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	promql "github.com/prometheus/prometheus/promql/parser"

	"github.com/loja-veloz/platform/infra/slo"
)

// board is the part of a dashboard that the tests read.
type board struct {
	Panels []struct {
		Type, Title string
		Targets     []struct{ Expr string }
	}
}

func dashboardOf(t *testing.T) board {
	t.Helper()
	content, err := Grafana(services(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	var b board
	if err := json.Unmarshal(content, &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// metrics are the names of the metrics that a query reads.
func metrics(t *testing.T, query string) []string {
	t.Helper()
	expression, err := promql.ParseExpr(query)
	if err != nil {
		t.Fatalf("Prometheus cannot parse %s: %v", query, err)
	}
	var names []string
	promql.Inspect(expression, func(node promql.Node, _ []promql.Node) error {
		if selector, ok := node.(*promql.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names
}

// exported knows what Prometheus has: what the sources of the services name, what the Go
// runtime's and the process's collectors export, and what the rules record.
type exported struct {
	names  map[string]bool
	byFile [][]string // the strings in each source file, for names that are put together
}

func exports(t *testing.T) exported {
	t.Helper()
	e := exported{names: map[string]bool{"up": true}}
	for _, match := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(slo.PrometheusRules, -1) {
		e.names[match[1]] = true
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		e.names[family.GetName()] = true
	}
	err = filepath.WalkDir("../../apps", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		var literals []string
		ast.Inspect(file, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					literals = append(literals, text)
				}
			}
			return true
		})
		e.byFile = append(e.byFile, literals)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e exported) has(metric string) bool {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if base, found := strings.CutSuffix(metric, suffix); found && e.has(base) {
			return true
		}
	}
	return e.names[metric] || slices.ContainsFunc(e.byFile, func(literals []string) bool {
		return slices.ContainsFunc(literals, func(start string) bool {
			rest, found := strings.CutPrefix(metric, start)
			return found && (rest == "" || strings.HasSuffix(start, "_") && slices.Contains(literals, rest))
		})
	})
}

// TestGrafanaAsksForWhatPrometheusHas: a panel of a metric that nobody exports stays empty.
func TestGrafanaAsksForWhatPrometheusHas(t *testing.T) {
	has := exports(t)
	var rows []string
	for _, p := range dashboardOf(t).Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, metric := range metrics(t, target.Expr) {
				if !has.has(metric) {
					t.Errorf("the panel %q asks for %s, which neither a service exports nor a rule records", p.Title, metric)
				}
			}
		}
	}
	if got := strings.Join(rows, ", "); got != "Overview, Infrastructure, APM" {
		t.Errorf("the rows are %s", got)
	}
	for _, metric := range []string{"sli_request_seconds_bucket", "database_pool_size", "slo:budget:ratio", "go_threads_total", "container_cpu_usage_seconds_total"} {
		if has.has(metric) {
			t.Errorf("%s counts as exported", metric)
		}
	}
}

// TestTheOverviewHasValues: with traffic and a canary, every panel of the overview shows something.
func TestTheOverviewHasValues(t *testing.T) {
	var known []string
	w := newWorld(t, rules(t, ""))
	var versions []version
	for _, service := range services(t, "") {
		known = append(known, service.Name)
		stable := version{service: service.Name, role: "stable", hash: "a", perSecond: 8}
		canary := version{service: service.Name, role: "canary", hash: "b", perSecond: 2, errors: 0.1, slow: 0.1}
		versions = append(versions, stable, canary)
	}
	w.pass(t, 10*time.Minute, versions...)
	for _, p := range dashboardOf(t).Panels {
		if p.Title == "Infrastructure" {
			break
		}
		for _, target := range p.Targets {
			q, err := w.engine.NewInstantQuery(t.Context(), w.store, nil, target.Expr, w.now)
			if err != nil {
				t.Fatal(err)
			}
			vector, err := q.Exec(t.Context()).Vector()
			want := 1
			switch {
			case p.Type == "stat":
				want = 3 * len(known)
			case strings.Contains(p.Title, "canary against stable"):
				want = 2
			}
			if err != nil || len(vector) < want {
				t.Errorf("%q: %s has %d values, want at least %d (%v)", p.Title, target.Expr, len(vector), want, err)
			}
			q.Close()
		}
	}
}

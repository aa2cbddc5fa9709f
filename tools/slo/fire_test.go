package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	ruler "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/infra/slo"
)

const scrape = 5 * time.Second

// A world is Prometheus's own storage and rule engine, fed with the metrics of services
// of which each version answers ten requests a second.
type world struct {
	store  *teststorage.TestStorage
	engine *promql.Engine
	groups []*ruler.Group
	now    time.Time
	counts map[string]float64
}

func newWorld(t *testing.T, file string) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{
		store: teststorage.New(t), now: begin, counts: map[string]float64{},
		engine: promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute}),
	}
	manager := ruler.NewManager(&ruler.ManagerOptions{
		Context: t.Context(), Logger: slog.New(slog.DiscardHandler), Appendable: w.store, Queryable: w.store,
		QueryFunc: ruler.EngineQueryFunc(w.engine, w.store), NotifyFunc: func(context.Context, string, ...*ruler.Alert) {},
	})
	groups, errs := manager.LoadGroups(30*time.Second, labels.EmptyLabels(), "", nil, false, path)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, g := range groups {
		w.groups = append(w.groups, g)
	}
	slices.SortFunc(w.groups, func(a, b *ruler.Group) int { return strings.Compare(a.Name(), b.Name()) })
	return w
}

// A version is one of a service's, and what it does wrong: the share of server errors,
// and of answers that take 450 ms or 2 s.
type version struct {
	service, role, hash    string
	perSecond              float64
	errors, slow, verySlow float64
}

// pass lets time pass, with requests to the versions.
func (w *world) pass(t *testing.T, d time.Duration, versions ...version) {
	t.Helper()
	w.advance(t, d, func(app storage.Appender) {
		for _, v := range versions {
			requests := v.perSecond * scrape.Seconds()
			w.add(t, app, v, "error", requests*v.errors, 0.01)
			ok := requests * (1 - v.errors)
			w.add(t, app, v, "ok", ok*(1-v.slow-v.verySlow), 0.01)
			w.add(t, app, v, "ok", ok*v.slow, 0.45)
			w.add(t, app, v, "ok", ok*v.verySlow, 2)
		}
	})
}

// advance lets time pass, with scrapes and evaluations of the rules.
func (w *world) advance(t *testing.T, d time.Duration, scraped func(storage.Appender)) {
	t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(scrape)
		app := w.store.Appender(t.Context())
		scraped(app)
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		for _, g := range w.groups {
			if w.now.Unix()%int64(g.Interval().Seconds()) == 0 {
				g.Eval(t.Context(), w.now)
			}
		}
	}
}

var edges = []struct {
	le    string
	bound float64
}{{"0.1", 0.1}, {"0.2", 0.2}, {"0.5", 0.5}, {"+Inf", math.Inf(1)}}

// add counts requests that took so many seconds, as a service's histogram does.
func (w *world) add(t *testing.T, app storage.Appender, v version, outcome string, requests, seconds float64) {
	t.Helper()
	append := func(suffix, le string, n float64) {
		pairs := []string{
			model.MetricNameLabel, slo.Metric + suffix, "service", v.service, "outcome", outcome, slo.LabelRole, v.role, slo.LabelVersion, v.hash,
		}
		if le != "" {
			pairs = slices.Concat(pairs, []string{"le", le})
		}
		series := labels.FromStrings(pairs...)
		key := series.String()
		w.counts[key] += n
		if _, err := app.Append(0, series, w.now.UnixMilli(), w.counts[key]); err != nil {
			t.Fatal(err)
		}
	}
	append("_count", "", requests)
	for _, edge := range edges {
		n := requests
		if seconds > edge.bound {
			n = 0
		}
		append("_bucket", edge.le, n)
	}
}

// firing are the alerts that fire, as service, objective and severity.
func (w *world) firing() []string {
	var all []string
	for _, g := range w.groups {
		for _, rule := range g.AlertingRules() {
			for _, alert := range rule.ActiveAlerts() {
				all = append(all, strings.Join([]string{
					alert.Labels.Get("sloth_service"), alert.Labels.Get("sloth_slo"), alert.Labels.Get("severity"),
				}, " "))
			}
		}
	}
	slices.Sort(all)
	return all
}

func (w *world) value(t *testing.T, query string) float64 {
	t.Helper()
	q, err := w.engine.NewInstantQuery(t.Context(), w.store, nil, query, w.now)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	vector, err := q.Exec(t.Context()).Vector()
	if err != nil || len(vector) != 1 {
		t.Fatalf("%s is %v (%v)", query, vector, err)
	}
	return vector[0].F
}

// TestAlertsFireByAFaultAndNotWithoutOne: an hour of good answers lets every alert be
// silent; then each kind of fault makes the alerts of its objectives page, and no other.
func TestAlertsFireByAFaultAndNotWithoutOne(t *testing.T) {
	good := version{service: "shop", role: "stable", hash: "a", perSecond: 10}
	failing, slow := good, good
	failing.errors, slow.slow = 0.5, 0.9
	for name, c := range map[string]struct {
		bad  version
		want []string
	}{
		"errors": {failing, []string{"shop availability page", "shop availability ticket", "shop error-rate page", "shop error-rate ticket"}},
		"slow":   {slow, []string{"shop latency page", "shop latency ticket"}},
	} {
		w := newWorld(t, rules(t, "objectives: {}"))
		w.pass(t, time.Hour, good)
		if firing := w.firing(); len(firing) > 0 {
			t.Errorf("%s: without a fault %v fire", name, firing)
		}
		w.pass(t, time.Hour, c.bad)
		if firing := w.firing(); !slices.Equal(firing, c.want) {
			t.Errorf("%s: %v fire, want %v", name, firing, c.want)
		}
	}
}

// TestAnIdleServiceKeepsItsBudget: a time without requests has no ratio, and spoils none.
func TestAnIdleServiceKeepsItsBudget(t *testing.T) {
	good := version{service: "shop", role: "stable", hash: "a", perSecond: 10}
	idle := good
	idle.perSecond = 0
	w := newWorld(t, rules(t, "objectives: {}"))
	w.pass(t, 20*time.Minute, good)
	w.pass(t, 20*time.Minute, idle)
	w.pass(t, 20*time.Minute, good)
	if left := w.value(t, `slo:period_error_budget_remaining:ratio{sloth_slo="availability"}`); left != 1 {
		t.Errorf("%v of the budget is left, want all of it", left)
	}
}

// TestTheRulesOfACanaryWeighAsTheTestDoes compares what Prometheus computes with package
// slo's own arithmetic, for versions of every kind.
func TestTheRulesOfACanaryWeighAsTheTestDoes(t *testing.T) {
	criteria := slo.Objectives(*services(t, "objectives: {}")[0].Objectives).Criteria()
	type recording struct {
		Record, Expr string
		Labels       map[string]string
	}
	var all []recording
	for _, c := range criteria {
		for _, r := range c.Rules("shop") {
			all = append(all, recording{r.Record, r.Expr, r.Labels})
		}
	}
	file, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "canary", "interval": slo.Period(slo.Interval), "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	stable := version{service: "shop", role: "stable", hash: "a", perSecond: 8}
	for name, c := range map[string]struct {
		canary, stable version
		bad            map[string]bool
	}{
		"good":     {version{}, stable, nil},
		"errors":   {version{errors: 1}, stable, map[string]bool{"errors": true}},
		"slow":     {version{slow: 1}, stable, map[string]bool{"latency": true}},
		"p99 only": {version{verySlow: 0.1}, stable, map[string]bool{"p99": true}},
		"an outage of both": {
			version{errors: 0.5}, version{service: "shop", role: "stable", hash: "a", perSecond: 8, errors: 0.5}, nil,
		},
	} {
		w := newWorld(t, string(file))
		w.pass(t, time.Minute, c.stable)
		c.canary.service, c.canary.role, c.canary.hash, c.canary.perSecond = "shop", "canary", "b", 2
		w.pass(t, 2*time.Minute, c.canary, c.stable)
		for _, criterion := range criteria {
			evidence := w.value(t, criterion.Prometheus("shop", "b"))
			if got := evidence >= slo.Bad; got != c.bad[criterion.Name] {
				t.Errorf("%s: by %s the evidence is %v, of %v", name, criterion.Name, evidence, slo.Bad)
			}
			needed := w.value(t, criterion.PrometheusNeeded("shop", "b"))
			if want := criterion.Needed(evidence); math.Abs(needed-want) > 1 {
				t.Errorf("%s: by %s %v more requests are needed, want %v", name, criterion.Name, needed, want)
			}
			if name == "good" && criterion.Name == "p99" {
				// Two minutes at two requests a second, of which increase() extrapolates the edges.
				if want := 240 * math.Log(0.95/0.99); math.Abs(evidence-want) > math.Abs(want)/8 {
					t.Errorf("good: the evidence is %v, want about %v", evidence, want)
				}
			}
		}
		if other := w.value(t, criteria[0].Prometheus("shop", "unknown")); other != 0 {
			t.Errorf("%s: the evidence against a version that was never seen is %v", name, other)
		}
	}
}

// TestRestartsCountAgainstTheVersionThatRestarts compares both versions of a service whose
// containers restart every 20 seconds; the pods of another service do not count.
func TestRestartsCountAgainstTheVersionThatRestarts(t *testing.T) {
	query := slo.PrometheusRestarts("shop", "b")
	for name, c := range map[string]struct {
		restarting []string // pods
		bad        bool
	}{
		"nothing restarts":        {nil, false},
		"the canary restarts":     {[]string{"shop-b-1"}, true},
		"both versions restart":   {[]string{"shop-a-1", "shop-b-1"}, false},
		"the stable one restarts": {[]string{"shop-a-1"}, false},
		"another shop restarts":   {[]string{"shop-rival-b-1"}, false},
	} {
		w := newWorld(t, "groups: []")
		begin := w.now
		for w.now.Sub(begin) < 70*time.Second {
			w.now = w.now.Add(scrape)
			app := w.store.Appender(t.Context())
			for pod, version := range map[string][2]string{
				"shop-a-1": {"stable", "a"}, "shop-b-1": {"canary", "b"}, "shop-rival-b-1": {"canary", "b"},
			} {
				started := begin
				if slices.Contains(c.restarting, pod) {
					started = w.now.Truncate(20 * time.Second)
				}
				series := labels.FromStrings(model.MetricNameLabel, "process_start_time_seconds", "pod", pod,
					slo.LabelRole, version[0], slo.LabelVersion, version[1])
				if _, err := app.Append(0, series, w.now.UnixMilli(), float64(started.Unix())); err != nil {
					t.Fatal(err)
				}
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.value(t, query); (got >= slo.BadRestarts) != c.bad {
			t.Errorf("%s: the canary has %v restarts more; bad are %d", name, got, slo.BadRestarts)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	promql "github.com/prometheus/prometheus/promql/parser"
	ruler "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/loja-veloz/platform/infra/slo"
)

// samples are what one scrape of everything finds, by the series as text.
type samples map[string]float64

func (s samples) add(v float64, series string, values ...any) { s[fmt.Sprintf(series, values...)] = v }

// A shop says what is scraped of it so long after the start of Prometheus.
type shop func(at time.Duration, s samples)

// together has the samples of all; the later ones override.
func together(shops ...shop) shop {
	return func(at time.Duration, s samples) {
		for _, one := range shops {
			one(at, s)
		}
	}
}

const never = time.Duration(math.MaxInt64)

// tasks are all that counts in background_failures_total: the service, and the longest time from
// one failure to the next while the task fails whenever it runs.
var tasks = map[string]struct {
	service string
	pace    time.Duration
}{
	// The pause of a minute and a quarter, 5 s until River sees it, and an attempt that hangs for a lease.
	"checkout":            {"pedidos", 110 * time.Second},
	"attend":              {"pedidos", 3 * time.Second},
	"resolve-payments":    {"pagamentos", 23 * time.Second},
	"expire-reservations": {"estoque", 3 * time.Second},
	"audit":               {"audit", 90 * time.Second},   // of make dev
	"prune":               {"pedidos", 90 * time.Second}, // and of pagamentos and estoque
	"follow-refunds":      {"pedidos", 7500 * time.Millisecond},
	"webhooks":            {"pedidos", time.Second},
	"webhooks-age":        {"pedidos", 22500 * time.Millisecond},
	// Both of the program rollback: a look a second, and a watch that begins again at the next.
	"list the Rollouts":     {"rollback", time.Second},
	"bring an abort to git": {"rollback", time.Second},
}

// healthy is two pods of each service, of which nothing has failed.
func healthy(_ time.Duration, s samples) {
	for _, pod := range []string{"a", "b"} {
		for task, of := range tasks {
			s.add(0, `background_failures_total{service=%q,task=%q,pod=%q}`, of.service, task, pod)
		}
		for _, metric := range []string{"payments_overdue", "payments_needing_person"} {
			s.add(0, `%s{service="pagamentos",pod=%q}`, metric, pod)
		}
	}
}

// fails is a task that fails at its pace from one time to another: now in one pod, now in the
// other. Each is replaced after some time and counts again from 0.
func fails(task string, from, to, replaced time.Duration) shop {
	return failsAt(task, tasks[task].pace, from, to, replaced)
}

func failsAt(task string, pace, from, to, replaced time.Duration) shop {
	return func(at time.Duration, s samples) {
		generation := at / replaced
		for i, pod := range []string{"a", "b"} {
			count := 0
			for n := 0; from+time.Duration(n)*pace <= min(at, to); n++ {
				if when := from + time.Duration(n)*pace; n%2 == i && when/replaced == generation {
					count++
				}
			}
			if generation > 0 {
				pod += strconv.Itoa(int(generation))
			}
			s.add(float64(count), `background_failures_total{service=%q,task=%q,pod=%q}`, tasks[task].service, task, pod)
		}
	}
}

// shows is a number of payments that one pod shows from one time to another.
func shows(metric string, from, to time.Duration) shop {
	return func(at time.Duration, s samples) {
		if at >= from && at < to {
			s.add(1, `%s{service="pagamentos",pod="a"}`, metric)
		}
	}
}

// collectorKeeps is how long the collector goes on showing what a run has pushed.
const collectorKeeps = 10 * time.Minute

// audits are the runs that end at these times. found says which invariants the audit finds
// violated then.
func audits(every time.Duration, succeeds func(at time.Duration) bool, found func(at time.Duration) []string) shop {
	invariants := append([]string{"stock_adds_up"}, found(never)...)
	return func(at time.Duration, s samples) {
		for ended := at.Truncate(every); ended > at-collectorKeeps; ended -= every {
			if !succeeds(ended) {
				continue
			}
			labels := fmt.Sprintf(`job="shop/audit",instance="audit-%d"`, ended/every)
			s.add(float64(begin.Add(ended).Unix()), `audit_last_success_timestamp_seconds{%s}`, labels)
			for _, invariant := range invariants {
				s.add(0, `audit_violations{%s,invariant=%q}`, labels, invariant)
			}
			for _, invariant := range found(ended) {
				s.add(1, `audit_violations{%s,invariant=%q}`, labels, invariant)
			}
		}
	}
}

func always(time.Duration) bool      { return true }
func nothing(time.Duration) []string { return nil }

// aged shows at each audit how long ago everything was read, which was some time before the first.
func aged(age time.Duration) shop {
	return func(at time.Duration, s samples) {
		for ended := at.Truncate(time.Minute); ended > at-collectorKeeps; ended -= time.Minute {
			s.add((age + ended).Seconds(), `audit_whole_age_seconds{job="shop/audit",instance="audit-%d"}`, ended/time.Minute)
		}
	}
}

// audited is an audit each minute that finds nothing.
var audited = audits(time.Minute, always, nothing)

// between finds an invariant violated from one time to another.
func between(from, to time.Duration, invariants ...string) func(time.Duration) []string {
	return func(at time.Duration) []string {
		if at == never || at >= from && at < to {
			return invariants
		}
		return nil
	}
}

// begin is when the worlds of the tests begin.
var begin = time.Unix(1_800_000_000, 0)

func alarmRules(t *testing.T) string {
	t.Helper()
	var all []slo.Rule
	for _, alarm := range slo.Alarms(true) {
		all = append(all, alarm.Rule())
	}
	file, err := json.Marshal(object{"groups": []object{{"name": "alarms", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(file)
}

// watch lets time pass in a shop, and returns which alarms have fired at any time, and which fire
// at the end, with the values of their labels.
func watch(t *testing.T, s shop, d time.Duration) (ever map[string]time.Duration, last []string) {
	t.Helper()
	w := newWorld(t, alarmRules(t))
	ever, before := map[string]time.Duration{}, samples{}
	for at := time.Duration(0); at < d; at += 30 * time.Second {
		w.advance(t, 30*time.Second, func(app storage.Appender) {
			now := samples{}
			s(w.now.Sub(begin), now)
			for series := range before {
				if _, there := now[series]; !there {
					before[series] = math.Float64frombits(value.StaleNaN)
				}
			}
			maps.Copy(before, now)
			for series, v := range before {
				labels, err := promql.ParseMetric(series)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := app.Append(0, labels, w.now.UnixMilli(), v); err != nil {
					t.Fatal(err)
				}
			}
			before = now
		})
		last = nil
		for _, rule := range w.groups[0].AlertingRules() {
			if rule.Health() != ruler.HealthGood {
				t.Fatalf("%s: %v", rule.Name(), rule.LastError())
			}
			for _, alert := range rule.ActiveAlerts() {
				if alert.State != ruler.StateFiring {
					continue
				}
				name := rule.Name()
				for _, label := range []string{"invariant", "service", "task"} {
					if v := alert.Labels.Get(label); v != "" {
						name += " " + v
					}
				}
				last = append(last, name)
				if _, there := ever[name]; !there {
					ever[name] = at + 30*time.Second
				}
			}
		}
	}
	slices.Sort(last)
	return ever, last
}

// TestEachAlarmFiresByItsFault: and no other alarm does.
func TestEachAlarmFiresByItsFault(t *testing.T) {
	m := time.Minute
	invariants := documented(t, "checkout.md", "^\\| `([a-z]+_[a-z_]+)` \\|")
	if len(invariants) != 8 {
		t.Fatalf("docs/checkout.md names the rules %v", invariants)
	}
	var violated []string
	for _, invariant := range invariants {
		violated = append(violated, "AuditViolation "+invariant)
	}
	slices.Sort(violated)
	// Pods that are all replaced show 0 until their resolver's first round.
	restarted := func(metric string) shop {
		return together(shows(metric, m, 9*m), shows(metric, 9*m+23*time.Second, never))
	}
	until := func(end time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at <= end }
	}
	type fault struct {
		shop   shop
		within time.Duration
		want   []string
	}
	faults := map[string]fault{
		"an audit finds a violation": {together(healthy, audits(m, always, between(5*m, never, "charged_once"))), 9 * m,
			[]string{"AuditViolation charged_once"}},
		"an audit finds all violations":    {together(healthy, audits(m, always, between(5*m, never, invariants...))), 9 * m, violated},
		"no audit has ever run":            {healthy, 11 * m, []string{"AuditStale"}},
		"audits fail from some time on":    {together(healthy, audits(m, until(20*m), nothing)), 47 * m, []string{"AuditStale"}},
		"an audit that keeps running":      {together(healthy, frozen(audited, 20*m)), 47 * m, []string{"AuditStale"}},
		"no audit is whole any more":       {together(healthy, audited, aged(25*time.Hour)), 9 * m, []string{"AuditNotWhole"}},
		"a payment needs a person":         {together(healthy, audited, shows("payments_needing_person", m, never)), 12 * m, []string{"PaymentsNeedPerson"}},
		"and its pods are replaced":        {together(healthy, audited, restarted("payments_needing_person")), 12 * m, []string{"PaymentsNeedPerson"}},
		"a payment is overdue":             {together(healthy, audited, shows("payments_overdue", m, never)), 17 * m, []string{"PaymentsOverdue"}},
		"it is, and its pods are replaced": {together(healthy, audited, restarted("payments_overdue")), 17 * m, []string{"PaymentsOverdue"}},
	}
	for task, of := range tasks {
		want := []string{"BackgroundWorkFails " + of.service + " " + task}
		faults[task+" fails"] = fault{together(healthy, audited, fails(task, 5*m, never, never)), 20 * m, want}
		faults[task+" fails in ever new pods"] = fault{together(audited, fails(task, 5*m, never, 4*m)), 20 * m, want}
	}
	fired := map[string]bool{}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			ever, last := watch(t, f.shop, f.within)
			if !slices.Equal(last, f.want) || len(ever) != len(f.want) {
				t.Errorf("after %s there fires %v, and there has fired %v; want %v alone", f.within, last, ever, f.want)
			}
			for alarm := range ever {
				before, _, _ := strings.Cut(alarm, " ")
				fired[before] = true
			}
		})
	}
	for _, alarm := range slo.Alarms(true) {
		if !fired[alarm.Name] {
			t.Errorf("no fault lets %s fire", alarm.Name)
		}
	}
}

// frozen shows for ever what a shop showed at some time, as a process does that cannot audit.
func frozen(s shop, since time.Duration) shop {
	return func(at time.Duration, all samples) { s(min(at, since), all) }
}

// TestNoAlarmCriesWolf: nothing fires by what ends by itself.
func TestNoAlarmCriesWolf(t *testing.T) {
	m := time.Minute
	// What a process counted before Prometheus looked is no failure of now.
	counted := func(at time.Duration, s samples) {
		s.add(1000, `background_failures_total{service="pedidos",task="checkout",pod="a"}`)
		if at > 10*m {
			delete(s, `background_failures_total{service="pedidos",task="checkout",pod="a"}`)
			s.add(0, `background_failures_total{service="pedidos",task="checkout",pod="c"}`)
		}
	}
	// A job fails every four minutes, each time another, and each succeeds at its retry.
	once := func(at time.Duration, s samples) {
		for i, pod := range []string{"a", "b"} {
			s.add(float64((at+time.Duration(i)*4*m)/(8*m)), `background_failures_total{service="pedidos",task="checkout",pod=%q}`, pod)
		}
	}
	// The acquirer is down from minute 5 to 7. Jobs of very many orders fail; the resolver finds
	// payments a minute after their requests, and has finished the last one in the fifth minute.
	acquirer := together(failsAt("checkout", time.Second/4, 5*m, 7*m+75*time.Second, never), shows("payments_overdue", 6*m, 10*m))
	database := together(fails("attend", 5*m, 7*m, never), fails("expire-reservations", 5*m, 7*m, never), fails("resolve-payments", 5*m, 7*m, never))
	missed := func(at time.Duration) bool { return at != 10*m }
	for name, s := range map[string]shop{
		"nothing happens":                   together(healthy, audited),
		"audits of what has changed":        together(healthy, audited, aged(23*time.Hour)),
		"one audit alone finds a violation": together(healthy, audits(m, always, between(10*m, 11*m, "charged_once"))),
		"one audit fails":                   together(healthy, audits(m, missed, nothing)),
		"audits that take ten minutes":      together(healthy, audits(11*m, always, nothing)),
		"the first audit comes after eight": together(healthy, func(at time.Duration, s samples) {
			if at > 8*m {
				audited(at, s)
			}
		}),
		"a job fails once in a while":             together(healthy, audited, once),
		"the acquirer is down for two minutes":    together(healthy, audited, acquirer),
		"the database fails over in two minutes":  together(healthy, audited, database),
		"a new Prometheus, and a deploy":          together(healthy, audited, counted),
		"a person is needed in one round":         together(healthy, audited, shows("payments_needing_person", 5*m, 5*m+20*time.Second)),
		"a payment is overdue for three minutes":  together(healthy, audited, shows("payments_overdue", 5*m, 8*m)),
		"each service restarts every ten minutes": together(audited, fails("checkout", never, never, 10*m), fails("attend", never, never, 10*m)),
	} {
		t.Run(name, func(t *testing.T) {
			if ever, _ := watch(t, s, 40*m); len(ever) > 0 {
				t.Errorf("there fires %v", ever)
			}
		})
	}
}

// TestAnAlarmEndsWithItsFault: the collector still shows the runs that found a violation.
func TestAnAlarmEndsWithItsFault(t *testing.T) {
	m := time.Minute
	ever, last := watch(t, together(healthy, audits(m, always, between(5*m, 10*m, "charged_once"))), 11*m)
	if len(ever) != 1 || len(last) > 0 {
		t.Errorf("there has fired %v, and there fires %v", ever, last)
	}
}

// documented are the words that a pattern finds in the lines of a page.
func documented(t *testing.T, page, pattern string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(content), -1) {
		if !slices.Contains(found, match[1]) {
			found = append(found, match[1])
		}
	}
	return found
}

// TestEveryMetricOfTheAuditIsWatched: or is listed here because its value is no fault.
func TestEveryMetricOfTheAuditIsWatched(t *testing.T) {
	informs := []string{"audit_orders", "audit_orders_in_flight", "audit_orders_read", "audit_duration_seconds"}
	var watched []string
	has, names := exports(t), documented(t, "services.md", "`((?:audit|payments|background)_[a-z_]+)`")
	for _, alarm := range slo.Alarms(true) {
		watched = append(watched, alarm.Metric)
		for _, metric := range metrics(t, alarm.Rule().Expr) {
			if !has.has(metric) || !slices.Contains(names, metric) {
				t.Errorf("%s asks for %s, which no service exports or docs/services.md does not name", alarm.Name, metric)
			}
		}
	}
	for _, name := range names {
		if name != "payments_total" && !slices.Contains(watched, name) && !slices.Contains(informs, name) {
			t.Errorf("no alarm watches %s", name)
		}
	}
	if len(names) < 8 {
		t.Errorf("docs/services.md names only %v", names)
	}
}

// TestEveryTaskIsWatched: a task that the services' sources name is one whose pace the tests above
// know, so that it fires BackgroundWorkFails.
func TestEveryTaskIsWatched(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("../../apps", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		constants := map[string]ast.Expr{}
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
				for i, name := range spec.Names {
					constants[name.Name] = spec.Values[i]
				}
			}
			return true
		})
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Loop", "LoopNow", "Expect"}, method.Sel.Name) {
				return true
			}
			if filepath.ToSlash(path) == "../../apps/internal/service/loop.go" {
				return true // the methods themselves
			}
			if of, ok := method.X.(*ast.Ident); ok && of.Name == "retention" {
				return true // it calls the method
			}
			argument := call.Args[0]
			if name, ok := argument.(*ast.Ident); ok {
				argument = constants[name.Name]
			}
			literal, ok := argument.(*ast.BasicLit)
			if !ok {
				t.Errorf("%s calls %s with a task that is no constant of the file", path, method.Sel.Name)
				return true
			}
			task, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Error(err)
			}
			found[task] = true
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(tasks)); !slices.Equal(got, want) {
		t.Errorf("the sources have the tasks %v, the tests of alarms know %v", got, want)
	}
}

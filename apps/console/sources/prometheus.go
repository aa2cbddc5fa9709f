package sources

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/slo"
)

// Prometheus reads how services keep their objectives.
type Prometheus struct {
	source
	budgets  cache[map[Objective]Budget]
	evidence cache[map[string]Evidence]
	traffic  cache[[]Series]
	firing   cache[[]Firing]
}

// NewPrometheus returns a reader of the HTTP API at base.
func NewPrometheus(base string, client *http.Client) *Prometheus {
	return &Prometheus{source: newSource("Prometheus", base, client)}
}

// An Objective is one of a service's.
type Objective struct{ Service, Name string }

// A Budget is how much of an objective's budget is used. A field is nil if Prometheus has no
// value, as for a service without requests.
type Budget struct {
	// Left is the share of the budget that is left in the window, up to 1; below 0 it is
	// overspent.
	Left *float64
	// Now and Window are burn rates in the last minutes and over the window: at 1 the budget lasts
	// exactly as long as the window.
	Now, Window *float64
}

// Evidence is what a canary's requests say by one criterion.
type Evidence struct {
	// Against is the evidence that decides, nil if Prometheus has none: bad from slo.Bad, good down
	// to slo.Good.
	Against    *float64
	Bad, Total float64 // requests
}

// A Series is a line of a plot.
type Series struct {
	Name   string // rate, p50, p95 or p99
	Role   string // of the pods, for a rate: stable or canary
	Points []Point
}

// A Point is a value at a time. Times without a value have no point.
type Point struct {
	At    time.Time
	Value float64
}

// What the recorded series of Sloth are called (infra/slo/objectives.yaml).
const (
	recordedLeft   = "slo:period_error_budget_remaining:ratio"
	recordedNow    = "slo:current_burn_rate:ratio"
	recordedWindow = "slo:period_burn_rate:ratio"
	// asked is the label that tells the answers of a joint query apart.
	asked = "asked"
)

// Budgets returns the budgets of all services.
func (p *Prometheus) Budgets(ctx context.Context) (map[Objective]Budget, error) {
	return p.budgets.get(ctx, &p.source, "", func(ctx context.Context) (map[Objective]Budget, error) {
		series, err := p.query(ctx, "/api/v1/query", url.Values{
			"query": {fmt.Sprintf(`{__name__=~"%s|%s|%s"}`, recordedLeft, recordedNow, recordedWindow)},
		})
		if err != nil {
			return nil, err
		}
		budgets := map[Objective]Budget{}
		for _, s := range series {
			value := s.last()
			if value == nil {
				continue
			}
			key := Objective{s.Metric["sloth_service"], s.Metric["sloth_slo"]}
			b := budgets[key]
			switch s.Metric["__name__"] {
			case recordedLeft:
				b.Left = value
			case recordedNow:
				b.Now = value
			case recordedWindow:
				b.Window = value
			}
			budgets[key] = b
		}
		return budgets, nil
	})
}

// Evidence returns what the requests of a version say, by criterion, as the canary's
// AnalysisTemplates ask for it.
func (p *Prometheus) Evidence(ctx context.Context, service, hash string, criteria []slo.Criterion) (map[string]Evidence, error) {
	return p.evidence.get(ctx, &p.source, service+" "+hash, func(ctx context.Context) (map[string]Evidence, error) {
		questions := map[string]string{}
		for _, c := range criteria {
			questions[c.Name] = c.Prometheus(service, hash)
			questions[c.Name+" bad"], questions[c.Name+" total"] = c.PrometheusCounts(service, hash)
		}
		series, err := p.query(ctx, "/api/v1/query", url.Values{"query": {joint(questions)}})
		if err != nil {
			return nil, err
		}
		answers := map[string]*float64{}
		for _, s := range series {
			answers[s.Metric[asked]] = s.last()
		}
		count := func(question string) float64 {
			if answers[question] == nil {
				return 0
			}
			return *answers[question]
		}
		all := map[string]Evidence{}
		for _, c := range criteria {
			all[c.Name] = Evidence{Against: answers[c.Name], Bad: count(c.Name + " bad"), Total: count(c.Name + " total")}
		}
		return all, nil
	})
}

// The plots' time and distance of points.
const (
	PlotWindow = 30 * time.Minute
	plotStep   = 30 * time.Second
)

// Traffic returns the rates and the durations of a service's requests in the last PlotWindow:
// rates in requests per second, of stable and canary pods; durations in seconds, of the
// requests answered without any error.
func (p *Prometheus) Traffic(ctx context.Context, service string) ([]Series, error) {
	return p.traffic.get(ctx, &p.source, service, func(ctx context.Context) ([]Series, error) {
		questions := map[string]string{"rate": fmt.Sprintf(`sum by (%s) (rate(%s_count{service=%q}[1m]))`, slo.LabelRole, slo.Metric, service)}
		for _, percent := range []int{50, 95, 99} {
			questions[fmt.Sprintf("p%d", percent)] = fmt.Sprintf(
				`histogram_quantile(%g, sum by (le) (rate(%s_bucket{service=%q,outcome="ok"}[1m])))`, float64(percent)/100, slo.Metric, service)
		}
		now := time.Now()
		series, err := p.query(ctx, "/api/v1/query_range", url.Values{
			"query": {joint(questions)}, "step": {plotStep.String()},
			"start": {strconv.FormatInt(now.Add(-PlotWindow).Unix(), 10)}, "end": {strconv.FormatInt(now.Unix(), 10)},
		})
		if err != nil {
			return nil, err
		}
		var all []Series
		for _, s := range series {
			line := Series{Name: s.Metric[asked], Role: s.Metric[slo.LabelRole]}
			for _, v := range s.Values {
				if value := v.number(); value != nil {
					line.Points = append(line.Points, Point{v.At, *value})
				}
			}
			all = append(all, line)
		}
		slices.SortFunc(all, func(a, b Series) int {
			// stable before canary, p50 before p99
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Role, a.Role))
		})
		return all, nil
	})
}

// A Firing is an alarm that fires: its name, and what it is about.
type Firing struct {
	Name string
	// Labels are those that tell what it is about: service, task, invariant.
	Labels map[string]string
}

// Firing returns which of the alarms fire, by name and labels.
func (p *Prometheus) Firing(ctx context.Context, alarms []slo.Alarm) ([]Firing, error) {
	return p.firing.get(ctx, &p.source, "", func(ctx context.Context) ([]Firing, error) {
		var names []string
		for _, alarm := range alarms {
			names = append(names, alarm.Name)
		}
		series, err := p.query(ctx, "/api/v1/query", url.Values{
			"query": {fmt.Sprintf(`ALERTS{alertstate="firing",alertname=~%q}`, strings.Join(names, "|"))},
		})
		if err != nil {
			return nil, err
		}
		firing := []Firing{}
		for _, s := range series {
			one := Firing{Name: s.Metric["alertname"], Labels: map[string]string{}}
			for _, label := range []string{"service", "task", "invariant"} {
				if text := s.Metric[label]; text != "" {
					one.Labels[label] = text
				}
			}
			firing = append(firing, one)
		}
		slices.SortFunc(firing, func(a, b Firing) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		return firing, nil
	})
}

// joint asks several questions at once; the label asked of an answer is the question's key.
func joint(questions map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(questions)) {
		parts = append(parts, fmt.Sprintf(`label_replace(%s, %q, %q, "", "")`, questions[key], asked, key))
	}
	return strings.Join(parts, " or ")
}

// answered is a series in an answer: Value of an instant query, Values of a range query.
type answered struct {
	Metric map[string]string
	Value  sample
	Values []sample
}

func (a answered) last() *float64 { return a.Value.number() }

type sample struct {
	At   time.Time
	text string
}

// UnmarshalJSON reads [seconds, "value"].
func (s *sample) UnmarshalJSON(raw []byte) error {
	var seconds float64
	pair := []any{&seconds, &s.text}
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	s.At = time.UnixMilli(int64(seconds * 1000))
	return nil
}

// number is nil for NaN, infinity and a missing value, which say nothing about a service.
func (s sample) number() *float64 {
	value, err := strconv.ParseFloat(s.text, 64)
	if err != nil || value-value != 0 {
		return nil
	}
	return &value
}

func (p *Prometheus) query(ctx context.Context, path string, form url.Values) ([]answered, error) {
	var answer struct {
		Status, Error string
		Data          struct{ Result []answered }
	}
	if err := p.post(ctx, path, form, &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, errors.New("it refuses the query: " + answer.Error)
	}
	return answer.Data.Result, nil
}

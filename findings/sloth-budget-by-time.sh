#!/usr/bin/env bash
# One would guess: for an SLO of events ("99.9 % of the requests in 30 days succeed"), Sloth's
# slo:period_error_budget_remaining:ratio is 1 minus failed requests / requests / 0.1 %.
#
# What happens: the rule for the whole period averages the ratios of five-minute windows, each
# with the same weight, however many requests it had. The budget counts bad minutes, not bad
# requests. Two hours of a sale with a tenth of its requests failing spend the requests' budget
# 36 times over, and Sloth reports 72 % of it as left. Two dead hours of a night spend 3 % of
# the requests' budget, and Sloth reports it as spent nearly three times. The comment above the
# generator calls the result "a correct ratio of ratios"; the README of Sloth's sli_rules plugin
# speaks of "reduced accuracy". Its option disableOptimized gives the guessed figures.
#
# Versions: github.com/slok/sloth v0.16.0 (pkg/lib), and the rules evaluated by the query engine
# and storage of github.com/prometheus/prometheus v0.310.0, which Sloth requires.
#
# How it was seen: Sloth generates the rules from an ordinary spec, once by default and once with
# disableOptimized. The script appends 30 days of counters to a Prometheus storage, evaluates
# Sloth's five-minute rule every five minutes and its rules for the period at the end.
#
# Why it matters: the multiwindow alerts divide errors by requests, so the page and the budget
# contradict each other, and a release policy that follows the budget stops after a quiet night
# and goes on after a ruined sale. Period budgets need the sum of errors over the sum of
# requests. Sloth's users report the bias in its issues 241 and 618.
#
# Output seen:
#   sale: 2 h at 200/s, 10 % fail   budget left: disableOptimized  -3478 %, default    72 %
#   night: 2 h at 0.01/s, all fail  budget left: disableOptimized     97 %, default  -178 %
set -euo pipefail

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod

sloth=v0.16.0
prometheus=v0.310.0
cat >go.mod <<MOD
module finding

go 1.26.0

require (
	github.com/prometheus/prometheus $prometheus
	github.com/slok/sloth $sloth
)
MOD

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/slok/sloth/pkg/common/model"
	sloth "github.com/slok/sloth/pkg/lib"
)

const (
	period    = 30 * 24 * time.Hour
	incident  = 2 * time.Hour
	beginning = 20 * 24 * time.Hour // of the incident, after the start

	spec = `
version: prometheus/v1
service: shop
slos:
  - name: availability
    objective: 99.9
    sli:
      events:
        error_query: sum(rate(http_requests_total{code="500"}[{{.window}}]))
        total_query: sum(rate(http_requests_total[{{.window}}]))
    alerting:
      name: ShopAvailability
      page_alert: {}
      ticket_alert: {}
`
	exact = `
slo_plugins:
  chain:
    - id: sloth.dev/core/sli_rules/v1
      config: {disableOptimized: true}
`
)

func main() {
	byDefault, disabled := generate(spec), generate(spec+exact)
	changed := false
	for _, c := range []struct {
		name             string
		rate, failed     float64 // of the incident: requests per second, share of failures
		exact, byDefault float64 // budget left
	}{
		{"sale: 2 h at 200/s, 10 % fail", 200, 0.1, -34.78, 0.72},
		{"night: 2 h at 0.01/s, all fail", 0.01, 1, 0.97, -1.78},
	} {
		exact, defaulted := month(disabled, c.rate, c.failed), month(byDefault, c.rate, c.failed)
		fmt.Printf("%-31s budget left: disableOptimized %6.0f %%, default %5.0f %%\n", c.name, 100*exact, 100*defaulted)
		if math.Abs(exact-c.exact) > 0.05 || math.Abs(defaulted-c.byDefault) > 0.05 {
			fmt.Printf("CHANGED: expected %.0f %% and %.0f %%\n", 100*c.exact, 100*c.byDefault)
			changed = true
		}
	}
	if changed {
		os.Exit(1)
	}
}

func generate(spec string) model.PromSLORules {
	generator, err := sloth.NewPrometheusSLOGenerator(sloth.PrometheusSLOGeneratorConfig{})
	must(err)
	result, err := generator.GenerateFromRaw(context.Background(), []byte(spec))
	must(err)
	return result.SLOResults[0].PrometheusRules
}

// month returns the budget that the rules report as left after 30 days of one request a second
// without errors, but for the incident.
func month(rules model.PromSLORules, rate, failed float64) float64 {
	dir, err := os.MkdirTemp(".", "tsdb")
	must(err)
	db, err := tsdb.Open(dir, nil, nil, tsdb.DefaultOptions(), nil)
	must(err)
	defer db.Close()
	p := prometheus{db: db, engine: promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute})}

	var short, long []rulefmt.Rule
	for _, rule := range rules.SLIErrorRecRules.Rules {
		switch rule.Record {
		case "slo:sli_error:ratio_rate5m":
			short = append(short, rule)
		case "slo:sli_error:ratio_rate30d":
			long = append(long, rule)
		}
	}

	start := time.Unix(1_700_000_000, 0)
	end := start.Add(period)
	var good, bad float64
	for at := start; !at.After(end); at = at.Add(time.Minute) {
		p.append(at, good, "__name__", "http_requests_total", "code", "200")
		p.append(at, bad, "__name__", "http_requests_total", "code", "500")
		since := at.Sub(start)
		if since > 0 && since%(5*time.Minute) == 0 {
			p.record(at, short)
		}
		if since >= beginning && since < beginning+incident {
			good += 60 * rate * (1 - failed)
			bad += 60 * rate * failed
		} else {
			good += 60
		}
	}
	p.record(end, long)
	p.record(end, rules.MetadataRecRules.Rules)

	left := p.query(end, "slo:period_error_budget_remaining:ratio")
	if len(left) != 1 {
		must(fmt.Errorf("expected one series, got %v", left))
	}
	return left[0].F
}

type prometheus struct {
	db     *tsdb.DB
	engine *promql.Engine
}

// record evaluates recording rules in their order and stores what they give.
func (p prometheus) record(at time.Time, rules []rulefmt.Rule) {
	for _, rule := range rules {
		for _, sample := range p.query(at, rule.Expr) {
			pairs := []string{"__name__", rule.Record}
			sample.Metric.Range(func(l labels.Label) {
				if _, overridden := rule.Labels[l.Name]; !overridden && l.Name != "__name__" {
					pairs = append(pairs, l.Name, l.Value)
				}
			})
			for name, value := range rule.Labels {
				pairs = append(pairs, name, value)
			}
			p.append(at, sample.F, pairs...)
		}
	}
}

func (p prometheus) append(at time.Time, value float64, pairs ...string) {
	appender := p.db.Appender(context.Background())
	_, err := appender.Append(0, labels.FromStrings(pairs...), at.UnixMilli(), value)
	must(err)
	must(appender.Commit())
}

func (p prometheus) query(at time.Time, expr string) promql.Vector {
	query, err := p.engine.NewInstantQuery(context.Background(), p.db, nil, expr, at)
	must(err)
	defer query.Close()
	vector, err := query.Exec(context.Background()).Vector()
	must(err)
	return append(promql.Vector(nil), vector...)
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
GO

echo "github.com/slok/sloth $sloth, rules evaluated by github.com/prometheus/prometheus $prometheus"
echo "objective 99.9 % of the events in 30 days, one request a second outside the incident"
go run .

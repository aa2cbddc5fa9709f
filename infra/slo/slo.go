// Package slo holds what a service promises, and everything that follows from it:
// error budgets, the criteria of a canary, and the queries that measure both. It has
// no dependencies, so that every reader of the catalogue may use it.
package slo

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Objectives are the promises of one service. The catalogue reads them from
// apps/NAME/service.yaml; its type has the same fields, so that one converts into the
// other.
type Objectives struct {
	// Availability is the percentage of requests that are answered without a server
	// error (status 500 and above) over AvailabilityWindow. Requests that the client got
	// wrong (status 400 to 499) count neither for nor against it.
	Availability       float64
	AvailabilityWindow time.Duration
	// Latency is the percentage of requests answered within LatencyThreshold, of those
	// that were answered without any error, over LatencyWindow.
	Latency          float64
	LatencyThreshold time.Duration
	LatencyWindow    time.Duration
	// ErrorRate is the percentage of server errors that ErrorRateWindow tolerates.
	ErrorRate       float64
	ErrorRateWindow time.Duration
	// P50 and P99 are what half and 99 of 100 requests stay below.
	P50, P99 time.Duration
	// BaselineRPS is the usual load, in requests per second. The service promises to
	// sustain 1.2 times as much within its other objectives.
	BaselineRPS float64
}

// Windows are the periods that an objective may have.
var Windows = []time.Duration{day, 7 * day, 28 * day, 30 * day}

const day = 24 * time.Hour

// An Indicator tells bad requests from good ones.
type Indicator struct {
	// SlowerThan: a request that took longer is bad. Zero: a server error is bad.
	SlowerThan time.Duration
}

// An Objective is one promise with a budget.
type Objective struct {
	Name      string // availability, latency or error-rate
	Indicator Indicator
	// Tolerated is the share of bad requests, 0 to 1, that Window tolerates.
	Tolerated float64
	Window    time.Duration
}

// Target is the percentage of good requests.
func (o Objective) Target() float64 { return round(100 * (1 - o.Tolerated)) }

// Budget is how long the service could answer nothing but bad requests within Window.
func (o Objective) Budget() time.Duration {
	return time.Duration(math.Round(o.Tolerated * float64(o.Window)))
}

// List is every objective with a budget.
func (o Objectives) List() []Objective {
	return []Objective{
		{"availability", Indicator{}, share(100 - o.Availability), o.AvailabilityWindow},
		{"latency", Indicator{o.LatencyThreshold}, share(100 - o.Latency), o.LatencyWindow},
		{"error-rate", Indicator{}, share(o.ErrorRate), o.ErrorRateWindow},
	}
}

// Criteria are what a canary is judged by: server errors, the latency objective, and
// the 99th percentile.
func (o Objectives) Criteria() []Criterion {
	return []Criterion{
		{"errors", Indicator{}, min(share(o.ErrorRate), share(100-o.Availability))},
		{"latency", Indicator{o.LatencyThreshold}, share(100 - o.Latency)},
		{"p99", Indicator{o.P99}, share(1)},
	}
}

// share turns percent into a share of 1, without the dust of binary fractions:
// 100 - 99.9 is 0.09999999999999432.
func share(percent float64) float64 { return round(percent / 100) }

func round(x float64) float64 { return math.Round(x*1e9) / 1e9 }

// Validate reports everything that is wrong with the objectives, one error per line.
func (o Objectives) Validate() error {
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s %s", field, fmt.Sprintf(format, args...)))
	}
	for _, target := range []struct {
		field   string
		percent float64
	}{{"availability.percent", o.Availability}, {"latency.percent", o.Latency}} {
		if target.percent < 50 || target.percent >= 100 {
			add(target.field, "is %v: use at least 50 and less than 100; a promise of 100 has no budget", target.percent)
		}
	}
	if o.ErrorRate <= 0 || o.ErrorRate > maxTolerated*100 {
		add("errorRate.percent", "is %v: use more than 0 and at most %v", o.ErrorRate, maxTolerated*100)
	}
	if tolerated := share(100 - o.Latency); o.Latency >= 50 && tolerated > maxTolerated {
		add("latency.percent", "is %v: use at least %v, or a canary %d times as slow could not be told from a good one",
			o.Latency, 100-100*maxTolerated, Ratio)
	}
	for _, window := range []struct {
		field string
		value time.Duration
	}{
		{"availability.window", o.AvailabilityWindow}, {"latency.window", o.LatencyWindow},
		{"errorRate.window", o.ErrorRateWindow},
	} {
		if !slices.Contains(Windows, window.value) {
			add(window.field, "is %s: use 24h, 7d, 28d or 30d", Period(window.value))
		}
	}
	switch {
	case o.P50 <= 0:
		add("p50", "is %s: it has to be longer than nothing", o.P50)
	case o.LatencyThreshold < o.P50:
		add("latency.threshold", "is %s, less than p50 (%s)", o.LatencyThreshold, o.P50)
	case o.P99 < o.LatencyThreshold:
		add("p99", "is %s, less than latency.threshold (%s)", o.P99, o.LatencyThreshold)
	}
	if o.BaselineRPS <= 0 {
		add("baselineRPS", "is %v: use requests per second, more than 0", o.BaselineRPS)
	}
	if len(errs) == 0 {
		for _, objective := range o.List() {
			errs = append(errs, objective.checkAlerts())
		}
	}
	return errors.Join(errs...)
}

// Period writes a duration as Prometheus does: in days where it has whole ones (but
// 24h), otherwise as Go does.
func Period(d time.Duration) string {
	if d > day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	if d > 0 && d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

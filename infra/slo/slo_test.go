package slo_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/slo"
)

const day = 24 * time.Hour

// promised are valid objectives.
func promised() slo.Objectives {
	return slo.Objectives{
		Availability: 99.9, AvailabilityWindow: 30 * day, Latency: 95, LatencyThreshold: 200 * time.Millisecond, LatencyWindow: 7 * day,
		ErrorRate: 0.1, ErrorRateWindow: day, P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 10,
	}
}

func TestBudgets(t *testing.T) {
	if err := promised().Validate(); err != nil {
		t.Fatal(err)
	}
	budgets := map[string]time.Duration{
		"availability": 43*time.Minute + 12*time.Second,
		"latency":      8*time.Hour + 24*time.Minute,
		"error-rate":   86*time.Second + 400*time.Millisecond,
	}
	for _, o := range promised().List() {
		if o.Budget() != budgets[o.Name] {
			t.Errorf("the budget of %s is %s, want %s", o.Name, o.Budget(), budgets[o.Name])
		}
	}
	if target := promised().List()[0].Target(); target != 99.9 {
		t.Errorf("the target of availability is %v", target)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for want, change := range map[string]func(*slo.Objectives){
		"availability.percent is 100: ":              func(o *slo.Objectives) { o.Availability = 100 },
		"latency.percent is 0: ":                     func(o *slo.Objectives) { o.Latency = 0 },
		"latency.percent is 80: use at least 81":     func(o *slo.Objectives) { o.Latency = 80 },
		"errorRate.percent is 0: ":                   func(o *slo.Objectives) { o.ErrorRate = 0 },
		"errorRate.percent is 20: ":                  func(o *slo.Objectives) { o.ErrorRate = 20 },
		"availability.window is 1h: use 24h, 7d":     func(o *slo.Objectives) { o.AvailabilityWindow = time.Hour },
		"latency.window is 90d: ":                    func(o *slo.Objectives) { o.LatencyWindow = 90 * day },
		"errorRate.window is 0s: ":                   func(o *slo.Objectives) { o.ErrorRateWindow = 0 },
		"p50 is 0s: ":                                func(o *slo.Objectives) { o.P50 = 0 },
		"latency.threshold is 50ms, less than p50":   func(o *slo.Objectives) { o.LatencyThreshold = 50 * time.Millisecond },
		"p99 is 150ms, less than latency.threshold":  func(o *slo.Objectives) { o.P99 = 150 * time.Millisecond },
		"baselineRPS is -1: use requests per second": func(o *slo.Objectives) { o.BaselineRPS = -1 },
	} {
		o := promised()
		change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error is %v, want one line that begins with %q", err, want)
		}
	}
}

// A burst is a time in which some of all requests are bad, whatever their version.
type burst struct{ from, to, share float64 } // seconds, and 0 to 1

// A canary is walked through 20, 40, 60 and 80 percent of the traffic, 30 seconds each,
// and then waits for a verdict. What is older than the window of the queries does not
// count.
func walk(random *rand.Rand, c slo.Criterion, perSecond, canaryBad, stableBad float64, outage burst) (bad bool, requests float64) {
	interval := slo.Interval.Seconds()
	window := make([]slo.Evidence, int(slo.EvidenceWindow/slo.Interval))
	var sum slo.Evidence
	for look := 0; ; look++ {
		second := float64(look) * interval
		weight := math.Min(0.8, 0.2*(1+math.Floor(second/30)))
		var canary, stable slo.Sample
		for range poisson(random, perSecond*interval) {
			sample, chance := &stable, stableBad
			if random.Float64() < weight {
				sample, chance = &canary, canaryBad
			}
			if second >= outage.from && second < outage.to {
				chance = outage.share
			}
			sample.Total++
			if random.Float64() < chance {
				sample.Bad++
			}
		}
		requests += canary.Total
		oldest := &window[look%len(window)]
		sum = slo.Evidence{Objective: sum.Objective - oldest.Objective, Stable: sum.Stable - oldest.Stable, Relative: sum.Relative - oldest.Relative}
		*oldest = slo.Evidence{}
		c.Add(oldest, canary, stable)
		c.Add(&sum, canary, stable)
		switch against := sum.Against(); {
		case against >= slo.Bad:
			return true, requests
		case c.Needed(against) <= 0 && second >= 4*30:
			return false, requests
		}
	}
}

func poisson(random *rand.Rand, mean float64) int {
	limit, product := math.Exp(-mean), random.Float64()
	n := 0
	for ; product > limit; n++ {
		product *= random.Float64()
	}
	return n
}

func TestVerdictsOnLittleTraffic(t *testing.T) {
	const canaries = 1000
	for _, criterion := range promised().Criteria() {
		tolerated := criterion.Tolerated
		for _, situation := range []struct {
			name                   string
			canary, stable         float64
			outage                 burst
			minAborted, maxAborted float64
		}{
			{"a version as bad as tolerated", tolerated, tolerated, burst{}, 0, 0.01},
			{"a flawless version", 0, 0, burst{}, 0, 0},
			{"a lasting outage of both versions", min(1, 10*tolerated), min(1, 10*tolerated), burst{}, 0, 0.01},
			{"a short outage of both versions", tolerated / 2, tolerated / 2, burst{60, 90, 0.4}, 0, 0.01},
			{"a moment in which nothing answers in time", 0, 0, burst{60, 70, 1}, 0, 0},
			{"five times as bad as tolerated", slo.Ratio * tolerated, tolerated, burst{}, 0.95, 1},
			{"five times as bad, with a flawless stable version", slo.Ratio * tolerated, 0, burst{}, 0.95, 1},
		} {
			random := rand.New(rand.NewPCG(1, 2))
			aborted, requests := 0.0, 0.0
			for i := range canaries {
				// From 0.1 to 5 requests a second.
				perSecond := 0.1 * math.Pow(50, float64(i)/(canaries-1))
				bad, seen := walk(random, criterion, perSecond, situation.canary, situation.stable, situation.outage)
				requests += seen
				if bad {
					aborted++
				}
			}
			share := aborted / canaries
			t.Logf("%s, %s: %.1f %% aborted, after %.0f requests on average", criterion.Name, situation.name, 100*share, requests/canaries)
			if share < situation.minAborted || share > situation.maxAborted {
				t.Errorf("%s, %s: %.1f %% are aborted, want %v to %v", criterion.Name, situation.name, 100*share,
					100*situation.minAborted, 100*situation.maxAborted)
			}
		}
	}
}

func TestTooFewRequestsAreNoVerdict(t *testing.T) {
	errors := promised().Criteria()[0]
	var e slo.Evidence
	errors.Add(&e, slo.Sample{}, slo.Sample{})
	none := errors.Needed(e.Against())
	if e.Against() != 0 || none < 900 || none > 1100 {
		t.Errorf("without a request the evidence is %v and %v requests are needed", e.Against(), none)
	}
	errors.Add(&e, slo.Sample{Bad: 1, Total: 1}, slo.Sample{Total: 4})
	if e.Against() >= slo.Bad || errors.Needed(e.Against()) <= none {
		t.Errorf("one error of one request is evidence %v, with %v requests needed", e.Against(), errors.Needed(e.Against()))
	}
}

func TestAVersionThatAlwaysFailsIsBadAfterTwoIntervals(t *testing.T) {
	for _, c := range promised().Criteria() {
		var e slo.Evidence
		c.Add(&e, slo.Sample{Bad: 100, Total: 100}, slo.Sample{Total: 400})
		if e.Against() >= slo.Bad {
			t.Errorf("%s: one interval is enough for a verdict", c.Name)
		}
		c.Add(&e, slo.Sample{Bad: 100, Total: 100}, slo.Sample{Total: 400})
		if e.Against() < slo.Bad {
			t.Errorf("%s: after two intervals the evidence is %v, less than %v", c.Name, e.Against(), slo.Bad)
		}
	}
}

func TestAlertsFireWhileThereIsBudgetLeft(t *testing.T) {
	for _, window := range slo.Windows {
		o := promised()
		o.AvailabilityWindow, o.LatencyWindow, o.ErrorRateWindow = window, window, window
		if err := o.Validate(); err != nil {
			t.Errorf("over %s: %v", slo.Period(window), err)
		}
		for _, objective := range o.List() {
			for _, a := range objective.Alerts() {
				if a.Burn <= 1 || a.Short >= a.Long || a.Short < time.Minute || a.Long >= window || a.Share(window) > 50 {
					t.Errorf("%s over %s has the alert %+v, at %.0f %% of the budget", objective.Name, slo.Period(window), a, a.Share(window))
				}
			}
		}
	}
	o := promised()
	o.Latency = 92
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "latency: an alert at 14.4 times the allowed rate never fires") {
		t.Errorf("8 %% of slow requests give %v", err)
	}
}

// TestAPauseOfTheStableVersionExcusesNoBadCanary: the criterion is errors, and the stable version
// is not known to keep its objective in this time.
func TestAPauseOfTheStableVersionExcusesNoBadCanary(t *testing.T) {
	c := promised().Criteria()[0]
	var e slo.Evidence
	c.Add(&e, slo.Sample{Total: 100}, slo.Sample{Bad: 400, Total: 400})
	for range 4 {
		c.Add(&e, slo.Sample{Bad: 100, Total: 100}, slo.Sample{Total: 400})
	}
	if e.Against() < slo.Bad {
		t.Errorf("the evidence is %v, less than %v", e.Against(), slo.Bad)
	}
}

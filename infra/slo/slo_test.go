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

// A canary is walked through 20, 40, 60 and 80 percent of the traffic, 30 seconds each,
// and then waits for a verdict.
// What is older than the window of the queries does not count.
func walk(random *rand.Rand, c slo.Criterion, perSecond, canaryBad, stableBad float64) (bad bool, requests float64) {
	const interval = 5 // seconds between two looks
	type both struct{ canary, stable slo.Sample }
	window := make([]both, int(slo.EvidenceWindow.Seconds())/interval)
	var canary, stable slo.Sample
	for look := 0; ; look++ {
		second := float64(look * interval)
		share := math.Min(0.8, 0.2*(1+math.Floor(second/30)))
		now := &window[look%len(window)]
		forget(&canary, now.canary)
		forget(&stable, now.stable)
		*now = both{}
		for range poisson(random, perSecond*interval) {
			sample, chance := &now.stable, stableBad
			if random.Float64() < share {
				sample, chance = &now.canary, canaryBad
			}
			sample.Total++
			if random.Float64() < chance {
				sample.Bad++
			}
		}
		add(&canary, now.canary)
		add(&stable, now.stable)
		switch evidence := c.Evidence(canary, stable); {
		case evidence >= slo.Bad:
			return true, canary.Total
		case c.Needed(evidence) <= 0 && second >= 4*30:
			return false, canary.Total
		}
	}
}

func add(sum *slo.Sample, s slo.Sample) {
	sum.Bad += s.Bad
	sum.Total += s.Total
}

func forget(sum *slo.Sample, s slo.Sample) { add(sum, slo.Sample{Bad: -s.Bad, Total: -s.Total}) }

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
			minAborted, maxAborted float64
		}{
			{"a version as bad as tolerated", tolerated, tolerated, 0, 0.01},
			{"a flawless version", 0, 0, 0, 0},
			{"an outage of both versions", min(1, 10*tolerated), min(1, 10*tolerated), 0, 0.01},
			{"five times as bad as tolerated", slo.Ratio * tolerated, tolerated, 0.95, 1},
			{"five times as bad, with a flawless stable version", slo.Ratio * tolerated, 0, 0.95, 1},
		} {
			random := rand.New(rand.NewPCG(1, 2))
			aborted, requests := 0.0, 0.0
			for i := range canaries {
				// From 0.1 to 5 requests a second.
				perSecond := 0.1 * math.Pow(50, float64(i)/(canaries-1))
				bad, seen := walk(random, criterion, perSecond, situation.canary, situation.stable)
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
	none := errors.Evidence(slo.Sample{}, slo.Sample{})
	if none != 0 || errors.Needed(none) < 900 || errors.Needed(none) > 1100 {
		t.Errorf("without a request the evidence is %v and %v requests are needed", none, errors.Needed(none))
	}
	one := errors.Evidence(slo.Sample{Bad: 1, Total: 1}, slo.Sample{Total: 4})
	if one >= slo.Bad || errors.Needed(one) <= errors.Needed(none) {
		t.Errorf("one error of one request is evidence %v, with %v requests needed", one, errors.Needed(one))
	}
}

func TestAVersionThatAlwaysFailsIsBadWithinTenRequests(t *testing.T) {
	for _, c := range promised().Criteria() {
		if e := c.Evidence(slo.Sample{Bad: 10, Total: 10}, slo.Sample{Total: 40}); e < slo.Bad {
			t.Errorf("%s: 10 bad requests of 10 are evidence %v, less than %v", c.Name, e, slo.Bad)
		}
	}
}

package slo

import (
	"fmt"
	"math"
	"time"
)

// A canary is judged by Wald's sequential probability ratio test (A. Wald, "Sequential
// Tests of Statistical Hypotheses", 1945, https://doi.org/10.1214/aoms/1177731118): a
// verdict comes as soon as the requests seen suffice for it, and not before. The canary
// is compared with its objective: does it fail as often as tolerated, or Ratio times as
// often? Unless the stable version keeps the objective in the same time, the canary is
// compared with it too, and is bad only by both comparisons: an outage that hits both
// versions aborts nothing.
const (
	// Ratio is how many times worse than tolerated a bad version is.
	Ratio = 5
	// FalseAlarm bounds the chance that one criterion aborts a version that is exactly
	// as bad as tolerated; the three criteria together stay below 1 %.
	FalseAlarm = 0.003
	// Miss bounds the chance that one of the two comparisons passes a version Ratio
	// times as bad; both together stay below 5 %.
	Miss = 0.02
	// maxTolerated keeps Ratio times as much a share below 1.
	maxTolerated = 0.19
	// Interval is the time for which requests are weighed together.
	Interval = 10 * time.Second

	// A canary is bad if its containers had at least BadRestarts more restarts within
	// RestartWindow than the stable version's. What a killed process would have answered is in no
	// metric of its own, so the criteria cannot see it. With the kubelet's pauses of 10 and
	// 20 seconds between restarts, the third is there within three minutes if a process
	// lives for less than 50 seconds.
	BadRestarts = 3
	// RestartWindow is longer than a canary with the default weights takes.
	RestartWindow = 10 * time.Minute
)

// Bad and Good are the limits of the evidence, a logarithm of a ratio of likelihoods:
// the version is bad from Bad on, and good down to Good.
var (
	Bad  = math.Log((1 - Miss) / FalseAlarm)
	Good = math.Log(Miss / (1 - FalseAlarm))
)

// perInterval is the most that one Interval can say against a version, and, when both are
// compared, for it. The test takes requests for independent, and those of one moment are
// not: when the machine pauses, twenty are slow at once. So a verdict of bad needs at least
// two intervals, and one pause of the stable version does not excuse a bad canary for long.
var perInterval = Bad / 2

// stableKeeps is the evidence from which on the stable version is taken to keep its
// objective. A short outage must not find it passed already: twice what a canary needs.
var stableKeeps = 2 * Good

// A Criterion is one thing that a canary is judged by.
type Criterion struct {
	Name      string
	Indicator Indicator
	Tolerated float64 // share of bad requests, 0 to 1
}

// Describe says what is tolerated: 0.1 % server errors, 5 % slower than 200ms.
func (c Criterion) Describe() string {
	what := "server errors"
	if c.Indicator.SlowerThan > 0 {
		what = "slower than " + c.Indicator.SlowerThan.String()
	}
	return fmt.Sprintf("%g %% %s", round(100*c.Tolerated), what)
}

// A Sample is what one version answered in one Interval.
type Sample struct{ Bad, Total float64 }

// Evidence is what was seen since a canary began: the sums of what its intervals say. The
// recording rules compute the same.
type Evidence struct {
	// Objective speaks against the canary compared with its objective, Stable against the
	// stable version likewise, and Relative against the canary compared with the stable
	// version.
	Objective, Stable, Relative float64
}

// perBad and perGood are what one request adds to the evidence against the objective.
func (c Criterion) perBad() float64  { return math.Log(Ratio) }
func (c Criterion) perGood() float64 { return math.Log((1 - Ratio*c.Tolerated) / (1 - c.Tolerated)) }

func (c Criterion) objective(s Sample) float64 {
	return math.Min(perInterval, s.Bad*c.perBad()+(s.Total-s.Bad)*c.perGood())
}

// Add weighs what both versions answered in one Interval.
func (c Criterion) Add(e *Evidence, canary, stable Sample) {
	e.Objective += c.objective(canary)
	e.Stable += c.objective(stable)
	// Given how many requests each version had, a bad one comes from the canary with
	// the chance share if both are equal, and Ratio*share if the canary is that much
	// worse (both normalised).
	all := math.Max(canary.Total+stable.Total, tiny)
	weighted := math.Max(Ratio*canary.Total+stable.Total, tiny)
	relative := canary.Bad*math.Log(Ratio*all/weighted) + stable.Bad*math.Log(all/weighted)
	e.Relative += math.Max(-perInterval, math.Min(perInterval, relative))
}

// Against is the evidence that decides.
func (e Evidence) Against() float64 {
	if e.Stable <= stableKeeps {
		return e.Objective
	}
	return math.Min(e.Objective, e.Relative)
}

// tiny keeps a division by no requests from being 0/0.
const tiny = 1e-9

// Needed is how many further good requests make the canary good, rounded up; 0 or less:
// it is.
func (c Criterion) Needed(evidence float64) float64 {
	return math.Ceil((evidence - Good) / -c.perGood())
}

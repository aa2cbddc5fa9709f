package slo

import (
	"fmt"
	"math"
)

// A canary is judged by Wald's sequential probability ratio test (A. Wald, "Sequential
// Tests of Statistical Hypotheses", 1945, https://doi.org/10.1214/aoms/1177731118): a
// verdict comes as soon as the requests seen suffice for it, and not before. The canary
// is compared with its objective: does it fail as often as tolerated, or Ratio times as
// often? Unless the stable version is known to keep the objective over the same time, the
// canary is compared with it too, and is bad only by both comparisons: an outage that
// hits both versions aborts nothing.
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
)

// Bad and Good are the limits of the evidence, a logarithm of a ratio of likelihoods:
// the version is bad from Bad on, and good down to Good.
var (
	Bad  = math.Log((1 - Miss) / FalseAlarm)
	Good = math.Log(Miss / (1 - FalseAlarm))
)

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

// A Sample is what one version answered.
type Sample struct{ Bad, Total float64 }

// perBad and perGood are what one request adds to the evidence against the objective.
func (c Criterion) perBad() float64  { return math.Log(Ratio) }
func (c Criterion) perGood() float64 { return math.Log((1 - Ratio*c.Tolerated) / (1 - c.Tolerated)) }

// objective is the evidence that a version fails Ratio times as often as tolerated.
func (c Criterion) objective(s Sample) float64 { return s.Bad*c.perBad() + (s.Total-s.Bad)*c.perGood() }

// Evidence weighs what both versions answered. The queries compute the same.
func (c Criterion) Evidence(canary, stable Sample) float64 {
	objective := c.objective(canary)
	if c.objective(stable) <= Good {
		return objective
	}
	// Given how many requests each version had, a bad one comes from the canary with
	// the chance share if both are equal, and Ratio*share if the canary is that much
	// worse (both normalised).
	all := math.Max(canary.Total+stable.Total, tiny)
	weighted := math.Max(Ratio*canary.Total+stable.Total, tiny)
	relative := canary.Bad*math.Log(Ratio*all/weighted) + stable.Bad*math.Log(all/weighted)
	return math.Min(objective, relative)
}

// tiny keeps a division by no requests from being 0/0.
const tiny = 1e-9

// Needed is how many further good requests make the canary good, rounded up; 0 or less:
// it is.
func (c Criterion) Needed(evidence float64) float64 {
	return math.Ceil((evidence - Good) / -c.perGood())
}

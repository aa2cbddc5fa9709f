package slo

import (
	"fmt"
	"strconv"
	"time"
)

// Metric is the histogram that every service exposes (apps/internal/server): the
// duration of its requests by outcome, in seconds, without probes. Its series exist with
// the value 0 from a process's start, so that increase() does not miss the first request.
const (
	Metric       = "sli_request_duration_seconds"
	LabelService = "service"
	LabelOutcome = "outcome"
	// OutcomeOK, OutcomeClientError and OutcomeError are statuses below 400, below 500, and
	// the rest.
	OutcomeOK, OutcomeClientError, OutcomeError = "ok", "client_error", "error"
	// LabelVersion tells stable and canary pods apart: it is the hash that Argo Rollouts
	// gives the pods of a version.
	LabelVersion = "rollouts_pod_template_hash"
)

// EvidenceWindow is how far back a canary's requests count, and how much the metrics
// backend has to keep. At 0.1 requests a second a day is enough for a verdict; of versions
// five times as bad as tolerated, a window of 6 hours would let a quarter pass.
const EvidenceWindow = day

// counts are the PromQL expressions of a service's bad and all requests; of selects
// further, and read is a function of a range such as rate.
func (i Indicator) counts(service, of, read, window string) (bad, total string) {
	sum := func(suffix, outcomes, more string) string {
		return fmt.Sprintf(`sum(%s(%s%s{%s=%q,%s=~%q%s%s}[%s]))`,
			read, Metric, suffix, LabelService, service, LabelOutcome, outcomes, of, more, window)
	}
	if i.SlowerThan == 0 {
		return sum("_count", OutcomeError, ""), sum("_count", OutcomeOK+"|"+OutcomeError, "")
	}
	total = sum("_count", OutcomeOK, "")
	return fmt.Sprintf("(%s - %s)", total, sum("_bucket", OutcomeOK, fmt.Sprintf(`,le=%q`, bound(i.SlowerThan)))), total
}

// bound writes a bucket's edge as Prometheus 3 stores it: always with a decimal point.
func bound(d time.Duration) string {
	text := strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	if _, err := strconv.Atoi(text); err == nil {
		text += ".0"
	}
	return text
}

// Prometheus is the PromQL expression of the evidence against a version of a service,
// given the hashes of the canary and of the stable version. Its value is one number.
func (c Criterion) Prometheus(service, canary, stable string) string {
	canaryBad, canaryTotal := c.PrometheusCounts(service, canary)
	stableBad, stableTotal := c.PrometheusCounts(service, stable)
	objective := func(bad, total string) string {
		return fmt.Sprintf("%s * %s + (%s - %s) * %s", bad, number(c.perBad()), total, bad, number(c.perGood()))
	}
	all := fmt.Sprintf("clamp_min(%s + %s, %s)", canaryTotal, stableTotal, number(tiny))
	weighted := fmt.Sprintf("clamp_min(%d * %s + %s, %s)", Ratio, canaryTotal, stableTotal, number(tiny))
	relative := fmt.Sprintf("%s * ln(%d * %s / %s) + %s * ln(%s / %s)",
		canaryBad, Ratio, all, weighted, stableBad, all, weighted)
	// min() takes series, and two without labels would be the same one.
	return fmt.Sprintf(`min((%s) or (label_replace(%s, "against", "stable", "", "") unless on() (%s <= %s)))`,
		objective(canaryBad, canaryTotal), relative, objective(stableBad, stableTotal), number(Good))
}

// PrometheusNeeded is the PromQL expression of how many further good requests make the
// canary good; 0 or less: it is.
func (c Criterion) PrometheusNeeded(service, canary, stable string) string {
	return fmt.Sprintf("ceil((%s - (%s)) / %s)", c.Prometheus(service, canary, stable), number(Good), number(-c.perGood()))
}

// PrometheusCounts are the PromQL expressions of a version's bad and all requests.
func (c Criterion) PrometheusCounts(service, version string) (bad, total string) {
	bad, total = c.Indicator.counts(service, fmt.Sprintf(`,%s=%q`, LabelVersion, version), "increase", Period(EvidenceWindow))
	return orZero(bad), orZero(total)
}

func orZero(expression string) string { return fmt.Sprintf("(%s or vector(0))", expression) }

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

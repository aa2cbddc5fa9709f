package slo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Metric is the histogram that every service exposes (apps/internal/server): the
// duration of its requests by outcome, in seconds, without probes. Its series exist with
// the value 0 from a process's start, so that increase() does not miss the first request.
const (
	Metric       = "sli_request_duration_seconds"
	labelService = "service"
	labelOutcome = "outcome"
	// The outcomes that count: a status below 400, and one of 500 and above.
	outcomeOK, outcomeError = "ok", "error"
	// LabelVersion is the hash that Argo Rollouts gives the pods of a version.
	LabelVersion = "rollouts_pod_template_hash"
	// LabelRole says whether a pod's version is the stable one or the canary.
	LabelRole = "role"
)

// EvidenceWindow is how far back a canary's requests count, and how much the metrics
// backend has to keep. At 0.1 requests a second a day is enough for a verdict; of versions
// five times as bad as tolerated, a window of 6 hours would let a quarter pass.
const EvidenceWindow = day

// counts are the PromQL expressions of a service's bad and all requests: the sums by some
// labels of read, a function such as rate, over a window; where selects further.
func (i Indicator) counts(service, where, read, window, by string) (bad, total string) {
	sum := func(suffix, outcomes, more string) string {
		return fmt.Sprintf(`sum%s(%s(%s%s{%s=%q,%s=~%q%s%s}[%s]))`,
			by, read, Metric, suffix, labelService, service, labelOutcome, outcomes, where, more, window)
	}
	if i.SlowerThan == 0 {
		return sum("_count", outcomeError, ""), sum("_count", outcomeOK+"|"+outcomeError, "")
	}
	total = sum("_count", outcomeOK, "")
	return fmt.Sprintf("(%s - %s)", total, sum("_bucket", outcomeOK, fmt.Sprintf(`,le=%q`, bound(i.SlowerThan)))), total
}

// bound writes a bucket's edge as Prometheus 3 stores it: always with a decimal point.
func bound(d time.Duration) string {
	text := strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
	if _, err := strconv.Atoi(text); err == nil {
		text += ".0"
	}
	return text
}

// A Rule is one of Prometheus's rules: it records a series, or alerts.
type Rule struct {
	Record      string            `json:"record,omitempty"`
	Alert       string            `json:"alert,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// The recorded series, by service, criterion and the canary's hash: what one Interval says.
const (
	recordObjective = "canary:evidence_objective:interval"
	recordStable    = "canary:evidence_stable:interval"
	recordRelative  = "canary:evidence_relative:interval"
	labelCriterion  = "criterion"
)

// Rules record, every Interval, the evidence against a service's canary while there is
// one.
func (c Criterion) Rules(service string) []Rule {
	by := fmt.Sprintf(" by (%s, %s) ", labelService, LabelVersion)
	role := func(name string) string { return fmt.Sprintf(`,%s=%q`, LabelRole, name) }
	bad, total := c.Indicator.counts(service, role("canary"), "increase", Period(Interval), by)
	stableBad, stableTotal := c.Indicator.counts(service, role("stable"), "increase", Period(Interval), " by ("+labelService+") ")
	// The stable version's counts get the canary's hash, and exist only while there is a canary.
	present := fmt.Sprintf(`(count%s(%s_count{%s=%q%s}) > bool 0)`, by, Metric, labelService, service, role("canary"))
	alongside := func(counts string) string {
		return fmt.Sprintf("(%s * on (%s) group_right () %s)", counts, labelService, present)
	}
	stableBad, stableTotal = alongside(stableBad), alongside(stableTotal)

	objective := func(bad, total string) string {
		return fmt.Sprintf("%s * %s + (%s - %s) * %s", bad, number(c.perBad()), total, bad, number(c.perGood()))
	}
	all := fmt.Sprintf("clamp_min(%s + %s, %s)", total, stableTotal, number(tiny))
	weighted := fmt.Sprintf("clamp_min(%d * %s + %s, %s)", Ratio, total, stableTotal, number(tiny))
	relative := fmt.Sprintf("%s * ln(%d * %s / %s) + %s * ln(%s / %s)", bad, Ratio, all, weighted, stableBad, all, weighted)
	rule := func(record, expression string) Rule {
		return Rule{Record: record, Expr: fmt.Sprintf("clamp_max(%s, %s)", expression, number(perInterval)),
			Labels: map[string]string{labelCriterion: c.Name}}
	}
	relative = fmt.Sprintf("clamp_min(%s, %s)", relative, number(-perInterval))
	return []Rule{
		rule(recordObjective, objective(bad, total)), rule(recordStable, objective(stableBad, stableTotal)), rule(recordRelative, relative),
	}
}

// Prometheus is the PromQL expression of the evidence against a version of a service that
// has this hash. Its value is one number.
func (c Criterion) Prometheus(service, hash string) string {
	recorded := func(record string) string {
		return fmt.Sprintf(`(sum(sum_over_time(%s{%s=%q,%s=%q,%s=%q}[%s])) or vector(0))`,
			record, labelService, service, labelCriterion, c.Name, LabelVersion, hash, Period(EvidenceWindow))
	}
	// min() takes series, and two without labels would be the same one.
	return fmt.Sprintf(`min(%s or (label_replace(%s, "against", "stable", "", "") unless on() (%s <= %s)))`,
		recorded(recordObjective), recorded(recordRelative), recorded(recordStable), number(stableKeeps))
}

// PrometheusNeeded is the PromQL expression of how many further good requests make the
// canary good; 0 or less: it is.
func (c Criterion) PrometheusNeeded(service, hash string) string {
	return fmt.Sprintf("ceil((%s - (%s)) / %s)", c.Prometheus(service, hash), number(Good), number(-c.perGood()))
}

// PrometheusCounts are the PromQL expressions of a version's bad and all requests.
func (c Criterion) PrometheusCounts(service, hash string) (bad, total string) {
	bad, total = c.Indicator.counts(service, fmt.Sprintf(`,%s=%q`, LabelVersion, hash), "increase", Period(EvidenceWindow), "")
	return orZero(bad), orZero(total)
}

// PrometheusRestarts is the PromQL expression of how many restarts more than the stable
// version's the containers of a service's version had within RestartWindow. A container that
// restarts stays in its pod, so the start of the process changes within one series.
func PrometheusRestarts(service, hash string) string {
	restarts := func(where string) string {
		return orZero(fmt.Sprintf("sum(changes(process_start_time_seconds{%s}[%s]))", where, Period(RestartWindow)))
	}
	pods := fmt.Sprintf(`pod=~"%s-[0-9a-z]+-[0-9a-z]+"`, service)
	return fmt.Sprintf("%s - %s", restarts(fmt.Sprintf(`%s,%s=%q`, pods, LabelVersion, hash)),
		restarts(fmt.Sprintf(`%s,%s="stable"`, pods, LabelRole)))
}

// PrometheusByRole is the PromQL expression of the share of a service's bad requests over a range,
// for the stable version and for the canary. It has no value without requests.
func (c Criterion) PrometheusByRole(service, window string) string {
	bad, total := c.Indicator.counts(service, "", "rate", window, " by ("+LabelRole+") ")
	return fmt.Sprintf("%s / (%s > 0)", bad, total)
}

func orZero(expression string) string { return fmt.Sprintf("(%s or vector(0))", expression) }

func number(x float64) string {
	text := strconv.FormatFloat(x, 'g', -1, 64)
	if strings.HasPrefix(text, "-") {
		return "(" + text + ")"
	}
	return text
}

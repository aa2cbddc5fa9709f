package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// The metrics NAME, NAME-bad and NAME-total of an AnalysisRun belong together: a
// criterion, and how many of the canary's requests were bad by it. The argument
// NAME-tolerated says what its service tolerates.
const (
	BadSuffix       = "-bad"
	TotalSuffix     = "-total"
	ToleratedSuffix = "-tolerated"
)

// Restarts is the metric of an AnalysisRun that counts how many restarts more than the
// stable version's containers the canary's had.
const Restarts = "restarts"

// measureInterval is the time between two looks at AnalysisRuns: they measure as often.
const measureInterval = 5 * time.Second

// A WaitingError says that a canary is neither good nor bad yet, and goes on waiting.
type WaitingError struct{ sentence string }

func (e *WaitingError) Error() string { return e.sentence }

// measure looks at the AnalysisRuns of an update and remembers what they wait for. If a
// query is refused, which no waiting mends, it aborts the update.
func (w *Watch) measure(ctx context.Context, r *Rollout) error {
	canary := r.Status.Canary
	if now := time.Now(); now.Sub(w.measured) < measureInterval {
		return nil
	} else {
		w.measured = now
	}
	w.waitsFor = ""
	for _, status := range []*AnalysisRunStatus{canary.CurrentBackgroundAnalysisRunStatus, canary.CurrentStepAnalysisRunStatus} {
		if status == nil || ended(status.Status) {
			continue
		}
		run, err := w.Cluster.AnalysisRun(ctx, w.Namespace, status.Name)
		if err != nil {
			w.waitsFor = fmt.Sprintf("AnalysisRun %s cannot be read: %v", status.Name, err)
			return nil
		}
		refused, waits := run.Waiting()
		if refused != "" {
			w.refused = "the metrics backend refuses the query of " + refused
			return w.Cluster.Abort(ctx, w.Namespace, w.Name)
		}
		if len(waits) > 0 {
			w.waitsFor = strings.Join(waits, "; ")
		}
	}
	return nil
}

// Waiting says what a run waits for: an answer of the backend, or more requests. A
// refused query is told apart.
func (run *AnalysisRun) Waiting() (refused string, waits []string) {
	for _, metric := range run.Status.MetricResults {
		if metric.DryRun || ended(metric.Phase) || len(metric.Measurements) == 0 {
			continue
		}
		switch last := metric.Measurements[len(metric.Measurements)-1]; last.Phase {
		case "Error":
			if isRefusal(last.Message) {
				return metric.Name + ": " + last.Message, nil
			}
			return "", []string{"the metrics backend does not answer: " + last.Message}
		case "Inconclusive":
			if needed, err := number(last.Value); err == nil {
				waits = append(waits, fmt.Sprintf("%s needs about %.0f more requests", metric.Name, roundUp(needed)))
			} else {
				waits = append(waits, fmt.Sprintf("%s is %s", metric.Name, last.Value))
			}
		}
	}
	return "", waits
}

// roundUp keeps two digits, so that a line of progress does not change with each request.
func roundUp(n float64) float64 {
	unit := math.Pow(10, max(0, math.Floor(math.Log10(max(n, 1)))-1))
	return math.Ceil(n/unit) * unit
}

// isRefusal tells an answer of a backend that refuses a query from the lack of an
// answer. The first three are the error types of Prometheus's API, the others are how
// Argo Rollouts 1.9.1 reports Datadog's.
func isRefusal(message string) bool {
	for _, start := range []string{
		"bad_data: ", "execution: ", "client_error: ",
		"received non 2xx response code: 40", "received authentication error response code: 40",
	} {
		if strings.HasPrefix(message, start) {
			return true
		}
	}
	return false
}

// number reads the value of a measurement: a number, or a list with one.
func number(value string) (float64, error) {
	var list []float64
	if err := json.Unmarshal([]byte("["+strings.Trim(value, "[]")+"]"), &list); err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, errors.New("not one number")
	}
	return list[0], nil
}

// Reasons says why a run failed, metric by metric.
func (run *AnalysisRun) Reasons() []string {
	var reasons []string
	for _, metric := range run.Status.MetricResults {
		if metric.DryRun || !ended(metric.Phase) || metric.Phase == successful {
			continue
		}
		if counted := run.counted(metric.Name); counted != "" && metric.Phase == "Failed" {
			reasons = append(reasons, counted)
			continue
		}
		if more, err := number(metric.last()); err == nil && metric.Name == Restarts && metric.Phase == "Failed" {
			reasons = append(reasons,
				fmt.Sprintf("restarts: the containers of the new version had %.0f more restarts than those of the stable version", more))
			continue
		}
		reason := fmt.Sprintf("metric %q: %s", metric.Name, metric.Phase)
		if metric.Message != "" {
			reason += ", " + metric.Message
		}
		if value := metric.last(); value != "" {
			reason += fmt.Sprintf(" (last value %s)", value)
		}
		reasons = append(reasons, reason)
	}
	return reasons
}

// counted says how many requests were bad by a criterion, if the run counted them.
func (run *AnalysisRun) counted(name string) string {
	values := map[string]float64{}
	for _, metric := range run.Status.MetricResults {
		if v, err := number(metric.last()); err == nil {
			values[metric.Name] = v
		}
	}
	bad, total := values[name+BadSuffix], values[name+TotalSuffix]
	if total == 0 {
		return ""
	}
	total = max(total, bad) // each is a query of its own, and requests arrive between the two
	text := fmt.Sprintf("%s: %.0f of %.0f requests to the new version are bad (%.1f %%)", name, bad, total, 100*bad/total)
	for _, arg := range run.Spec.Args {
		if arg.Name == name+ToleratedSuffix {
			text += ", tolerated are " + arg.Value
		}
	}
	return text
}

func (m Metric) last() string {
	if n := len(m.Measurements); n > 0 {
		return m.Measurements[n-1].Value
	}
	return ""
}

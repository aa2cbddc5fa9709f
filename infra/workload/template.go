package workload

import (
	"fmt"
	"strings"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"

	"github.com/loja-veloz/platform/infra/validate"
)

// validateTemplate refuses a template that can only pass. What Argo Rollouts 1.9.1 does
// with values and limits was seen by running it.
func (c Canary) validateTemplate(errs *validate.Errors, field string, template *rolloutsv1alpha1.AnalysisTemplate, namespace string) {
	if template == nil {
		errs.Add(field, "is nil")
		return
	}
	if template.Name == "" {
		errs.Add(field, "has no name")
	}
	if template.Namespace != namespace {
		errs.Add(field, "is in namespace %q, not with its Rollout in %q", template.Namespace, namespace)
	}
	if len(template.Spec.Metrics) == 0 {
		errs.Add(field, "has no metrics: it would always pass")
	}
	for _, metric := range template.Spec.Metrics {
		if reason := c.alwaysPasses(metric); reason != "" {
			errs.Add(field, "metric %q %s: it would always pass", metric.Name, reason)
		}
		for _, condition := range []string{metric.SuccessCondition, metric.FailureCondition} {
			for _, function := range []string{"default(", "isNil("} {
				if strings.Contains(condition, function) {
					errs.Add(field, "metric %q asks %s...), which looks at the whole result whatever its argument: use len(result)",
						metric.Name, function)
				}
			}
		}
	}
	for _, dry := range template.Spec.DryRun {
		errs.Add(field, "runs metric %q dry: its failure would abort nothing", dry.MetricName)
	}
}

// duration is how long the steps of a canary take at least.
func (c Canary) duration() time.Duration { return time.Duration(len(c.Weights)) * c.Pause }

// alwaysPasses returns why a metric can never fail; it is empty for a metric that can.
func (c Canary) alwaysPasses(m rolloutsv1alpha1.Metric) string {
	if m.Provider.Job == nil && m.Provider.Kayenta == nil { // these providers decide themselves
		if reason := undecided(m.SuccessCondition, m.FailureCondition); reason != "" {
			return reason
		}
	}
	delay, _ := m.InitialDelay.Duration() // the API server has judged it
	limit, count := 0, 0
	if m.FailureLimit != nil {
		limit = m.FailureLimit.IntValue()
	}
	if m.Count != nil {
		count = m.Count.IntValue()
	} else if m.Interval == "" {
		count = 1
	}
	switch {
	case limit < 0:
		return "has a negative failureLimit, which means unlimited"
	case count > 0 && limit >= count:
		return fmt.Sprintf("tolerates %d failures of %d measurements", limit, count)
	case m.InitialDelay != "" && delay >= c.duration():
		return fmt.Sprintf("has an initialDelay of %s, and the canary's steps take %s", m.InitialDelay, c.duration())
	}
	return ""
}

// undecided returns why two conditions let every value pass; it is empty if they do not.
func undecided(success, failure string) string {
	trivial := strings.ReplaceAll(success, " ", "")
	switch {
	case success == "" && failure == "":
		return "has neither successCondition nor failureCondition"
	case failure == "" && (trivial == "true" || trivial == "1==1" || trivial == "!false"):
		return fmt.Sprintf("has successCondition %q", success)
	case success == "" && strings.TrimSpace(failure) == "false":
		return `has failureCondition "false"`
	case success == "":
		return "has a failureCondition alone, which NaN, the error rate of no requests, does not meet"
	}
	return ""
}

package workload

import (
	"fmt"
	"net/url"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/validate"
)

// Metrics is where the metrics of services are collected.
type Metrics struct {
	// Prometheus is the address that the Rollouts controller queries, http://host:port.
	Prometheus string
	// Collector selects the pods that read /metrics of the service's pods.
	Collector kube.PodSelector
}

func (m *Metrics) validate(errs *validate.Errors) {
	if u, err := url.Parse(m.Prometheus); err != nil || u.Scheme != "http" || u.Port() == "" {
		errs.Add("Metrics.Prometheus", "is %q: use http://host:port", m.Prometheus)
	}
	if m.Collector.TooWide() {
		errs.Add("Metrics.Collector", "has no namespace or no labels: it would admit every pod")
	}
}

const (
	// analysisInterval is the time between two looks at a canary. With 5 seconds between two
	// scrapes, and two intervals of requests that a verdict needs, a version that answers
	// only errors is found within half a minute.
	analysisInterval = rolloutsv1alpha1.DurationString("5s")
	// never is a limit that a canary does not reach: an unreachable backend and too few
	// requests make it wait, for as long as it takes.
	never = 1 << 30

	// canaryHash is the argument of both templates: the hash of the new version's pods.
	canaryHash = "canary-hash"
)

// Both templates, by what they do: watch aborts a bad version at any time, and gate
// lets only a version pass that is known to be good.
func (s *Spec) watchName() string { return s.Service + "-watch" }
func (s *Spec) gateName() string  { return s.Service + "-gate" }

// judged says whether objectives judge the canary, and not the clock alone.
func (s *Spec) judged() bool { return s.Metrics != nil && s.Objectives != nil }

// analysisTemplates are what the controller measures a canary by.
func (s *Spec) analysisTemplates() []kube.Manifest {
	if !s.judged() {
		return nil
	}
	var watch, gate []rolloutsv1alpha1.Metric
	var counts []rolloutsv1alpha1.DryRun
	var limits []rolloutsv1alpha1.Argument
	for _, c := range s.Objectives.Criteria() {
		canary := argument(canaryHash)
		limit := fmt.Sprintf("result[0] >= %g", slo.Bad)
		// A value that is neither (NaN) does not abort; the gate does not let it pass.
		watch = append(watch, s.metric(c.Name, c.Prometheus(s.Service, canary), "!("+limit+")", limit))
		needed := s.metric(c.Name, c.PrometheusNeeded(s.Service, canary), "result[0] <= 0", "false")
		needed.ConsecutiveSuccessLimit = new(intstr.FromInt32(1))
		// A step needs a number of measurements; this one ends with the first success.
		needed.Count = new(intstr.FromInt32(never))
		needed.InconclusiveLimit = new(intstr.FromInt32(never))
		gate = append(gate, needed)
		// What a person reads: they decide nothing.
		tolerated := c.Describe()
		limits = append(limits, rolloutsv1alpha1.Argument{Name: c.Name + rollout.ToleratedSuffix, Value: &tolerated})
		bad, total := c.PrometheusCounts(s.Service, canary)
		for _, count := range [][2]string{{rollout.BadSuffix, bad}, {rollout.TotalSuffix, total}} {
			suffix, query := count[0], count[1]
			watch = append(watch, s.metric(c.Name+suffix, query, "true", ""))
			// The name is a regular expression.
			counts = append(counts, rolloutsv1alpha1.DryRun{MetricName: "^" + c.Name + suffix + "$"})
		}
	}
	limit := fmt.Sprintf("result[0] >= %d", slo.BadRestarts)
	watch = append(watch, s.metric(rollout.Restarts, slo.PrometheusRestarts(s.Service, argument(canaryHash)), "!("+limit+")", limit))
	return []kube.Manifest{
		{Name: "analysis-watch", Object: s.template(s.watchName(), watch, limits, counts)},
		{Name: "analysis-gate", Object: s.template(s.gateName(), gate, nil, nil)},
	}
}

func argument(name string) string { return "{{args." + name + "}}" }

func (s *Spec) template(
	name string, metrics []rolloutsv1alpha1.Metric, args []rolloutsv1alpha1.Argument, dry []rolloutsv1alpha1.DryRun,
) *rolloutsv1alpha1.AnalysisTemplate {
	return &rolloutsv1alpha1.AnalysisTemplate{ObjectMeta: s.meta(name), Spec: rolloutsv1alpha1.AnalysisTemplateSpec{
		Args: append([]rolloutsv1alpha1.Argument{{Name: canaryHash}}, args...), Metrics: metrics, DryRun: dry,
	}}
}

func (s *Spec) metric(name, query, success, failure string) rolloutsv1alpha1.Metric {
	return rolloutsv1alpha1.Metric{
		Name: name, Interval: analysisInterval, SuccessCondition: success, FailureCondition: failure,
		ConsecutiveErrorLimit: new(intstr.FromInt32(never)),
		Provider: rolloutsv1alpha1.MetricProvider{Prometheus: &rolloutsv1alpha1.PrometheusMetric{
			Address: s.Metrics.Prometheus, Query: query,
		}},
	}
}

// versions are the arguments of both templates.
func versions() []rolloutsv1alpha1.AnalysisRunArgument {
	return []rolloutsv1alpha1.AnalysisRunArgument{{
		Name: canaryHash, ValueFrom: &rolloutsv1alpha1.ArgumentValueFrom{PodTemplateHashValue: new(rolloutsv1alpha1.Latest)},
	}}
}

// gate is the step after the last weight.
func (s *Spec) gate() []rolloutsv1alpha1.CanaryStep {
	if !s.judged() {
		return nil
	}
	return []rolloutsv1alpha1.CanaryStep{{Analysis: &rolloutsv1alpha1.RolloutAnalysis{
		Templates: []rolloutsv1alpha1.AnalysisTemplateRef{{TemplateName: s.gateName()}}, Args: versions(),
	}}}
}

// analysis runs in the background from the first weight on.
func (s *Spec) analysis() *rolloutsv1alpha1.RolloutAnalysisBackground {
	background := &rolloutsv1alpha1.RolloutAnalysisBackground{StartingStep: new(int32(1))}
	if s.judged() {
		background.Templates = append(background.Templates, rolloutsv1alpha1.AnalysisTemplateRef{TemplateName: s.watchName()})
		background.Args = versions()
	}
	for _, template := range s.Canary.Analysis {
		background.Templates = append(background.Templates, rolloutsv1alpha1.AnalysisTemplateRef{TemplateName: template.Name})
	}
	if len(background.Templates) == 0 {
		return nil
	}
	return background
}

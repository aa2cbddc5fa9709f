package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/validate"
)

// Chart is embedded in the spec of every component that installs a chart.
type Chart struct {
	// Namespace holds the pods. The component creates it unless it is kube-system.
	Namespace string
	// Replicas is the number of pods of each Deployment that can have more than one; at least 1.
	Replicas int32
	// ChartRepository replaces the chart's own repository: a mirror's URL (https:// or oci://) or
	// a folder with <chart>-<version>.tgz files. Empty uses the chart's own.
	ChartRepository string
	// With SkipAwait an update does not wait until the pods are ready.
	SkipAwait bool
}

// Check records everything that is wrong with the chart's fields.
func (c Chart) Check(errs *validate.Errors) {
	errs.Name("Namespace", c.Namespace)
	errs.Replicas("Replicas", c.Replicas)
	if err := ValidRepository(c.ChartRepository); err != nil {
		errs.Add("ChartRepository", "%s", err)
	}
}

// NewRelease returns the Helm release. timeoutSeconds is how long the pods may take to become
// ready.
func (c Chart) NewRelease(name string, chart charts.Chart, timeoutSeconds int, values any) *Release {
	return &Release{
		Name: name, Namespace: c.Namespace, Chart: chart, Repository: c.ChartRepository, Values: values,
		Atomic: true, SkipAwait: c.SkipAwait, TimeoutSeconds: timeoutSeconds, MaxHistory: 5,
	}
}

// NamespaceStages returns the namespace, which admits only restricted pods, or nothing for
// kube-system.
func (c Chart) NamespaceStages() Stages {
	if c.Namespace == metav1.NamespaceSystem {
		return nil
	}
	return Stages{{{Name: "namespace", Object: RestrictedNamespace(c.Namespace)}}}
}

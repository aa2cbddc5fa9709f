package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/validate"
)

// Chart is what the specification of every component that installs a chart embeds.
type Chart struct {
	// Namespace holds the pods. kube-system exists already; the component creates any other.
	Namespace string
	// Replicas is the number of pods of each Deployment that can have more than one; at least 1.
	Replicas int32
	// ChartRepository replaces the chart's own repository: a mirror's URL (https:// or oci://) or a folder with
	// <chart>-<version>.tgz files. Empty takes the chart's own.
	ChartRepository string
	// SkipAwait returns before the pods are ready.
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

// NewRelease describes the Helm release. The timeout is how long the pods may take to become ready, in seconds.
func (c Chart) NewRelease(name string, chart charts.Chart, timeoutSeconds int, values any) *Release {
	return &Release{
		Name: name, Namespace: c.Namespace, Chart: chart, Repository: c.ChartRepository, Values: values,
		Atomic: true, SkipAwait: c.SkipAwait, TimeoutSeconds: timeoutSeconds, MaxHistory: 5,
	}
}

// NamespaceStages create the namespace, which admits restricted pods only, unless it is kube-system.
func (c Chart) NamespaceStages() Stages {
	if c.Namespace == metav1.NamespaceSystem {
		return nil
	}
	return Stages{{{Name: "namespace", Object: RestrictedNamespace(c.Namespace)}}}
}

package observability

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
)

// MetricsServerReleaseSpec say how to install metrics-server from its chart, in
// clusters whose kubelets' certificates the cluster's CA signed, as EKS's are.
type MetricsServerReleaseSpec struct {
	// Namespace holds metrics-server; kube-system exists, any other is created.
	Namespace string
	// Replicas is the number of pods.
	Replicas int32
	// ChartRepository replaces the chart's own; see kube.Release.
	ChartRepository string
	// SkipAwait does not wait until the pods are ready.
	SkipAwait bool
}

// MetricsServerRelease is the metrics API, installed from the chart.
type MetricsServerRelease struct {
	pulumi.ResourceState
}

// NewMetricsServerRelease installs metrics-server from its chart. Errors name the
// argument that is wrong.
func NewMetricsServerRelease(ctx *pulumi.Context, name string, spec *MetricsServerReleaseSpec, opts ...pulumi.ResourceOption) (*MetricsServerRelease, error) {
	m := &MetricsServerRelease{}
	if _, err := kube.NewChart(ctx, "metrics-server", "loja-veloz:observability:MetricsServerRelease", name, m, spec.Installation, opts); err != nil {
		return nil, err
	}
	return m, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *MetricsServerReleaseSpec) Validate() error {
	var faults []error
	if s.Namespace == "" {
		faults = append(faults, errors.New("Namespace is empty"))
	}
	if s.Replicas < 1 {
		faults = append(faults, fmt.Errorf("Replicas is %d: at least 1 is needed", s.Replicas))
	}
	if err := kube.ValidRepository(s.ChartRepository); err != nil {
		faults = append(faults, fmt.Errorf("ChartRepository %w", err))
	}
	return errors.Join(faults...)
}

// MetricsServerValues are the chart's values, as far as they are used here.
type MetricsServerValues struct {
	Replicas            int32                       `json:"replicas"`
	PodDisruptionBudget MinAvailableBudget          `json:"podDisruptionBudget"`
	Resources           corev1.ResourceRequirements `json:"resources"`
	Metrics             Switch                      `json:"metrics"`
	TLS                 MetricsServerTLS            `json:"tls"`
	APIService          MetricsServerAPIService     `json:"apiService"`
}

// MinAvailableBudget keeps pods during voluntary disruptions.
type MinAvailableBudget struct {
	Enabled      bool  `json:"enabled"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// budgetOf keeps one of several pods. Of one pod it keeps none: it could never
// leave its node.
func budgetOf(replicas int32) MinAvailableBudget {
	if replicas < 2 {
		return MinAvailableBudget{}
	}
	return MinAvailableBudget{Enabled: true, MinAvailable: 1}
}

// Switch turns a part of a chart on or off.
type Switch struct {
	Enabled bool `json:"enabled"`
}

// MetricsServerTLS is whose certificate the server shows.
type MetricsServerTLS struct {
	// Type helm: one that the chart makes, with a CA that the API server is told.
	Type string `json:"type"`
}

// MetricsServerAPIService is how the API server reaches it.
type MetricsServerAPIService struct {
	InsecureSkipTLSVerify bool `json:"insecureSkipTLSVerify"`
}

// Release gives the Helm release, or every reason why not.
func (s *MetricsServerReleaseSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &kube.Release{
		Name: metricsServer, Namespace: s.Namespace,
		Chart: charts.MetricsServer, Repository: s.ChartRepository,
		Values: MetricsServerValues{
			Replicas: s.Replicas, PodDisruptionBudget: budgetOf(s.Replicas),
			Resources:  kube.Sizes(50, 96, 256),
			Metrics:    Switch{Enabled: true},
			TLS:        MetricsServerTLS{Type: "helm"},
			APIService: MetricsServerAPIService{InsecureSkipTLSVerify: false},
		},
		Atomic: true, SkipAwait: s.SkipAwait, TimeoutSeconds: 600, MaxHistory: 5,
	}, nil
}

// Pods are those of the release; nil for arguments that are wrong.
func (s *MetricsServerReleaseSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(MetricsServerValues)
	return []kube.PodSize{kube.SizeOf(metricsServer, v.Replicas, v.Resources)}
}

// Installation gives everything that metrics-server consists of, or every reason
// why not.
func (s *MetricsServerReleaseSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	parts := &kube.Installation{Release: release}
	if s.Namespace != metav1.NamespaceSystem {
		parts.Before = kube.Stages{{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}}}
	}
	return parts, nil
}

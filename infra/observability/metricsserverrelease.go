package observability

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// MetricsServerReleaseSpec says how to install metrics-server from its chart, in clusters whose
// CA signs the kubelets' certificates, such as EKS.
type MetricsServerReleaseSpec struct {
	kube.Chart
}

// MetricsServerRelease is the metrics API, installed from the chart.
type MetricsServerRelease struct {
	pulumi.ResourceState
	kube.Objects
}

// NewMetricsServerRelease installs metrics-server from its chart. Errors name the
// argument that is wrong.
func NewMetricsServerRelease(ctx *pulumi.Context, name string, spec *MetricsServerReleaseSpec,
	opts ...pulumi.ResourceOption) (*MetricsServerRelease, error) {
	m := &MetricsServerRelease{}
	if _, err := kube.NewChart(ctx, "metrics-server", "loja-veloz:observability:MetricsServerRelease", name, m, spec.Installation,
		opts); err != nil {
		return nil, err
	}
	return m, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *MetricsServerReleaseSpec) Validate() error {
	var errs validate.Errors
	s.Check(&errs)
	return errs.Err()
}

// MetricsServerValues are the chart's values, as far as they are used here.
type MetricsServerValues struct {
	Replicas            int32                       `json:"replicas"`
	PodDisruptionBudget MinAvailableBudget          `json:"podDisruptionBudget"`
	Resources           corev1.ResourceRequirements `json:"resources"`
	TLS                 MetricsServerTLS            `json:"tls"`
	APIService          MetricsServerAPIService     `json:"apiService"`
}

// MinAvailableBudget limits the voluntary disruptions of the pods.
type MinAvailableBudget struct {
	Enabled      bool  `json:"enabled"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// budgetOf keeps at least one of several pods. It does not protect a single pod, which could
// then never leave its node.
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

// MetricsServerTLS is the origin of the server's certificate.
type MetricsServerTLS struct {
	// Type is helm: the chart creates the certificate, and its CA is registered with the API
	// server.
	Type string                `json:"type"`
	Helm MetricsServerHelmCert `json:"helm"`
}

// MetricsServerHelmCert is that certificate.
type MetricsServerHelmCert struct {
	// CertDurationDays is how long it is valid. The chart creates it once: an upgrade does not renew it.
	CertDurationDays int `json:"certDurationDays"`
}

// MetricsServerAPIService is how the API server connects to metrics-server.
type MetricsServerAPIService struct {
	InsecureSkipTLSVerify bool `json:"insecureSkipTLSVerify"`
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *MetricsServerReleaseSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s.NewRelease(metricsServer, charts.MetricsServer, 600, MetricsServerValues{
		Replicas: s.Replicas, PodDisruptionBudget: budgetOf(s.Replicas),
		Resources:  kube.Sizes(50, 96, 256),
		TLS:        MetricsServerTLS{Type: "helm", Helm: MetricsServerHelmCert{CertDurationDays: 3650}},
		APIService: MetricsServerAPIService{InsecureSkipTLSVerify: false},
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *MetricsServerReleaseSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(MetricsServerValues)
	return []kube.PodSize{kube.SizeOf(metricsServer, v.Replicas, v.Resources)}
}

// Installation returns everything that metrics-server consists of, or an error that reports
// everything that is wrong.
func (s *MetricsServerReleaseSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	return &kube.Installation{Before: s.NamespaceStages(), Release: release}, nil
}

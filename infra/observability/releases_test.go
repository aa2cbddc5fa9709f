package observability_test

import (
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
)

func datadog() *observability.DatadogSpec {
	return &observability.DatadogSpec{
		Chart: kube.Chart{Namespace: "datadog", Replicas: 2}, Site: "datadoghq.com", ClusterName: "loja-veloz-prod",
		SecretName: "loja-veloz/prod/datadog", Store: "aws-secrets-manager",
	}
}

func metricsServerRelease() *observability.MetricsServerReleaseSpec {
	return &observability.MetricsServerReleaseSpec{Chart: kube.Chart{Namespace: "kube-system", Replicas: 2}}
}

func TestDatadog(t *testing.T) {
	parts, err := datadog().Installation()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "datadog", parts.Objects())
	chartstest.Golden(t, "datadog-values", parts.Release)
}

func TestPods(t *testing.T) {
	pods := append(datadog().Pods(), metricsServerRelease().Pods()...)
	want := []kube.PodSize{
		{Name: "datadog", MilliCPU: 250, MemoryMiB: 352, Daemon: true},
		{Name: "datadog-cluster-agent", Count: 2, MilliCPU: 100, MemoryMiB: 192},
		{Name: "metrics-server", Count: 2, MilliCPU: 50, MemoryMiB: 96},
	}
	if !slices.Equal(pods, want) {
		t.Errorf("pods are %+v", pods)
	}
	if pods := withObjectives().Pods(); !slices.Contains(pods, kube.PodSize{Name: "datadog-operator", Count: 1, MilliCPU: 20, MemoryMiB: 96}) {
		t.Errorf("with objectives the pods are %+v", pods)
	}
	if pods := append((&observability.DatadogSpec{}).Pods(), (&observability.MetricsServerReleaseSpec{}).Pods()...); pods != nil {
		t.Errorf("an invalid spec has the pods %+v", pods)
	}
}

func TestMetricsServerRelease(t *testing.T) {
	release, err := metricsServerRelease().Release()
	if err != nil {
		t.Fatal(err)
	}
	chartstest.Golden(t, "metrics-server-values", release)
	one := metricsServerRelease()
	one.Replicas, one.Namespace = 1, "metrics"
	parts, err := one.Installation()
	if err != nil {
		t.Fatal(err)
	}
	chartstest.Golden(t, "metrics-server-1-values", parts.Release)
	if len(parts.Objects()) != 1 {
		t.Errorf("there are %d objects, want the namespace", len(parts.Objects()))
	}
}

func TestNewReleases(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		if _, err := observability.NewDatadog(ctx, "datadog", withObjectives()); err != nil {
			return err
		}
		_, err := observability.NewMetricsServerRelease(ctx, "metrics", metricsServerRelease())
		return err
	})
	recorder.InOrder(t, map[string][]string{"datadog-release": {"datadog-external-secret"},
		"datadog-external-secret": {"datadog-namespace"}, "datadog-pedidos-latency": {"datadog-release"}})
	recorder.Named(t, "metrics-release")
}

func TestReleaseRefusals(t *testing.T) {
	for want, err := range map[string]error{
		"Namespace is empty":                  (&observability.DatadogSpec{}).Validate(),
		"SecretName is empty":                 (&observability.DatadogSpec{}).Validate(),
		"Store is empty":                      (&observability.DatadogSpec{}).Validate(),
		`Site is ""`:                          (&observability.DatadogSpec{}).Validate(),
		"Replicas is 0: at least 1 is needed": (&observability.DatadogSpec{}).Validate(),
		"Objectives.Environment is empty":     (&observability.DatadogSpec{Objectives: &observability.DatadogObjectives{}}).Validate(),
		`ClusterName is "BAD_name"`:           (&observability.DatadogSpec{ClusterName: "BAD_name"}).Validate(),
		"Replicas is 0":                       (&observability.MetricsServerReleaseSpec{}).Validate(),
		"ChartRepository is":                  (&observability.MetricsServerReleaseSpec{Chart: kube.Chart{ChartRepository: "http://x"}}).Validate(),
	} {
		infratest.Refused(t, err, want)
	}
}

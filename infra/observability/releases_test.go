package observability_test

import (
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/secrets"
)

func datadog() *observability.DatadogSpec {
	return &observability.DatadogSpec{
		Chart: kube.Chart{Namespace: "datadog", Replicas: 2}, Site: "datadoghq.com", ClusterName: "loja-veloz-prod",
		SecretName: "loja-veloz/prod/datadog", SecretVersion: "00000000-0000-4000-8000-000000000001", Store: "aws-secrets-manager",
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

// A pod reads a Secret when it starts, so another version of the keys has to change its template.
func TestAnotherVersionOfTheKeysRestartsWhatReadsThem(t *testing.T) {
	named := func(version string) (secret string, read []string) {
		t.Helper()
		spec := datadog()
		spec.SecretVersion = version
		parts, err := spec.Installation()
		if err != nil {
			t.Fatal(err)
		}
		values := parts.Release.Values.(observability.DatadogValues)
		manifest := parts.Before[1][0]
		if manifest.RetainOnDelete {
			t.Error("a version that nobody reads any more stays in the cluster")
		}
		return manifest.Object.(*secrets.ExternalSecret).Spec.Target.Name, []string{
			values.Datadog.APIKeyExistingSecret, values.Datadog.AppKeyExistingSecret, values.ClusterAgent.TokenExistingSecret,
			values.Operator.APIKeyExistingSecret, values.Operator.AppKeyExistingSecret,
		}
	}
	first, read := named("00000000-0000-4000-8000-000000000001")
	second, readThen := named("00000000-0000-4000-8000-000000000002")
	if first == second {
		t.Errorf("both versions are in the Secret %s", first)
	}
	for i := range read {
		if read[i] != first || readThen[i] != second {
			t.Errorf("reader %d has the Secrets %s and %s, want %s and %s", i, read[i], readThen[i], first, second)
		}
	}
	spec := datadog()
	spec.SecretVersion = "AWSCURRENT"
	infratest.Refused(t, spec.Validate(), `SecretVersion is "AWSCURRENT": use the id of a version`)
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

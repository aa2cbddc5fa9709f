package kube_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

type sampleValues struct {
	Replicas int32             `json:"replicas,omitempty"`
	Enabled  *bool             `json:"enabled,omitempty"`
	Unset    *bool             `json:"unset,omitempty"`
	Service  map[string]string `json:"service,omitempty"`
}

var sampleChart = charts.Chart{Name: "sample", Repository: "https://charts.example.com", Version: "1.2.3"}

func sample() *kube.Release {
	return &kube.Release{
		Name: "sample", Namespace: "apps", Chart: sampleChart,
		Values: sampleValues{Replicas: 2, Enabled: new(false), Service: map[string]string{"type": "ClusterIP"}},
	}
}

// install registers a release through an installation and returns its inputs.
func install(t *testing.T, release *kube.Release) map[string]any {
	t.Helper()
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		component := &pulumi.ResourceState{}
		if err := ctx.RegisterComponentResource("test:index:Component", "sample", component); err != nil {
			return err
		}
		_, _, err := kube.ApplyInstallation(ctx, component, "sample", &kube.Installation{Release: release}, nil)
		return err
	})
	found := recorder.Named(t, "sample-release")
	if found.Type != "kubernetes:helm.sh/v3:Release" {
		t.Errorf("its type is %s", found.Type)
	}
	return found.Inputs
}

func TestAReleaseSendsWhatIsSetAndNothingElse(t *testing.T) {
	want := map[string]any{
		"name": "sample", "namespace": "apps", "chart": "sample", "version": "1.2.3",
		"repositoryOpts": map[string]any{"repo": "https://charts.example.com"},
		"values": map[string]any{
			"replicas": 2.0, "enabled": false, "service": map[string]any{"type": "ClusterIP"},
		},
	}
	if got := install(t, sample()); !reflect.DeepEqual(got, want) {
		t.Errorf("inputs are %v\nwant %v", got, want)
	}
	all := sample()
	all.Atomic, all.SkipAwait, all.TimeoutSeconds, all.MaxHistory = true, true, 600, 5
	got := install(t, all)
	for key, value := range map[string]any{
		"atomic": true, "skipAwait": true, "timeout": 600.0, "maxHistory": 5.0,
	} {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
}

func TestARepositoryIsAMirrorOrAFolder(t *testing.T) {
	for repository, want := range map[string]struct{ chart, repo string }{
		"https://mirror.example.com/charts": {"sample", "https://mirror.example.com/charts"},
		"oci://mirror.example.com/charts/":  {"oci://mirror.example.com/charts/sample", ""},
		"/srv/charts":                       {"/srv/charts/sample-1.2.3.tgz", ""},
		"./charts":                          {"./charts/sample-1.2.3.tgz", ""},
	} {
		release := sample()
		release.Repository = repository
		inputs := install(t, release)
		opts, _ := inputs["repositoryOpts"].(map[string]any)
		if inputs["chart"] != want.chart || (want.repo == "") != (opts == nil) || (opts != nil && opts["repo"] != want.repo) {
			t.Errorf("%s results in chart %v with %v", repository, inputs["chart"], opts)
		}
		if inputs["version"] != "1.2.3" {
			t.Errorf("%s loses the version", repository)
		}
	}
}

func TestOverlaysLieOverValues(t *testing.T) {
	release := sample()
	release.Overlays = []kube.Overlay{{Path: []string{"service", "vpc"}, Value: pulumi.String("vpc-1").ToStringOutput()}}
	values, _ := install(t, release)["values"].(map[string]any)
	if service, _ := values["service"].(map[string]any); service["vpc"] != "vpc-1" || service["type"] != "ClusterIP" {
		t.Errorf("values are %v", values)
	}
	rendered, err := release.RenderedValues()
	if err != nil {
		t.Fatal(err)
	}
	if service, _ := rendered["service"].(map[string]any); service["vpc"] != "(known after another resource)" {
		t.Errorf("rendered values are %v", rendered)
	}
}

func TestAReleaseReportsEveryError(t *testing.T) {
	for want, wrong := range map[string]kube.Release{
		"Name is empty":             {},
		"Namespace is empty":        {},
		`Chart is "" at version ""`: {},
		"the chart has none":        {},
		"Name has 54 characters":    {Name: strings.Repeat("x", 54)},
		"use https://":              {Repository: "http://charts.example.com"},
		"without credentials":       {Repository: "https://user:word@charts.example.com"},
		"TimeoutSeconds is -1":      {TimeoutSeconds: -1},
	} {
		if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	if err := sample().Validate(); err != nil {
		t.Error(err)
	}
}

func TestAnInstallationGoesInOrder(t *testing.T) {
	object := func(name string) kube.Manifest {
		return kube.Manifest{Name: name, Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}}
	}
	parts := &kube.Installation{
		Before: kube.Stages{{object("first")}, {object("second")}}, Release: sample(), After: kube.Stages{{object("last")}},
	}
	program := func(ctx *pulumi.Context) error {
		component := &pulumi.ResourceState{}
		if err := ctx.RegisterComponentResource("test:index:Component", "sample", component); err != nil {
			return err
		}
		_, _, err := kube.ApplyInstallation(ctx, component, "sample", parts, nil)
		return err
	}
	recorder, err := infratest.Run(true, program)
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	recorder.InOrder(t, map[string][]string{
		"sample-second": {"sample-first"}, "sample-release": {"sample-second"}, "sample-last": {"sample-release"},
	})
}

func TestSizesAddUp(t *testing.T) {
	half := kube.Sizes(30, 10, 20)
	half.Requests[corev1.ResourceMemory] = resource.MustParse("1500Ki")
	got := kube.SizeOf("pods", 3, kube.Sizes(100, 64, 128), half, corev1.ResourceRequirements{})
	if want := (kube.PodSize{Name: "pods", Count: 3, MilliCPU: 130, MemoryMiB: 66}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

package observability_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/observability"
)

func TestMetricsServerObjects(t *testing.T) {
	stages, err := (&observability.MetricsServerSpec{Namespace: "kube-system"}).Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "metrics-server", stages.All())
}

func TestKubeletsAreVerifiedUnlessToldOtherwise(t *testing.T) {
	for insecure, want := range map[bool]string{
		false: "--kubelet-certificate-authority=/etc/kubelet-ca/ca.crt",
		true:  "--kubelet-insecure-tls",
	} {
		stages, err := (&observability.MetricsServerSpec{Namespace: "kube-system", KubeletInsecureTLS: insecure}).Stages()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range stages.All() {
			deployment, ok := m.Object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			pod := deployment.Spec.Template.Spec
			if !slices.Contains(pod.Containers[0].Args, want) {
				t.Errorf("insecure %t: arguments are %q", insecure, pod.Containers[0].Args)
			}
			if mounted := len(pod.Volumes) == 2; mounted == insecure {
				t.Errorf("insecure %t: %d volumes are mounted", insecure, len(pod.Volumes))
			}
		}
	}
}

func TestNewMetricsServer(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := observability.NewMetricsServer(ctx, "metrics", &observability.MetricsServerSpec{Namespace: "kube-system"})
		return err
	})
	if !recorder.Waits(t, "metrics-api", "metrics-deployment") {
		t.Error("the API is registered before the server exists, and outlives it")
	}
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := observability.NewMetricsServer(ctx, "metrics", &observability.MetricsServerSpec{})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "Namespace is empty") {
		t.Errorf("without a namespace: %v", err)
	}
}

package autoscaling_test

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

func args() *autoscaling.Spec {
	return &autoscaling.Spec{Chart: kube.Chart{Namespace: "cluster-autoscaler", Replicas: 2}, ClusterName: "loja-veloz-dev",
		KubernetesVersion: "1.33", Region: "us-east-1"}
}

func TestValues(t *testing.T) {
	release, err := args().Release()
	if err != nil {
		t.Fatal(err)
	}
	chartstest.Golden(t, "values", release)
}

func TestTheImageMatchesTheClustersVersion(t *testing.T) {
	next := args()
	next.KubernetesVersion = "1.34"
	release, err := next.Release()
	if err != nil {
		t.Fatal(err)
	}
	if tag := release.Values.(autoscaling.Values).Image.Tag; !strings.HasPrefix(tag, "v1.34.") {
		t.Errorf("the tag is %s", tag)
	}
}

func TestPods(t *testing.T) {
	pods := args().Pods()
	if len(pods) != 1 || pods[0] != (kube.PodSize{Name: "cluster-autoscaler", Count: 2, MilliCPU: 50, MemoryMiB: 128}) {
		t.Errorf("pods are %+v", pods)
	}
	if pods := (&autoscaling.Spec{}).Pods(); pods != nil {
		t.Errorf("an invalid spec has the pods %+v", pods)
	}
}

func TestNew(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := autoscaling.New(ctx, "nodes", args())
		return err
	})
	if !recorder.Waits(t, "nodes-release", "nodes-namespace") {
		t.Error("the release does not wait for its namespace")
	}
}

func TestRefusals(t *testing.T) {
	err := (&autoscaling.Spec{Chart: kube.Chart{ChartRepository: "ftp://x"}}).Validate()
	infratest.Refused(t, err, "Namespace is empty", "ClusterName is empty", "Region is empty",
		`KubernetesVersion is "": there are autoscalers for 1.33, 1.34, 1.35, 1.36`, "Replicas is 0", "ChartRepository is")
	system := args()
	system.Namespace = "kube-system"
	if parts, err := system.Installation(); err != nil || len(parts.Objects()) != 0 {
		t.Errorf("kube-system would be created (%v)", err)
	}
}

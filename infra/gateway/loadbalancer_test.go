package gateway_test

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

const vpc = pulumi.String("vpc-1")

func loadBalancer() *gateway.LoadBalancerSpec {
	return &gateway.LoadBalancerSpec{
		Chart: kube.Chart{Namespace: "aws-load-balancer", Replicas: 2}, ClusterName: "loja-veloz-dev", Region: "us-east-1",
	}
}

func TestLoadBalancer(t *testing.T) {
	parts, err := loadBalancer().Installation(vpc)
	if err != nil {
		t.Fatal(err)
	}
	chartstest.Golden(t, "loadbalancer-values", parts.Release)
	if len(parts.Objects()) != 1 {
		t.Errorf("there are %d objects, want the namespace", len(parts.Objects()))
	}
	system := loadBalancer()
	system.Namespace = "kube-system"
	if parts, err = system.Installation(vpc); err != nil || len(parts.Objects()) != 0 {
		t.Errorf("kube-system would be created (%v)", err)
	}
}

func TestNewLoadBalancer(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := gateway.NewLoadBalancer(ctx, "balancer", loadBalancer(), vpc)
		return err
	})
	if values, _ := recorder.Named(t, "balancer-release").Inputs["values"].(map[string]any); values["vpcId"] != "vpc-1" {
		t.Errorf("the VPC is %v", values["vpcId"])
	}
}

func TestLoadBalancerRefusals(t *testing.T) {
	_, err := (&gateway.LoadBalancerSpec{Chart: kube.Chart{ChartRepository: "http://x"}}).Installation(nil)
	infratest.Refused(t, err,
		"Namespace is empty", "ClusterName is empty", "Region is empty", "VPCID is missing", "Replicas is 0", "ChartRepository is",
	)
}

func TestLoadBalancerPods(t *testing.T) {
	args := &gateway.LoadBalancerSpec{Chart: kube.Chart{Namespace: "kube-system", Replicas: 2}, ClusterName: "loja-veloz-dev",
		Region: "us-east-1"}
	pods := args.Pods()
	if len(pods) != 1 || pods[0].Count != 2 || pods[0].MilliCPU != 50 || pods[0].MemoryMiB != 96 {
		t.Errorf("pods are %+v", pods)
	}
	if pods := (&gateway.LoadBalancerSpec{}).Pods(); pods != nil {
		t.Errorf("an invalid spec has the pods %+v", pods)
	}
}

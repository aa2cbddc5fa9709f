package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// corrected runs on the resources that pulumi-eks registers in a process of its own; Pulumi's mocks
// run no transforms.
func correct(t *testing.T, spec *Spec, token, name string) *pulumi.ResourceTransformResult {
	t.Helper()
	b := &builder{name: "cluster", spec: spec}
	return b.corrected(t.Context(), &pulumi.ResourceTransformArgs{Type: token, Name: name, Props: pulumi.Map{}})
}

func TestProtectionCoversTheClusterAlone(t *testing.T) {
	spec := &Spec{Protect: true}
	for token, want := range map[string]bool{
		"aws:eks/cluster:Cluster": true, "aws:eks/accessEntry:AccessEntry": false,
		"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": false, "pulumi:providers:kubernetes": false,
	} {
		if got := correct(t, spec, token, "cluster-eks-x"); got == nil || got.Opts.Protect != want {
			t.Errorf("%s: %+v, want it protected: %t", token, got, want)
		}
	}
	if correct(t, spec, "aws:ec2/securityGroupRule:SecurityGroupRule", "rule") != nil {
		t.Error("a rule of a security group is changed")
	}
	if correct(t, &Spec{}, "aws:eks/cluster:Cluster", "cluster-eks-x").Opts.Protect {
		t.Error("the cluster of an unprotected environment is protected")
	}
}

func TestExtendedSupportHasToBeAskedFor(t *testing.T) {
	for extended, want := range map[bool]string{false: "STANDARD", true: "EXTENDED"} {
		got := correct(t, &Spec{ExtendedSupport: extended}, "aws:eks/cluster:Cluster", "cluster-eks-x").Props["upgradePolicy"]
		if fmt.Sprint(got) != fmt.Sprint(pulumi.Map{"supportType": pulumi.String(want)}) {
			t.Errorf("extended support %t: the policy is %v", extended, got)
		}
	}
}

// TestAccessEntriesKeepTheirState: the names are those until November 2026.
func TestAccessEntriesKeepTheirState(t *testing.T) {
	for token, names := range map[string][]string{
		"aws:eks/accessEntry:AccessEntry": {"cluster-eks-1-ops", "cluster-eks-admin-1-ops", "cluster-eks-viewer-1-ops"},
		"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
			"cluster-eks-1-ops-access", "cluster-eks-admin-1-ops-admin", "cluster-eks-viewer-1-ops-viewer"},
	} {
		var former []string
		for _, alias := range correct(t, &Spec{}, token, names[0]).Opts.Aliases {
			former = append(former, string(alias.Name.(pulumi.String)))
		}
		if !slices.Equal(former, names[1:]) {
			t.Errorf("%s was %v", names[0], former)
		}
	}
}

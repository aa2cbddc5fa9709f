package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/cluster"
)

func TestSupportByDate(t *testing.T) {
	for name, test := range map[string]struct {
		version  string
		extended bool
		on       string
		want     string
	}{
		"long before the end":        {"1.35", false, "2026-11-29", ""},
		"91 days before":             {"1.35", false, "2026-12-26", ""},
		"90 days before":             {"1.35", false, "2026-12-27", "ends on 2027-03-27: EKS upgrades the cluster by itself then"},
		"90 days before, to be paid": {"1.35", true, "2026-12-27", "from then on the control plane costs 0.60 instead of 0.10"},
		"the last day":               {"1.34", false, "2026-12-01", "ends on 2026-12-02"},
		"ended":                      {"1.34", false, "2026-12-02", "ended on 2026-12-02: EKS has upgraded a cluster that had it"},
		"ended, and paid":            {"1.33", true, "2026-11-29", "since 2026-07-29: the control plane costs 0.60 instead of 0.10"},
		"out of all support":         {"1.33", true, "2027-07-29", "out of all support since 2027-07-29"},
		"unknown":                    {"1.12", false, "2026-11-29", ""},
	} {
		on, err := time.Parse("2006-01-02", test.on)
		if err != nil {
			t.Fatal(err)
		}
		if got := cluster.Support(test.version, test.extended, on); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: the warning is %q, want %q", name, got, test.want)
		}
	}
}

// TestEveryVersionHasAddons: a version without one would install EKS's choice of the day.
func TestEveryVersionHasAddons(t *testing.T) {
	if got := strings.Join(cluster.Versions(), " "); got != "1.33 1.34 1.35 1.36" {
		t.Errorf("supported are %s", got)
	}
	for _, version := range cluster.Versions() {
		a := args()
		a.Version, a.Nodes.Release, a.VolumeDriver = version, "", true
		mocks := run(t, a, nil)
		for _, name := range []string{"vpc-cni", "eks-pod-identity-agent", "coredns", "kube-proxy", "aws-ebs-csi-driver"} {
			pinned, _ := mocks.Named(t, "eks-addon-"+name).Inputs["addonVersion"].(string)
			if !strings.Contains(pinned, "-eksbuild.") || name == "kube-proxy" && !strings.HasPrefix(pinned, "v"+version+".") {
				t.Errorf("with Kubernetes %s %s is %q", version, name, pinned)
			}
		}
	}
}

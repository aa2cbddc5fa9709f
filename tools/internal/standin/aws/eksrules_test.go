package aws

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

type inputs = map[string]any

func scaling(least, wanted, most int) inputs {
	return inputs{"scalingConfig": inputs{"minSize": least, "desiredSize": wanted, "maxSize": most}}
}

// eksCases has what each rule accepts and what it refuses.
var eksCases = map[string][]struct {
	on                   string
	old, inputs, cluster inputs
	want                 string // "" is accepted
}{
	"a version that EKS has": {
		{inputs: inputs{"version": "1.35"}},
		{inputs: inputs{"version": "1.33"}},
		{inputs: inputs{"version": "1.37"}, want: "unsupported Kubernetes version 1.37"},
		{inputs: inputs{"version": "1.31"}, want: "out of all support since 2026-11-26"},
		{on: "2027-07-29", inputs: inputs{"version": "1.33"}, want: "out of all support since 2027-07-29"},
	},
	"standard support": {
		{inputs: inputs{"version": "1.35", "upgradePolicy": inputs{"supportType": "STANDARD"}}},
		{inputs: inputs{"version": "1.33", "upgradePolicy": inputs{"supportType": "EXTENDED"}}},
		{on: "2026-12-01", inputs: inputs{"version": "1.34", "upgradePolicy": inputs{"supportType": "STANDARD"}}},
		{inputs: inputs{"version": "1.33", "upgradePolicy": inputs{"supportType": "STANDARD"}}, want: "standard support of Kubernetes 1.33 ended"},
		{on: "2026-12-02", inputs: inputs{"version": "1.34", "upgradePolicy": inputs{"supportType": "STANDARD"}}, want: "ended on 2026-12-02"},
	},
	"one minor at a time": {
		{old: inputs{"version": "1.33"}, inputs: inputs{"version": "1.34"}},
		{inputs: inputs{"version": "1.36"}},
		{old: inputs{"version": "1.33"}, inputs: inputs{"version": "1.35"}, want: "the next is 1.34"},
		{old: inputs{"version": "1.35"}, inputs: inputs{"version": "1.34"}, want: "cannot downgrade from 1.35 to 1.34"},
	},
	"an add-on of the version": {
		{inputs: inputs{"addonName": "kube-proxy", "addonVersion": "v1.35.3-eksbuild.21"}, cluster: inputs{"version": "1.35"}},
		{inputs: inputs{"addonName": "coredns", "addonVersion": "v1.12.4-eksbuild.29"}, cluster: inputs{"version": "1.34"}},
		{old: inputs{"addonVersion": "v1.12.4-eksbuild.29"}, inputs: inputs{"addonName": "coredns", "addonVersion": "v1.12.4-eksbuild.29"},
			cluster: inputs{"version": "1.35"}},
		{inputs: inputs{"addonName": "coredns", "addonVersion": "v1.12.4-eksbuild.29"}, cluster: inputs{"version": "1.35"},
			want: "coredns v1.12.4-eksbuild.29 is not supported in Kubernetes 1.35"},
		{inputs: inputs{"addonName": "kube-proxy", "addonVersion": "v1.33.10-eksbuild.21"}, cluster: inputs{"version": "1.34"},
			want: "not supported in Kubernetes 1.34"},
	},
	"minimum, desired, maximum": {
		{inputs: scaling(3, 3, 6)},
		{inputs: scaling(4, 3, 6), want: "minimum capacity 4 can't be greater than desired size 3"},
		{inputs: scaling(1, 7, 6), want: "desired capacity 7 can't be greater than max size 6"},
	},
	"nodes not newer than their cluster": {
		{inputs: inputs{"version": "1.33"}, cluster: inputs{"version": "1.36"}},
		{inputs: inputs{"version": "1.35"}, cluster: inputs{"version": "1.34"}, want: "newer than their cluster of 1.34"},
		{inputs: inputs{"version": "1.32"}, cluster: inputs{"version": "1.36"}, want: "too old"},
	},
	"an image of the processor": {
		{inputs: inputs{"amiType": "AL2023_x86_64_STANDARD", "instanceTypes": []any{"t3.medium", "m7i.large"}}},
		{inputs: inputs{"amiType": "AL2023_ARM_64_STANDARD", "instanceTypes": []any{"t4g.medium", "c7gn.large"}}},
		{inputs: inputs{"amiType": "AL2023_x86_64_STANDARD", "instanceTypes": []any{"g4dn.xlarge"}}}, // g is a family here
		{inputs: inputs{"amiType": "AL2023_x86_64_STANDARD", "instanceTypes": []any{"t3.medium", "t4g.medium"}},
			want: "[t4g.medium] is not a valid instance type for requested amiType AL2023_x86_64_STANDARD"},
		{inputs: inputs{"amiType": "AL2023_ARM_64_STANDARD", "instanceTypes": []any{"t3.medium"}}, want: "[t3.medium] is not a valid"},
	},
	"an image of the version": {
		{inputs: inputs{"version": "1.35", "releaseVersion": "1.35.6-20260818"}},
		{inputs: inputs{"version": "1.35"}},
		{inputs: inputs{"version": "1.35", "releaseVersion": "1.34.9-20260818"}, want: "1.34.9-20260818 is not valid for Kubernetes 1.35"},
	},
}

func TestEKSRules(t *testing.T) {
	for _, rule := range eksRules {
		accepted, refused := 0, 0
		if rule.source == "" || rule.read == "" {
			t.Errorf("%s: no source, or no date", rule.name)
		}
		for _, c := range eksCases[rule.name] {
			day := c.on
			if day == "" {
				day = "2026-11-29"
			}
			on, err := time.Parse("2006-01-02", day)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, refusal := range RefuseEKS(Situation{
				Type: rule.token, Inputs: resource.NewPropertyMapFromMap(c.inputs), On: on,
				Old: resource.NewPropertyMapFromMap(c.old), Cluster: resource.NewPropertyMapFromMap(c.cluster),
			}) {
				got += refusal.Path + ": " + refusal.Reason
			}
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s: %v after %v on %s gives %q, want %q", rule.name, c.inputs, c.old, day, got, c.want)
			}
			if c.want == "" {
				accepted++
			} else {
				refused++
			}
		}
		if accepted == 0 || refused == 0 {
			t.Errorf("%s: %d inputs are accepted and %d refused", rule.name, accepted, refused)
		}
	}
	if len(eksCases) != len(eksRules) {
		t.Errorf("there are %d rules, and cases of %d", len(eksRules), len(eksCases))
	}
}

func TestEKSRulesNameInputs(t *testing.T) {
	for _, rule := range eksRules {
		if !hasInput(known(t, rule.token), rule.path) {
			t.Errorf("%s has no input %s", rule.token, rule.path)
		}
	}
	for _, path := range []string{"scalingConfig.minSize", "scalingConfig.desiredSize", "scalingConfig.maxSize"} {
		if !hasInput(known(t, NodeGroup), path) {
			t.Errorf("a node group has no input %s", path)
		}
	}
}

// The program chooses the nodes' image by the same expression, in infra, which is another module.
func TestTheProgramKnowsTheSameGraviton(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "infra", "cluster", "nodes.go"))
	if err != nil {
		t.Fatal(err)
	}
	if line := "var graviton = regexp.MustCompile(`" + graviton.String() + "`)\n"; !strings.Contains(string(text), line) {
		t.Errorf("infra/cluster does not have %s", line)
	}
	for instance, want := range map[string]bool{"t4g.medium": true, "c7gd.large": true, "g5.xlarge": false, "t3.medium": false, "m6i.large": false} {
		if ARM(instance) != want {
			t.Errorf("%s is of arm64: %v", instance, !want)
		}
	}
}

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImportGraph keeps the program's compile time in hand. Two thirds of it are
// Pulumi's SDK (which grew by 136 packages between v3.220 and v3.258) and the
// standard library. What costs the most is named; the bound on the number, 793
// packages when it was set, catches the rest.
func TestImportGraph(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "github.com/pulumi/pulumi/sdk/v3/go/pulumi") {
		t.Fatal("go list does not show the program's imports")
	}
	const pulumiKubernetes = "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	// pulumi-eks brings three API packages along, for outputs that nobody here
	// reads: 108 of the 440 CPU seconds of the whole.
	allowed := []string{pulumiKubernetes, pulumiKubernetes + "/utilities", pulumiKubernetes + "/core/v1", pulumiKubernetes + "/meta/v1", pulumiKubernetes + "/storage/v1"}
	for _, path := range packages {
		switch {
		case strings.HasPrefix(path, pulumiKubernetes) && !slices.Contains(allowed, path):
			t.Errorf("%s is imported: infra/kube registers objects without pulumi-kubernetes' API packages", path)
		case strings.HasPrefix(path, "k8s.io/client-go/kubernetes"), strings.HasPrefix(path, "k8s.io/client-go/informers"):
			t.Errorf("%s is imported: it registers every API group of Kubernetes", path)
		case strings.HasPrefix(path, "github.com/traefik/"), strings.HasPrefix(path, "sigs.k8s.io/controller-runtime"),
			strings.HasPrefix(path, "github.com/argoproj/argo-rollouts/utils"), strings.HasPrefix(path, "github.com/pulumi/pulumi/pkg"):
			t.Errorf("%s is imported: it brings its whole program along", path)
		}
	}
	const most = 800
	if len(packages) > most {
		t.Errorf("%d packages are compiled, more than %d: find out which came and what they cost", len(packages), most)
	}
}

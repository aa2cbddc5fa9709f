package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImportGraph limits the program's compile time. Two thirds of it are Pulumi's SDK and the
// standard library. The test refuses the most expensive imports by name, and others by a limit
// on their number. The SDK of AWS is only in command aws.
func TestImportGraph(t *testing.T) {
	packages := imports(t, ".")
	if !slices.Contains(packages, "github.com/pulumi/pulumi/sdk/v3/go/pulumi") {
		t.Fatal("go list does not show the program's imports")
	}
	for _, path := range packages {
		if strings.HasPrefix(path, "github.com/pulumi/pulumi-aws") || strings.HasPrefix(path, "github.com/pulumi/pulumi-eks") {
			t.Errorf("%s is imported: only command aws may", path)
		}
	}
	const kubernetes = "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	checkImports(t, packages, []string{kubernetes, kubernetes + "/utilities"})
	const maxPackages = 776
	if len(packages) > maxPackages {
		t.Errorf("%d packages are compiled, more than %d: find out which are new and what they cost", len(packages), maxPackages)
	}
}

func TestImportGraphOfAWS(t *testing.T) {
	packages := imports(t, "./aws")
	if !slices.Contains(packages, "github.com/pulumi/pulumi-eks/sdk/v2/go/eks") {
		t.Fatal("go list does not show the program's imports")
	}
	const kubernetes = "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	// pulumi-eks imports three API packages for outputs that we do not read; they take a quarter
	// of the CPU seconds of the build.
	checkImports(t, packages, []string{
		kubernetes, kubernetes + "/utilities", kubernetes + "/core/v1", kubernetes + "/meta/v1", kubernetes + "/storage/v1",
	})
	const maxPackages = 810
	if len(packages) > maxPackages {
		t.Errorf("%d packages are compiled, more than %d: find out which are new and what they cost", len(packages), maxPackages)
	}
}

func imports(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", program).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Fields(string(out))
}

// checkImports refuses packages that import a whole program or every API group of Kubernetes.
func checkImports(t *testing.T, packages, allowed []string) {
	t.Helper()
	for _, path := range packages {
		switch {
		case strings.HasPrefix(path, allowed[0]) && !slices.Contains(allowed, path):
			t.Errorf("%s is imported: infra/kube registers objects without pulumi-kubernetes' API packages", path)
		case strings.HasPrefix(path, "k8s.io/client-go/kubernetes"), strings.HasPrefix(path, "k8s.io/client-go/informers"):
			t.Errorf("%s is imported: it registers every API group of Kubernetes", path)
		case strings.HasPrefix(path, "github.com/traefik/"), strings.HasPrefix(path, "sigs.k8s.io/controller-runtime"),
			strings.HasPrefix(path, "github.com/argoproj/argo-rollouts/utils"), strings.HasPrefix(path, "github.com/pulumi/pulumi/pkg"):
			t.Errorf("%s is imported: it imports its whole program", path)
		}
	}
}

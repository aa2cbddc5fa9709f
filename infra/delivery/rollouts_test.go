package delivery_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
)

func args() *delivery.RolloutsSpec {
	return &delivery.RolloutsSpec{Namespace: "argo-rollouts", WeightRules: gateway.TraefikRouter{}.WeightRules(), Replicas: 1}
}

func TestRolloutsObjects(t *testing.T) {
	stages, err := args().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "rollouts", stages.All())
}

func TestSeveralReplicasElectALeader(t *testing.T) {
	two := args()
	two.Replicas = 2
	stages, err := two.Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "rollouts-2", stages.All())
}

// TestPermissionsAreBounded: the ClusterRole has no wildcard and reads no Secrets or
// ConfigMaps.
func TestPermissionsAreBounded(t *testing.T) {
	stages, err := args().Stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stages.All() {
		role, ok := m.Object.(*rbacv1.ClusterRole)
		if !ok {
			continue
		}
		for _, rule := range role.Rules {
			for _, word := range append(append(rule.Resources, rule.Verbs...), rule.APIGroups...) {
				if word == "*" || word == "secrets" || word == "configmaps" {
					t.Errorf("the ClusterRole says %q: %+v", word, rule)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	_, err := (&delivery.RolloutsSpec{}).Stages()
	infratest.Refused(t, err, "Namespace is empty", "Replicas is 0", "WeightRules is empty")
}

func TestNewRollouts(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := delivery.NewRollouts(ctx, "rollouts", args())
		return err
	})
	recorder.InOrder(t, map[string][]string{"rollouts-deployment": {
		"rollouts-crd-rollouts", "rollouts-cluster-role-binding", "rollouts-role-binding", "rollouts-namespace",
	}})
}

// TestDefinitionsAreThoseOfTheImage: the CRDs have the version of the controller.
func TestDefinitionsAreThoseOfTheImage(t *testing.T) {
	files, err := filepath.Glob("crds/*.yaml")
	if err != nil || len(files) != 5 {
		t.Fatalf("there are %d definitions, want 5 (%v)", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(string(raw), "\n")
		if !strings.Contains(header, "argo-rollouts@"+delivery.RolloutsVersion+" ") {
			t.Errorf("%s is not of %s: run go generate ./delivery", file, delivery.RolloutsVersion)
		}
	}
}

package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/stacks/environment/internal/local"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

// registered runs the program against mocks, without a cluster.
func registered(t *testing.T, preview bool, values map[string]string) (*infratest.Recorder, map[string]any, error) {
	t.Helper()
	return registeredAfter(t, nil, preview, values)
}

// registeredAfter is registered after an update with these outputs.
func registeredAfter(t *testing.T, last map[string]any, preview bool, values map[string]string) (*infratest.Recorder, map[string]any,
	error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	outputs := make(chan map[string]any, 1)
	recorder := &infratest.Recorder{}
	err := infratest.RunWith(preview, lastOutputs{recorder, last}, func(ctx *pulumi.Context) error {
		exports, err := program.Deploy(ctx, context.Background(), "local", values, shop, local.New)
		if err != nil {
			return err
		}
		exports.ToMapOutput().ApplyT(func(resolved map[string]any) any {
			outputs <- resolved
			return nil
		})
		return nil
	})
	if err != nil {
		return recorder, nil, err
	}
	return recorder, <-outputs, nil
}

func TestDeployRegistersAWellFormedTree(t *testing.T) {
	recorder, outputs, err := registered(t, true, valid(nil))
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)

	stages := objectsOf(t, nil)
	objects := 0
	for _, r := range recorder.Resources() {
		if !strings.HasPrefix(r.Type, "kubernetes:") {
			continue
		}
		objects++
		if !strings.Contains(r.Provider, "::cluster::") {
			t.Errorf("%s is not deployed by the cluster's provider but by %q", r.URN, r.Provider)
		}
	}
	if objects != len(stages.All()) {
		t.Errorf("%d objects are registered, the plan has %d", objects, len(stages.All()))
	}

	if outputs["gatewayURL"] != "http://localhost:30080" {
		t.Errorf("gatewayURL is %v", outputs["gatewayURL"])
	}
	web := outputs["services"].(map[string]any)["sample-web-app"].(map[string]any)
	if web["url"] != "http://localhost:30080/" || web["image"] != image || web["version"] != "0123456789ab" {
		t.Errorf("sample-web-app's outputs are %v", web)
	}
}

func TestPrerequisitesComeFirst(t *testing.T) {
	recorder, _, err := registered(t, true, valid(nil))
	if err != nil {
		t.Fatal(err)
	}
	recorder.InOrder(t, map[string][]string{
		"gateway-role-shop":      {"shop-namespace"},
		"gateway-role-gateway":   {"gateway-namespace"},
		"gateway-public":         {"gateway-crd-gateways"},
		"gateway-deployment":     {"gateway-crd-traefikservices"},
		"rollouts-deployment":    {"rollouts-crd-rollouts"},
		"sample-web-app-route":   {"gateway-crd-httproutes"},
		"sample-web-app-rollout": {"rollouts-crd-rollouts"},
		"metrics-api":            {"metrics-deployment"},

		"internal-gateway-role-shop":     {"shop-namespace"},
		"internal-gateway-internal":      {"gateway-crd-gateways"},
		"internal-gateway-deployment":    {"gateway-crd-traefikservices"},
		"pedidos-internal-route":         {"internal-gateway-deployment"},
		"database-server-server":         {"database-server-admin-job"},
		"database-server-admin-job":      {"database-default-deny"},
		"database-roles-job":             {"database-server-server"},
		"database-roles-role":            {"shop-namespace"},
		"pedidos-migrate":                {"database-roles-job"},
		"pedidos-rollout":                {"pedidos-migrate"},
		"sample-web-app-service-account": {"database-roles-job"},
	})
}

func TestChangesByControllersAreIgnored(t *testing.T) {
	recorder, _, err := registered(t, true, valid(nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"sample-web-app-weights":        "spec.weighted.services",
		"sample-web-app-service-stable": "spec.selector",
		"sample-web-app-service-canary": "spec.selector",
	} {
		if r := recorder.Named(t, name); !slices.Equal(r.IgnoreChanges, []string{path}) {
			t.Errorf("%s ignores changes of %q, want %s", name, r.IgnoreChanges, path)
		}
	}
	if r := recorder.Named(t, "pedidos-internal-route"); len(r.IgnoreChanges) != 0 {
		t.Errorf("the internal route ignores changes of %q: the weights are in the TraefikService", r.IgnoreChanges)
	}
	rollout := recorder.Named(t, "sample-web-app-rollout").Inputs["spec"].(map[string]any)
	if _, there := rollout["replicas"]; there {
		t.Error("the Rollout sets replicas, which belong to the autoscaler")
	}
}

func TestKubeContextReachesTheProvider(t *testing.T) {
	recorder, outputs, err := registered(t, true, valid(map[string]string{"loja-veloz:kubeContext": "kind-loja"}))
	if err != nil {
		t.Fatal(err)
	}
	provider := recorder.Named(t, "cluster")
	if provider.Inputs["context"] != "kind-loja" || outputs["kubeContext"] != "kind-loja" {
		t.Errorf("the provider is given %v, the output is %v", provider.Inputs, outputs["kubeContext"])
	}
	if provider.Inputs["kubeconfig"] != "" {
		t.Errorf("the state would hold the kubeconfig %q", provider.Inputs["kubeconfig"])
	}
}

func TestDeployRefusesAllErrorsAtOnceAndRegistersNothing(t *testing.T) {
	recorder, _, err := registered(t, true, map[string]string{
		"loja-veloz:imagess":        "{}",
		"loja-veloz:waitForRollout": "perhaps",
		"loja-veloz:gateway":        `{"nodePort": 1}`,
	})
	if err == nil {
		t.Fatal("deployed")
	}
	for _, want := range []string{
		"imagess is unknown", `waitForRollout is "perhaps"`, "images.sample-web-app is missing", "images.database is missing", "NodePort is 1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\nin:\n%v", want, err)
		}
	}
	if n := len(recorder.Resources()); n > 0 {
		t.Errorf("%d resources are registered", n)
	}
}

func TestAnUpdateFailsWithTheRolloutItWaitsFor(t *testing.T) {
	// Without a kubeconfig the wait reaches no cluster, and the interrupt ends it.
	interrupt, stop := context.WithCancel(t.Context())
	stop()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	_, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		_, err := program.Deploy(ctx, interrupt, "local", valid(nil), shop, local.New)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("the update ends with %v", err)
	}
}

// TestNoPasswordPassesThroughPulumi: the program neither creates nor reads a Secret.
func TestNoPasswordPassesThroughPulumi(t *testing.T) {
	here, _, err := registered(t, true, valid(nil))
	if err != nil {
		t.Fatal(err)
	}
	prod, err := inCloud(t, "prod", stackFile(t, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, recorder := range []*infratest.Recorder{here, prod} {
		for _, r := range recorder.Resources() {
			if r.Type == "kubernetes:core/v1:Secret" || strings.HasPrefix(r.Type, "random:") {
				t.Errorf("%s would be in the state", r.URN)
			}
		}
	}
}

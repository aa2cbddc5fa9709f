package main

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

const image = "localhost:5000/sample-web-app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// valid is the smallest configuration that deploys, with more laid over it.
func valid(more map[string]string) map[string]string {
	b, err := json.Marshal(imagesOf(services))
	if err != nil {
		panic(err) // a map of strings always encodes
	}
	values := map[string]string{"loja-veloz:images": string(b)}
	maps.Copy(values, more)
	return values
}

// imagesOf has an image for each service, those that make new-service adds too.
func imagesOf(services []service) map[string]string {
	all := map[string]string{}
	for _, s := range services {
		all[s.name] = strings.Replace(image, "sample-web-app", s.name, 1)
	}
	return all
}

// planOf plans the environment with the smallest configuration and more.
func planOf(t *testing.T, more map[string]string) *plan {
	t.Helper()
	cfg, err := config.Load(valid(more), sizes(services))
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan("local", cfg, services)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestObjectsOfTheLocalEnvironment(t *testing.T) {
	stages, err := planOf(t, nil).stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "local", stages.All())
}

func TestPlanReportsTheFaultsOfEveryComponent(t *testing.T) {
	cfg, err := config.Load(valid(map[string]string{
		"loja-veloz:gateway":   `{"nodePort": 80, "replicas": 0}`,
		"loja-veloz:canary":    `{"weights": [50, 20, 120]}`,
		"loja-veloz:services":  `{"sample-web-app": {"minReplicas": 9}}`,
		"loja-veloz:telemetry": `{"otlpEndpoint": "collector"}`,
	}), sizes(services))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newPlan("local", cfg, services)
	if err == nil {
		t.Fatal("the plan is taken")
	}
	for _, want := range []string{
		"gateway: NodePort is 80", "gateway: Replicas is 0", "Canary.Weights[1] is 20 after 50", "Canary.Weights[2] is 120",
		"Size.MinReplicas is 9, more than Size.MaxReplicas (6)", `Telemetry.Endpoint is "collector"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\nin:\n%v", want, err)
		}
	}
}

func TestWhatIsNotInstalledIsLeftOut(t *testing.T) {
	p := planOf(t, map[string]string{
		"loja-veloz:metricsServer": `{"install": false}`,
		"loja-veloz:delivery":      `{"installRollouts": false}`,
		"loja-veloz:gateway":       `{"installDefinitions": false}`,
	})
	stages, err := p.stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stages.All() {
		name := m.Object.GetName()
		if name == "metrics-server" || name == "argo-rollouts" || strings.HasPrefix(m.Name, "crd-") {
			t.Errorf("%s is there", name)
		}
	}
}

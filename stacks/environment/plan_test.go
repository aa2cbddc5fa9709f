package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/database"
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
	all[config.DatabaseImage] = strings.Replace(image, "sample-web-app", config.DatabaseImage, 1)
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
		"loja-veloz:database":  `{"localPath": "data", "localGiB": 0}`,
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
		"internal gateway: Replicas is 0", `database: LocalPath is "data"`, "database: StorageGiB is 0",
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

// TestEveryPublicPath is the whole allow-list of the edge, each with what its
// service sees: nothing of metrics, readiness or administration is on it.
func TestEveryPublicPath(t *testing.T) {
	var got []string
	for _, s := range services {
		for _, path := range s.public {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", s.name, path.Match, path.Value, path.Strip)))
		}
	}
	want := []string{
		"sample-web-app Exact /", "sample-web-app Prefix /echo", "sample-web-app Prefix /static", "sample-web-app Prefix /checkout", "sample-web-app Prefix /orders",
		"api-gateway Exact /health", "api-gateway Prefix /api/pedidos /api", "api-gateway Prefix /api/pagamentos /api", "api-gateway Prefix /api/estoque /api",
	}
	if !slices.Equal(got[:min(len(want), len(got))], want) {
		t.Errorf("public are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNothingIsDirect: every call between services goes through the internal
// gateway, in every environment.
func TestNothingIsDirect(t *testing.T) {
	for name, values := range map[string]map[string]string{"local": valid(nil), "dev": stackFile(t, "dev"), "prod": stackFile(t, "prod")} {
		cfg, err := config.Load(values, sizes(services))
		if err != nil {
			t.Fatal(err)
		}
		p, err := newPlan(name, cfg, services)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range p.workloads {
			for _, call := range w.Calls {
				if call.Via == nil || !strings.HasSuffix(call.Via.Pods().Namespace, "-internal") {
					t.Errorf("%s: %s calls %s past the internal gateway", name, w.Service, call.Service)
				}
			}
			for key, value := range w.Env {
				if host, _ := strings.CutPrefix(value, "http://"); strings.HasSuffix(key, "_URL") && strings.ContainsAny(host, ".:/") {
					t.Errorf("%s: %s has %s=%s", name, w.Service, key, value)
				}
			}
		}
	}
}

// TestConnectionsSuffice: at every autoscaler's limit, with a canary's pod of each
// service, the pools and the audit fit into the server's connections.
func TestConnectionsSuffice(t *testing.T) {
	// RDS: memory / 9531392, of which some is the system's.
	most := map[string]int{"local": database.MaxConnections, "dev": 100, "prod": 400}
	for name, values := range map[string]map[string]string{"local": valid(nil), "dev": stackFile(t, "dev"), "prod": stackFile(t, "prod")} {
		cfg, err := config.Load(values, sizes(services))
		if err != nil {
			t.Fatal(err)
		}
		needed := 5 // setup, a migration, a person
		for _, s := range services {
			const looks, runs = 2, 2 // of the audit; a person may start one more
			needed += looks * runs * len(s.reads)
			if !s.database {
				continue
			}
			pool := 8
			if value := cfg.Services[s.name].Env["DATABASE_MAX_CONNECTIONS"]; value != "" {
				if pool, err = strconv.Atoi(value); err != nil {
					t.Fatal(err)
				}
			}
			needed += int(cfg.Services[s.name].MaxReplicas+1) * pool
		}
		if needed > most[name] {
			t.Errorf("%s: %d connections may be opened, the server takes %d", name, needed, most[name])
		}
	}
}

func TestShopOfEachEnvironment(t *testing.T) {
	secret := func(t *testing.T, p *plan, service, variable string) string {
		t.Helper()
		for _, w := range p.workloads {
			if w.Service == service {
				return w.SecretEnv[variable].Secret
			}
		}
		t.Fatalf("there is no %s", service)
		return ""
	}
	env := func(p *plan, service string) map[string]string {
		for _, w := range p.workloads {
			if w.Service == service {
				return w.Env
			}
		}
		return nil
	}
	local := planOf(t, nil)
	if e := env(local, "pagamentos"); e["ACQUIRER"] != "simulator" || secret(t, local, "pagamentos", "STRIPE_API_KEY") != "" {
		t.Errorf("local: pagamentos has %v", e)
	}
	if e := env(local, "estoque"); e["SEED_CATALOGUE"] != "true" || e["ENABLE_DOCS"] != "true" {
		t.Errorf("local: estoque has %v", e)
	}
	if e := env(local, "sample-web-app"); e["API_URL"] != "http://api-gateway" {
		t.Errorf("local: sample-web-app has %v", e)
	}
	cfg, err := config.Load(stackFile(t, "prod"), sizes(services))
	if err != nil {
		t.Fatal(err)
	}
	prod, err := newPlan("prod", cfg, services)
	if err != nil {
		t.Fatal(err)
	}
	if e := env(prod, "pagamentos"); e["ACQUIRER"] != "stripe" || e["ENABLE_DOCS"] != "false" || secret(t, prod, "pagamentos", "STRIPE_API_KEY") != "stripe" {
		t.Errorf("prod: pagamentos has %v", e)
	}
	if e := env(prod, "estoque"); e["SEED_CATALOGUE"] != "false" {
		t.Errorf("prod: estoque has %v", e)
	}
	if prod.server != nil || len(prod.roles.CIDRs) != 3 || prod.roles.SSLMode != "require" {
		t.Errorf("prod: the roles are made by %+v", prod.roles)
	}
}

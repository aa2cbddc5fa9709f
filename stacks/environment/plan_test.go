package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/aws"
	"github.com/loja-veloz/platform/stacks/environment/internal/local"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

const image = "localhost:5000/sample-web-app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// valid returns the smallest configuration that deploys, overridden by more.
func valid(more map[string]string) map[string]string {
	b, err := json.Marshal(imagesOf(shop))
	if err != nil {
		panic(err) // encoding a map of strings cannot fail
	}
	values := map[string]string{"loja-veloz:images": string(b)}
	maps.Copy(values, more)
	return values
}

// shop is the catalogue of this repository.
var shop = func() *catalogue.Catalogue {
	c, err := repo.Catalogue()
	if err != nil {
		panic(err)
	}
	return c
}()

// imagesOf returns an image for each program.
func imagesOf(programs *catalogue.Catalogue) map[string]string {
	all := map[string]string{}
	for _, name := range programs.Images() {
		all[name] = strings.Replace(image, "sample-web-app", name, 1)
	}
	return all
}

// planned plans an environment.
func planned(t *testing.T, name string, values map[string]string, programs *catalogue.Catalogue,
	target program.NewTarget) (*plan.Plan, program.Target) {
	t.Helper()
	_, p, at, err := program.Load(name, values, programs, target)
	if err != nil {
		t.Fatal(err)
	}
	return p, at
}

// planOf plans the local environment with the smallest configuration and more.
func planOf(t *testing.T, more map[string]string) *plan.Plan {
	t.Helper()
	p, _ := planned(t, "local", valid(more), shop, local.New)
	return p
}

// objectsOf returns the objects of the local environment with the smallest configuration and
// more.
func objectsOf(t *testing.T, more map[string]string) kube.Stages {
	t.Helper()
	return objects(t, valid(more), shop)
}

func objects(t *testing.T, values map[string]string, programs *catalogue.Catalogue) kube.Stages {
	t.Helper()
	p, target := planned(t, "local", values, programs, local.New)
	all := append(workload.NamespaceStages(plan.ShopNamespace), workload.QuarantineStages(plan.ShopNamespace)...)
	if p.Roles != nil {
		all = append(all, workload.NamespaceStages(plan.DatabaseNamespace)...)
	}
	installed, err := target.(*local.Target).Stages(p)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, installed...)
	for _, w := range p.Workloads {
		stages, err := w.Stages()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, stages...)
	}
	for _, job := range p.CronJobs {
		stages, err := job.Stages()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, stages...)
	}
	return all
}

func TestObjectsOfTheLocalEnvironment(t *testing.T) {
	infratest.Golden(t, "local", objectsOf(t, nil).All())
}

func TestPlanReportsTheErrorsOfEveryComponent(t *testing.T) {
	_, _, _, err := program.Load("local", valid(map[string]string{
		"loja-veloz:gateway":   `{"nodePort": 80, "replicas": 0}`,
		"loja-veloz:database":  `{"localPath": "data", "localGiB": 0}`,
		"loja-veloz:canary":    `{"weights": [50, 20, 120]}`,
		"loja-veloz:services":  `{"sample-web-app": {"minReplicas": 9}}`,
		"loja-veloz:telemetry": `{"otlpEndpoint": "collector"}`,
	}), shop, local.New)
	if err == nil {
		t.Fatal("the plan is accepted")
	}
	for _, want := range []string{
		"internal gateway: Replicas is 0", `database: LocalPath is "data"`, "database: StorageGiB is 0",
		"gateway: NodePort is 80", "gateway: Replicas is 0", "Canary.Weights[1] is 20: weights rise, and the one before is 50", "Canary.Weights[2] is 120",
		"Size.MinReplicas is 9, more than Size.MaxReplicas (6)", `telemetry: Forward is "collector"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\nin:\n%v", want, err)
		}
	}
}

func TestThePlanOmitsWhatIsNotInstalled(t *testing.T) {
	stages := objectsOf(t, map[string]string{
		"loja-veloz:metricsServer": `{"install": false}`,
		"loja-veloz:delivery":      `{"installRollouts": false}`,
		"loja-veloz:gateway":       `{"installDefinitions": false}`,
	})
	for _, m := range stages.All() {
		name := m.Object.GetName()
		if name == "metrics-server" || name == "argo-rollouts" || strings.HasPrefix(m.Name, "crd-") {
			t.Errorf("%s is there", name)
		}
	}
}

// TestEveryPublicPath compares the complete allow-list of every environment's edge, each path with
// the prefix that is stripped. Metrics, readiness and administration are not in it.
func TestEveryPublicPath(t *testing.T) {
	want := []string{
		"pagamentos Exact /webhooks/stripe",
		"api-gateway Exact /health", "api-gateway Prefix /api/pedidos /api", "api-gateway Prefix /api/pagamentos /api",
		"api-gateway Prefix /api/estoque /api", "api-gateway Prefix /api/webhooks /api", "api-gateway Prefix /api/docs /api",
		"sample-web-app Exact /", "sample-web-app Prefix /echo", "sample-web-app Prefix /static", "sample-web-app Prefix /checkout",
		"sample-web-app Prefix /orders",
	}
	for name, c := range environments(t) {
		p, _ := planned(t, name, c.values, shop, c.target)
		var got []string
		for _, w := range p.Workloads {
			for _, path := range w.Public {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", w.Service, path.Match, path.Value, path.Strip)))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: public are\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestNothingIsDirect: every call between services goes through the internal
// gateway, in every environment.
func TestNothingIsDirect(t *testing.T) {
	for name, c := range environments(t) {
		p, _ := planned(t, name, c.values, shop, c.target)
		for _, w := range p.Workloads {
			for _, call := range w.Calls {
				if call.Via == nil || !strings.HasSuffix(call.Via.Pods().Namespace, "-internal") {
					t.Errorf("%s: %s calls %s without the internal gateway", name, w.Service, call.Service)
				}
			}
			for key, value := range w.Env {
				name, _, _ := strings.Cut(strings.TrimPrefix(value, "http://"), ":")
				if strings.HasSuffix(key, "_URL") && (value != gateway.InternalURL(name) || strings.ContainsAny(name, "./")) {
					t.Errorf("%s: %s has %s=%s", name, w.Service, key, value)
				}
			}
		}
	}
}

// TestTheConsoleReadsPayments: in every environment the console has the address of pagamentos'
// stable version, its policy allows the port of the pods, and no other service admits it.
func TestTheConsoleReadsPayments(t *testing.T) {
	console := observability.ConsolePods(plan.ObservabilityNamespace)
	admits := func(w *workload.Spec) bool {
		return slices.ContainsFunc(w.CalledBy, func(pods kube.PodSelector) bool {
			return pods.Namespace == console.Namespace && maps.Equal(pods.Labels, console.Labels)
		})
	}
	for name, c := range environments(t) {
		cfg, p, _, err := program.Load(name, c.values, shop, c.target)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range p.Workloads {
			if got := admits(w); got != (w.Service == "pagamentos") {
				t.Errorf("%s: %s admits the console: %v", name, w.Service, got)
			}
		}
		spec := plan.NewMonitoring(cfg, nil).Console(p)
		if spec.Payments.URL != "http://pagamentos-stable.shop:8080" {
			t.Errorf("%s: the console reads payments at %+v", name, spec.Payments)
		}

		c.values["loja-veloz:console"] = `{"install": false}`
		p, _ = planned(t, name, c.values, shop, c.target)
		if slices.ContainsFunc(p.Workloads, admits) {
			t.Errorf("%s: a service admits a console that is not installed", name)
		}
	}
}

// TestCommandsOfAlarmsReachAnObject: an operator copies them. A Rollout is nothing that kubectl exec
// finds pods by.
func TestCommandsOfAlarmsReachAnObject(t *testing.T) {
	exec := regexp.MustCompile(`kubectl -n (\S+) exec (\S+) --`)
	commands := 0
	for _, alarm := range slo.Alarms(true) {
		for _, command := range exec.FindAllStringSubmatch(alarm.Do, -1) {
			commands++
			found := slices.ContainsFunc(objectsOf(t, nil).All(), func(m kube.Manifest) bool {
				kind := strings.ToLower(reflect.TypeOf(m.Object).Elem().Name())
				return m.Object.GetNamespace() == command[1] && kind+"/"+m.Object.GetName() == command[2]
			})
			if !found {
				t.Errorf("%s says %s, and there is no such object", alarm.Name, command[0])
			}
		}
	}
	if commands == 0 {
		t.Error("no alarm has a command: the test looks for nothing")
	}
}

// environments are all of this repository.
func environments(t *testing.T) map[string]environment {
	t.Helper()
	return map[string]environment{
		"local": {valid(nil), local.New}, "dev": {stackFile(t, "dev"), aws.New}, "prod": {stackFile(t, "prod"), aws.New},
	}
}

type environment struct {
	values map[string]string
	target program.NewTarget
}

// TestConnectionsSuffice: a plan is refused, with the sum, unless the server accepts the
// connections of all pools and the audit, at every autoscaler's limit and with a canary pod of
// each service.
func TestConnectionsSuffice(t *testing.T) {
	accepted := map[string]string{
		"local": "PostgreSQL in the cluster accepts 250", "dev": "a db.t4g.micro accepts 101", "prod": "a db.t4g.medium accepts 405",
	}
	for name, c := range environments(t) {
		planned(t, name, c.values, shop, c.target)
		c.values["loja-veloz:services"] = `{"pedidos": {"env": {"DATABASE_MAX_CONNECTIONS": "60"}}}`
		_, _, _, err := program.Load(name, c.values, shop, c.target)
		for _, want := range []string{"9 pods of pedidos with 60 each", "7 pods of estoque with 8 each", "3 migrations",
			"2 runs of audit with 2 in each of 3 databases", accepted[name]} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with larger pools: not reported: %s\nin:\n%v", name, want, err)
			}
		}
	}
}

func TestShopOfEachEnvironment(t *testing.T) {
	secret := func(t *testing.T, p *plan.Plan, service, variable string) string {
		t.Helper()
		for _, w := range p.Workloads {
			if key, set := w.SecretEnv[variable]; w.Service == service && set {
				return key.Secret + "/" + key.Key
			} else if w.Service == service {
				return ""
			}
		}
		t.Fatalf("there is no %s", service)
		return ""
	}
	env := func(p *plan.Plan, service string) map[string]string {
		for _, w := range p.Workloads {
			if w.Service == service {
				return w.Env
			}
		}
		return nil
	}
	here := planOf(t, nil)
	if e := env(here, "pagamentos"); e["ACQUIRER"] != "simulator" || secret(t, here, "pagamentos", "STRIPE_API_KEY") != "" ||
		secret(t, here, "pagamentos", "STRIPE_WEBHOOK_SECRET") != "" {
		t.Errorf("local: pagamentos has %v", e)
	}
	if e := env(here, "estoque"); e["SEED_CATALOGUE"] != "true" || e["ENABLE_DOCS"] != "true" {
		t.Errorf("local: estoque has %v", e)
	}
	web := env(here, "sample-web-app")
	if web["API_URL"] != "http://api-gateway:8000" || web["ACQUIRER"] != "simulator" {
		t.Errorf("local: sample-web-app has %v", web)
	}
	if _, set := web["STRIPE_PUBLISHABLE_KEY"]; set {
		t.Errorf("local: sample-web-app has %v", web)
	}
	for _, w := range here.Workloads {
		if w.Internet {
			t.Errorf("local: %s may call hosts outside the cluster, although webhooks are off", w.Service)
		}
	}
	prod, _ := planned(t, "prod", stackFile(t, "prod"), shop, aws.New)
	if e := env(prod, "pedidos"); e["WEBHOOKS"] != "public" {
		t.Errorf("prod: pedidos has %v", e)
	}
	if e := env(prod, "pagamentos"); e["ACQUIRER"] != "stripe" || e["ENABLE_DOCS"] != "false" ||
		secret(t, prod, "pagamentos", "STRIPE_API_KEY") != "stripe/api-key" ||
		secret(t, prod, "pagamentos", "STRIPE_WEBHOOK_SECRET") != "stripe/webhook-secret" {
		t.Errorf("prod: pagamentos has %v", e)
	}
	if e := env(prod, "sample-web-app"); e["ACQUIRER"] != "stripe" || !strings.HasPrefix(e["STRIPE_PUBLISHABLE_KEY"], "pk_live_") {
		t.Errorf("prod: sample-web-app has %v", e)
	}
	for _, w := range prod.Workloads {
		if w.Internet != (w.Service == "pagamentos" || w.Service == "pedidos") {
			t.Errorf("prod: %s may call hosts outside the cluster: %v", w.Service, w.Internet)
		}
	}
	if e := env(prod, "estoque"); e["SEED_CATALOGUE"] != "false" {
		t.Errorf("prod: estoque has %v", e)
	}
	if len(prod.Roles.Server) != 0 || len(prod.Roles.CIDRs) != 3 || prod.Roles.SSLMode != "verify-full" {
		t.Errorf("prod: the roles are created by %+v", prod.Roles)
	}
}

package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
)

func traefik() *gateway.TraefikArgs {
	return &gateway.TraefikArgs{Namespace: "gateway", Class: "traefik", NodePort: 30080, RouteNamespaces: []string{"shop"}, Replicas: 1}
}

func backend(public ...gateway.Path) gateway.Backend {
	return gateway.Backend{Service: "web", Namespace: "shop", StableService: "web-stable", CanaryService: "web-canary", Port: 80, Public: public}
}

func TestTraefikObjects(t *testing.T) {
	for _, replicas := range []int32{1, 2} {
		args := traefik()
		args.Replicas = replicas
		stages, err := args.Stages()
		if err != nil {
			t.Fatal(err)
		}
		infratest.Golden(t, fmt.Sprintf("traefik-%d", replicas), stages.All())
	}
}

func TestRoutes(t *testing.T) {
	routes, err := gateway.NewTraefikRouter(traefik()).Routes(backend(
		gateway.Path{Match: gateway.Exact, Value: "/"}, gateway.Path{Match: gateway.Prefix, Value: "/echo"}))
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "routes", routes)
}

func TestAServiceThatShowsNothingHasWeightsAndNoRoute(t *testing.T) {
	routes, err := gateway.NewTraefikRouter(traefik()).Routes(backend())
	if err != nil {
		t.Fatal(err)
	}
	if len(routes) != 1 || routes[0].Name != "weights" || !slices.Equal(routes[0].IgnoreChanges, []string{"spec.weighted.services"}) {
		t.Errorf("routes are %+v", routes)
	}
}

func TestRoutesRefuseOneServiceForBoth(t *testing.T) {
	b := backend()
	b.CanaryService = b.StableService
	if _, err := gateway.NewTraefikRouter(traefik()).Routes(b); err == nil || !strings.Contains(err.Error(), `both "web-stable"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestPublicPaths(t *testing.T) {
	exact := func(v string) gateway.Path { return gateway.Path{Match: gateway.Exact, Value: v} }
	prefix := func(v string) gateway.Path { return gateway.Path{Match: gateway.Prefix, Value: v} }
	for _, allowed := range [][]gateway.Path{
		nil,
		{exact("/"), prefix("/echo"), prefix("/static"), exact("/health")},
		{prefix("/readyz"), prefix("/metrics-of-the-day"), prefix("/api/ready")}, // by whole elements, these are others
	} {
		if err := gateway.Validate("Public", allowed); err != nil {
			t.Errorf("%v is refused: %v", allowed, err)
		}
	}
	for want, refused := range map[string]gateway.Path{
		"would show /metrics":   prefix("/"),
		"would show /ready":     exact("/ready"),
		`(Prefix "/metrics")`:   prefix("/metrics"),
		`(Exact "/metrics/go")`: exact("/metrics/go"),
		"does not begin with /": exact("echo"),
		"ends with /":           prefix("/echo/"),
		"is not a clean path":   exact("/echo/../metrics"),
		"not a clean path":      exact("//metrics"),
		"not plain":             exact("/%6detrics"),
		"use Exact or Prefix":   {Match: "Regexp", Value: "/.*"},
	} {
		err := gateway.Validate("Public", []gateway.Path{refused})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Public[0]") {
			t.Errorf("%v gives %v, want an error with %q", refused, err, want)
		}
	}
	err := gateway.Validate("Public", []gateway.Path{prefix("/"), exact("x"), exact("/a"), exact("/a")})
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 4 || !strings.Contains(lines[3], `Public[3] repeats Exact "/a"`) {
		t.Errorf("faults are not all reported at once:\n%v", err)
	}
}

func TestTraefikRefusals(t *testing.T) {
	err := (&gateway.TraefikArgs{NodePort: 80}).Validate()
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{"Namespace is empty", "Class is empty", "NodePort is 80", "Replicas is 0", "RouteNamespaces is empty"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s", want)
		}
	}
	args := traefik()
	args.RouteNamespaces = []string{"gateway"}
	if err := args.Validate(); err == nil || !strings.Contains(err.Error(), `own namespace "gateway"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestNewTraefik(t *testing.T) {
	recorder, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := gateway.NewTraefik(ctx, "gateway", traefik())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	for object, needed := range map[string]string{
		"gateway-service-account": "gateway-namespace",
		"gateway-deployment":      "gateway-role-shop",
		"gateway-public":          "gateway-crd-gateways",
	} {
		if !recorder.Waits(t, object, needed) {
			t.Errorf("%s does not wait for %s", object, needed)
		}
	}
}

// TestDefinitionsAreThoseOfTheImages keeps the CRDs at the version of what runs.
func TestDefinitionsAreThoseOfTheImages(t *testing.T) {
	for folder, want := range map[string]string{
		"traefik-crds":     "from github.com/traefik/traefik/v3@" + gateway.TraefikVersion + " ",
		"gateway-api-crds": "from sigs.k8s.io/gateway-api@v1.4.0 ",
	} {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s holds %d files (%v)", folder, len(files), err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if header, _, _ := strings.Cut(string(raw), "\n"); !strings.Contains(header, want) {
				t.Errorf("%s is not %s: run go generate ./gateway", file, want)
			}
		}
	}
}

func TestTraefikServiceCopiesDeeply(t *testing.T) {
	routes, err := gateway.NewTraefikRouter(traefik()).Routes(backend())
	if err != nil {
		t.Fatal(err)
	}
	original := routes[0].Object.(*gateway.TraefikService)
	copied := original.DeepCopyObject().(*gateway.TraefikService)
	copied.Spec.Weighted.Services[0].Weight = 1
	if original.Spec.Weighted.Services[0].Weight != 100 {
		t.Error("a copy shares its weights with the original")
	}
}

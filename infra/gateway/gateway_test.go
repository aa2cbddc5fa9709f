package gateway_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
)

func traefik() *gateway.TraefikSpec {
	return &gateway.TraefikSpec{Namespace: "gateway", Class: "traefik", NodePort: 30080, RouteNamespaces: []string{"shop"}, Replicas: 1}
}

func internalTraefik() *gateway.TraefikSpec {
	return &gateway.TraefikSpec{Namespace: "gateway-internal", Class: "traefik-internal", Internal: true, RouteNamespaces: []string{"shop"},
		Replicas: 1, DefinitionsInstalled: true}
}

func traefiks(t *testing.T) gateway.TraefikPair {
	t.Helper()
	pair, err := gateway.NewTraefikPair(traefik(), internalTraefik())
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func backend(public ...gateway.Path) gateway.Backend {
	return gateway.Backend{Service: "web", Namespace: "shop", StableService: "web-stable", CanaryService: "web-canary", Port: 80,
		Public: public}
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

func TestTheInternalTraefik(t *testing.T) {
	stages, err := internalTraefik().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "traefik-internal", stages.All())
}

func TestRoutes(t *testing.T) {
	routes, err := traefiks(t).Routes(backend(
		gateway.Path{Match: gateway.Exact, Value: "/"}, gateway.Path{Match: gateway.Prefix, Value: "/echo"},
		gateway.Path{Match: gateway.Prefix, Value: "/api/orders", Strip: "/api"}, gateway.Path{Match: gateway.Exact, Value: "/api",
			Strip: "/api"}))
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "routes", routes)
}

func TestAServiceWithoutPublicPathsHasWeightsAndNoRoute(t *testing.T) {
	routes, err := gateway.NewTraefikRouter(traefik()).Routes(backend())
	if err != nil {
		t.Fatal(err)
	}
	if len(routes) != 1 || routes[0].Name != "weights" || !slices.Equal(routes[0].IgnoreChanges, []string{"spec.weighted.services"}) {
		t.Errorf("routes are %+v", routes)
	}
}

// TestNothingInternalIsPublic: each instance has its own class, which the other does not watch,
// and its Gateway in a namespace that the other does not read. Each route has one parent, and
// the internal instance has no port on the nodes.
func TestNothingInternalIsPublic(t *testing.T) {
	own := map[string]map[string]string{} // by namespace: what an instance reads
	for _, args := range []*gateway.TraefikSpec{traefik(), internalTraefik()} {
		stages, err := args.Stages()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, m := range stages.All() {
			switch o := m.Object.(type) {
			case *gatewayv1.GatewayClass:
				found["class"] = fmt.Sprintf("%s labelled %s", o.Name, o.Labels["loja-veloz.dev/gateway-class"])
			case *gatewayv1.Gateway:
				found["gateway"] = fmt.Sprintf("%s/%s of %s", o.Namespace, o.Name, o.Spec.GatewayClassName)
			case *corev1.Service:
				if args.Internal && (o.Spec.Type != corev1.ServiceTypeClusterIP || o.Spec.Ports[0].NodePort != 0 || len(o.Spec.ExternalIPs) > 0) {
					t.Errorf("the internal instance has a Service of type %s", o.Spec.Type)
				}
			case *appsv1.Deployment:
				pod := o.Spec.Template.Spec
				if pod.HostNetwork || pod.Containers[0].Ports[0].HostPort != 0 {
					t.Errorf("%s is on the node's network", args.Namespace)
				}
				for _, argument := range pod.Containers[0].Args {
					for _, flag := range []string{"kubernetesgateway.namespaces", "kubernetesgateway.labelselector", "kubernetescrd.ingressclass"} {
						if value, ok := strings.CutPrefix(argument, "--providers."+flag+"="); ok {
							found[flag] = value
						}
					}
				}
			}
		}
		own[args.Namespace] = found
	}
	want := map[string]map[string]string{
		"gateway": {
			"class": "traefik labelled traefik", "gateway": "gateway/public of traefik", "kubernetesgateway.namespaces": "gateway,shop",
			"kubernetesgateway.labelselector": "loja-veloz.dev/gateway-class=traefik", "kubernetescrd.ingressclass": "traefik",
		},
		"gateway-internal": {
			"class": "traefik-internal labelled traefik-internal", "gateway": "gateway-internal/internal of traefik-internal", "kubernetesgateway.namespaces": "gateway-internal,shop",
			"kubernetesgateway.labelselector": "loja-veloz.dev/gateway-class=traefik-internal", "kubernetescrd.ingressclass": "traefik-internal",
		},
	}
	if !reflect.DeepEqual(own, want) {
		t.Errorf("the instances are\n%v\nwant\n%v", own, want)
	}

	routes, err := traefiks(t).Routes(backend(gateway.Path{Match: gateway.Exact, Value: "/"}))
	if err != nil {
		t.Fatal(err)
	}
	var parents []string
	weighted := 0
	for _, m := range routes {
		switch o := m.Object.(type) {
		case *gatewayv1.HTTPRoute:
			for _, p := range o.Spec.ParentRefs {
				parents = append(parents, fmt.Sprintf("%v %s/%s", o.Spec.Hostnames, *p.Namespace, p.Name))
			}
			for _, rule := range o.Spec.Rules {
				for _, ref := range rule.BackendRefs {
					if *ref.Kind != "TraefikService" || ref.Name != "web" {
						t.Errorf("%s routes to %s %s and bypasses the weights", o.Name, *ref.Kind, ref.Name)
					}
				}
			}
		case *gateway.TraefikService:
			weighted++
		}
	}
	if weighted != 1 || !slices.Equal(parents, []string{"[] gateway/public", "[web] gateway-internal/internal"}) {
		t.Errorf("%d weighted services, routes of %v", weighted, parents)
	}
}

// TestAServiceOnlyForOthers: it has no public route, and its private paths have no backend.
func TestAServiceOnlyForOthers(t *testing.T) {
	routes, err := traefiks(t).Routes(backend())
	if err != nil {
		t.Fatal(err)
	}
	closed := map[string]bool{}
	for _, m := range routes {
		route, ok := m.Object.(*gatewayv1.HTTPRoute)
		if !ok {
			continue
		}
		if route.Spec.ParentRefs[0].Name != "internal" {
			t.Errorf("there is a route %s", route.Name)
		}
		for _, rule := range route.Spec.Rules {
			for _, match := range rule.Matches {
				closed[*match.Path.Value] = len(rule.BackendRefs) == 0 && len(rule.Filters) == 1
			}
		}
	}
	if !reflect.DeepEqual(closed, map[string]bool{"/": false, "/metrics": true, "/ready": true, "/admin": true}) {
		t.Errorf("closed are %v", closed)
	}
}

func TestTraefikPairRefusals(t *testing.T) {
	if _, err := gateway.NewTraefikPair(internalTraefik(), traefik()); err == nil ||
		!strings.Contains(err.Error(), "the public instance is Internal") || !strings.Contains(err.Error(),
		"the internal instance is not Internal") {
		t.Errorf("the error is %v", err)
	}
	same := internalTraefik()
	same.Class, same.Namespace, same.RouteNamespaces = "traefik", "gateway", []string{"other"}
	_, err := gateway.NewTraefikPair(traefik(), same)
	infratest.Refused(t, err, `the Class "traefik"`, `Namespace "gateway"`, `RouteNamespaces of the instances differ: ["shop"] and ["other"]`)
	shown := internalTraefik()
	shown.NodePort = 30081
	if err := shown.Validate(); err == nil || !strings.Contains(err.Error(), "NodePort is 30081 on an instance that is Internal") {
		t.Errorf("the error is %v", err)
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
	stripped := func(m gateway.Match, v, s string) gateway.Path { return gateway.Path{Match: m, Value: v, Strip: s} }
	for _, allowed := range [][]gateway.Path{
		nil,
		{exact("/"), prefix("/echo"), prefix("/static"), exact("/health")},
		{prefix("/readyz"), prefix("/metrics-of-the-day"), prefix("/api/ready")}, // the comparison is by whole elements
		{stripped(gateway.Prefix, "/api/orders", "/api"), stripped(gateway.Exact, "/api", "/api")},
	} {
		if err := gateway.Validate("Public", allowed); err != nil {
			t.Errorf("%v is refused: %v", allowed, err)
		}
	}
	for want, refused := range map[string]gateway.Path{
		"would make /metrics public": prefix("/"),
		"would make /ready public":   exact("/ready"),
		`(Prefix "/metrics")`:        prefix("/metrics"),
		`(Exact "/metrics/go")`:      exact("/metrics/go"),
		"does not begin with /":      exact("echo"),
		"ends with /":                prefix("/echo/"),
		"is not a clean path":        exact("/echo/../metrics"),
		"not a clean path":           exact("//metrics"),
		"contains %, ?":              exact("/%6detrics"),
		"use Exact or Prefix":        {Match: "Regexp", Value: "/.*"},

		`(Prefix "/admin/stock") would make /admin public`:                prefix("/admin/stock"),
		`(Prefix "/api") would make /metrics public after stripping /api`: stripped(gateway.Prefix, "/api", "/api"),
		`would make /ready public after stripping /api`:                   stripped(gateway.Exact, "/api/ready", "/api"),
		`would make /admin public after stripping /api`:                   stripped(gateway.Prefix, "/api/admin", "/api"),
		`Strip "/ap" is not a prefix of "/api/x"`:                         stripped(gateway.Prefix, "/api/x", "/ap"),
		`Strip "/" is not a prefix of "/x"`:                               stripped(gateway.Prefix, "/x", "/"),
		`Strip "/a/" ends with /`:                                         stripped(gateway.Prefix, "/a/b", "/a/"),
	} {
		err := gateway.Validate("Public", []gateway.Path{refused})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Public[0]") {
			t.Errorf("%v gives %v, want an error with %q", refused, err, want)
		}
	}
	err := gateway.Validate("Public", []gateway.Path{prefix("/"), exact("x"), exact("/a"), exact("/a")})
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 5 || !strings.Contains(lines[4], `Public[3] repeats Exact "/a"`) {
		t.Errorf("not all errors are reported at once:\n%v", err)
	}
}

func TestTraefikRefusals(t *testing.T) {
	err := (&gateway.TraefikSpec{NodePort: 80}).Validate()
	infratest.Refused(t, err, "Namespace is empty", "Class is empty", "NodePort is 80", "Replicas is 0", "RouteNamespaces is empty")
	args := traefik()
	args.RouteNamespaces = []string{"gateway"}
	if err := args.Validate(); err == nil || !strings.Contains(err.Error(), `own namespace "gateway"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestNewTraefik(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := gateway.NewTraefik(ctx, "gateway", traefik())
		return err
	})
	recorder.InOrder(t, map[string][]string{
		"gateway-service-account": {"gateway-namespace"},
		"gateway-deployment":      {"gateway-role-shop"},
		"gateway-public":          {"gateway-crd-gateways"},
	})
}

// TestDefinitionsAreThoseOfTheImages: the CRDs have the version of the image.
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

func TestMiddlewareCopiesDeeply(t *testing.T) {
	for _, spec := range []gateway.MiddlewareSpec{
		{Retry: &gateway.Retry{Attempts: 3}},
		{IPAllowList: &gateway.IPAllowList{SourceRange: []string{"192.0.2.1/32"}, RejectStatusCode: 404}},
	} {
		original := &gateway.Middleware{Spec: spec}
		copied := original.DeepCopyObject().(*gateway.Middleware)
		if !reflect.DeepEqual(original, copied) {
			t.Errorf("the copy of %+v is %+v", original.Spec, copied.Spec)
		}
		if copied.Spec.Retry == original.Spec.Retry && copied.Spec.IPAllowList == original.Spec.IPAllowList {
			t.Error("a copy shares its middleware with the original")
		}
	}
}

package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

func public() *gateway.KongSpec {
	return &gateway.KongSpec{
		Chart: kube.Chart{Namespace: "kong", Replicas: 2}, ReleaseName: "kong", Class: "kong", Public: true, Host: "shop.example.com",
		RouteNamespaces: []string{"shop"}, ScrapedFrom: "datadog",
	}
}

const certificate = pulumi.String("arn:aws:acm:us-east-1:111122223333:certificate/0")

func internal() *gateway.KongSpec {
	return &gateway.KongSpec{
		Chart: kube.Chart{Namespace: "kong-internal", Replicas: 2}, ReleaseName: "kong-internal", Class: "kong-internal",
		RouteNamespaces: []string{"shop"}, ScrapedFrom: "datadog", DefinitionsInstalled: true,
	}
}

func TestKong(t *testing.T) {
	for name, instance := range map[string]struct {
		spec        *gateway.KongSpec
		certificate pulumi.StringInput
	}{"kong-public": {public(), certificate}, "kong-internal": {internal(), nil}} {
		parts, err := instance.spec.Installation(instance.certificate)
		if err != nil {
			t.Fatal(err)
		}
		infratest.Golden(t, name, parts.Objects())
		chartstest.Golden(t, name+"-values", parts.Release)
	}
}

func TestPodsCountBothContainers(t *testing.T) {
	pods := public().Pods()
	if len(pods) != 1 || pods[0] != (kube.PodSize{Name: "kong-kong", Count: 2, MilliCPU: 300, MemoryMiB: 768}) {
		t.Errorf("pods are %+v", pods)
	}
	if pods := (&gateway.KongSpec{}).Pods(); pods != nil {
		t.Errorf("an invalid spec has the pods %+v", pods)
	}
}

// TestAnInternalKongIsNeverPublic: none of its objects requests a load balancer.
func TestAnInternalKongIsNeverPublic(t *testing.T) {
	parts, err := internal().Installation(nil)
	if err != nil {
		t.Fatal(err)
	}
	values, err := parts.Release.RenderedValues()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"LoadBalancer", "NodePort", "internet-facing", "aws-load-balancer", "port_maps"} {
		if strings.Contains(string(raw), word) {
			t.Errorf("its values contain %s", word)
		}
	}
}

func pair(t *testing.T) gateway.KongPair {
	t.Helper()
	p, err := gateway.NewKongPair(public(), internal())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestKongRoutes(t *testing.T) {
	routes, err := pair(t).Routes(backend(
		gateway.Path{Match: gateway.Exact, Value: "/"}, gateway.Path{Match: gateway.Prefix, Value: "/echo"},
		gateway.Path{Match: gateway.Prefix, Value: "/api/orders", Strip: "/api"}))
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "kong-routes", routes)
}

// TestWeightsBelongToRollouts: changes of every list of rules are ignored, and other paths
// create another route.
func TestWeightsBelongToRollouts(t *testing.T) {
	names := map[string]bool{}
	for _, value := range []string{"/a", "/b"} {
		routes, err := gateway.NewKongRouter(public()).Routes(backend(gateway.Path{Match: gateway.Exact, Value: value}))
		if err != nil {
			t.Fatal(err)
		}
		if len(routes) != 1 || len(routes[0].IgnoreChanges) != 1 || routes[0].IgnoreChanges[0] != "spec.rules" {
			t.Fatalf("routes are %+v", routes)
		}
		names[routes[0].Name], names[routes[0].Object.GetName()] = true, true
	}
	if len(names) != 4 {
		t.Errorf("two allow-lists share a name: %v", names)
	}
}

func TestAServiceWithoutPublicPathsHasNoPublicRoute(t *testing.T) {
	routes, err := gateway.NewKongRouter(public()).Routes(backend())
	if err != nil || len(routes) != 0 {
		t.Errorf("routes are %v (%v)", routes, err)
	}
	routes, err = pair(t).Routes(backend())
	if err != nil || len(routes) != 3 {
		t.Errorf("a pair gives %d objects (%v), want the alias, the plugin and the internal route", len(routes), err)
	}
}

// TestPrivatePathsHaveNoBackend: the internal instance does not route them either, even if the
// plugin is missing.
func TestPrivatePathsHaveNoBackend(t *testing.T) {
	routes, err := gateway.NewKongRouter(internal()).Routes(backend())
	if err != nil {
		t.Fatal(err)
	}
	var route *gatewayv1.HTTPRoute
	for _, m := range routes {
		if r, ok := m.Object.(*gatewayv1.HTTPRoute); ok {
			route = r
		}
	}
	closed := map[string]bool{}
	for _, rule := range route.Spec.Rules {
		for _, match := range rule.Matches {
			if *match.Path.Value != "/" && len(rule.BackendRefs) == 0 && len(rule.Filters) == 1 {
				closed[*match.Path.Value] = true
			}
		}
	}
	if !closed["/metrics"] || !closed["/ready"] || !closed["/admin"] {
		t.Errorf("closed are %v", closed)
	}
	if _, err := gateway.NewKongRouter(public()).Routes(backend(gateway.Path{Match: gateway.Prefix, Value: "/metrics"})); err == nil {
		t.Error("a public /metrics is accepted")
	}
}

func TestKongTrafficRouting(t *testing.T) {
	p := pair(t)
	routes, err := p.Routes(backend(gateway.Path{Match: gateway.Exact, Value: "/"}))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		HTTPRouteSelector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"httpRouteSelector"`
		Namespace string `json:"namespace"`
	}
	if err := json.Unmarshal(p.TrafficRouting("web").Plugins[gateway.PluginName], &config); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range routes {
		if _, ok := m.Object.(*gatewayv1.HTTPRoute); !ok {
			continue
		}
		for key, value := range config.HTTPRouteSelector.MatchLabels {
			if m.Object.GetLabels()[key] != value || m.Object.GetNamespace() != config.Namespace {
				t.Errorf("the plugin does not find %s", m.Name)
			}
		}
		found++
	}
	if found != 2 || len(config.HTTPRouteSelector.MatchLabels) != 1 {
		t.Errorf("%d routes, found by %v", found, config.HTTPRouteSelector.MatchLabels)
	}
	if p.Port() != 8000 || p.Pods().Namespace != "kong" || p.Internal.Pods().Namespace != "kong-internal" || len(p.WeightRules()) != 1 {
		t.Errorf("port %d, pods %v and %v", p.Port(), p.Pods(), p.Internal.Pods())
	}
}

func TestKongRefusals(t *testing.T) {
	for want, wrong := range map[string]gateway.KongSpec{
		"Namespace is":               {},
		"ReleaseName is":             {},
		"Class is":                   {},
		"Replicas is 0":              {},
		"RouteNamespaces is empty":   {},
		"the instance is not public": {Host: "shop.example.com"},
		`Host is "Shop"`:             {Public: true, Host: "Shop"},
		`own namespace "kong"`:       {Chart: kube.Chart{Namespace: "kong"}, RouteNamespaces: []string{"kong"}},
		"ChartRepository is":         {Chart: kube.Chart{ChartRepository: "http://x"}},
	} {
		if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	for want, wrong := range map[string]struct {
		spec        *gateway.KongSpec
		certificate pulumi.StringInput
	}{
		"CertificateARN is missing": {public(), nil},
		"has no load balancer":      {internal(), certificate},
		`is "cert", which is not`:   {public(), pulumi.String("cert")},
	} {
		if _, err := wrong.spec.Installation(wrong.certificate); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	_, err := gateway.NewKongPair(internal(), public())
	infratest.Refused(t, err, "is not Public", "instance is Public")
	same := internal()
	same.Class, same.Namespace = "kong", "kong"
	_, err = gateway.NewKongPair(public(), same)
	infratest.Refused(t, err, `the Class "kong"`, `Namespace "kong"`)
	elsewhere := backend()
	elsewhere.Namespace = "other"
	if _, err := gateway.NewKongRouter(internal()).Routes(elsewhere); err == nil || !strings.Contains(err.Error(), `Namespace is "other"`) {
		t.Errorf("the error is %v", err)
	}
}

func TestNewKong(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := gateway.NewKong(ctx, "gateway", public(), certificate)
		return err
	})
	recorder.InOrder(t, map[string][]string{
		"gateway-release": {"gateway-network-policy"}, "gateway-network-policy": {"gateway-namespace"}, "gateway-gateway": {"gateway-release"},
		"gateway-prometheus": {"gateway-release"},
	})
	values, _ := recorder.Named(t, "gateway-release").Inputs["values"].(map[string]any)
	proxy, _ := values["proxy"].(map[string]any)
	annotations, _ := proxy["annotations"].(map[string]any)
	if annotations["service.beta.kubernetes.io/aws-load-balancer-ssl-cert"] != "arn:aws:acm:us-east-1:111122223333:certificate/0" {
		t.Errorf("the proxy's annotations are %v", annotations)
	}
}

func TestKongPluginCopiesDeeply(t *testing.T) {
	parts, err := internal().Installation(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range parts.Objects() {
		original, ok := m.Object.(*gateway.KongPlugin)
		if !ok {
			continue
		}
		copied := original.DeepCopyObject().(*gateway.KongPlugin)
		copied.Labels["global"] = "false"
		if original.Labels["global"] != "true" {
			t.Error("a copy shares its labels with the original")
		}
	}
}

func TestGatewayDefinitionsAreTheGatewayAPIs(t *testing.T) {
	crds, err := gateway.GatewayDefinitions()
	if err != nil || len(crds) != 6 {
		t.Errorf("there are %d (%v)", len(crds), err)
	}
}

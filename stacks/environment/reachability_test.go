package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/infratest/reachability"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

var (
	httpPort     = reachability.Port{Number: 8080, Protocol: corev1.ProtocolTCP}
	webPort      = reachability.Port{Number: 8000, Protocol: corev1.ProtocolTCP}
	internalPort = reachability.Port{Number: 9000, Protocol: corev1.ProtocolTCP}
	dnsUDP       = reachability.Port{Number: 53, Protocol: corev1.ProtocolUDP}
	dnsTCP       = reachability.Port{Number: 53, Protocol: corev1.ProtocolTCP}
	otlpGRPC     = reachability.Port{Number: 4317, Protocol: corev1.ProtocolTCP}
	otlpHTTP     = reachability.Port{Number: 4318, Protocol: corev1.ProtocolTCP}
	allPorts     = []reachability.Port{httpPort, webPort, internalPort, dnsUDP, dnsTCP, otlpGRPC, otlpHTTP}
)

// bystanders are pods that no policy of ours selects: among themselves they do
// what they like.
var bystanders = []reachability.Pod{
	{Name: "coredns", Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}, Ports: []reachability.Port{dnsUDP, dnsTCP}},
	{Name: "kube-system-other", Namespace: "kube-system", Labels: map[string]string{"app": "other"}},
	{Name: "collector", Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"}, Ports: []reachability.Port{otlpGRPC, otlpHTTP}},
	{Name: "observability-other", Namespace: "observability", Labels: map[string]string{"app": "other"}},
	{Name: "default-stranger", Namespace: "default", Labels: map[string]string{"app.kubernetes.io/name": "sample-web-app"}},
}

// podsOf are all pods of an environment, and strangers next to them.
func podsOf(services []service) []reachability.Pod {
	pods := append([]reachability.Pod{
		{Name: "traefik", Namespace: "gateway", Labels: map[string]string{"app.kubernetes.io/name": "traefik"}, Ports: []reachability.Port{webPort, internalPort}},
		{Name: "gateway-stranger", Namespace: "gateway", Labels: map[string]string{"app": "stranger"}},
		{Name: "shop-stranger", Namespace: "shop", Labels: map[string]string{"app": "stranger"}},
	}, bystanders...)
	for _, s := range services {
		pods = append(pods, reachability.Pod{
			Name: s.name, Namespace: "shop", Labels: map[string]string{"app.kubernetes.io/name": s.name}, Ports: []reachability.Port{httpPort},
		})
	}
	return pods
}

// declared is the call graph as services.go and the configuration have it.
func declared(services []service, telemetry bool) []reachability.Edge {
	var edges []reachability.Edge
	add := func(from, to string, ports ...reachability.Port) {
		for _, port := range ports {
			edges = append(edges, reachability.Edge{From: from, To: to, Port: port})
		}
	}
	for _, s := range services {
		if len(s.public) > 0 {
			add("traefik", s.name, httpPort)
		}
		for _, callee := range s.calls {
			add(s.name, callee, httpPort)
		}
		add(s.name, "coredns", dnsUDP, dnsTCP)
		if telemetry {
			add(s.name, "collector", otlpGRPC)
		}
	}
	// Whoever is free to send reaches the edge at its public port, and the bystanders.
	free := append([]reachability.Pod{{Name: "traefik"}, {Name: "gateway-stranger"}}, bystanders...)
	for _, from := range free {
		if from.Name != "traefik" {
			add(from.Name, "traefik", webPort)
		}
		for _, to := range append([]reachability.Pod{{Name: "gateway-stranger"}}, bystanders...) {
			if from.Name != to.Name {
				add(from.Name, to.Name, allPorts...)
			}
		}
	}
	return edges
}

// policiesOf are the policies of an environment with these services.
func policiesOf(t *testing.T, services []service, telemetry bool) []*networkingv1.NetworkPolicy {
	t.Helper()
	cfg := config.Defaults(sizes(services))
	cfg.Images = imagesOf(services)
	if telemetry {
		cfg.Telemetry.OTLPEndpoint = "http://otel-collector.observability:4317"
	}
	p, err := newPlan("test", cfg, services)
	if err != nil {
		t.Fatal(err)
	}
	stages, err := p.stages()
	if err != nil {
		t.Fatal(err)
	}
	return reachability.Policies(stages.All())
}

// twoServices call one another in one direction, and one of them is not public.
var twoServices = []service{
	{name: "orders", public: []gateway.Path{{Match: gateway.Prefix, Value: "/api"}}, calls: []string{"stock"}, size: config.DefaultService()},
	{name: "stock", size: config.DefaultService()},
}

func TestPoliciesLetThroughExactlyWhatIsDeclared(t *testing.T) {
	for name, services := range map[string][]service{"the environment": services, "two services": twoServices} {
		for _, telemetry := range []bool{false, true} {
			policies := policiesOf(t, services, telemetry)
			if diff := reachability.Difference(declared(services, telemetry), reachability.Compute(policies, podsOf(services))); diff != "" {
				t.Errorf("%s, telemetry %t:\n%s", name, telemetry, diff)
			}
		}
	}
}

// TestTheProofCanFail takes away a rule, and a policy, and sees each.
func TestTheProofCanFail(t *testing.T) {
	for want, spoil := range map[string]func([]*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy{
		"declared, but not possible: orders -> stock:8080/TCP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			for _, p := range all {
				if p.Name == "stock" {
					p.Spec.Ingress = nil
				}
			}
			return all
		},
		"not declared, but possible: default-stranger -> orders:9000/TCP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			for _, p := range all {
				if p.Name == "orders" {
					p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
				}
			}
			return all
		},
		"not declared, but possible: shop-stranger -> coredns:53/UDP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			var rest []*networkingv1.NetworkPolicy
			for _, p := range all {
				if p.Name != "default-deny" {
					rest = append(rest, p)
				}
			}
			return rest
		},
	} {
		policies := spoil(policiesOf(t, twoServices, false))
		diff := reachability.Difference(declared(twoServices, false), reachability.Compute(policies, podsOf(twoServices)))
		if !strings.Contains(diff, want) {
			t.Errorf("not seen: %s\nin:\n%s", want, diff)
		}
	}
}

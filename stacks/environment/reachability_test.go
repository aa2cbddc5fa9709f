package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/infratest/reachability"
)

var (
	httpPort     = reachability.Port{Number: 8080, Protocol: corev1.ProtocolTCP}
	webPort      = reachability.Port{Number: 8000, Protocol: corev1.ProtocolTCP}
	internalPort = reachability.Port{Number: 9000, Protocol: corev1.ProtocolTCP}
	dnsUDP       = reachability.Port{Number: 53, Protocol: corev1.ProtocolUDP}
	dnsTCP       = reachability.Port{Number: 53, Protocol: corev1.ProtocolTCP}
	postgresPort = reachability.Port{Number: 5432, Protocol: corev1.ProtocolTCP}
	apiPort      = reachability.Port{Number: 443, Protocol: corev1.ProtocolTCP}
	apiPodPort   = reachability.Port{Number: 6443, Protocol: corev1.ProtocolTCP}
	otlpGRPC     = reachability.Port{Number: 4317, Protocol: corev1.ProtocolTCP}
	otlpHTTP     = reachability.Port{Number: 4318, Protocol: corev1.ProtocolTCP}
	metricsPort  = reachability.Port{Number: 9090, Protocol: corev1.ProtocolTCP}
	spansPort    = reachability.Port{Number: 8889, Protocol: corev1.ProtocolTCP}
	queryPort    = reachability.Port{Number: 16686, Protocol: corev1.ProtocolTCP}
	allPorts     = []reachability.Port{httpPort, webPort, internalPort, dnsUDP, dnsTCP, postgresPort, apiPort, apiPodPort, otlpGRPC, otlpHTTP, metricsPort}
)

// bystanders are pods that no policy of ours selects: connections among them are not
// restricted.
var bystanders = []reachability.Pod{
	{Name: "coredns", Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}, Ports: []reachability.Port{dnsUDP, dnsTCP}},
	{Name: "kube-system-other", Namespace: "kube-system", Labels: map[string]string{"app": "other"}},
	{
		Name: "collector", Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"},
		Ports: []reachability.Port{otlpGRPC, otlpHTTP},
	},
	{Name: "tracing-other", Namespace: "tracing", Labels: map[string]string{"app": "other"}},
	{Name: "observability-other", Namespace: "observability", Labels: map[string]string{"app": "other"}},
	{Name: "default-stranger", Namespace: "default", Labels: map[string]string{"app.kubernetes.io/name": "sample-web-app"}},
}

// shopPod is a pod of a program in the services' namespace.
func shopPod(name string, ports ...reachability.Port) reachability.Pod {
	pod := named("shop", name, ports...)
	pod.Labels["app.kubernetes.io/part-of"] = "loja-veloz"
	return pod
}

func named(namespace, name string, ports ...reachability.Port) reachability.Pod {
	return reachability.Pod{Name: name, Namespace: namespace, Labels: map[string]string{"app.kubernetes.io/name": name}, Ports: ports}
}

// podsOf returns all pods of an environment, and others in the same namespaces.
func podsOf(programs *catalogue.Catalogue, telemetry string) []reachability.Pod {
	inside := named("gateway-internal", "traefik", webPort, internalPort)
	inside.Name = "traefik-internal"
	pods := append([]reachability.Pod{
		named("gateway", "traefik", webPort, internalPort),
		inside,
		named("database", "postgres", postgresPort),
		named("database", "database-setup", apiPort, apiPodPort),
		named("database", "database-admin"),
		named("gateway", "gateway-stranger"),
		named("gateway-internal", "gateway-internal-stranger"),
		named("database", "database-stranger"),
		named("shop", "shop-stranger"),
		named("observability", "prometheus", metricsPort),
		named("observability", "console", httpPort),
		{
			Name: "rollouts", Namespace: "argo-rollouts",
			Labels: map[string]string{"app.kubernetes.io/name": "argo-rollouts", "app.kubernetes.io/component": "rollouts-controller"},
		},
	}, bystanders...)
	if telemetry == passedOn || telemetry == kept {
		pods = append(pods, named("tracing", "otel-collector", otlpHTTP, spansPort))
	}
	if telemetry == kept {
		pods = append(pods, named("tracing", "jaeger", otlpHTTP, queryPort))
	}
	for _, s := range programs.Services() {
		pods = append(pods, shopPod(s.Name, httpPort))
		if s.Database {
			pods = append(pods, named("shop", s.Name+"-migrate"))
		}
	}
	for _, job := range programs.CronJobs() {
		pods = append(pods, shopPod(job.Name, httpPort))
	}
	return pods
}

// Where programs send traces and metrics.
const (
	nowhere   = `{"collector": false}`
	elsewhere = `{"collector": false, "otlpEndpoint": "http://otel-collector.observability:4317"}`
	passedOn  = `{"otlpEndpoint": "http://otel-collector.observability:4318"}`
	kept      = `{}`
)

// declared returns the connections that the catalogue and the configuration declare.
func declared(programs *catalogue.Catalogue, telemetry string) []reachability.Edge {
	var edges []reachability.Edge
	add := func(from, to string, ports ...reachability.Port) {
		for _, port := range ports {
			edge := reachability.Edge{From: from, To: to, Port: port}
			if !slices.Contains(edges, edge) {
				edges = append(edges, edge)
			}
		}
	}
	sends := func(name string) {
		switch telemetry {
		case elsewhere:
			add(name, "collector", otlpGRPC)
		case passedOn, kept:
			add(name, "otel-collector", otlpHTTP)
		}
	}
	ports := slices.Clone(allPorts)
	switch telemetry {
	case passedOn:
		add("otel-collector", "collector", otlpHTTP)
	case kept:
		add("otel-collector", "jaeger", otlpHTTP)
		add("console", "jaeger", queryPort)
		ports = append(ports, queryPort)
	}
	if telemetry == passedOn || telemetry == kept {
		ports = append(ports, spansPort)
		add("otel-collector", "coredns", dnsUDP, dnsTCP)
		add("prometheus", "otel-collector", spansPort)
	}
	for _, s := range programs.Services() {
		if len(s.Public) > 0 {
			add("traefik", s.Name, httpPort)
		}
		if s.Name == "pagamentos" {
			add("console", s.Name, httpPort)
		}
		for _, call := range s.Calls {
			add(s.Name, "traefik-internal", webPort)
			add("traefik-internal", call.Service, httpPort)
		}
		add("prometheus", s.Name, httpPort)
		add(s.Name, "coredns", dnsUDP, dnsTCP)
		sends(s.Name)
		if s.Database {
			add(s.Name, "postgres", postgresPort)
			add(s.Name+"-migrate", "postgres", postgresPort)
			add(s.Name+"-migrate", "coredns", dnsUDP, dnsTCP)
		}
	}
	for _, job := range programs.CronJobs() {
		add(job.Name, "coredns", dnsUDP, dnsTCP)
		if len(job.Reads) > 0 {
			add(job.Name, "postgres", postgresPort)
		}
		sends(job.Name)
	}
	// The egress of these pods is not restricted: they reach the public port of the edge, and each
	// other.
	free := append([]reachability.Pod{{Name: "gateway-stranger"}, {Name: "gateway-internal-stranger"}}, bystanders...)
	for _, from := range append([]reachability.Pod{{Name: "traefik"}, {Name: "traefik-internal"}, {Name: "rollouts"}}, free...) {
		if from.Name != "traefik" {
			add(from.Name, "traefik", webPort)
		}
		for _, to := range free {
			if from.Name != to.Name {
				add(from.Name, to.Name, ports...)
			}
		}
	}
	// The API server has no address that a policy could name.
	for _, from := range []string{"database-setup", "database-admin", "prometheus", "console"} {
		add(from, "coredns", dnsUDP, dnsTCP)
		for _, to := range free {
			add(from, to.Name, apiPort, apiPodPort)
		}
	}
	add("database-setup", "postgres", postgresPort)
	// Prometheus reads services, and nobody but the Rollouts controller and the console asks it. The
	// console reads pagamentos alone.
	// Nobody asks the console: operators reach it through the node.
	add("rollouts", "prometheus", metricsPort)
	add("console", "prometheus", metricsPort)
	return edges
}

// policiesOf returns the policies of an environment with these services.
func policiesOf(t *testing.T, programs *catalogue.Catalogue, telemetry string) []*networkingv1.NetworkPolicy {
	t.Helper()
	images, err := json.Marshal(imagesOf(programs))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"loja-veloz:images": string(images), "loja-veloz:telemetry": telemetry}
	return reachability.Policies(objects(t, values, programs).All())
}

// twoServices is a catalogue in which one service calls the other, which is not public and has
// a database.
var twoServices = func() *catalogue.Catalogue {
	c, err := catalogue.Load(fstest.MapFS{
		"orders/service.yaml":   {Data: []byte("port: 8081\npublic: [{prefix: /api}]\ncalls: {stock: STOCK_URL}\n")},
		"stock/service.yaml":    {Data: []byte("port: 8082\ndatabase: true\n")},
		"database/service.yaml": {Data: []byte("kind: setup\n")},
		"console/service.yaml":  {Data: []byte("kind: platform\n")},
	})
	if err != nil {
		panic(err)
	}
	return c
}()

func TestPoliciesAllowExactlyWhatIsDeclared(t *testing.T) {
	for name, programs := range map[string]*catalogue.Catalogue{"the environment": shop, "two services": twoServices} {
		for _, telemetry := range []string{nowhere, elsewhere, passedOn, kept} {
			policies := policiesOf(t, programs, telemetry)
			if diff := reachability.Difference(declared(programs, telemetry), reachability.Compute(policies, podsOf(programs, telemetry))); diff != "" {
				t.Errorf("%s, telemetry %s:\n%s", name, telemetry, diff)
			}
		}
	}
}

// TestTheProofCanFail removes rules and policies, and expects the difference.
func TestTheProofCanFail(t *testing.T) {
	for want, spoil := range map[string]func([]*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy{
		"declared, but not possible: traefik-internal -> stock:8080/TCP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			for _, p := range all {
				if p.Name == "stock" {
					p.Spec.Ingress = nil
				}
			}
			return all
		},
		"not declared, but possible: orders -> postgres:5432/TCP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			for _, p := range all {
				switch p.Name {
				case "postgres":
					p.Spec.Ingress[0].From = nil
				case "orders":
					p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
				}
			}
			return all
		},
		"not declared, but possible: default-stranger -> traefik-internal:8000/TCP": func(all []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
			for _, p := range all {
				if p.Namespace == "gateway-internal" {
					p.Spec.Ingress[0].From = nil
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
		policies := spoil(policiesOf(t, twoServices, nowhere))
		diff := reachability.Difference(declared(twoServices, nowhere), reachability.Compute(policies, podsOf(twoServices, nowhere)))
		if !strings.Contains(diff, want) {
			t.Errorf("not reported: %s\nin:\n%s", want, diff)
		}
	}
}

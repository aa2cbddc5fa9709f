package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/infratest/reachability"
	"github.com/loja-veloz/platform/stacks/environment/internal/local"
)

// networkOf returns the policies, Services and pods of an environment, with those of its charts and
// the cluster's DNS.
func networkOf(t *testing.T, recorder *infratest.Recorder) *reachability.Objects {
	t.Helper()
	objects := &reachability.Objects{}
	add := func(object map[string]any) {
		if err := objects.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range recorder.Resources() {
		switch {
		case r.Type == "kubernetes:helm.sh/v3:Release":
			chart := strings.TrimSuffix(filepath.Base(r.Inputs["chart"].(string)), ".tgz")
			for _, object := range chartstest.Services(t, chart, r.Inputs["name"].(string), r.Inputs["namespace"].(string),
				r.Inputs["values"].(map[string]any)) {
				add(object)
			}
		case strings.HasPrefix(r.Type, "kubernetes:"):
			add(r.Inputs)
		}
	}
	raw, err := os.ReadFile("testdata/kube-dns.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(raw), "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		add(object)
	}
	return objects
}

// byArgoCD is dev with Argo CD, which applies the services: their pods are not in the plan.
const byArgoCD = "dev, gitops"

// networks returns what networkOf finds in every environment.
func networks(t *testing.T) map[string]*reachability.Objects {
	t.Helper()
	recorder, _, err := registered(t, true, valid(nil))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*reachability.Objects{"local": networkOf(t, recorder)}
	for _, name := range clouds {
		recorder, err := inCloud(t, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		all[name] = networkOf(t, recorder)
	}
	values := stackFile(t, "dev")
	values["loja-veloz:delivery"] = gitopsMode
	if recorder, err = inCloud(t, "dev", values); err != nil {
		t.Fatal(err)
	}
	all[byArgoCD] = networkOf(t, recorder)
	return all
}

// TestEveryServiceThatIsDialledCanBeReached in every environment, by the rules of AWS's VPC CNI.
func TestEveryServiceThatIsDialledCanBeReached(t *testing.T) {
	for name, objects := range networks(t) {
		dials, err := objects.Dials()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "local" {
			dials = append(dials, dialsOfTheDatabase(t, objects)...)
		}
		for _, refusal := range objects.Refusals(dials) {
			t.Errorf("%s: %s", name, refusal)
		}
		for _, want := range dialled(name) {
			if !slices.ContainsFunc(dials, func(d reachability.Dial) bool { return d.String() == want }) {
				t.Errorf("%s: the settings do not say that %s", name, want)
			}
		}
	}
}

// dialled are connections that the settings have to say: a proof about none proves nothing.
func dialled(environment string) []string {
	gateway, telemetry := "traefik.gateway-internal", "jaeger.tracing"
	if environment != "local" {
		gateway, telemetry = "kong-internal-kong-proxy.kong-internal", "datadog.datadog"
	}
	if environment == byArgoCD {
		return []string{"observability/prometheus dials rollback.argocd:8080/TCP"}
	}
	all := []string{
		"tracing/otel-collector dials " + telemetry + ":4318/TCP",
		"observability/prometheus dials otel-collector.tracing:8889/TCP",
		"observability/console dials prometheus.observability:9090/TCP",
		"observability/console dials pagamentos-stable.shop:8080/TCP",
		"shop/sample-web-app dials " + gateway + ":8000/TCP",
		"shop/api-gateway dials " + gateway + ":8000/TCP",
	}
	for _, s := range shop.Services() {
		all = append(all, "shop/"+s.Name+" dials otel-collector.tracing:4318/TCP", "shop/"+s.Name+" dials kube-dns.kube-system:53/UDP")
	}
	for _, job := range shop.CronJobs() {
		all = append(all, "shop/"+job.Name+" dials otel-collector.tracing:4318/TCP")
	}
	return all
}

// dialsOfTheDatabase: its address is in Secrets, which no plan has.
func dialsOfTheDatabase(t *testing.T, objects *reachability.Objects) []reachability.Dial {
	t.Helper()
	p, _ := planned(t, "local", valid(nil), shop, local.New)
	at := slices.IndexFunc(objects.Services, func(s *corev1.Service) bool { return s.Namespace == "database" })
	var dials []reachability.Dial
	for _, client := range p.DatabaseClients {
		for _, pod := range objects.Pods {
			if pod.Namespace == client.Namespace && labels.SelectorFromSet(client.Labels).Matches(labels.Set(pod.Labels)) {
				dials = append(dials, reachability.Dial{From: pod, Service: objects.Services[at], Port: postgresPort.Number})
			}
		}
	}
	if len(dials) < len(p.DatabaseClients) {
		t.Errorf("%d of %d clients of the database have pods", len(dials), len(p.DatabaseClients))
	}
	return dials
}

// TestTheProofOfServicesCanFail: with the selector that lost all telemetry, with the port that AWS does
// not support, and with a policy that names the gateway's pods by a label that its Service lacks.
func TestTheProofOfServicesCanFail(t *testing.T) {
	for want, spoil := range map[string]func(*reachability.Objects){
		"tracing/otel-collector dials datadog.datadog:4318/TCP: no egress rule": func(o *reachability.Objects) {
			relabel(o, "tracing", map[string]string{"app": "datadog"},
				map[string]string{"app.kubernetes.io/component": "agent", "app.kubernetes.io/instance": "datadog-agent"})
		},
		"shop/api-gateway dials kong-internal-kong-proxy.kong-internal:8000/TCP: the pods' port is 8080": func(o *reachability.Objects) {
			for _, s := range o.Services {
				if s.Name == "kong-internal-kong-proxy" {
					s.Spec.Ports[0].TargetPort.IntVal = 8080
				}
			}
		},
		"shop/pedidos dials kong-internal-kong-proxy.kong-internal:8000/TCP: no egress rule": func(o *reachability.Objects) {
			relabel(o, "shop", map[string]string{"app.kubernetes.io/name": "kong", "app.kubernetes.io/instance": "kong-internal"},
				map[string]string{"app": "kong-internal-kong"})
		},
	} {
		recorder, err := inCloud(t, "dev", stackFile(t, "dev"))
		if err != nil {
			t.Fatal(err)
		}
		objects := networkOf(t, recorder)
		spoil(objects)
		dials, err := objects.Dials()
		if err != nil {
			t.Fatal(err)
		}
		refusals := objects.Refusals(dials)
		if !slices.ContainsFunc(refusals, func(r reachability.Refusal) bool { return strings.HasPrefix(r.String(), want) }) {
			t.Errorf("not refused: %s\nbut: %v", want, refusals)
		}
	}
}

// relabel replaces the labels of a peer in the egress rules of a namespace.
func relabel(objects *reachability.Objects, namespace string, from, to map[string]string) {
	for _, policy := range objects.Policies {
		if policy.Namespace != namespace {
			continue
		}
		for _, rule := range policy.Spec.Egress {
			for _, peer := range rule.To {
				if peer.PodSelector != nil && maps.Equal(peer.PodSelector.MatchLabels, from) {
					peer.PodSelector.MatchLabels = to
				}
			}
		}
	}
}

package reachability_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/infratest/reachability"
)

// network is a pod that may dial a Service with a numeric target port, and one with a named one.
const network = `
kind: Deployment
metadata: {name: caller, namespace: shop}
spec:
  template:
    metadata: {labels: {name: caller}}
    spec:
      containers:
      - name: caller
        env: [{name: STOCK_URL, value: "http://stock:8000"}, {name: TRACES, value: "http://traces.tracing.svc:4318/v1"}]
---
kind: Service
metadata: {name: stock, namespace: shop}
spec: {type: ExternalName, externalName: gateway.inside.svc.cluster.local}
---
kind: Service
metadata: {name: gateway, namespace: inside}
spec: {selector: {app: gateway}, ports: [{port: 8000, targetPort: 8000, protocol: TCP}]}
---
kind: Service
metadata: {name: traces, namespace: tracing}
spec: {selector: {app: traces}, ports: [{port: 4318, targetPort: otlp, protocol: TCP}]}
---
kind: Deployment
metadata: {name: gateway, namespace: inside}
spec: {template: {metadata: {labels: {app: gateway, instance: inner}}}}
---
kind: Deployment
metadata: {name: traces, namespace: tracing}
spec:
  template:
    metadata: {labels: {app: traces}}
    spec: {containers: [{name: traces, ports: [{name: otlp, containerPort: 4318}]}]}
---
kind: NetworkPolicy
metadata: {name: traces, namespace: tracing}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}], ports: [{port: 4318, protocol: TCP}]}]
---
kind: NetworkPolicy
metadata: {name: caller, namespace: shop}
spec:
  podSelector: {matchLabels: {name: caller}}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: inside}}, podSelector: {matchLabels: {app: gateway}}}]
    ports: [{port: 8000, protocol: TCP}]
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: tracing}}, podSelector: {matchLabels: {app: traces}}}]
    ports: [{port: 4318, protocol: TCP}]
`

func read(t *testing.T, text string) *reachability.Objects {
	t.Helper()
	objects := &reachability.Objects{}
	for document := range strings.SplitSeq(text, "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if err := objects.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	return objects
}

// TestRulesOfServices: each rule accepts the network, and refuses it with one change.
func TestRulesOfServices(t *testing.T) {
	objects := read(t, network)
	dials, err := objects.Dials()
	if err != nil {
		t.Fatal(err)
	}
	if len(dials) != 2 {
		t.Errorf("the caller dials %v", dials)
	}
	for _, refusal := range objects.Refusals(dials) {
		t.Errorf("refused: %s", refusal)
	}

	refused := map[string]bool{}
	for _, change := range []struct{ rule, from, to, want string }{
		{"Service port", "http://stock:8000", "http://stock:80", "gateway.inside:80/TCP: the Service has no such port"},
		{"port equality", "[{port: 8000, targetPort: 8000", "[{port: 8000, targetPort: 9000", "gateway.inside:8000/TCP: the pods' port is 9000"},
		{"port equality", "targetPort: otlp", "targetPort: grpc", "no pod behind the Service has the target port grpc"},
		{"ClusterIP", "podSelector: {matchLabels: {app: gateway}}", "podSelector: {matchLabels: {instance: inner}}",
			"no egress rule has a peer whose selector matches the Service's own, app=gateway, and the port"},
		{"ClusterIP", "kubernetes.io/metadata.name: inside", "kubernetes.io/metadata.name: outside", "no egress rule"},
		{"ClusterIP", "    ports: [{port: 4318, protocol: TCP}]\n", "    ports: [{port: 4317, protocol: TCP}]\n", "no egress rule"},
		// The first port with the target is the one that the controller admits.
		{"ClusterIP", "ports: [{port: 4318, targetPort: otlp, protocol: TCP}]",
			"ports: [{port: 80, targetPort: otlp, protocol: TCP}, {port: 4318, targetPort: otlp, protocol: TCP}]", "traces.tracing:4318/TCP: no egress"},
		{"pods", "from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]",
			"from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}}]", "a policy denies port 4318 of tracing/traces"},
		{"pods", "labels: {app: gateway, instance: inner}", "labels: {app: other}", "no pod is behind the Service"},
	} {
		if strings.Count(network, change.from) != 1 {
			t.Fatalf("%q is there %d times", change.from, strings.Count(network, change.from))
		}
		objects := read(t, strings.Replace(network, change.from, change.to, 1))
		dials, err := objects.Dials()
		if err != nil {
			t.Fatal(err)
		}
		all := objects.Refusals(dials)
		if len(all) != 1 || all[0].Rule != change.rule || !strings.Contains(all[0].String(), change.want) {
			t.Errorf("with %s instead of %s: %v, want rule %q to say %s", change.to, change.from, all, change.rule, change.want)
		}
		refused[change.rule] = true
	}
	for _, rule := range reachability.Rules {
		if rule.Source == "" || !refused[rule.Name] {
			t.Errorf("rule %q has the source %q, and refuses something: %v", rule.Name, rule.Source, refused[rule.Name])
		}
	}
}

func TestAnUnknownServiceIsAnError(t *testing.T) {
	for _, address := range []string{"http://stocks:8000", "http://gateways.inside:8000", "http://gateway.elsewhere.svc"} {
		_, err := read(t, strings.Replace(network, "http://stock:8000", address, 1)).Dials()
		if err == nil || !strings.Contains(err.Error(), "shop/caller dials "+address+", which no Service has") {
			t.Errorf("%s gives %v", address, err)
		}
	}
	for _, address := range []string{"https://api.example.com", "http://localhost:8080", "0.0.0.0:4318", "name:8000"} {
		if _, err := read(t, strings.Replace(network, "http://stock:8000", address, 1)).Dials(); err != nil {
			t.Errorf("%s gives %v", address, err)
		}
	}
}

// TestWithoutAPolicyEveryServiceCanBeDialled, but its port has to be that of the pods.
func TestWithoutAPolicyEveryServiceCanBeDialled(t *testing.T) {
	before, _, _ := strings.Cut(network, "---\nkind: NetworkPolicy\nmetadata: {name: traces")
	objects := read(t, strings.Replace(before, "app: gateway}, ports", "app: gateway, instance: inner}, ports", 1))
	dials, err := objects.Dials()
	if err != nil {
		t.Fatal(err)
	}
	if refusals := objects.Refusals(dials); len(dials) != 2 || len(refusals) > 0 {
		t.Errorf("%d dials, refused: %v", len(dials), refusals)
	}
}

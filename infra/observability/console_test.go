package observability_test

import (
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/slo"
)

func console() *observability.ConsoleSpec {
	source := func(name, port string) observability.Source {
		return observability.Source{URL: "http://" + name + ".observability:" + port, Pods: kube.PodSelector{
			Namespace: "observability", Labels: map[string]string{"app.kubernetes.io/name": name},
		}}
	}
	return &observability.ConsoleSpec{
		Namespace: "observability", ServicesNamespace: "shop", Image: "localhost:5000/console@sha256:1",
		Objectives: map[string]slo.Objectives{"web": {
			Availability: 99.9, AvailabilityWindow: 30 * 24 * time.Hour,
			Latency: 95, LatencyThreshold: 200 * time.Millisecond, LatencyWindow: 7 * 24 * time.Hour,
			ErrorRate: 0.1, ErrorRateWindow: 24 * time.Hour, P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 10,
		}},
		Prometheus: source("prometheus", "9090"), Jaeger: source("jaeger", "16686"),
		Payments: observability.Source{URL: "http://payments-stable.shop:8080", Pods: kube.PodSelector{
			Namespace: "shop", Labels: map[string]string{"app.kubernetes.io/name": "payments"},
		}},
	}
}

func TestConsoleObjects(t *testing.T) {
	stages, err := console().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "console", stages.All())
	open := console()
	open.NodePort, open.Jaeger, open.Payments = 9092, observability.Source{}, observability.Source{}
	if stages, err = open.Stages(); err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "console-open", stages.All())
}

func TestConsoleReadsOneNamespaceAndAdmitsNobody(t *testing.T) {
	stages, err := console().Stages()
	if err != nil {
		t.Fatal(err)
	}
	roles := 0
	for _, m := range stages.All() {
		switch object := m.Object.(type) {
		case *rbacv1.Role:
			roles++
			for _, rule := range object.Rules {
				if len(rule.Verbs) != 1 || rule.Verbs[0] != "list" {
					t.Errorf("it may %v %v, want list alone", rule.Verbs, rule.Resources)
				}
			}
			if object.Namespace != "shop" {
				t.Errorf("it reads the namespace %s", object.Namespace)
			}
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
			t.Error("it has rights in every namespace")
		case *networkingv1.NetworkPolicy:
			if len(object.Spec.Ingress) > 0 || len(object.Spec.PolicyTypes) != 2 {
				t.Errorf("without a NodePort somebody may connect: %+v", object.Spec)
			}
		}
	}
	if roles != 1 {
		t.Errorf("there are %d roles, want 1", roles)
	}
}

func TestNewConsole(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := observability.NewConsole(ctx, "console", console())
		return err
	})
	if !recorder.Waits(t, "console-deployment", "console-role-binding") {
		t.Error("the pod starts without its rights")
	}
}

func TestConsoleRefusals(t *testing.T) {
	refused := func(spoil func(*observability.ConsoleSpec)) error {
		spec := console()
		spoil(spec)
		return spec.Validate()
	}
	for want, err := range map[string]error{
		"Namespace is empty":              (&observability.ConsoleSpec{}).Validate(),
		"Image is empty":                  (&observability.ConsoleSpec{}).Validate(),
		"Objectives names no serv":        (&observability.ConsoleSpec{}).Validate(),
		`Prometheus.URL is "https://x:1"`: refused(func(s *observability.ConsoleSpec) { s.Prometheus.URL = "https://x:1" }),
		`Jaeger.URL is "http://jaeger"`:   refused(func(s *observability.ConsoleSpec) { s.Jaeger.URL = "http://jaeger" }),
		"Payments.Pods has no name":       refused(func(s *observability.ConsoleSpec) { s.Payments.Pods.Namespace = "" }),
		"Prometheus.Pods has no name":     refused(func(s *observability.ConsoleSpec) { s.Prometheus.Pods.Labels = nil }),
		"NodePort is -1":                  refused(func(s *observability.ConsoleSpec) { s.NodePort = -1 }),
		"Objectives[web]":                 refused(func(s *observability.ConsoleSpec) { s.Objectives["web"] = slo.Objectives{} }),
	} {
		infratest.Refused(t, err, want)
	}
}

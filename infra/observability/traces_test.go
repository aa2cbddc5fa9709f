package observability_test

import (
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
)

func traces() *observability.TracesSpec {
	return &observability.TracesSpec{
		Namespace: "tracing",
		Clients:   []kube.PodSelector{{Namespace: "shop", Labels: map[string]string{"app": "shop"}}},
		Readers:   []kube.PodSelector{{Namespace: "observability", Labels: map[string]string{"app": "console"}}},
	}
}

func TestTracesAreKept(t *testing.T) {
	stages, err := traces().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "traces-kept", stages.All())
}

func TestTracesArePassedOn(t *testing.T) {
	spec := traces()
	spec.Forward, spec.ForwardTo = "http://datadog.datadog.svc:4318", observability.DatadogAgents("datadog")
	stages, err := spec.Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "traces-passed-on", stages.All())
	if url := spec.JaegerURL(); url != "" {
		t.Errorf("Jaeger is said to be at %s", url)
	}
}

func TestTracesRefusals(t *testing.T) {
	for want, spoil := range map[string]func(*observability.TracesSpec){
		"Clients[0] has no namespace": func(s *observability.TracesSpec) { s.Clients[0] = kube.PodSelector{} },
		`Forward is "http://agent:4317": use http://HOST:4318`: func(s *observability.TracesSpec) {
			s.Forward, s.ForwardTo = "http://agent:4317", observability.DatadogAgents("datadog")
		},
		"ForwardTo has no namespace": func(s *observability.TracesSpec) { s.Forward = "http://agent:4318" },
		"NodePort is 16686, but with Forward there is no Jaeger": func(s *observability.TracesSpec) {
			s.Forward, s.ForwardTo, s.NodePort = "http://agent:4318", observability.DatadogAgents("datadog"), 16686
		},
	} {
		spec := traces()
		spoil(spec)
		if _, err := spec.Stages(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, is %v", want, err)
		}
	}
}

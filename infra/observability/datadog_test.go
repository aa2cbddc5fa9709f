package observability_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/slo"
)

// withObjectives lets Datadog know the objectives of a service.
func withObjectives() *observability.DatadogSpec {
	spec := datadog()
	spec.Objectives = &observability.DatadogObjectives{Environment: "prod", Namespace: "shop", Services: map[string]slo.Objectives{"pedidos": {
		Availability: 99.9, AvailabilityWindow: 30 * 24 * time.Hour, Latency: 95, LatencyThreshold: 200 * time.Millisecond,
		LatencyWindow: 7 * 24 * time.Hour, ErrorRate: 0.1, ErrorRateWindow: 24 * time.Hour,
		P50: 100 * time.Millisecond, P99: 500 * time.Millisecond, BaselineRPS: 10,
	}}, Alarms: slo.Alarms(true)}
	return spec
}

// TestTheOperatorsDefinitionAcceptsEveryObject compares the objects with the schema of the
// definition that the operator's module has. An API server ignores fields that a definition
// does not know; here they are errors.
func TestTheOperatorsDefinitionAcceptsEveryObject(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(chartstest.Folder(t), "datadog", "crds", "datadoggenericresources.datadoghq.com.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var definition apiextension
	if err := yaml.Unmarshal(raw, &definition); err != nil {
		t.Fatal(err)
	}
	version := definition.Spec.Versions[0]
	version.Schema.OpenAPIV3Schema["properties"].(map[string]any)["spec"].(map[string]any)["additionalProperties"] = false
	text, err := json.Marshal(version.Schema.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.CompileString("definition.json", string(text))
	if err != nil {
		t.Fatal(err)
	}
	parts, err := withObjectives().Installation()
	if err != nil {
		t.Fatal(err)
	}
	objects := parts.After.All()
	if want := 3 + 12 + 1 + len(slo.Alarms(true)); len(objects) != want {
		t.Errorf("there are %d objects, want 3 SLOs, 12 monitors and a dashboard, and a monitor for each alarm: %d", len(objects), want)
	}
	for _, m := range objects {
		fields, err := kube.Encode(m.Object)
		if err != nil {
			t.Fatal(err)
		}
		want := definition.Spec.Group + "/" + version.Name + " " + definition.Spec.Names.Kind
		if got := fmt.Sprint(fields["apiVersion"], " ", fields["kind"]); got != want {
			t.Errorf("%s is a %s, want %s", m.Name, got, want)
		}
		if err := schema.Validate(fields); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		for field, value := range map[string]any{"type": "slos", "jsonSpec": "", "json": "{}"} {
			broken := map[string]any{"spec": maps.Clone(fields["spec"].(map[string]any))}
			broken["spec"].(map[string]any)[field] = value
			if schema.Validate(broken) == nil {
				t.Errorf("%s with %s: %q is accepted", m.Name, field, value)
			}
		}
	}
}

// apiextension is the part of a CustomResourceDefinition that the test reads.
type apiextension struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Schema struct{ OpenAPIV3Schema map[string]any }
		}
	}
}

func TestTheAgentReadsTheMetricsOfObjectivesAndAlarms(t *testing.T) {
	annotations, err := observability.DatadogAnnotations("service", 8080, "prod")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"openmetrics":{"init_config":{},"instances":[{"openmetrics_endpoint":"http://%%host%%:8080/metrics",` +
		`"namespace":"loja","metrics":["sli_request_duration_seconds",` +
		`"background_failures","payments_needing_person","payments_overdue"],"tags":["env:prod"]}]}}`
	if got := annotations["ad.datadoghq.com/service.checks"]; got != want {
		t.Errorf("the check is %s", got)
	}
}

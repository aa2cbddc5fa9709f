package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func document(t *testing.T, service string) *openapi3.T {
	t.Helper()
	content, err := os.ReadFile("../internal/contract/" + service + "/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(content)
	if err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	return doc
}

// asJSON returns a part of a document as JSON, without the hints for generated code.
func asJSON(t *testing.T, part any) string {
	t.Helper()
	encoded, err := json.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(encoded, &tree); err != nil {
		t.Fatal(err)
	}
	if members, ok := tree.(map[string]any); ok {
		for name := range members {
			if strings.HasPrefix(name, "x-") {
				delete(members, name)
			}
		}
	}
	encoded, err = json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// The document has exactly the operations of the routes, with the same requests and
// responses as the services' own documents.
func TestTheContractDescribesTheRoutes(t *testing.T) {
	public := document(t, "gateway")
	var documented, routed []string
	for path, item := range public.Paths.Map() {
		for method := range item.Operations() {
			if path != "/health" {
				documented = append(documented, method+" "+path)
			}
		}
	}
	for _, r := range routes {
		var segments []string
		for segment := range strings.SplitSeq(r.path, "/") {
			if name, ok := strings.CutPrefix(segment, ":"); ok {
				segment = "{" + name + "}"
			}
			segments = append(segments, segment)
		}
		path := strings.Join(segments, "/")
		theirs := document(t, r.upstream).Paths.Find(path)
		if theirs == nil {
			t.Errorf("%s has no %s", r.upstream, path)
			continue
		}
		for _, method := range r.methods {
			routed = append(routed, method+" "+path)
			our, their := public.Paths.Find(path).GetOperation(method), theirs.GetOperation(method)
			if our == nil || their == nil {
				t.Errorf("%s %s: in the gateway's document %t, in the service's %t; want both", method, path, our != nil, their != nil)
				continue
			}
			if our.OperationID != their.OperationID || asJSON(t, our.Responses) != asJSON(t, their.Responses) && !sameAnswers(t, our, their) {
				t.Errorf("%s %s differs from %s's own contract", method, path, r.upstream)
			}
			if (our.RequestBody == nil) != (their.RequestBody == nil) ||
				our.RequestBody != nil && asJSON(t, our.RequestBody.Value.Content) != asJSON(t, their.RequestBody.Value.Content) {
				t.Errorf("the request body of %s %s differs from %s's own", method, path, r.upstream)
			}
			for _, parameter := range append(slices.Clone(theirs.Parameters), their.Parameters...) {
				if p := parameter.Value; p.Name != "Client-Id" {
					if got := our.Parameters.GetByInAndName(p.In, p.Name); got == nil || asJSON(t, got) != asJSON(t, p) {
						t.Errorf("%s %s: parameter %s differs from %s's own", method, path, p.Name, r.upstream)
					}
				}
			}
		}
		for name, schema := range document(t, r.upstream).Components.Schemas {
			if got := public.Components.Schemas[name]; got != nil && asJSON(t, got.Value) != asJSON(t, schema.Value) {
				t.Errorf("schema %s differs from %s's own", name, r.upstream)
			}
		}
	}
	slices.Sort(documented)
	slices.Sort(routed)
	if !slices.Equal(documented, routed) {
		t.Errorf("documented %v, routed %v", documented, routed)
	}
}

func sameAnswers(t *testing.T, a, b *openapi3.Operation) bool {
	for status, answer := range a.Responses.Map() {
		other := b.Responses.Value(status)
		if status == "default" {
			continue // the gateway's has headers for its own problems too
		}
		if other == nil || asJSON(t, answer.Value) != asJSON(t, other.Value) {
			return false
		}
	}
	return a.Responses.Len() == b.Responses.Len()
}

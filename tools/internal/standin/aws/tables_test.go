package aws

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/standin/schema"
)

var sharedSource = sync.OnceValues(func() (*schema.Source, error) {
	dir, err := schema.SourceDir(context.Background())
	if err != nil {
		return nil, err
	}
	return schema.NewSource(dir), nil
})

func known(t *testing.T, token string) *schema.Resource {
	t.Helper()
	source, err := sharedSource()
	if err != nil {
		t.Fatalf("sources of pulumi-aws: %v", err)
	}
	resource, err := source.Resource(token)
	if err != nil {
		t.Fatal(err)
	}
	return resource
}

// hasInput reports whether a type has an input at a path without indices.
func hasInput(known *schema.Resource, path string) bool {
	parts := strings.Split(path, ".")
	field, ok := known.Inputs[parts[0]]
	for _, part := range parts[1:] {
		if !ok {
			return false
		}
		t := field.Type
		for t.Kind == schema.List || t.Kind == schema.Map {
			t = t.Elem
		}
		fields, err := t.Fields()
		if err != nil {
			return false
		}
		field, ok = fields[part]
	}
	return ok
}

func TestEveryTypeIsInOneTable(t *testing.T) {
	rows := 0
	for _, table := range tables {
		rows += len(table)
	}
	if rows != len(types) {
		t.Errorf("the tables have %d rows for %d types", rows, len(types))
	}
}

// A misspelt path would turn a replacement into an update, or the reverse.
func TestChangesNameInputs(t *testing.T) {
	for token, row := range types {
		k := known(t, token)
		if row.source == "" || row.replace+row.update == "" {
			t.Errorf("%s: nothing says what replaces it, or there is no source", token)
		}
		for _, path := range strings.Fields(row.replace + " " + row.update) {
			if !hasInput(k, path) {
				t.Errorf("%s has no input %s", token, path)
			}
		}
	}
}

// builtIn are the names in templates that are not properties.
var builtIn = []string{"region", "account", "partition", "dns", "id", "arn", "host"}

func TestTemplatesNameProperties(t *testing.T) {
	for token, row := range types {
		k := known(t, token)
		for name := range row.outputs {
			if _, ok := k.Outputs[name]; !ok {
				t.Errorf("%s has no output %s", token, name)
			}
		}
		if _, ok := k.Outputs["arn"]; row.arn != "" && !ok {
			t.Errorf("%s has no arn", token)
		}
		templates := append(slices.Collect(maps.Values(row.outputs)), row.id, row.arn, row.unique)
		for _, match := range templateName.FindAllStringSubmatch(strings.Join(templates, " "), -1) {
			_, derived := derive(match[1], "")
			_, output := k.Outputs[match[1]]
			if !derived && !output && !hasInput(k, match[1]) && !slices.Contains(builtIn, match[1]) {
				t.Errorf("%s has no property %s", token, match[0])
			}
		}
	}
}

// In an order that a map decides, a template would sometimes be filled before the output
// that it names.
func TestOutputsAreRenderedAfterThoseTheyName(t *testing.T) {
	order := renderOrder(map[string]string{"address": "{host}:{port|1}", "port": "{zone}", "zone": "a", "b": "{id}"})
	if want := []string{"zone", "port", "address", "b"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	for token, row := range types {
		rendered := map[string]bool{}
		for _, name := range renderOrder(row.outputs) {
			for _, match := range templateName.FindAllStringSubmatch(row.outputs[name], -1) {
				if _, output := row.outputs[match[1]]; output && !rendered[match[1]] && !slices.Contains(builtIn, match[1]) {
					t.Errorf("%s: %s is rendered before %s, which it names", token, name, match[1])
				}
			}
			rendered[name] = true
		}
	}
}

func TestReferencesNameInputs(t *testing.T) {
	for _, r := range slices.Concat(References, Origins) {
		if !hasInput(known(t, r.From), r.Property) {
			t.Errorf("%s has no input %s", r.From, r.Property)
		}
	}
}

func TestLimitsNameInputs(t *testing.T) {
	for _, l := range limits {
		if l.source == "" {
			t.Errorf("limit of %s: no source", l.path)
		}
		for _, token := range l.types {
			if !hasInput(known(t, token), l.path) {
				t.Errorf("limit: %s has no input %s", token, l.path)
			}
		}
	}
}

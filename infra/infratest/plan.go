package infratest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mattering lists, by kind of Kubernetes object, the inputs that a plan shows. Other inputs are
// omitted: the golden files of the components contain them.
var mattering = map[string][]string{
	"HorizontalPodAutoscaler": {"spec.minReplicas", "spec.maxReplicas"},
	"Rollout":                 {"spec.template.spec.containers[0].image"},
	"HTTPRoute":               {"spec.hostnames[0]"},
	"Gateway":                 {"spec.listeners[0].hostname", "spec.listeners[0].port"},
}

// Plan renders the registrations as a text that is the same on every run: a tree by parents,
// each resource with its type, its name, its protection and the inputs in mattering.
// CustomResourceDefinitions are omitted: they are files already.
func (r *Recorder) Plan() string {
	children := map[string][]Resource{}
	for _, found := range r.Resources() {
		if found.Inputs["kind"] == "CustomResourceDefinition" {
			continue
		}
		parent := found.Parent
		if strings.HasSuffix(parent, "pulumi:pulumi:Stack::"+project+"-"+stack) {
			parent = ""
		}
		children[parent] = append(children[parent], found)
	}
	var out bytes.Buffer
	var write func(parent, indent string)
	write = func(parent, indent string) {
		level := children[parent]
		slices.SortFunc(level, func(a, b Resource) int { return strings.Compare(a.Type+" "+a.Name, b.Type+" "+b.Name) })
		for _, resource := range level {
			fmt.Fprintf(&out, "%s%s %s", indent, resource.Type, resource.Name)
			if resource.Protect {
				out.WriteString(" (protected)")
			}
			out.WriteString("\n")
			inputs := map[string]string{}
			flatten(inputs, "", resource.Inputs)
			for _, path := range slices.Sorted(maps.Keys(inputs)) {
				if shown(resource, path) {
					fmt.Fprintf(&out, "%s    %s: %s\n", indent, path, inputs[path])
				}
			}
			write(resource.URN, indent+"  ")
		}
	}
	write("", "")
	return out.String()
}

func shown(r Resource, path string) bool {
	if !strings.HasPrefix(r.Type, "kubernetes:") || strings.HasPrefix(r.Type, "kubernetes:helm.sh/") {
		return true
	}
	kind := r.Type[strings.LastIndex(r.Type, ":")+1:]
	return slices.Contains(mattering[kind], path)
}

// flatten collects every leaf by its path. JSON documents, such as policies, are on one line
// with sorted keys.
func flatten(into map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, nested := range v {
			if strings.ContainsAny(key, "./") {
				key = "[" + key + "]"
			} else if path != "" {
				key = "." + key
			}
			flatten(into, path+key, nested)
		}
	case []any:
		for i, nested := range v {
			flatten(into, fmt.Sprintf("%s[%d]", path, i), nested)
		}
	case string:
		var document any
		if strings.HasPrefix(v, "{") && json.Unmarshal([]byte(v), &document) == nil {
			if compact, err := json.Marshal(document); err == nil {
				v = string(compact)
			}
		}
		into[path] = strings.ReplaceAll(v, "\n", `\n`)
	default:
		into[path] = fmt.Sprint(v)
	}
}

// GoldenPlan compares the plan with testdata/<name>.txt; with -update it writes
// the file.
func (r *Recorder) GoldenPlan(t testing.TB, name string) {
	t.Helper()
	golden(t, filepath.Join("testdata", name+".txt"), r.Plan())
}

// golden compares got with a file, or writes it.
func golden(t testing.TB, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("reading the golden file: %v (go test -update writes it)", err)
	}
	if line, a, b := firstDifference(string(want), got); line > 0 {
		t.Errorf("%s line %d differs (go test -update accepts it):\n  was %q\n  is  %q", file, line, a, b)
	}
}

// Package chartstest checks the values of Helm releases: against golden files, and against the
// schemas of the test charts, which list only the keys that the real charts are known to have.
package chartstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"text/template"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

// Folder is where the test charts are.
func Folder(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller")
	}
	return filepath.Join(filepath.Dir(filepath.Dir(file)), "testcharts")
}

// Validate returns what is wrong with values for a chart, or nil.
func Validate(t testing.TB, chart charts.Chart, values map[string]any) error {
	t.Helper()
	file := filepath.Join(Folder(t), chart.Name, "values.schema.json")
	schema, err := jsonschema.Compile(file)
	if err != nil {
		t.Fatalf("the schema of the test chart %s: %v", chart.Name, err)
	}
	return schema.Validate(values)
}

// Golden compares a release with testdata/<name>.yaml and its values with the
// schema of its chart.
func Golden(t *testing.T, name string, release *kube.Release) {
	t.Helper()
	if err := release.Validate(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	values, err := release.RenderedValues()
	if err != nil {
		t.Fatal(err)
	}
	if err := Validate(t, release.Chart, values); err != nil {
		t.Errorf("the chart %s refuses the values of %s: %v", release.Chart.Name, name, err)
	}
	raw, err := json.Marshal(map[string]any{
		"chart": release.Chart.Name, "version": release.Chart.Version,
		"namespace": release.Namespace, "atomic": release.Atomic, "values": values,
	})
	if err != nil {
		t.Fatal(err)
	}
	// Golden files hold Kubernetes objects, so the release is rendered as one.
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &object.Object); err != nil {
		t.Fatal(err)
	}
	object.SetAPIVersion("helm.sh/v3")
	object.SetKind("Release")
	object.SetName(release.Name)
	infratest.Golden(t, name, []kube.Manifest{{Name: "release", Object: object}})
}

// MustExist fails the test if the chart's test chart is missing.
func MustExist(t *testing.T, chart charts.Chart) {
	t.Helper()
	for _, file := range []string{"Chart.yaml", "values.schema.json", "templates/values.yaml"} {
		if _, err := os.Stat(filepath.Join(Folder(t), chart.Name, file)); err != nil {
			t.Errorf("test chart %s: %v", chart.Name, err)
		}
	}
}

// Services returns the Services of a chart that pods with a policy of ours dial, and the pods behind
// them, as the real chart makes them of a release's values. The test chart's services.yaml says where
// that is written down; a chart without the file has none.
func Services(t testing.TB, chart, release, namespace string, values map[string]any) []map[string]any {
	t.Helper()
	file := filepath.Join(Folder(t), chart, "services.yaml")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	rendered, err := template.ParseFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := rendered.Execute(&text, map[string]any{"Name": release, "Namespace": namespace, "Values": values}); err != nil {
		t.Fatal(err)
	}
	var objects []map[string]any
	for document := range strings.SplitSeq(text.String(), "\n---\n") {
		object := map[string]any{}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%s: %v in\n%s", file, err, document)
		}
		objects = append(objects, object)
	}
	return objects
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const definition = `apiVersion: v1
kind: ConfigMap
metadata: {name: not-a-definition}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com, creationTimestamp: null}
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: goes
        type: object
        properties:
          description: {type: string, description: goes}
          items:
            type: array
            items: {description: goes, type: object, default: {description: stays}}
          template:
            type: object
            required: [containers]
            properties:
              containers: {type: array}
              initContainers: {type: array}
status: {conditions: []}
`

func TestReadShortensDefinitions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crds.yml")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	definitions, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	stale := filepath.Join(out, "stale.yaml")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(out, "# header\n", definitions); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "widgets.example.com.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `# header
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        properties:
          description:
            type: string
          items:
            items:
              default:
                description: stays
              type: object
            type: array
          template:
            type: object
            x-kubernetes-preserve-unknown-fields: true
        type: object
`
	if string(raw) != want {
		t.Errorf("written:\n%s", raw)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Error("a definition that upstream dropped is still there")
	}
}

func TestRefusals(t *testing.T) {
	if err := run([]string{"-module", "example.com/m@v1.0.0", "-path", "crds", "-license", "MIT"}); err == nil ||
		!strings.Contains(err.Error(), "-out is missing") {
		t.Errorf("without -out: %v", err)
	}
	if _, err := strip(map[string]any{"kind": "CustomResourceDefinition"}); err == nil {
		t.Error("a definition without a name is accepted")
	}
}

package kube

import (
	"fmt"
	"io/fs"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Definitions reads the CustomResourceDefinitions in a folder of YAML files, one
// per file, into manifests named crd-<plural>.
func Definitions(files fs.FS) ([]Manifest, error) {
	names, err := fs.Glob(files, "*/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the CustomResourceDefinitions: %w", err)
	}
	manifests := make([]Manifest, 0, len(names))
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		definition := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &definition.Object); err != nil {
			return nil, fmt.Errorf("parsing %s: %w", name, err)
		}
		plural, _, _ := strings.Cut(definition.GetName(), ".")
		manifests = append(manifests, Manifest{Name: "crd-" + plural, Object: definition})
	}
	return manifests, nil
}

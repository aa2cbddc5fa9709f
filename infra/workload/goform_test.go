package workload_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestRolloutsPodsHaveTheirGoForm: Argo CD compares the pods of a Rollout as Go's types encode them, and
// where that differs from what is in the cluster, RespectIgnoreDifferences puts the cluster's containers
// back, with their old image (docs/gitops.md).
func TestRolloutsPodsHaveTheirGoForm(t *testing.T) {
	text, err := os.ReadFile("testdata/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var rollout struct {
			Kind string
			Spec struct{ Template struct{ Spec map[string]any } }
		}
		if err := yaml.Unmarshal([]byte(document), &rollout); err != nil || rollout.Kind != "Rollout" {
			continue
		}
		seen++
		var typed corev1.PodSpec
		var again map[string]any
		raw, err := json.Marshal(rollout.Spec.Template.Spec)
		if err == nil {
			err = json.Unmarshal(raw, &typed)
		}
		if err == nil {
			raw, err = json.Marshal(typed)
		}
		if err == nil {
			err = json.Unmarshal(raw, &again)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(rollout.Spec.Template.Spec, again) {
			t.Errorf("the pods are\n%v\nand in their Go form\n%v", rollout.Spec.Template.Spec, again)
		}
	}
	if seen == 0 {
		t.Error("testdata/web.yaml has no Rollout")
	}
}

package infratest

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func TestEveryOrphanAndDuplicateIsReported(t *testing.T) {
	recorder, err := Run(false, func(ctx *pulumi.Context) error {
		component := &pulumi.ResourceState{}
		if err := ctx.RegisterComponentResource("test:index:Component", "component", component); err != nil {
			return err
		}
		for _, parented := range []string{"child", "child"} {
			if _, err := kube.Apply(ctx, parented, configMap("x"), nil, pulumi.Parent(component)); err != nil {
				return err
			}
		}
		for _, orphan := range []string{"orphan-1", "orphan-2"} {
			if _, err := kube.Apply(ctx, orphan, configMap("x"), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	orphans := recorder.Orphans()
	slices.Sort(orphans)
	want := []string{
		"urn:pulumi:test::loja-veloz::kubernetes:core/v1:ConfigMap::orphan-1",
		"urn:pulumi:test::loja-veloz::kubernetes:core/v1:ConfigMap::orphan-2",
	}
	if !slices.Equal(orphans, want) {
		t.Errorf("orphans are %q, want %q", orphans, want)
	}
	duplicates := recorder.Duplicates()
	if len(duplicates) != 1 || !strings.Contains(duplicates[0], "test:index:Component$kubernetes:core/v1:ConfigMap::child (2 times)") {
		t.Errorf("duplicates are %q", duplicates)
	}
}

func TestFirstDifferenceSeesMissingLines(t *testing.T) {
	if line, _, _ := firstDifference("a\nb", "a\nb"); line != 0 {
		t.Errorf("equal texts differ in line %d", line)
	}
	if line, _, _ := firstDifference("a\nb", "a\nb\n"); line != 3 {
		t.Errorf("an added line is seen in line %d, want 3", line)
	}
}

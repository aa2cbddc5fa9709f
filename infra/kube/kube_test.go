package kube_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

func TestEncode(t *testing.T) {
	rollout := &rolloutsv1alpha1.Rollout{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Status:     rolloutsv1alpha1.RolloutStatus{Abort: true},
	}
	got, err := kube.Encode(rollout)
	if err != nil {
		t.Fatal(err)
	}
	if got["apiVersion"] != "argoproj.io/v1alpha1" || got["kind"] != "Rollout" {
		t.Errorf("encoded as %v %v", got["apiVersion"], got["kind"])
	}
	if _, there := got["status"]; there {
		t.Error("the status is sent")
	}
	if paths := nulls("", got); len(paths) > 0 {
		t.Errorf("null fields are sent: %s", strings.Join(paths, ", "))
	}
	if rollout.Kind != "" {
		t.Error("Encode changed its argument")
	}
}

func TestEncodeKeepsARealCreationTimestamp(t *testing.T) {
	stamp := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	got, err := kube.Encode(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", CreationTimestamp: stamp}})
	if err != nil {
		t.Fatal(err)
	}
	if meta := got["metadata"].(map[string]any); meta["creationTimestamp"] != "2026-01-02T03:04:05Z" {
		t.Errorf("metadata is %v", meta)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		object kube.Object
		want   string
	}{
		"a group that is not registered": {&eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}}, "finding the kind of a *v1.Event"},
		"an object without a name":       {&corev1.ConfigMap{}, "ConfigMap: metadata.name is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := kube.Encode(test.object); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestToken(t *testing.T) {
	for want, gvk := range map[string]schema.GroupVersionKind{
		"kubernetes:core/v1:Service":              {Version: "v1", Kind: "Service"},
		"kubernetes:apps/v1:Deployment":           {Group: "apps", Version: "v1", Kind: "Deployment"},
		"kubernetes:argoproj.io/v1alpha1:Rollout": {Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"},
	} {
		if got := kube.Token(gvk); got != want {
			t.Errorf("token of %s is %s, want %s", gvk, got, want)
		}
	}
}

func TestApplyLaysOverlays(t *testing.T) {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName}}
	recorder, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		endpoint := pulumi.String("db.example.com").ToStringOutput()
		_, err := kube.Apply(ctx, "db", service, []kube.Overlay{
			{Path: []string{"spec", "externalName"}, Value: endpoint},
			{Path: []string{"metadata", "annotations", "from"}, Value: pulumi.String("output")},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := recorder.Named(t, "db")
	if got.Type != "kubernetes:core/v1:Service" {
		t.Errorf("type is %s", got.Type)
	}
	spec, _ := got.Inputs["spec"].(map[string]any)
	if spec["externalName"] != "db.example.com" || spec["type"] != "ExternalName" {
		t.Errorf("spec is %v", spec)
	}
	meta, _ := got.Inputs["metadata"].(map[string]any)
	if !reflect.DeepEqual(meta["annotations"], map[string]any{"from": "output"}) {
		t.Errorf("metadata is %v", meta)
	}
}

func TestApplyRefusesOverlaysWithWrongPaths(t *testing.T) {
	for name, path := range map[string][]string{"has an empty path": nil, "is not a map": {"spec", "replicas", "below"}} {
		replicas := int32(1)
		object := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas}}
		_, err := infratest.Run(false, func(ctx *pulumi.Context) error {
			_, err := kube.Apply(ctx, "d", object, []kube.Overlay{{Path: path, Value: pulumi.String("x")}})
			return err
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("overlay %v: error is %v, want one with %q", path, err, name)
		}
	}
}

func TestDefinitions(t *testing.T) {
	manifests, err := kube.Definitions(fstest.MapFS{
		"crds/widgets.example.com.yaml": {Data: []byte("# header\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(manifests) != 1 || manifests[0].Name != "crd-widgets" || manifests[0].Object.GetName() != "widgets.example.com" {
		t.Errorf("manifests are %+v", manifests)
	}
	if _, err := kube.Definitions(fstest.MapFS{"crds/bad.yaml": {Data: []byte("a: [")}}); err == nil || !strings.Contains(err.Error(),
		"bad.yaml") {
		t.Errorf("a malformed file gives %v", err)
	}
}

// nulls lists the paths that hold null.
func nulls(path string, value any) []string {
	var paths []string
	switch v := value.(type) {
	case nil:
		return []string{path}
	case map[string]any:
		for key, nested := range v {
			paths = append(paths, nulls(path+"."+key, nested)...)
		}
	case []any:
		for _, nested := range v {
			paths = append(paths, nulls(path+"[]", nested)...)
		}
	}
	return paths
}

// TestJobs: a Job with another pod has another name, which is still valid for an object and a
// label.
func TestJobs(t *testing.T) {
	nameOf := func(image string) string {
		job, err := kube.NewJob(metav1.ObjectMeta{Name: "web-migrate", Labels: map[string]string{"a": "b"}}, "0123456789ab", 2*time.Minute,
			corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}})
		if err != nil {
			t.Fatal(err)
		}
		if job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyNever || *job.Spec.ActiveDeadlineSeconds != 120 ||
			job.Annotations["pulumi.com/replaceUnready"] != "true" || job.Annotations["pulumi.com/timeoutSeconds"] != "180" {
			t.Errorf("the Job is %+v", job)
		}
		if len(job.Name) != len("web-migrate-0123456789ab")+kube.JobSuffix || !strings.HasPrefix(job.Name, "web-migrate-0123456789ab-") {
			t.Errorf("the Job is called %s", job.Name)
		}
		return job.Name
	}
	if first, again := nameOf("a"), nameOf("a"); first != again || first == nameOf("b") {
		t.Error("different pods have the same name, or the same pod has two")
	}
}

func TestSecretVariable(t *testing.T) {
	ref := kube.SecretVariable("A", "secret", "key").ValueFrom.SecretKeyRef
	if ref.Name != "secret" || ref.Key != "key" || ref.Optional != nil {
		t.Errorf("it is %+v", ref)
	}
}

type sampleComponent struct {
	pulumi.ResourceState
	kube.Objects
}

// TestADependencyOnAComponentCoversItsObjects runs many times, because Pulumi's SDK adds children to
// their parent in the background.
func TestADependencyOnAComponentCoversItsObjects(t *testing.T) {
	stages := func() (kube.Stages, error) {
		return kube.Stages{{{Name: "first", Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "first"}}}},
			{{Name: "second", Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "second"}}}}}, nil
	}
	for range 50 {
		recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
			before, after := &sampleComponent{}, &sampleComponent{}
			if _, err := kube.NewComponent(ctx, "sample", "test:index:Sample", "before", before, stages, nil); err != nil {
				return err
			}
			_, err := kube.NewComponent(ctx, "sample", "test:index:Sample", "after", after, stages,
				[]pulumi.ResourceOption{pulumi.DependsOn([]pulumi.Resource{before})})
			return err
		})
		recorder.InOrder(t, map[string][]string{"after-first": {"before-first", "before-second"}})
		if t.Failed() {
			return
		}
	}
}

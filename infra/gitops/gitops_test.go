package gitops

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

const (
	webDigest = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	webImage  = "localhost:5000/web@sha256:" + webDigest
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{nameLabel: "web-migrate"}}
}

// web is a service with one object of each kind that is rendered in a way of its own.
func web() Service {
	pods := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "service", Image: webImage, Env: []corev1.EnvVar{{Name: "SERVICE_VERSION", Value: webDigest}},
	}}}}
	settings := &corev1.ConfigMap{ObjectMeta: meta("web-1")}
	service := &corev1.Service{ObjectMeta: meta("web-stable")}
	service.Annotations = map[string]string{kube.SkipAwait: "true", "example.com/kept": "true"}
	rollout := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": map[string]any{"name": "web", "namespace": "shop"},
	}}
	return Service{Name: "web", Image: webImage, Stages: kube.Stages{
		{{Name: "config", Object: settings, RetainOnDelete: true}, {Name: "service", Object: service, IgnoreChanges: []string{"spec.selector"}}},
		{{Name: "migrate", Object: &batchv1.Job{ObjectMeta: meta("web-migrate-fedcba987654-1234"), Spec: batchv1.JobSpec{Template: pods}}}},
		{{Name: "rollout", Object: rollout}},
		{{Name: "account", Object: &corev1.ServiceAccount{ObjectMeta: meta("web")}}},
	}}
}

func spec() *Spec {
	return &Spec{
		URL: "https://github.com/loja-veloz/platform.git", Branch: "main", Path: "deploy/prod", Target: "shop", Services: []Service{web()},
	}
}

func TestAnnotations(t *testing.T) {
	objects, err := web().Objects()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{
		"ConfigMap web-1":    {syncWave: "0", syncOptions: "Prune=false", compareOptions: "IgnoreExtraneous"},
		"Service web-stable": {syncWave: "0", "example.com/kept": "true"},
		"Job web-migrate":    {syncWave: "1", hook: "Sync", hookDeletePolicy: "BeforeHookCreation"},
		"Rollout web":        {syncWave: "2"},
		"ServiceAccount web": {syncWave: "2"}, // Argo CD does not wait for the last wave, which has the Rollout
	}
	for _, fields := range objects {
		metadata := object(fields, "metadata")
		name := fields["kind"].(string) + " " + metadata["name"].(string)
		if !maps.Equal(want[name], object(metadata, "annotations")) {
			t.Errorf("%s has the annotations %v, want %v", name, metadata["annotations"], want[name])
		}
	}
	if len(objects) != len(want) {
		t.Errorf("%d objects, want %d", len(objects), len(want))
	}
}

// TestTheDigestIsInOneFile: no other file has it, whole or in part.
func TestTheDigestIsInOneFile(t *testing.T) {
	files, err := web().Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if found := strings.Contains(string(text), "fedcba987654"); found != (name == KustomizationFile) {
			t.Errorf("%s has the digest: %t\n%s", name, found, text)
		}
	}
	if image, err := Image(files[KustomizationFile]); image != webImage || err != nil {
		t.Errorf("the image that is read is %s (%v)", image, err)
	}
	for _, wrong := range []string{
		"images: [", "images: []", "images: [{name: web, newTag: v1}]", "images: [{name: a, digest: sha256:1}, {name: b, digest: sha256:2}]",
	} {
		if image, err := Image([]byte(wrong)); err == nil {
			t.Errorf("%s is read as %s", wrong, image)
		}
	}
}

func TestWhatCannotBeRendered(t *testing.T) {
	for want, change := range map[string]func(*Service){
		`image "localhost:5000/web" has no digest`: func(s *Service) { s.Image = "localhost:5000/web" },
		"config of service web has a value that another resource produces": func(s *Service) {
			s.Stages[0][0].Overlays = []kube.Overlay{{Path: []string{"data"}, Value: pulumi.String("x")}}
		},
		"container service has the image " + webImage:    func(s *Service) { s.Image = strings.Replace(webImage, "web", "other", 1) },
		"Job web-migrate-fedcba987654-1234 has no label": func(s *Service) { s.Stages[1][0].Object.SetLabels(nil) },
	} {
		s := web()
		change(&s)
		_, err := Render([]Service{s})
		infratest.Refused(t, err, want)
	}
}

func TestWrite(t *testing.T) {
	folder := t.TempDir()
	files, err := Render([]Service{web()})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := Write(folder, files); err != nil || len(changed) != len(files) {
		t.Fatalf("the first time changes %v (%v)", changed, err)
	}
	foreign := filepath.Join(folder, "web", "README.md")
	stale := filepath.Join(folder, "web", "stale.yaml")
	mine := filepath.Join(folder, "web", "mine.yaml")
	other := filepath.Join(folder, "other", KustomizationFile) // a folder that a person has written
	past := filepath.Join(folder, "past", KustomizationFile)   // Kustomize has dropped the comment
	for _, dir := range []string{other, past} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		foreign: "x", mine: "x", stale: Header, other: "resources: []\n", past: "resources: []\n",
		filepath.Join(folder, "past", "rollout.yaml"): Header,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, "gone"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "gone", KustomizationFile), []byte(Header), 0o600); err != nil {
		t.Fatal(err)
	}
	files["web/job.yaml"] = append(files["web/job.yaml"], "# other\n"...)
	changed, err := Write(folder, files)
	want := []string{
		"gone/kustomization.yaml is not rendered any more", "past/kustomization.yaml is not rendered any more",
		"past/rollout.yaml is not rendered any more", "web/job.yaml differs", "web/stale.yaml is not rendered any more",
	}
	if err != nil || !slices.Equal(changed, want) {
		t.Errorf("the second time changes %v, want %v (%v)", changed, want, err)
	}
	for path, there := range map[string]bool{foreign: true, mine: true, other: true, stale: false, past: false, filepath.Join(folder, "gone"): false} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s: there %t, want %t", path, err == nil, there)
		}
	}
	if changed, err := Write(folder, files); err != nil || len(changed) != 0 {
		t.Errorf("the third time changes %v (%v)", changed, err)
	}
}

func TestApplications(t *testing.T) {
	stages, err := spec().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "applications", stages.All())
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := New(ctx, "gitops", spec())
		return err
	})
	recorder.InOrder(t, map[string][]string{"gitops-web": {"gitops-project"}})
}

func TestRefusals(t *testing.T) {
	empty := (&Spec{Path: "/deploy/"}).Validate()
	infratest.Refused(t, empty, `URL is "": use an https:// URL without credentials`, "Branch is empty", "Target is empty",
		`Path is "/deploy/": use a folder of the repository`, "Services is empty")
	for address, want := range map[string][2]bool{ // whether it is valid, and with Plain
		"https://example.com/a.git": {true, true}, "http://example.com/a.git": {false, true}, "https://u:p@example.com/a.git": {false, false},
		"git@github.com:a/b.git": {false, false}, "https:///a": {false, false},
	} {
		for i, plain := range []bool{false, true} {
			if valid := ValidURL(address, plain) == nil; valid != want[i] {
				t.Errorf("%s, plain %t: valid %t", address, plain, valid)
			}
		}
	}
	elsewhere := spec()
	elsewhere.Target = "other"
	_, err := elsewhere.Stages()
	infratest.Refused(t, err, `service web: ConfigMap web-1 is in namespace "shop", not in other`)
}

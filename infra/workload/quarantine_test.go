package workload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/rollout"
)

func TestQuarantineObjects(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := NewQuarantine(ctx, "quarantine", "shop")
		return err
	})
	infratest.Golden(t, "quarantine", QuarantineStages("shop").All())
	recorder.InOrder(t, map[string][]string{"quarantine-binding": {"quarantine-policy", "quarantine-entries"}})
	if entries := QuarantineStages("shop").All()[0]; !entries.RetainOnDelete {
		t.Error("the entries go when the program no longer declares them")
	}
}

// live is the Rollout of a spec in the cluster, healthy and seen by its controller.
func live(spec *Spec, change func(*rolloutsv1alpha1.Rollout)) *rolloutsv1alpha1.Rollout {
	r := state(rolloutsv1alpha1.RolloutPhaseHealthy, nil)
	r.Spec = spec.rollout(spec.configMap().Name).Spec
	if change != nil {
		change(r)
	}
	return r
}

func abort(r *rolloutsv1alpha1.Rollout) { r.Status.Abort, r.Status.Message = true, "too slow" }

// TestAnUpdateRefusesWhatIsQuarantined: before anything of the service changes.
func TestAnUpdateRefusesWhatIsQuarantined(t *testing.T) {
	image := "web." + strings.TrimPrefix(digest, "sha256:")
	settings := "web." + valid().configMap().Name
	other := func() *Spec {
		spec := valid()
		spec.Image = "localhost:5000/web@sha256:" + strings.Repeat("0", 64)
		return spec
	}
	entry := func(what string) string { return fmt.Sprintf(`{"what":%q,"reason":"too slow","by":"me"}`, what) }
	for name, test := range map[string]struct {
		rollout    *rolloutsv1alpha1.Rollout
		quarantine map[string]string
		want       string // in the refusal; empty for an update that goes on
	}{
		"an aborted image":               {live(other(), nil), map[string]string{image: entry(digest)}, "image " + digest},
		"aborted settings":               {live(other(), nil), map[string]string{settings: entry("web-settings")}, "settings web-settings"},
		"an aborted image, and no pods":  {nil, map[string]string{image: entry(digest)}, "image " + digest},
		"nothing":                        {live(other(), nil), nil, ""},
		"another image":                  {live(other(), nil), map[string]string{"web.00": entry("sha256:00")}, ""},
		"another service's":              {live(other(), nil), map[string]string{"api" + image[3:]: entry(digest)}, ""},
		"a released image":               {live(other(), nil), map[string]string{image + ".released-x": entry(digest)}, ""},
		"the image that is aborted here": {live(valid(), abort), map[string]string{image: entry(digest)}, ""},
		"the image with other memory": {live(valid(), func(r *rolloutsv1alpha1.Rollout) {
			abort(r)
			r.Spec.Template.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
		}), map[string]string{image: entry(digest)}, "image " + digest},
		"the image with other steps": {live(valid(), func(r *rolloutsv1alpha1.Rollout) {
			abort(r)
			r.Spec.Strategy.Canary.Steps = nil
		}), map[string]string{image: entry(digest)}, "image " + digest},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{test.rollout}, quarantine: test.quarantine}
			program := func(ctx *pulumi.Context) error {
				spec := valid()
				spec.Cluster = cluster
				_, err := New(ctx, "web", spec)
				return err
			}
			recorder, err := infratest.Run(false, program)
			var refused *RolloutError
			var quarantined *rollout.QuarantinedError
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want == "":
			case !errors.As(err, &refused) || !errors.As(err, &quarantined):
				t.Errorf("the update ends with %v", err)
			default:
				infratest.Refused(t, refused, "web: quarantined and not shipped again: "+test.want, "recorded by me: too slow", "make release SERVICE=web WHAT=")
				for _, r := range recorder.Resources() {
					if !r.Component {
						t.Errorf("%s is registered", r.Name)
					}
				}
			}
			if _, err := infratest.Run(true, program); err != nil {
				t.Errorf("the preview is refused: %v", err)
			}
		})
	}
}

func TestAnUpdateRecordsAnAbortThatNobodyWatched(t *testing.T) {
	aborted := valid()
	aborted.Image = "localhost:5000/web@sha256:bad"
	at := metav1.Now()
	cluster := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{live(aborted, func(r *rolloutsv1alpha1.Rollout) {
		abort(r)
		r.Status.AbortedAt = &at
	})}}
	synctest.Test(t, func(t *testing.T) {
		if _, err := infratest.Run(false, func(ctx *pulumi.Context) error {
			spec := valid()
			spec.Cluster = cluster
			_, err := New(ctx, "web", spec)
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	entries := rollout.Quarantine(cluster.quarantine).Entries("web")
	if len(entries) != 1 || entries[0].What != "sha256:bad" || entries[0].Reason != "too slow" || entries[0].By == "" {
		t.Errorf("the entries are %+v", entries)
	}
}

// silentCluster answers no question.
type silentCluster struct{ *fakeCluster }

func (silentCluster) ConfigMap(context.Context, string, string) (map[string]string, error) {
	return nil, errors.New("connection refused")
}

func TestAQuarantineThatCannotBeReadRefusesNothing(t *testing.T) {
	if _, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		spec := valid()
		spec.Cluster = silentCluster{&fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{nil}}}
		_, err := New(ctx, "web", spec)
		return err
	}); err != nil {
		t.Errorf("the update is refused: %v", err)
	}
}

package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/rollout/rollouttest"
)

// fakeCluster returns one state after another, the last one repeatedly.
type fakeCluster struct {
	rollouts []*rolloutsv1alpha1.Rollout
	asked    int
	// collected are the arguments of CollectConfigMaps, and of each CollectSecrets after them.
	collected string
	// quarantine is the data of the ConfigMap.
	quarantine map[string]string
}

func (f *fakeCluster) ReplicaSets(context.Context, string, string) ([]appsv1.ReplicaSet, error) {
	return make([]appsv1.ReplicaSet, 1), nil
}

func (f *fakeCluster) ConfigMap(context.Context, string, string) (map[string]string, error) {
	return f.quarantine, nil
}

func (f *fakeCluster) PatchReplicaSet(context.Context, string, string, string) error {
	return errors.New("no ReplicaSet was to be changed")
}

func (f *fakeCluster) PatchConfigMap(_ context.Context, _, _ string, data map[string]*string) error {
	c := rollouttest.Case{Quarantine: f.quarantine}
	defer func() { f.quarantine = c.Quarantine }()
	return c.Patch(data)
}

func (f *fakeCluster) Rollout(context.Context, string, string) (*rolloutsv1alpha1.Rollout, error) {
	r := f.rollouts[min(f.asked, len(f.rollouts)-1)]
	f.asked++
	return r, nil
}

func (f *fakeCluster) Pods(context.Context, string, string) ([]corev1.Pod, error) { return nil, nil }

func (f *fakeCluster) AnalysisRun(context.Context, string, string) (*rolloutsv1alpha1.AnalysisRun, error) {
	return nil, errors.New("the test expects no read of an AnalysisRun")
}

func (f *fakeCluster) CollectConfigMaps(_ context.Context, namespace, selector, replicaSets, keep string) error {
	f.collected = strings.Join([]string{namespace, selector, replicaSets, keep}, " ")
	return nil
}

func (f *fakeCluster) CollectSecrets(_ context.Context, namespace, secret, replicaSets, keep string) error {
	f.collected += "\n" + strings.Join([]string{namespace, secret, replicaSets, keep}, " ")
	return nil
}

func (f *fakeCluster) AbortRollout(context.Context, string, string) error {
	return errors.New("no abort was asked for")
}

func (f *fakeCluster) ResumeRollout(context.Context, string, string) error {
	return errors.New("no pause was to be ended")
}

// state is a Rollout that its controller has seen.
func state(phase rolloutsv1alpha1.RolloutPhase, change func(*rolloutsv1alpha1.Rollout)) *rolloutsv1alpha1.Rollout {
	r := &rolloutsv1alpha1.Rollout{}
	r.Name, r.Generation = "web", 7
	r.Spec.Strategy.Canary = &rolloutsv1alpha1.CanaryStrategy{Steps: make([]rolloutsv1alpha1.CanaryStep, 8)}
	r.Status.ObservedGeneration, r.Status.Phase, r.Status.CurrentPodHash, r.Status.StableRS = "7", phase, "abc", "old"
	if change != nil {
		change(r)
	}
	return r
}

func TestUpPrintsTheSentencesOfTheTable(t *testing.T) {
	rollouttest.Run(t, func(ctx context.Context, c *rollouttest.Case, progress func(string)) error {
		_, err := (&Wait{}).Until(ctx, typedCase{c}, "shop", "web", progress)
		if err != nil {
			return &RolloutError{Service: "web", Cause: err}
		}
		return nil
	})
}

// typedCase returns the objects of a case with client-go's types. It refuses fields that
// Kubernetes does not have.
type typedCase struct{ *rollouttest.Case }

func (c typedCase) Rollout(_ context.Context, _, name string) (*rolloutsv1alpha1.Rollout, error) {
	if c.Silent != nil {
		return nil, c.Silent
	}
	read := c.Next
	if name != "web" {
		read = c.Other
	}
	var r *rolloutsv1alpha1.Rollout
	err := strictly(read(), &r)
	return r, err
}

func (c typedCase) CollectConfigMaps(context.Context, string, string, string, string) error {
	return errors.New("no ConfigMap was to be collected")
}

func (c typedCase) PatchReplicaSet(context.Context, string, string, string) error {
	return errors.New("no ReplicaSet was to be changed")
}

func (c typedCase) CollectSecrets(context.Context, string, string, string, string) error {
	return errors.New("no Secret was to be collected")
}

func (c typedCase) ReplicaSets(_ context.Context, namespace, selector string) ([]appsv1.ReplicaSet, error) {
	if namespace != "shop" || selector != "app.kubernetes.io/name=web,rollouts-pod-template-hash=old" {
		return nil, fmt.Errorf("the ReplicaSets asked for are %s in %s", selector, namespace)
	}
	sets := make([]appsv1.ReplicaSet, len(c.Case.ReplicaSets()))
	for i, set := range c.Case.ReplicaSets() {
		if err := strictly(set, &sets[i]); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

func (c typedCase) ConfigMap(context.Context, string, string) (map[string]string, error) {
	return c.Quarantine, nil
}

func (c typedCase) PatchConfigMap(_ context.Context, namespace, name string, data map[string]*string) error {
	if namespace != "shop" || name != "quarantine" {
		return fmt.Errorf("the ConfigMap changed is %s in %s", name, namespace)
	}
	return c.Patch(data)
}

func (c typedCase) AbortRollout(context.Context, string, string) error { return c.Abort() }

func (c typedCase) ResumeRollout(context.Context, string, string) error { return c.Resume() }

func (c typedCase) Pods(_ context.Context, namespace, selector string) ([]corev1.Pod, error) {
	if namespace != "shop" || selector != "app.kubernetes.io/name=web,rollouts-pod-template-hash=new" {
		return nil, fmt.Errorf("the pods asked for are %s in %s", selector, namespace)
	}
	pods := make([]corev1.Pod, len(c.Case.Pods))
	for i := range pods {
		if err := strictly(c.Case.Pods[i], &pods[i]); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

func (c typedCase) AnalysisRun(_ context.Context, _, name string) (*rolloutsv1alpha1.AnalysisRun, error) {
	run := &rolloutsv1alpha1.AnalysisRun{}
	err := strictly(c.Analyses[name], run)
	return run, err
}

func strictly(object json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func paused(step int32, weight int32) *rolloutsv1alpha1.Rollout {
	return state(rolloutsv1alpha1.RolloutPhasePaused, func(r *rolloutsv1alpha1.Rollout) {
		r.Status.CurrentStepIndex = &step
		r.Status.Canary.Weights = &rolloutsv1alpha1.TrafficWeights{Canary: rolloutsv1alpha1.WeightDestination{Weight: weight}}
		r.Status.UpdatedReplicas, r.Status.AvailableReplicas = 1, 3
		r.Status.Message = "CanaryPauseStep"
	})
}

func TestWaitGivesUpWhenTheTimeIsOver(t *testing.T) {
	var took time.Duration
	var err error
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w, cluster := &Wait{Timeout: 5 * time.Minute}, &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20)}}
		_, err = w.Until(t.Context(), cluster, "shop", "web", func(string) {})
		took = time.Since(began)
	})
	if err == nil || !strings.Contains(err.Error(), "not healthy after 5m0s: CanaryPauseStep") {
		t.Errorf("the error is %v", err)
	}
	if took != 5*time.Minute {
		t.Errorf("it took %s", took)
	}
}

func TestWaitCanBeInterrupted(t *testing.T) {
	interrupt, stop := context.WithCancel(t.Context())
	w, cluster := &Wait{Context: interrupt, Timeout: time.Hour}, &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20)}}
	_, err := w.Until(t.Context(), cluster, "shop", "web", func(string) { stop() })
	if err == nil || !strings.Contains(err.Error(), "interrupted; the update goes on in the cluster (step 2 of 8") {
		t.Errorf("the error is %v", err)
	}
}

func TestNewWaitsInUpdatesAndNotInPreviews(t *testing.T) {
	program := func(cluster *fakeCluster) pulumi.RunFunc {
		return func(ctx *pulumi.Context) error {
			args := valid()
			args.Cluster, args.Wait = cluster, &Wait{}
			args.SecretEnv["KEY"] = SecretKey{Secret: "stripe", Key: "api-key", Version: "2"}
			_, err := New(ctx, "web", args)
			return err
		}
	}
	degraded := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{state(rolloutsv1alpha1.RolloutPhaseDegraded, nil)}}
	if _, err := infratest.Run(true, program(degraded)); err != nil || degraded.asked > 0 || degraded.collected != "" {
		t.Errorf("a preview ends with %v after %d questions, and collects %q", err, degraded.asked, degraded.collected)
	}
	_, err := infratest.Run(false, program(degraded))
	var failed *RolloutError
	if !errors.As(err, &failed) || failed.Service != "web" {
		t.Errorf("the update of a degraded Rollout ends with %v", err)
	}
	healthy := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{state(rolloutsv1alpha1.RolloutPhaseHealthy, nil)}}
	if _, err := infratest.Run(false, program(healthy)); err != nil || healthy.asked == 0 {
		t.Errorf("the update of a healthy Rollout ends with %v after %d questions", err, healthy.asked)
	}
	args := valid()
	args.SecretEnv["KEY"] = SecretKey{Secret: "stripe", Key: "api-key", Version: "2"}
	want := "shop loja-veloz.dev/settings=web app.kubernetes.io/name=web " + args.configMap().Name +
		"\nshop stripe app.kubernetes.io/part-of=loja-veloz stripe-2"
	if healthy.collected != want {
		t.Errorf("the settings collected are those of %q, want %q", healthy.collected, want)
	}
}

func TestSettingsAreNamedByTheirContent(t *testing.T) {
	args, changed := valid(), valid()
	changed.Env = map[string]string{"NEW": "setting"}
	before, after := args.configMap(), changed.configMap()
	if before.Name == after.Name || before.Name != valid().configMap().Name {
		t.Errorf("the ConfigMaps are %s and, with another setting, %s", before.Name, after.Name)
	}
	if before.Immutable == nil || !*before.Immutable {
		t.Error("the ConfigMap can be changed under the pods that read it")
	}
}

func (*fakeCluster) Raw(context.Context, string) ([]byte, error) { return nil, errors.New("no Jaeger") }

func (typedCase) Raw(context.Context, string) ([]byte, error) { return nil, errors.New("no Jaeger") }

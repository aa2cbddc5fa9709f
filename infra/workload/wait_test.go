package workload

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/infratest"
)

// fakeCluster shows one state after another, the last one for ever.
type fakeCluster struct {
	rollouts []*rolloutsv1alpha1.Rollout
	err      error
	pods     []corev1.Pod
	run      *rolloutsv1alpha1.AnalysisRun
	asked    int
	selector string
}

func (f *fakeCluster) Rollout(context.Context, string, string) (*rolloutsv1alpha1.Rollout, error) {
	if f.err != nil {
		return nil, f.err
	}
	r := f.rollouts[min(f.asked, len(f.rollouts)-1)]
	f.asked++
	return r, nil
}

func (f *fakeCluster) Pods(_ context.Context, _, selector string) ([]corev1.Pod, error) {
	f.selector = selector
	return f.pods, nil
}

func (f *fakeCluster) AnalysisRun(context.Context, string, string) (*rolloutsv1alpha1.AnalysisRun, error) {
	return f.run, nil
}

// fakeTime passes only while somebody sleeps.
type fakeTime struct{ now time.Time }

func (f *fakeTime) clock() clock {
	return clock{
		now: func() time.Time { return f.now },
		sleep: func(ctx context.Context, d time.Duration) error {
			f.now = f.now.Add(d)
			return ctx.Err()
		},
	}
}

// state makes a Rollout that its controller has seen.
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

// until runs a wait and returns how long it took, what it said and how it ended.
func until(t *testing.T, cluster *fakeCluster) (time.Duration, []string, error) {
	t.Helper()
	now := &fakeTime{now: time.Unix(0, 0)}
	began := now.now
	var lines []string
	w := &Wait{Cluster: cluster, Timeout: 5 * time.Minute, clock: now.clock()}
	_, err := w.Until(t.Context(), Target{Namespace: "shop", Name: "web", Image: "r/web@" + digest}, func(line string) { lines = append(lines, line) })
	return now.now.Sub(began), lines, err
}

func paused(step int32, weight int32) *rolloutsv1alpha1.Rollout {
	return state(rolloutsv1alpha1.RolloutPhasePaused, func(r *rolloutsv1alpha1.Rollout) {
		r.Status.CurrentStepIndex = &step
		r.Status.Canary.Weights = &rolloutsv1alpha1.TrafficWeights{Canary: rolloutsv1alpha1.WeightDestination{Weight: weight}}
		r.Status.UpdatedReplicas, r.Status.AvailableReplicas = 1, 3
		r.Status.Message = "CanaryPauseStep"
	})
}

func TestWaitEndsWhenTheNewVersionIsHealthy(t *testing.T) {
	unseen := state(rolloutsv1alpha1.RolloutPhaseHealthy, func(r *rolloutsv1alpha1.Rollout) { r.Status.ObservedGeneration = "6" })
	cluster := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{unseen, paused(1, 20), paused(1, 20), paused(7, 80), state(rolloutsv1alpha1.RolloutPhaseHealthy, nil)}}
	_, lines, err := until(t, cluster)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"web: the Rollouts controller has not seen the update yet",
		"web: step 2 of 8, 20 % of the traffic to the new version, 1 pods updated, 3 available, CanaryPauseStep",
		"web: step 8 of 8, 80 % of the traffic to the new version, 1 pods updated, 3 available, CanaryPauseStep",
		"web: healthy: the new version has all traffic",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("progress is\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func aborted(r *rolloutsv1alpha1.Rollout) {
	r.Status.Abort = true
	r.Status.Message = "RolloutAborted: Rollout aborted update to revision 2"
}

func TestWaitFailsSoonAfterAnAbortAndNamesTheImageThatDoesNotStart(t *testing.T) {
	pod := corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Image: "localhost:5000/web@" + digest, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}},
	}}}}
	cluster := &fakeCluster{
		rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20), state(rolloutsv1alpha1.RolloutPhaseDegraded, aborted)},
		pods:     []corev1.Pod{pod, pod},
	}
	took, _, err := until(t, cluster)
	if err == nil {
		t.Fatal("an abort is taken for success")
	}
	for _, want := range []string{"aborted, the stable version has all traffic", "aborted update to revision 2", "2 of 2 new pods ImagePullBackOff: localhost:5000/web@" + digest} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if took > 10*time.Second {
		t.Errorf("it took %s, more than 10 s", took)
	}
	if cluster.selector != "app.kubernetes.io/name=web,rollouts-pod-template-hash=abc" {
		t.Errorf("the pods asked for are %s", cluster.selector)
	}
}

func TestWaitNamesTheMetricThatFailed(t *testing.T) {
	cluster := &fakeCluster{
		rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20), state(rolloutsv1alpha1.RolloutPhaseDegraded, func(r *rolloutsv1alpha1.Rollout) {
			aborted(r)
			r.Status.Canary.CurrentBackgroundAnalysisRunStatus = &rolloutsv1alpha1.RolloutAnalysisRunStatus{Name: "web-1", Status: rolloutsv1alpha1.AnalysisPhaseFailed}
		})},
		run: &rolloutsv1alpha1.AnalysisRun{Status: rolloutsv1alpha1.AnalysisRunStatus{MetricResults: []rolloutsv1alpha1.MetricResult{
			{Name: "latency", Phase: rolloutsv1alpha1.AnalysisPhaseSuccessful},
			{Name: "errors", Phase: rolloutsv1alpha1.AnalysisPhaseFailed, Measurements: []rolloutsv1alpha1.Measurement{{Value: "[0.31]"}}},
		}}},
	}
	_, _, err := until(t, cluster)
	if err == nil || !strings.Contains(err.Error(), `metric "errors": Failed (last value [0.31])`) || strings.Contains(err.Error(), "latency") {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitSaysHowToRetryAnImageThatWasAlreadyAborted(t *testing.T) {
	cluster := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{state(rolloutsv1alpha1.RolloutPhaseDegraded, aborted)}}
	_, _, err := until(t, cluster)
	if err == nil || !strings.Contains(err.Error(), "was already aborted here") || !strings.Contains(err.Error(), "kubectl -n shop patch rollout web") {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitDoesNotBelieveAFailureThatPasses(t *testing.T) {
	invalid := state(rolloutsv1alpha1.RolloutPhaseDegraded, nil)
	cluster := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{invalid, invalid, paused(1, 20), invalid, state(rolloutsv1alpha1.RolloutPhaseHealthy, nil)}}
	if _, _, err := until(t, cluster); err != nil {
		t.Errorf("it fails with %v", err)
	}
}

func TestWaitGivesUpWhenTheTimeIsOver(t *testing.T) {
	took, _, err := until(t, &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20)}})
	if err == nil || !strings.Contains(err.Error(), "not healthy after 5m0s: CanaryPauseStep") {
		t.Errorf("the error is %v", err)
	}
	if took != 5*time.Minute {
		t.Errorf("it took %s", took)
	}
}

func TestWaitToleratesASilentClusterForAWhile(t *testing.T) {
	took, lines, err := until(t, &fakeCluster{err: errors.New("connection refused")})
	if err == nil || !strings.Contains(err.Error(), "has not answered for 30s: connection refused") || took != unreachable {
		t.Errorf("after %s the error is %v", took, err)
	}
	if len(lines) != 1 {
		t.Errorf("it says %q", lines)
	}
}

func TestWaitFailsWhenTheRolloutIsDeleted(t *testing.T) {
	if _, _, err := until(t, &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{nil}}); err == nil || !strings.Contains(err.Error(), "was deleted") {
		t.Errorf("the error is %v", err)
	}
}

func TestWaitCanBeInterrupted(t *testing.T) {
	interrupt, stop := context.WithCancel(t.Context())
	w := &Wait{Cluster: &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{paused(1, 20)}}, Context: interrupt, Timeout: time.Hour}
	_, err := w.Until(t.Context(), Target{Name: "web"}, func(string) { stop() })
	if err == nil || !strings.Contains(err.Error(), "interrupted; the update goes on in the cluster (step 2 of 8") {
		t.Errorf("the error is %v", err)
	}
}

func TestNewWaitsInUpdatesAndNotInPreviews(t *testing.T) {
	program := func(cluster *fakeCluster) pulumi.RunFunc {
		return func(ctx *pulumi.Context) error {
			args := valid()
			args.Wait = &Wait{Cluster: cluster, clock: (&fakeTime{}).clock()}
			_, err := New(ctx, "web", args)
			return err
		}
	}
	degraded := &fakeCluster{rollouts: []*rolloutsv1alpha1.Rollout{state(rolloutsv1alpha1.RolloutPhaseDegraded, nil)}}
	if _, err := infratest.Run(true, program(degraded)); err != nil || degraded.asked > 0 {
		t.Errorf("a preview ends with %v after %d questions", err, degraded.asked)
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
}

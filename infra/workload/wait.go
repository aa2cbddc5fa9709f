package workload

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// pollInterval is short against the 10 seconds within which a failed update is
	// reported, and one small GET per service is no load.
	pollInterval = time.Second
	// settle is how long a failure has to last before it is believed: the
	// controller shows the last update's abort, or a Service it has not seen yet,
	// for a moment.
	settle = 3 * time.Second
	// unreachable is how long the API server may not answer.
	unreachable = 30 * time.Second
)

// Cluster reads what the wait needs; *kube.Client is one.
type Cluster interface {
	// Rollout returns nil without an error when there is none of that name.
	Rollout(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.Rollout, error)
	// Pods lists by label selector.
	Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error)
	AnalysisRun(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.AnalysisRun, error)
}

// Wait makes an update wait for its Rollout.
type Wait struct {
	Cluster Cluster
	// Context ends the wait when the person at the terminal does; nil never does.
	Context context.Context
	// Timeout bounds the wait; zero takes it from the canary's steps.
	Timeout time.Duration
	// clock is for tests; the zero value is the real one.
	clock clock
}

// Target is the Rollout to wait for.
type Target struct {
	Namespace, Name, Image string
	// Timeout is used when the Wait has none.
	Timeout time.Duration
}

// clock is time, so that tests need not spend it.
type clock struct {
	now   func() time.Time
	sleep func(context.Context, time.Duration) error
}

func (w *Wait) validate(errs *validate.Errors) {
	if w.Cluster == nil {
		errs.Add("Wait.Cluster", "is nil: there is nothing to ask")
	}
	if w.Timeout < 0 {
		errs.Add("Wait.Timeout", "is %s: it cannot be negative", w.Timeout)
	}
}

func (w *Wait) time() clock {
	if w.clock.now != nil {
		return w.clock
	}
	return clock{now: time.Now, sleep: func(ctx context.Context, d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		}
	}}
}

// Until polls until the Rollout that the API server has now is healthy, and
// reports progress line by line. It fails, saying why, within 10 seconds of the
// Rollout's abort or degradation, when the time is over, when the API server does
// not answer for 30 seconds, and when the context ends.
func (w *Wait) Until(ctx context.Context, target Target, progress func(string)) (rolloutsv1alpha1.RolloutPhase, error) {
	if w.Context != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(w.Context, cancel)()
	}
	timeout := w.Timeout
	if timeout == 0 {
		timeout = target.Timeout
	}
	c := w.time()
	watch := &watch{cluster: w.Cluster, target: target, began: c.now(), timeout: timeout, progress: progress}
	for {
		done, err := watch.look(ctx, c.now())
		if err != nil || done {
			return watch.phase, err
		}
		if err := c.sleep(ctx, pollInterval); err != nil {
			return watch.phase, fmt.Errorf("the wait was interrupted; the update goes on in the cluster (%s)", watch.last)
		}
	}
}

// watch is what one wait has seen so far.
type watch struct {
	cluster  Cluster
	target   Target
	began    time.Time
	timeout  time.Duration
	progress func(string)

	phase rolloutsv1alpha1.RolloutPhase
	// last is the progress line shown last.
	last string
	// moved: the Rollout was seen in a state other than failed.
	moved bool
	// failedSince and silentSince are when the Rollout first looked failed, and
	// the API server stopped to answer, without a break since.
	failedSince, silentSince time.Time
}

// look asks once and decides.
func (w *watch) look(ctx context.Context, now time.Time) (done bool, err error) {
	rollout, err := w.cluster.Rollout(ctx, w.target.Namespace, w.target.Name)
	switch {
	case ctx.Err() != nil:
		return false, nil //nolint:nilerr // the sleep that follows says so
	case err != nil:
		if w.silentSince.IsZero() {
			w.silentSince = now
		}
		if now.Sub(w.silentSince) >= unreachable {
			return false, fmt.Errorf("the cluster has not answered for %s: %w", unreachable, err)
		}
		w.say("the cluster does not answer: " + err.Error())
		return false, nil
	case rollout == nil:
		return false, fmt.Errorf("Rollout %s in namespace %s was deleted while it was waited for", w.target.Name, w.target.Namespace)
	}
	w.silentSince = time.Time{}
	w.phase = rollout.Status.Phase

	observed := rollout.Status.ObservedGeneration == strconv.FormatInt(rollout.Generation, 10)
	failed := observed && (rollout.Status.Abort || rollout.Status.Phase == rolloutsv1alpha1.RolloutPhaseDegraded)
	switch {
	case observed && !failed && rollout.Status.Phase == rolloutsv1alpha1.RolloutPhaseHealthy:
		w.say("healthy: the new version has all traffic")
		return true, nil
	case failed:
		if w.failedSince.IsZero() {
			w.failedSince = now
		}
		if now.Sub(w.failedSince) >= settle {
			return false, w.failure(ctx, rollout)
		}
	default:
		w.moved, w.failedSince = w.moved || observed, time.Time{}
		w.say(describe(rollout, observed))
	}
	if now.Sub(w.began) >= w.timeout {
		return false, fmt.Errorf("not healthy after %s: %s", w.timeout, strings.Join(w.reasons(ctx, rollout), "; "))
	}
	return false, nil
}

func (w *watch) say(line string) {
	if line != w.last {
		w.last = line
		w.progress(w.target.Name + ": " + line)
	}
}

// describe is the progress line of a Rollout on its way.
func describe(r *rolloutsv1alpha1.Rollout, observed bool) string {
	if !observed {
		return "the Rollouts controller has not seen the update yet"
	}
	var parts []string
	if canary := r.Spec.Strategy.Canary; canary != nil && r.Status.CurrentStepIndex != nil && r.Status.StableRS != "" {
		parts = append(parts, fmt.Sprintf("step %d of %d", min(int(*r.Status.CurrentStepIndex)+1, len(canary.Steps)), len(canary.Steps)))
	}
	if weights := r.Status.Canary.Weights; weights != nil {
		parts = append(parts, fmt.Sprintf("%d %% of the traffic to the new version", weights.Canary.Weight))
	}
	parts = append(parts, fmt.Sprintf("%d pods updated, %d available", r.Status.UpdatedReplicas, r.Status.AvailableReplicas))
	if r.Status.Message != "" {
		parts = append(parts, r.Status.Message)
	}
	return strings.Join(parts, ", ")
}

// failure is the sentence that says why an update ended badly.
func (w *watch) failure(ctx context.Context, r *rolloutsv1alpha1.Rollout) error {
	reasons := strings.Join(w.reasons(ctx, r), "; ")
	switch {
	case r.Status.Abort && !w.moved:
		return fmt.Errorf("image %s was already aborted here and is not tried again by itself: %s. "+
			"Deploy another version, or retry this one: kubectl -n %s patch rollout %s --subresource=status --type=merge -p '{\"status\":{\"abort\":false}}'",
			w.target.Image, reasons, w.target.Namespace, w.target.Name)
	case r.Status.Abort:
		return fmt.Errorf("the update to %s was aborted, the stable version has all traffic: %s", w.target.Image, reasons)
	default:
		return fmt.Errorf("degraded with %s: %s", w.target.Image, reasons)
	}
}

// reasons gathers what is known about a Rollout that is not well: what the
// controller says, which metrics failed, which pods do not run.
func (w *watch) reasons(ctx context.Context, r *rolloutsv1alpha1.Rollout) []string {
	var reasons []string
	if r.Status.Message != "" {
		reasons = append(reasons, strings.TrimSuffix(r.Status.Message, "."))
	}
	for _, status := range []*rolloutsv1alpha1.RolloutAnalysisRunStatus{
		r.Status.Canary.CurrentBackgroundAnalysisRunStatus, r.Status.Canary.CurrentStepAnalysisRunStatus,
	} {
		if status == nil || !status.Status.Completed() || status.Status == rolloutsv1alpha1.AnalysisPhaseSuccessful {
			continue
		}
		run, err := w.cluster.AnalysisRun(ctx, w.target.Namespace, status.Name)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("AnalysisRun %s is %s (%v)", status.Name, status.Status, err))
			continue
		}
		reasons = append(reasons, failedMetrics(run)...)
	}
	selector := nameLabel + "=" + w.target.Name
	if r.Status.CurrentPodHash != "" {
		selector += "," + rolloutsv1alpha1.DefaultRolloutUniqueLabelKey + "=" + r.Status.CurrentPodHash
	}
	pods, err := w.cluster.Pods(ctx, w.target.Namespace, selector)
	if err != nil {
		reasons = append(reasons, fmt.Sprintf("its pods could not be listed: %v", err))
	}
	reasons = append(reasons, failingPods(pods)...)
	if len(reasons) == 0 {
		reasons = append(reasons, fmt.Sprintf("the Rollout is %s and gives no reason", r.Status.Phase))
	}
	return reasons
}

func failedMetrics(run *rolloutsv1alpha1.AnalysisRun) []string {
	var reasons []string
	for _, result := range run.Status.MetricResults {
		if !result.Phase.Completed() || result.Phase == rolloutsv1alpha1.AnalysisPhaseSuccessful {
			continue
		}
		reason := fmt.Sprintf("metric %q: %s", result.Name, result.Phase)
		if result.Message != "" {
			reason += ", " + result.Message
		}
		if n := len(result.Measurements); n > 0 && result.Measurements[n-1].Value != "" {
			reason += fmt.Sprintf(" (last value %s)", result.Measurements[n-1].Value)
		}
		reasons = append(reasons, reason)
	}
	return reasons
}

// failingPods says each reason once, however many pods have it.
func failingPods(pods []corev1.Pod) []string {
	count := map[string]int{}
	var order []string
	for _, pod := range pods {
		reason := failingPod(pod)
		if reason == "" {
			continue
		}
		if count[reason] == 0 {
			order = append(order, reason)
		}
		count[reason]++
	}
	for i, reason := range order {
		order[i] = fmt.Sprintf("%d of %d new pods %s", count[reason], len(pods), reason)
	}
	return order
}

// failingPod says why a pod does not serve, or nothing.
func failingPod(pod corev1.Pod) string {
	for _, status := range pod.Status.ContainerStatuses {
		waiting, before := status.State.Waiting, status.LastTerminationState.Terminated
		switch {
		case waiting != nil && waiting.Reason == "CrashLoopBackOff" && before != nil:
			return fmt.Sprintf("CrashLoopBackOff (exit code %d, %s): %s", before.ExitCode, before.Reason, status.Image)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing":
			return fmt.Sprintf("%s: %s", waiting.Reason, status.Image)
		case status.State.Terminated != nil:
			return fmt.Sprintf("ended with code %d (%s): %s", status.State.Terminated.ExitCode, status.State.Terminated.Reason, status.Image)
		case status.State.Running != nil && !status.Ready:
			return "running but not ready: " + status.Image
		}
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return "not scheduled: " + condition.Message
		}
	}
	return ""
}

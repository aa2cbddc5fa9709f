package rollout

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// PollInterval is the time between two reads. It is short compared with the 10 seconds within
	// which a failed update is reported.
	PollInterval = time.Second
	// settle is how long a failure has to last before it is reported: for a moment, the controller
	// shows the abort of the last update, or an error about a Service that it has not seen yet.
	settle = 3 * time.Second
	// unreachable is how long the API server may fail to answer.
	unreachable = 30 * time.Second
)

// A Cluster reads the objects that a Watch evaluates.
type Cluster interface {
	// Rollout returns nil without an error if there is no Rollout with that name.
	Rollout(ctx context.Context, namespace, name string) (*Rollout, error)
	// Pods lists by label selector.
	Pods(ctx context.Context, namespace, selector string) ([]Pod, error)
	AnalysisRun(ctx context.Context, namespace, name string) (*AnalysisRun, error)
	// Raw reads a path of the API server, with its query.
	Raw(ctx context.Context, path string) ([]byte, error)
	// Abort ends the update of a Rollout: the stable version is to get all traffic.
	Abort(ctx context.Context, namespace, name string) error
	// Resume ends the pause of a Rollout: its update goes on.
	Resume(ctx context.Context, namespace, name string) error
	// ReplicaSets lists by label selector.
	ReplicaSets(ctx context.Context, namespace, selector string) ([]ReplicaSet, error)
	// PatchReplicaSet applies a merge patch.
	PatchReplicaSet(ctx context.Context, namespace, name, patch string) error
	// ConfigMap returns the data, or nil without an error if there is no ConfigMap with that name.
	ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error)
	// PatchConfigMap sets keys of the data, and removes those with nil.
	PatchConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error
}

// A Watch follows one update of a Rollout to its end.
type Watch struct {
	Cluster         Cluster
	Namespace, Name string
	// Timeout limits the watch; zero derives it from the canary's steps.
	Timeout time.Duration
	// Jaeger is the ServiceProxy of the Jaeger that has the services' spans; empty: none has.
	Jaeger string
	// Progress is called with a line, without the name, whenever it differs from the last one.
	Progress func(line string)
	// By is who records an abort, and Why the reason of the person who asked for it, if one did.
	By, Why string

	began time.Time
	last  string
	// moved is true once the Rollout has been in a state other than failed.
	moved bool
	// failedSince and silentSince are the times since which the Rollout has been failed and the
	// API server has not answered, without interruption.
	failedSince, silentSince time.Time
	// measured is when AnalysisRuns were last looked at, waitsFor what they waited for,
	// and refused why their queries never succeed.
	measured          time.Time
	waitsFor, refused string
	// abortedSince is the time since which another member of the group has been aborted, taken the
	// sentence about it, and awaits the members that have not arrived at their last pause.
	abortedSince  time.Time
	taken, awaits string
}

// A FailureError says that an update was aborted or is degraded, and why.
type FailureError struct {
	sentence string
	// Quarantine says, after an abort, what is not shipped again and how it is released.
	Quarantine string
}

func (f *FailureError) Error() string {
	if f.Quarantine == "" {
		return f.sentence
	}
	return f.sentence + ". " + f.Quarantine
}

// Until polls until the current Rollout is healthy, and returns it. It fails, with the reason,
// within 10 seconds after the Rollout is aborted or degraded (a *FailureError), after the
// timeout (a *WaitingError if the canary waits for a verdict), when the Rollout is deleted,
// when the API server has not answered for 30 seconds, and when ctx ends.
func (w *Watch) Until(ctx context.Context) (*Rollout, error) {
	w.began = time.Now()
	for {
		r, err := w.Cluster.Rollout(ctx, w.Namespace, w.Name)
		if ctx.Err() == nil {
			if done, err := w.judge(ctx, r, err); done || err != nil {
				return r, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, w.interrupted()
		case <-time.After(PollInterval):
		}
	}
}

func (w *Watch) interrupted() error {
	last := w.last
	if last == "" {
		last = "its state is not known yet"
	}
	return fmt.Errorf("the wait was interrupted; the update goes on in the cluster (%s)", last)
}

// judge evaluates one read of the Rollout.
func (w *Watch) judge(ctx context.Context, r *Rollout, unread error) (done bool, err error) {
	now := time.Now()
	if unread != nil {
		return false, w.silent(now, unread)
	}
	w.silentSince = time.Time{}
	switch {
	case r == nil:
		return false, fmt.Errorf("Rollout %s in namespace %s was deleted while it was waited for", w.Name, w.Namespace)
	case r.healthy():
		w.say(r.Line())
		return true, nil
	case r.failed():
		if w.failedSince.IsZero() {
			w.failedSince = now
		}
		if now.Sub(w.failedSince) >= settle {
			return false, w.failure(ctx, r)
		}
	default:
		w.moved, w.failedSince = w.moved || r.Observed(), time.Time{}
		if err := w.measure(ctx, r); err != nil {
			return false, fmt.Errorf("%s, and the update cannot be aborted: %w", w.refused, err)
		}
		if err := w.enforceDeadline(ctx, r); err != nil {
			w.say("the progress deadline is not enforced: " + err.Error())
			break
		}
		if err := w.together(ctx, r, now); err != nil {
			w.say("the group cannot be kept together: " + err.Error())
			break
		}
		line := r.Line()
		for _, wait := range []string{w.waitsFor, w.awaits} {
			if wait != "" {
				line += ": " + wait
			}
		}
		w.say(line)
	}
	timeout := w.Timeout
	if timeout == 0 {
		timeout = r.patience()
	}
	if now.Sub(w.began) >= timeout && w.waitsFor != "" {
		return false, &WaitingError{fmt.Sprintf("no verdict after %s, and the canary goes on waiting with %s: %s. "+
			"It is promoted or aborted as soon as it had enough requests", timeout, r.canaryTraffic(), w.waitsFor)}
	}
	if now.Sub(w.began) >= timeout && w.awaits != "" {
		return false, &WaitingError{fmt.Sprintf("not promoted after %s: it %s, with %s. make deploy goes on, make abort ends the group's update",
			timeout, w.awaits, r.canaryTraffic())}
	}
	if now.Sub(w.began) >= timeout {
		return false, fmt.Errorf("not healthy after %s: %s", timeout, w.reasons(ctx, r))
	}
	return false, nil
}

const scaleDownDeadline = "scale-down-deadline"

// enforceDeadline makes the controller end an update whose deadline is over. Argo Rollouts 1.9.1
// ends none while an old ReplicaSet has the annotation scale-down-deadline, even when that time
// is past and the ReplicaSet has no pods: after one aborted canary, no later one ends by its
// deadline (https://github.com/argoproj/argo-rollouts/issues/4971).
func (w *Watch) enforceDeadline(ctx context.Context, r *Rollout) error {
	if !r.overdue(time.Now()) {
		return nil
	}
	sets, err := w.Cluster.ReplicaSets(ctx, w.Namespace, "app.kubernetes.io/name="+w.Name)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if set.Spec.Replicas > 0 || set.Metadata.Annotations[scaleDownDeadline] == "" {
			continue
		}
		if err := w.Cluster.PatchReplicaSet(ctx, w.Namespace, set.Metadata.Name,
			`{"metadata":{"annotations":{"`+scaleDownDeadline+`":null}}}`); err != nil {
			return err
		}
	}
	return nil
}

func (w *Watch) silent(now time.Time, err error) error {
	if w.silentSince.IsZero() {
		w.silentSince = now
	}
	if now.Sub(w.silentSince) >= unreachable {
		return fmt.Errorf("the cluster has not answered for %s: %w", unreachable, err)
	}
	w.say("the cluster does not answer: " + err.Error())
	return nil
}

func (w *Watch) say(line string) {
	if line != w.last {
		w.last = line
		w.Progress(line)
	}
}

// failure returns the sentence that says why an update failed.
func (w *Watch) failure(ctx context.Context, r *Rollout) error {
	reasons := w.reasons(ctx, r)
	var sentence, quarantine string
	if r.Status.Abort {
		reasons, quarantine = w.quarantine(ctx, r, reasons)
	}
	switch {
	case r.Status.Abort && !w.moved:
		sentence = fmt.Sprintf("image %s was already aborted here and is not retried automatically, %s: %s", r.Image(), r.Traffic(), reasons)
	case r.Status.Abort:
		sentence = fmt.Sprintf("the update to %s was aborted, %s: %s", r.Image(), r.Traffic(), reasons)
	default:
		sentence = fmt.Sprintf("the update to %s is degraded, %s: %s", r.Image(), r.Traffic(), reasons)
	}
	if r.Status.Abort && !r.StableHasAllTraffic() && len(r.Status.PauseConditions) > 0 {
		sentence += ". The controller does not take the traffic back while the Rollout is paused and its size changes. " +
			fmt.Sprintf(`End the pause: kubectl -n %s patch rollout %s --subresource=status --type=merge -p '%s'`,
				w.Namespace, w.Name, ResumePatch)
	}
	return &FailureError{sentence, quarantine}
}

// reasons returns what is known about a Rollout that is not healthy: the controller's message,
// the failed metrics, the pods that do not serve.
func (w *Watch) reasons(ctx context.Context, r *Rollout) string {
	var reasons []string
	if r.Status.Message != "" {
		reasons = append(reasons, strings.TrimSuffix(r.Status.Message, "."))
	}
	for _, own := range []string{w.refused, w.taken} {
		if own != "" {
			reasons = append(reasons, own)
		}
	}
	canary := r.Status.Canary
	for _, run := range []*AnalysisRunStatus{canary.CurrentBackgroundAnalysisRunStatus, canary.CurrentStepAnalysisRunStatus} {
		if run == nil || !ended(run.Status) || run.Status == successful {
			continue
		}
		read, err := w.Cluster.AnalysisRun(ctx, w.Namespace, run.Name)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("AnalysisRun %s is %s (%v)", run.Name, run.Status, err))
			continue
		}
		reasons = append(reasons, read.Reasons()...)
	}
	selector := "app.kubernetes.io/name=" + w.Name
	if r.Status.CurrentPodHash != "" {
		selector += ",rollouts-pod-template-hash=" + r.Status.CurrentPodHash
	}
	pods, err := w.Cluster.Pods(ctx, w.Namespace, selector)
	if err != nil {
		reasons = append(reasons, fmt.Sprintf("its pods could not be listed: %v", err))
	}
	reasons = append(reasons, FailingPods(pods)...)
	if len(reasons) == 0 {
		return fmt.Sprintf("the Rollout is %s and gives no reason", r.Status.Phase)
	}
	return strings.Join(reasons, "; ")
}

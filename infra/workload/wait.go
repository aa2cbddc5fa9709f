package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/validate"
)

// Cluster is what a workload asks of its cluster; *kube.Client is one.
type Cluster interface {
	// Rollout returns nil without an error if there is no Rollout with that name.
	Rollout(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.Rollout, error)
	// Pods lists by label selector.
	Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error)
	AnalysisRun(ctx context.Context, namespace, name string) (*rolloutsv1alpha1.AnalysisRun, error)
	// Raw reads a path of the API server, with its query.
	Raw(ctx context.Context, path string) ([]byte, error)
	// AbortRollout ends the update of a Rollout.
	AbortRollout(ctx context.Context, namespace, name string) error
	// ResumeRollout ends the pause of a Rollout.
	ResumeRollout(ctx context.Context, namespace, name string) error
	// ReplicaSets lists by label selector.
	ReplicaSets(ctx context.Context, namespace, selector string) ([]appsv1.ReplicaSet, error)
	// PatchReplicaSet applies a merge patch.
	PatchReplicaSet(ctx context.Context, namespace, name, patch string) error
	// ConfigMap returns the data, or nil without an error if there is no ConfigMap with that name.
	ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error)
	// PatchConfigMap sets keys of the data, and removes those with nil.
	PatchConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error
	// CollectConfigMaps deletes the ConfigMaps that a label selector finds, but keep and
	// those to which a ReplicaSet refers that another selector finds.
	CollectConfigMaps(ctx context.Context, namespace, selector, replicaSets, keep string) error
	// CollectSecrets deletes the versions of a secret likewise.
	CollectSecrets(ctx context.Context, namespace, secret, replicaSets, keep string) error
}

// Wait holds an update until its Rollout is healthy.
type Wait struct {
	// Context ends the wait, for example on Ctrl-C; nil never ends it.
	Context context.Context
	// Timeout limits the wait; zero derives it from the canary's steps.
	Timeout time.Duration
	jaeger  string // Telemetry.Jaeger, which phase sets
}

func (w *Wait) validate(errs *validate.Errors) {
	if w.Timeout < 0 {
		errs.Add("Wait.Timeout", "is %s: it cannot be negative", w.Timeout)
	}
}

// Until polls until the named Rollout is healthy, reports its progress line by line, and
// returns its phase. It returns the errors of rollout.Watch.
func (w *Wait) Until(ctx context.Context, cluster Cluster, namespace, name string, progress func(string)) (string, error) {
	if w.Context != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(w.Context, cancel)()
	}
	watch := rollout.Watch{
		Cluster: typed{cluster}, Namespace: namespace, Name: name, Timeout: w.Timeout, Jaeger: w.jaeger, By: rollout.Actor(os.Getenv),
		Progress: func(line string) { progress(name + ": " + line) },
	}
	r, err := watch.Until(ctx)
	if err != nil {
		return "", err
	}
	return r.Status.Phase, nil
}

// typed converts a Cluster's objects for rollout.Watch.
type typed struct{ Cluster }

func (t typed) Rollout(ctx context.Context, namespace, name string) (*rollout.Rollout, error) {
	r, err := t.Cluster.Rollout(ctx, namespace, name)
	if err != nil || r == nil {
		return nil, err
	}
	judged := &rollout.Rollout{}
	return judged, convert(r, judged)
}

func (t typed) Pods(ctx context.Context, namespace, selector string) ([]rollout.Pod, error) {
	pods, err := t.Cluster.Pods(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	var judged []rollout.Pod
	err = convert(pods, &judged)
	return judged, err
}

func (t typed) AnalysisRun(ctx context.Context, namespace, name string) (*rollout.AnalysisRun, error) {
	run, err := t.Cluster.AnalysisRun(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	judged := &rollout.AnalysisRun{}
	return judged, convert(run, judged)
}

func (t typed) ReplicaSets(ctx context.Context, namespace, selector string) ([]rollout.ReplicaSet, error) {
	sets, err := t.Cluster.ReplicaSets(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	var judged []rollout.ReplicaSet
	err = convert(sets, &judged)
	return judged, err
}

func (t typed) Abort(ctx context.Context, namespace, name string) error {
	return t.AbortRollout(ctx, namespace, name)
}

func (t typed) Resume(ctx context.Context, namespace, name string) error {
	return t.ResumeRollout(ctx, namespace, name)
}

// convert takes the JSON form, which the types of the judge decode from.
func convert(object, judged any) error {
	b, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", object, err)
	}
	if err := json.Unmarshal(b, judged); err != nil {
		return fmt.Errorf("decoding %T: %w", judged, err)
	}
	return nil
}

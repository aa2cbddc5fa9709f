// Package rollout evaluates an Argo Rollout: how far its update is, whether it has failed, and
// why. pulumi up and make deploy read the objects in different ways, and both print the
// sentences of this package.
package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The phases of a Rollout, an AnalysisRun or a metric that decide its outcome.
const (
	healthy    = "Healthy"
	degraded   = "Degraded"
	successful = "Successful"
)

// Observed tells whether the controller has seen the current object. Until then the status
// belongs to an earlier update.
func (r *Rollout) Observed() bool {
	return r.Status.ObservedGeneration == strconv.FormatInt(r.Metadata.Generation, 10)
}

// Image returns the service's image.
func (r *Rollout) Image() string { return r.Spec.Template.image() }

func (t Template) image() string {
	if c := t.Spec.Containers; len(c) > 0 {
		return c[0].Image
	}
	return ""
}

// settings returns the name of the ConfigMap with the service's settings.
func (t Template) settings() string {
	if c := t.Spec.Containers; len(c) > 0 {
		for _, source := range c[0].EnvFrom {
			if source.ConfigMapRef.Name != "" {
				return source.ConfigMapRef.Name
			}
		}
	}
	return ""
}

func (r *Rollout) failed() bool {
	return r.Observed() && (r.Status.Abort || r.Status.Phase == degraded)
}

func (r *Rollout) healthy() bool {
	return r.Observed() && !r.failed() && r.Status.Phase == healthy
}

// UnderWay tells whether a canary can still be promoted or aborted.
func (r *Rollout) UnderWay() bool {
	return r.Status.CurrentPodHash != r.Status.StableRS && !r.Status.Abort
}

// AbortPatch is the merge patch of a Rollout's status that ends an update. It ends a pause too:
// while a Rollout is paused and the autoscaler has changed its size, Argo Rollouts 1.9.1 does
// nothing else, and an abort would have to wait.
const AbortPatch = `{"status":{"abort":true,"pauseConditions":null}}`

// ResumePatch is the merge patch of a Rollout's status that ends a pause: the update goes on.
const ResumePatch = `{"status":{"pauseConditions":null}}`

// StableHasAllTraffic tells whether the traffic router sends no request to the canary. It can
// be false after an abort: Argo Rollouts 1.9.1 keeps the canary's weight until the stable
// ReplicaSet is fully available, and while a paused Rollout changes its size.
func (r *Rollout) StableHasAllTraffic() bool {
	w := r.Status.Canary.Weights
	return r.Status.StableRS != "" && w != nil && w.Canary.Weight == 0
}

// Traffic returns, for a failed update, which version has the traffic.
func (r *Rollout) Traffic() string {
	w := r.Status.Canary.Weights
	switch {
	case r.StableHasAllTraffic():
		return "the stable version has all traffic"
	case r.Status.StableRS == "":
		return "there is no stable version yet"
	case w == nil:
		return "the Rollout does not say how the traffic is divided"
	case w.Canary.PodTemplateHash != "" && w.Canary.PodTemplateHash != r.Status.CurrentPodHash:
		return fmt.Sprintf("an earlier new version still has %d %% of the traffic", w.Canary.Weight)
	}
	return fmt.Sprintf("the new version still has %d %% of the traffic", w.Canary.Weight)
}

// Line returns the progress of the Rollout in one line.
func (r *Rollout) Line() string {
	switch {
	case !r.Observed():
		return "the Rollouts controller has not seen the update yet"
	case r.healthy():
		return "healthy: the new version has all traffic"
	}
	var parts []string
	switch {
	case r.Status.Abort:
		parts = append(parts, "aborted", r.Traffic())
	case r.failed():
		parts = append(parts, "degraded", r.Traffic())
	default:
		parts = r.progress()
	}
	parts = append(parts, fmt.Sprintf("%d pods updated, %d available", r.Status.UpdatedReplicas, r.Status.AvailableReplicas))
	if r.Status.Message != "" {
		parts = append(parts, r.Status.Message)
	}
	return strings.Join(parts, ", ")
}

// progress returns the step and the weight of a canary. A first version has neither: the
// controller skips the steps.
func (r *Rollout) progress() []string {
	var parts []string
	if at, steps := r.Step(); steps > 0 {
		parts = append(parts, fmt.Sprintf("step %d of %d", at, steps))
	}
	if w := r.Status.Canary.Weights; w != nil {
		parts = append(parts, r.canaryTraffic()+" to the new version")
	}
	return parts
}

// Step returns the number of the canary's step, from 1, and the number of steps; 0 and 0 for a
// first version, which has no steps.
func (r *Rollout) Step() (at, steps int) {
	steps = len(r.Spec.Strategy.Canary.Steps)
	if steps == 0 || r.Status.CurrentStepIndex == nil || r.Status.StableRS == "" {
		return 0, 0
	}
	return min(*r.Status.CurrentStepIndex+1, steps), steps
}

// Weight returns the canary's share of the traffic, in percent; 0 without a traffic router.
func (r *Rollout) Weight() int {
	if w := r.Status.Canary.Weights; w != nil {
		return w.Canary.Weight
	}
	return 0
}

// canaryTraffic is the canary's share.
func (r *Rollout) canaryTraffic() string { return fmt.Sprintf("%d %% of the traffic", r.Weight()) }

// verdictPatience is how long a verdict may take after the last weight. A canary without
// traffic waits longer, but not the one who watches it.
const verdictPatience = 2 * time.Minute

// groupPatience is how much later than a Rollout the others of its group may come to their last
// step: an update applies them one after another.
const groupPatience = 2 * time.Minute

// deadline is how long an update may make no progress.
func (r *Rollout) deadline() time.Duration {
	if s := r.Spec.ProgressDeadlineSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 10 * time.Minute // the controller's default
}

// overdue tells whether the progress deadline should have ended the update, by the rules of Argo
// Rollouts 1.9.1: it enforces none during a pause or an analysis.
func (r *Rollout) overdue(now time.Time) bool {
	if !r.Observed() || !r.UnderWay() {
		return false
	}
	steps := r.Spec.Strategy.Canary.Steps
	if at := r.Status.CurrentStepIndex; at != nil && *at < len(steps) && steps[*at].SetWeight == nil {
		return false
	}
	for _, c := range r.Status.Conditions {
		if c.Type == "Progressing" {
			return !slices.Contains([]string{"RolloutAborted", "RolloutPaused", "ProgressDeadlineExceeded"}, c.Reason) &&
				now.Sub(c.LastUpdateTime) > r.deadline()
		}
	}
	return false
}

// patience is how long an update may take: every pause, a quarter of a minute for
// each weight's pods, the verdict, the controller's own deadline, and a minute in reserve.
func (r *Rollout) patience() time.Duration {
	total := r.deadline() + time.Minute
	for _, step := range r.Spec.Strategy.Canary.Steps {
		if step.SetWeight != nil {
			total += 15 * time.Second
		}
		if step.Analysis != nil {
			total += verdictPatience
		}
		switch {
		case step.Pause != nil && len(step.Pause.Duration) == 0:
			total += groupPatience
		case step.Pause != nil:
			total += pause(step.Pause.Duration)
		}
	}
	return total
}

// pause reads a duration; it is 0 for a pause that only a person ends.
func pause(duration json.RawMessage) time.Duration {
	text := strings.Trim(string(duration), `"`)
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(seconds) * time.Second
	}
	d, _ := time.ParseDuration(text) // the controller has validated it
	return d
}

// A Version is what a canary changes and what is quarantined: an image and settings.
type Version struct {
	// Digest is that of the image, sha256:...; empty for an image without one.
	Digest string
	// Settings is the name of the ConfigMap with the service's settings.
	Settings string
}

func (t Template) version() Version { return Version{digestOf(t.image()), t.settings()} }

// Version is the version that the Rollout is to have.
func (r *Rollout) Version() Version { return r.Spec.Template.version() }

// StableVersion reads the version to which an abort returns; it is nil if there is none.
func (r *Rollout) StableVersion(ctx context.Context, c Cluster) (*Version, error) {
	template, err := stable(ctx, c, r, r.Metadata.Namespace, r.Metadata.Name)
	if err != nil || template == nil {
		return nil, err
	}
	v := template.version()
	return &v, nil
}

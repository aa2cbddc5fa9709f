package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// GroupAnnotation is the annotation of a Rollout that says which versions are released together: the
// name of the group, and SERVICE@VERSION of each member. Its last step is then a pause without an end, which a Watch
// ends once every member has arrived there. If one member is aborted, a Watch aborts the others.
const GroupAnnotation = "loja-veloz.dev/group"

// FormatGroup returns the value of GroupAnnotation, from the version of each member. Members belong
// together if their values are equal, so that the abort of an earlier version is none of the group.
func FormatGroup(name string, versions map[string]string) string {
	words := []string{name}
	for _, service := range slices.Sorted(maps.Keys(versions)) {
		words = append(words, service+"@"+versions[service])
	}
	return strings.Join(words, " ")
}

// Group returns the name of the Rollout's group and its services, this one among them; the name is
// empty if the Rollout ships alone.
func (r *Rollout) Group() (name string, services []string) {
	words := strings.Fields(r.Metadata.Annotations[GroupAnnotation])
	if len(words) == 0 {
		return "", nil
	}
	for _, word := range words[1:] {
		service, _, _ := strings.Cut(word, "@")
		services = append(services, service)
	}
	return words[0], services
}

// last tells whether a Rollout has arrived at the pause that ends its steps, or has passed it.
func (r *Rollout) last() bool {
	at, steps := r.Status.CurrentStepIndex, len(r.Spec.Strategy.Canary.Steps)
	return r.Observed() && !r.failed() && (!r.UnderWay() || at != nil && *at >= steps-1)
}

// holds tells whether it waits in that pause.
func (r *Rollout) holds() bool {
	at, steps := r.Status.CurrentStepIndex, r.Spec.Strategy.Canary.Steps
	if at == nil || *at != len(steps)-1 || len(r.Status.PauseConditions) == 0 {
		return false
	}
	pause := steps[*at].Pause
	return pause != nil && len(pause.Duration) == 0
}

// together keeps a member of a group with the others: it aborts the member if another one is
// aborted, ends its last pause if all have arrived there, and otherwise notes for whom it waits.
func (w *Watch) together(ctx context.Context, r *Rollout, now time.Time) error {
	w.awaits = ""
	name, services := r.Group()
	if name == "" || !r.Observed() || !r.UnderWay() {
		return nil
	}
	var aborted, awaited []string
	for _, service := range services {
		if service == w.Name {
			continue
		}
		other, err := w.Cluster.Rollout(ctx, w.Namespace, service)
		switch {
		case err != nil:
			return err
		case other == nil || other.Metadata.Annotations[GroupAnnotation] != r.Metadata.Annotations[GroupAnnotation] || !other.Observed():
			awaited = append(awaited, service)
		case other.Status.Abort:
			aborted = append(aborted, service)
		case !other.last():
			awaited = append(awaited, service)
		}
	}
	if len(aborted) == 0 {
		w.abortedSince = time.Time{}
	} else if w.abortedSince.IsZero() {
		w.abortedSince = now
	}
	switch {
	case len(aborted) > 0 && now.Sub(w.abortedSince) < settle: // it may be the abort of the last update
		return nil
	case len(aborted) > 0:
		w.taken = fmt.Sprintf("%s, which ships with it in the group %s, was aborted", strings.Join(aborted, " and "), name)
		return w.Cluster.Abort(ctx, w.Namespace, w.Name)
	case !r.holds():
		return nil
	case len(awaited) > 0:
		w.awaits = fmt.Sprintf("waits for %s of the group %s", strings.Join(awaited, " and "), name)
		return nil
	}
	return w.Cluster.Resume(ctx, w.Namespace, w.Name)
}

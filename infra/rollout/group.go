package rollout

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// GroupAnnotation is the annotation of a Rollout that says which versions are released together: the
// name of the group, and SERVICE@VERSION of each member. Its last step is then a pause without an end, which a Watch
// ends once every member has arrived there. If one member is aborted, a Watch aborts the others.
const GroupAnnotation = "loja-veloz.dev/group"

var groupName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$`)

// ValidGroup returns an error, which says what to use, if a group cannot have the name.
func ValidGroup(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("is %q: use letters, digits, dots and dashes, at most 63, beginning with a letter or a digit", name)
	}
	return nil
}

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

// others returns the names of the group's other services.
func (w *Watch) others(r *Rollout) (group string, services []string) {
	group, services = r.Group()
	return group, slices.DeleteFunc(services, func(s string) bool { return s == w.Name })
}

// ships tells whether another Rollout, or nil, has the versions that ship together with this one.
func (r *Rollout) ships(other *Rollout) bool {
	return other != nil && other.Metadata.Annotations[GroupAnnotation] == r.Metadata.Annotations[GroupAnnotation]
}

func taken(group string, aborted ...string) string {
	return fmt.Sprintf("%s, which ships with it in the group %s, was aborted", strings.Join(aborted, " and "), group)
}

// AbortGroup ends and quarantines the updates of the others in the group of a Rollout that was aborted.
// Whoever changes that Rollout calls it before: afterwards its annotation differs, and a Watch of
// another member would wait for it. It waits until the controller has seen the update of each.
func (w *Watch) AbortGroup(ctx context.Context, r *Rollout) error {
	group, services := w.others(r)
	for _, service := range services {
		if err := w.abortMember(ctx, r, service, taken(group, w.Name)); err != nil {
			return fmt.Errorf("aborting %s of the group %s: %w", service, group, err)
		}
	}
	return nil
}

func (w *Watch) abortMember(ctx context.Context, r *Rollout, service, why string) error {
	for {
		other, err := w.Cluster.Rollout(ctx, w.Namespace, service)
		switch {
		case err != nil:
			return err
		case !r.ships(other) || other.Observed() && !other.UnderWay():
			return nil
		case other.Observed():
			if err := w.Cluster.Abort(ctx, w.Namespace, service); err != nil {
				return err
			}
			member := Watch{Cluster: w.Cluster, Namespace: w.Namespace, Name: service, Jaeger: w.Jaeger, By: w.By}
			_, err := member.record(ctx, other, why)
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(PollInterval):
		}
	}
}

// together keeps a member of a group with the others: it aborts the member if another one is
// aborted, ends its last pause if all have arrived there, and otherwise notes for whom it waits.
func (w *Watch) together(ctx context.Context, r *Rollout, now time.Time) error {
	w.awaits = ""
	name, services := w.others(r)
	if name == "" || !r.Observed() || !r.UnderWay() {
		return nil
	}
	var aborted, awaited []string
	for _, service := range services {
		other, err := w.Cluster.Rollout(ctx, w.Namespace, service)
		switch {
		case err != nil:
			return err
		case !r.ships(other) || !other.Observed():
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
		w.taken = taken(name, aborted...)
		return w.Cluster.Abort(ctx, w.Namespace, w.Name)
	case !r.holds():
		return nil
	case len(awaited) > 0:
		w.awaits = fmt.Sprintf("waits for %s of the group %s", strings.Join(awaited, " and "), name)
		return nil
	}
	return w.Cluster.Resume(ctx, w.Namespace, w.Name)
}

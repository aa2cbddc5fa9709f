// Package rollback brings aborted canaries back to git. Where Argo CD deploys from a repository, the
// abort of a canary leaves the aborted version there: the next reconciliation would still want it.
// A Writer watches the Rollouts of a namespace, quarantines what was aborted, and commits the
// stable version, with the reason. It depends on no terminal.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
)

const (
	// Author signs the commits, and the entries of the quarantine.
	Author = "rollback"
	// Interval is how often the Rollouts are listed.
	Interval = 2 * time.Second
	// patience bounds one rollback.
	patience = time.Minute
	// longestPause is the longest time between two tries to bring an abort to git. The first is Interval, and each is
	// twice the one before: a git server that refuses is not asked every second.
	longestPause = 2 * time.Minute
)

// A Cluster is what a Writer needs of Kubernetes.
type Cluster interface {
	rollout.Cluster
	// Rollouts lists those of a namespace.
	Rollouts(ctx context.Context, namespace string) ([]rollout.Rollout, error)
	// Refresh makes Argo CD compare an Application with its repository at once.
	Refresh(ctx context.Context, application string) error
}

// A Writer brings the aborts of a namespace to a repository.
type Writer struct {
	Cluster    Cluster
	Namespace  string
	Repository *Repository
	// Jaeger is the ServiceProxy of the Jaeger that has the services' spans; empty: none has.
	Jaeger string
	Logger *slog.Logger
	// Failed records an abort that could not be brought to git; it is tried again.
	Failed func(ctx context.Context, service string, err error)

	mu      sync.Mutex
	watched map[string]bool  // services with a watch
	done    map[string]int64 // by service: the generation of the Rollout whose abort is in git
	failing map[string]pause // by service: since its last try failed
	watches sync.WaitGroup
}

// A pause is how long a service's next try waits, and until when.
type pause struct {
	long  time.Duration
	until time.Time
}

// Look lists the Rollouts, and watches each that has a canary or an abort that is not in git yet.
func (w *Writer) Look(ctx context.Context) error {
	all, err := w.Cluster.Rollouts(ctx, w.Namespace)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watched == nil {
		w.watched, w.done, w.failing = map[string]bool{}, map[string]int64{}, map[string]pause{}
	}
	for _, r := range all {
		name := r.Metadata.Name
		ends := r.UnderWay() || r.Status.Abort
		if !ends || w.watched[name] || w.done[name] == r.Metadata.Generation || time.Now().Before(w.failing[name].until) {
			continue
		}
		w.watched[name] = true
		w.watches.Go(func() {
			generation, err := w.watch(ctx, name)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.watched[name] = false
			if err == nil {
				w.done[name] = generation
				delete(w.failing, name)
			} else if ctx.Err() == nil {
				long := min(max(2*w.failing[name].long, Interval), longestPause)
				w.failing[name] = pause{long, time.Now().Add(long)}
				w.Failed(ctx, name, err)
			}
		})
	}
	return nil
}

// Wait waits for the watches to end, after the context of Look has.
func (w *Writer) Wait() { w.watches.Wait() }

// watch follows a canary to its end, which a watch also enforces, and brings an abort to git, after the
// others of its group were aborted. It returns the generation of the Rollout that needs no further
// look, and 0 if another watch has to go on. An error is an abort that is not in git.
func (w *Writer) watch(ctx context.Context, service string) (int64, error) {
	watch := rollout.Watch{
		Cluster: w.Cluster, Namespace: w.Namespace, Name: service, Jaeger: w.Jaeger, By: Author,
		Progress: func(string) {},
	}
	r, err := watch.Until(ctx)
	var failed *rollout.FailureError
	switch {
	case err == nil:
		return r.Metadata.Generation, nil
	case !errors.As(err, &failed) || !r.Status.Abort: // such as a canary that waits for requests
		if ctx.Err() == nil {
			w.Logger.InfoContext(ctx, "the watch ended without an abort, and begins again", "rollout", service, "reason", err.Error())
		}
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := watch.AbortGroup(ctx, r); err != nil {
		return 0, err
	}
	stable, err := r.StableVersion(ctx, w.Cluster)
	if err != nil {
		return 0, err
	}
	if stable == nil { // the first version of a service: there is nothing to return to
		return r.Metadata.Generation, nil
	}
	change := Change{Service: service, Aborted: r.Version(), Stable: *stable, Reason: failed.Error(), At: time.Now()}
	if r.Status.AbortedAt != nil {
		change.At = *r.Status.AbortedAt
	}
	data, err := w.Cluster.ConfigMap(ctx, w.Namespace, rollout.QuarantineName)
	if err != nil {
		return 0, err
	}
	if entries := rollout.Quarantine(data).Blocked(service, r.Image(), change.Aborted.Settings); len(entries) > 0 {
		change.Reason, change.Trace = entries[0].Reason, entries[0].Trace
	}
	commit, err := w.Repository.Restore(ctx, change)
	if err != nil {
		return 0, fmt.Errorf("the abort is not in git: %w", err)
	}
	if commit == "" {
		return r.Metadata.Generation, nil
	}
	w.Logger.InfoContext(ctx, "the stable version is in git again", "rollout", service, "commit", commit,
		"aborted", change.Aborted.Digest, "stable", stable.Digest, "seconds_since_abort", time.Since(change.At).Round(time.Second).Seconds())
	if err := w.Cluster.Refresh(ctx, service); err != nil {
		w.Logger.WarnContext(ctx, "Argo CD sees the rollback at its next poll", "rollout", service, "error", err.Error())
	}
	return r.Metadata.Generation, nil
}

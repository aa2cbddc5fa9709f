package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// rollout is the part of an Argo Rollout that people watch.
type rollout struct {
	Metadata struct {
		Name       string `json:"name"`
		Generation int64  `json:"generation"`
	} `json:"metadata"`
	Spec struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Image string `json:"image"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
		Strategy struct {
			Canary struct {
				Steps []json.RawMessage `json:"steps"`
			} `json:"canary"`
		} `json:"strategy"`
	} `json:"spec"`
	Status struct {
		Abort              bool   `json:"abort"`
		Phase              string `json:"phase"`
		Message            string `json:"message"`
		ObservedGeneration string `json:"observedGeneration"`
		CurrentStepIndex   *int   `json:"currentStepIndex"`
		CurrentPodHash     string `json:"currentPodHash"`
		StableRS           string `json:"stableRS"`
		Replicas           int    `json:"replicas"`
		AvailableReplicas  int    `json:"availableReplicas"`
		UpdatedReplicas    int    `json:"updatedReplicas"`
		Canary             struct {
			Weights struct {
				Canary struct {
					Weight int `json:"weight"`
				} `json:"canary"`
			} `json:"weights"`
		} `json:"canary"`
	} `json:"status"`
}

// line says where the Rollout stands.
func (r *rollout) line() string {
	steps := len(r.Spec.Strategy.Canary.Steps)
	step := steps
	if r.Status.CurrentStepIndex != nil {
		step = *r.Status.CurrentStepIndex
	}
	weight := r.Status.Canary.Weights.Canary.Weight
	if r.Status.CurrentPodHash == r.Status.StableRS && !r.Status.Abort {
		weight = 100
	}
	s := fmt.Sprintf("%s: %-11s step %d/%d  new version gets %3d %%  pods %d new, %d in all, %d available",
		r.Metadata.Name, r.Status.Phase, step, steps, weight, r.Status.UpdatedReplicas, r.Status.Replicas, r.Status.AvailableReplicas)
	if r.Status.Message != "" && r.Status.Phase != "Progressing" {
		s += "  (" + r.Status.Message + ")"
	}
	return s
}

// current tells whether the controller has seen the object as it is now.
func (r *rollout) current() bool {
	return r.Status.ObservedGeneration == fmt.Sprint(r.Metadata.Generation)
}

// rolloutError is a canary that did not end well.
type rolloutError struct{ reason string }

func (e rolloutError) Error() string { return e.reason }

// outcome judges a Rollout: done when healthy, an error when aborted or
// degraded.
func (r *rollout) outcome() (done bool, err error) {
	switch {
	case !r.current():
		return false, nil
	case r.Status.Phase == "Healthy":
		return true, nil
	case r.Status.Phase == "Degraded", r.Status.Abort:
		return true, rolloutError{fmt.Sprintf("the rollout of %s has failed, the stable version serves all traffic: %s",
			r.Metadata.Name, r.Status.Message)}
	}
	return false, nil
}

// Watch prints each change of a service's Rollout until it is healthy, and
// fails as soon as it is aborted or degraded, saying why.
func Watch(ctx context.Context, w Workspace, service string) error {
	kubectl, err := openKubectl(w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := kubectl.Command("-n", namespace, "get", "rollout", service, "-o", "json", "--watch")
	r, pipe := io.Pipe()
	k.Stdout = pipe
	ended := make(chan error, 1)
	go func() {
		err := k.Run(ctx)
		pipe.CloseWithError(io.EOF)
		ended <- err
	}()
	last := ""
	for d := json.NewDecoder(r); ; {
		var ro rollout
		if err := d.Decode(&ro); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("the cluster stopped telling about the rollout of %s: %w",
				service, errors.Join(<-ended, errUnless(err, io.EOF)))
		}
		if line := ro.line(); line != last && ro.current() {
			w.Out.Step("%s", line)
			last = line
		}
		done, err := ro.outcome()
		if err != nil {
			if err := settled(ctx, kubectl, service); err != nil {
				return errors.Join(err, reasons(ctx, kubectl, service, ro.Status.CurrentPodHash))
			}
			continue
		}
		if done {
			return nil
		}
	}
}

// settle is how long a failure must stand: right after a change the controller
// still shows the abort before it. infra/workload waits as long.
const settle = 3 * time.Second

// settled returns the Rollout's failure if it still stands after a while.
func settled(ctx context.Context, k Kubectl, service string) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settle):
	}
	r, err := readRollout(ctx, k, service)
	if err != nil {
		return err
	}
	_, err = r.outcome()
	return err
}

func errUnless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// reasons says what is wrong with the pods of a version, nil if nothing is.
func reasons(ctx context.Context, k Kubectl, service, hash string) error {
	out, err := k.Text(ctx, "-n", namespace, "get", "pods", "-l", "rollouts-pod-template-hash="+hash, "-o", "json")
	if err != nil {
		return err
	}
	var pods struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase             string
				ContainerStatuses []struct {
					Image string
					State struct {
						Waiting    *struct{ Reason, Message string }
						Terminated *struct {
							Reason   string
							ExitCode int
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &pods); err != nil {
		return fmt.Errorf("reading the pods of %s: %w", service, err)
	}
	var found []error
	for _, pod := range pods.Items {
		for _, c := range pod.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				found = append(found, fmt.Errorf("  pod %s: %s: %s (image %s)", pod.Metadata.Name, w.Reason, w.Message, c.Image))
			} else if t := c.State.Terminated; t != nil {
				found = append(found, fmt.Errorf("  pod %s: ended with exit code %d, %s (image %s)",
					pod.Metadata.Name, t.ExitCode, t.Reason, c.Image))
			}
		}
	}
	return errors.Join(found...)
}

func readRollout(ctx context.Context, k Kubectl, service string) (*rollout, error) {
	out, err := k.Text(ctx, "-n", namespace, "get", "rollout", service, "-o", "json")
	if err != nil {
		return nil, err
	}
	var r rollout
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, fmt.Errorf("reading the rollout of %s: %w", service, err)
	}
	return &r, nil
}

// Status prints where the Rollouts of services stand.
func Status(ctx context.Context, w Workspace, services []string) error {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	for _, s := range services {
		r, err := readRollout(ctx, k, s)
		if err != nil {
			return err
		}
		w.Out.Plain("%s", r.line())
		for _, c := range r.Spec.Template.Spec.Containers {
			w.Out.Plain("  image %s", c.Image)
		}
	}
	return nil
}

// Promote sends a canary to 100 % at once, skipping the steps that are left.
func Promote(ctx context.Context, w Workspace, service string) error {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	if err := underWay(ctx, k, service); err != nil {
		return err
	}
	if err := patchStatus(ctx, k, service, `{"status":{"promoteFull":true}}`); err != nil {
		return err
	}
	return Watch(ctx, w, service)
}

// Abort ends a canary: the stable version gets all traffic again.
func Abort(ctx context.Context, w Workspace, service string) error {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	if err := underWay(ctx, k, service); err != nil {
		return err
	}
	if err := patchStatus(ctx, k, service, `{"status":{"abort":true}}`); err != nil {
		return err
	}
	var failed rolloutError
	if err := Watch(ctx, w, service); !errors.As(err, &failed) {
		return errors.Join(errors.New("the rollout ended before it could be aborted"), err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("traffic is not back after 1m0s"))
	defer cancel()
	for {
		r, err := readRollout(ctx, k, service)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if r.Status.Canary.Weights.Canary.Weight == 0 {
			w.Out.Step("%s is aborted; the stable version serves all traffic", service)
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func underWay(ctx context.Context, k Kubectl, service string) error {
	r, err := observed(ctx, k, service)
	if err != nil {
		return err
	}
	if r.Status.CurrentPodHash == r.Status.StableRS || r.Status.Abort {
		return fmt.Errorf("%s has no canary under way: %s", service, strings.TrimSpace(r.line()))
	}
	return nil
}

// observed reads a Rollout once its controller has seen the last change of it.
func observed(ctx context.Context, k Kubectl, service string) (*rollout, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second,
		errors.New("the Rollouts controller has not seen the last change after 20s"))
	defer cancel()
	for {
		r, err := readRollout(ctx, k, service)
		if err != nil {
			return nil, err
		}
		if r.current() {
			return r, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func patchStatus(ctx context.Context, k Kubectl, service, patch string) error {
	_, err := k.Text(ctx, "-n", namespace, "patch", "rollout", service, "--subresource=status", "--type=merge", "-p", patch)
	return err
}

package platform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
)

// Status prints where the Rollouts of services are.
func Status(ctx context.Context, w Workspace, services []string) error {
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	for _, s := range services {
		r, err := c.one(ctx, s)
		if err != nil {
			return err
		}
		w.Out.Plain("%s: %s\n  image %s", s, r.Line(), r.Image())
	}
	return nil
}

// Promote sends a canary to 100 % at once, skipping the steps that are left.
func Promote(ctx context.Context, w Workspace, service string) error {
	c, err := steer(ctx, w, service, `{"status":{"promoteFull":true}}`)
	if err != nil {
		return err
	}
	return c.print(ctx, w, service)
}

// Abort ends a canary: the stable version gets all traffic again.
func Abort(ctx context.Context, w Workspace, service string) error {
	c, err := steer(ctx, w, service, `{"status":{"abort":true}}`)
	if err != nil {
		return err
	}
	var failed *rollout.Failure
	if err := c.print(ctx, w, service); !errors.As(err, &failed) {
		return errors.Join(errors.New("the rollout ended before it could be aborted"), err)
	}
	r, err := c.await(ctx, service, time.Minute, (*rollout.Rollout).StableHasAllTraffic)
	if err != nil {
		if r != nil {
			err = fmt.Errorf("%s is aborted, but %s: %w", service, r.Traffic(), err)
		}
		return err
	}
	w.Out.Step("%s is aborted; the stable version has all traffic", service)
	return nil
}

// print watches a service's Rollout and prints each change.
func (c *rollouts) print(ctx context.Context, w Workspace, service string) error {
	return c.watch(ctx, service, func(line string) { w.Out.Step("%s", line) })
}

// steer patches the status of a Rollout whose canary is under way.
func steer(ctx context.Context, w Workspace, service, patch string) (*rollouts, error) {
	c, err := openRollouts(w)
	if err != nil {
		return nil, err
	}
	if err := c.underWay(ctx, service); err != nil {
		return nil, err
	}
	_, err = c.kubectl(ctx, "-n", namespace, "patch", "rollout", service, "--subresource=status", "--type=merge", "-p", patch)
	return c, err
}

// underWay fails for a service without a canary that a person could end.
func (c *rollouts) underWay(ctx context.Context, service string) error {
	r, err := c.await(ctx, service, 20*time.Second, (*rollout.Rollout).Observed)
	switch {
	case err != nil && r != nil:
		return fmt.Errorf("%s: %s: %w", service, r.Line(), err)
	case err != nil:
		return err
	case !r.UnderWay():
		return fmt.Errorf("%s has no canary under way: %s", service, r.Line())
	}
	return nil
}

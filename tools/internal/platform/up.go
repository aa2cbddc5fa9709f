package platform

import (
	"context"
	"fmt"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// Up brings the whole local environment up.
func Up(ctx context.Context, w Workspace) error {
	s := &shipment{w: w}
	steps := []step{
		{"providing the cluster", s.provideCluster},
		{"building the images", s.buildImages},
		{"configuring the stack", s.configureStack},
		{"applying the stack", s.applyStack},
	}
	if w.bundled() {
		steps = append(steps, step{"waiting for the page", s.awaitPage})
	}
	if err := runSteps(ctx, steps...); err != nil {
		return err
	}
	if !w.bundled() {
		w.Out.Plain("\nThe shop is up. To see it:\n"+
			"  kubectl --context=%s -n gateway port-forward service/traefik 30080:80\n  open http://localhost:30080", w.KubeContext)
		return nil
	}
	w.Out.Plain(upSummary, s.url, s.url, s.url)
	return nil
}

const upSummary = `
  shop       %s/
  echo       %s/echo
  health     %s/health

  make deploy    ship the working tree's services by canary
  make status    how far the canaries are; make cluster-status: what runs, and its memory
  eval "$(make env)"   then pulumi and kubectl work by hand
  make down      stop everything, keep the data

This cluster's network does not enforce NetworkPolicies; the tests prove what they allow.`

// applyStack applies the stack, waits for its Rollouts, and learns the gateway's address.
func (s *shipment) applyStack(ctx context.Context) error {
	s.w.Out.Step("pulumi up: stack %s", stack)
	if err := s.pulumi.up(ctx); err != nil {
		return err
	}
	return s.pulumi.output(ctx, "gatewayURL", &s.url)
}

// awaitPage waits until the gateway serves the page.
func (s *shipment) awaitPage(ctx context.Context) error {
	err := process.Await(ctx, 2*time.Minute, 100*time.Millisecond,
		func(ctx context.Context) error { return process.Answers(ctx, s.url+"/health") }, nil)
	if err != nil {
		return fmt.Errorf("the page is %w", err)
	}
	s.w.Out.Step("the page is served")
	return nil
}

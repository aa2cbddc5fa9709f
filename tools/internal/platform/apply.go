package platform

import (
	"context"
	"fmt"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

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

package platform

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

func changed(before, after map[string]string) []string {
	var names []string
	for name, ref := range after {
		if before[name] != ref {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// applyStack applies the stack, and waits for its Rollouts, which it sends load to while they
// have a canary.
func (s *shipment) applyStack(ctx context.Context) error {
	s.w.Out.Step("pulumi up: stack %s", stack)
	if s.w.bundled() {
		services, err := repo.Services(s.w.Root)
		if err != nil {
			return err
		}
		stop, err := loadCanaries(ctx, s.w, s.outputs, services)
		if err != nil {
			return err
		}
		defer stop()
	}
	return s.pulumi.up(ctx)
}

// awaitPage waits until the gateway serves the page, and the API with all its services.
func (s *shipment) awaitPage(ctx context.Context) error {
	c, err := s.w.cluster()
	if err != nil {
		return err
	}
	if err := c.AwaitPods(ctx); err != nil {
		return err
	}
	err = process.Await(ctx, 2*time.Minute, 100*time.Millisecond, func(ctx context.Context) error {
		for _, path := range []string{"/", "/health?deep=1"} {
			if err := process.Answers(ctx, s.gatewayURL()+path); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("the page is %w", err)
	}
	s.w.Out.Step("the page is served")
	return nil
}

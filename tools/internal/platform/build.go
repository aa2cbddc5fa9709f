package platform

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// buildImages builds the programs' images and pushes them.
func (s *shipment) buildImages(ctx context.Context) error {
	programs := s.programs
	if len(programs) == 0 {
		all, err := repo.Programs(s.w.Root)
		if err != nil {
			return err
		}
		programs = all
	}
	env, err := Environ(s.w)
	if err != nil {
		return err
	}
	ko := images.Ko{
		Program: s.w.program("ko"), Registry: s.w.Registry, Anonymous: s.w.bundled(), Apps: filepath.Join(s.w.Root, "apps"),
		Env: env, Out: s.w.Out, Fault: s.fault, Scratch: s.w.Local(),
	}
	if !s.w.bundled() { // starting the bundled cluster has pushed the base image
		if err := ko.PushBase(ctx); err != nil {
			return fmt.Errorf("REGISTRY=%s: %w", s.w.Registry, err)
		}
	}
	s.digests, err = ko.Build(ctx, programs)
	return err
}

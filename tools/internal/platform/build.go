package platform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// buildImages builds the programs' images for the cluster's nodes, and pushes them.
func (s *shipment) buildImages(ctx context.Context) (err error) {
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
	architecture := []string{runtime.GOARCH}
	if !s.w.bundled() {
		k, err := openKubectl(s.w)
		if err != nil {
			return err
		}
		if architecture, err = architectures(ctx, k); err != nil {
			return err
		}
		slices.Sort(architecture)
	}
	to, err := s.openRegistry(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.close()) }()
	ko := images.Ko{
		Program: s.w.program("ko"), Registry: to.push, Anonymous: to.anonymous, Apps: filepath.Join(s.w.Root, "apps"),
		Env: env, Out: s.w.Out, Scratch: s.w.Local(), Architectures: slices.Compact(architecture),
	}
	if !s.w.bundled() { // starting the bundled cluster has pushed the base image
		if err := ko.PushBase(ctx); err != nil {
			return fmt.Errorf("the registry %s: %w", to.push, err)
		}
	}
	if s.digests, err = s.build(ctx, ko, programs); err != nil {
		return err
	}
	if s.w.Signatures {
		if err := s.signImages(ctx); err != nil {
			return err
		}
	}
	for program, image := range s.digests {
		s.digests[program] = to.pull + strings.TrimPrefix(image, to.push)
	}
	return nil
}

// build builds the images of programs, the first one with the fault, if there is one.
func (s *shipment) build(ctx context.Context, ko images.Ko, programs []string) (map[string]string, error) {
	if s.fault == "" {
		return ko.Build(ctx, programs)
	}
	good, err := ko.Build(ctx, programs[1:])
	if err != nil {
		return nil, err
	}
	ko.Fault = s.fault
	bad, err := ko.Build(ctx, programs[:1])
	maps.Copy(good, bad)
	return good, err
}

// signImages signs what was built, and what runs already, by this machine's key: the cluster runs nothing
// else, and may have been started before it asked for signatures.
func (s *shipment) signImages(ctx context.Context) error {
	signers, err := s.w.signers(ctx, settings.Publish{})
	if err != nil {
		return err
	}
	var running map[string]string
	if err := s.outputs.read("images", &running); err != nil {
		return err
	}
	// After an aborted canary, the last update names another image than the stable version has.
	k, err := openKubectl(s.w)
	if err != nil {
		return err
	}
	stable, err := k.Text(ctx, "-n", namespace, "get", "replicasets",
		"-o", `jsonpath={range .items[?(@.spec.replicas>0)]}{.spec.template.spec.containers[*].image}{"\n"}{end}`)
	if err != nil {
		return err
	}
	images := slices.Concat(slices.Collect(maps.Values(running)), strings.Fields(stable), slices.Collect(maps.Values(s.digests)))
	key, err := os.ReadFile(signers[0].Key.Public)
	if err != nil {
		return err
	}
	s.signer = strings.TrimSpace(string(key))
	return signers[0].SignMissing(ctx, images)
}

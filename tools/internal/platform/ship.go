package platform

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// A shipment is one run of up or deploy: what its steps hand on to each other.
type shipment struct {
	w        Workspace
	programs []string          // to build; none means all
	pulumi   Pulumi            // since provideCluster
	digests  map[string]string // references of the images built, by program
	url      string            // of the gateway, since applyStack
}

// provideCluster brings the cluster up with the tools that the further steps need.
func (s *shipment) provideCluster(ctx context.Context) error {
	if err := ClusterUp(ctx, s.w, deployTools(ctx, s.w)...); err != nil {
		return err
	}
	var err error
	s.pulumi, err = openPulumi(s.w)
	return err
}

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
		Program: s.w.program("ko"), Registry: s.w.Registry, Apps: filepath.Join(s.w.Root, "apps"), Env: env, Out: s.w.Out,
	}
	if !s.w.bundled() { // whose registry has the base image from the start
		if err := ko.PushBase(ctx); err != nil {
			return fmt.Errorf("REGISTRY=%s: %w", s.w.Registry, err)
		}
	}
	s.digests, err = ko.Build(ctx, programs)
	return err
}

// configureStack selects the stack, which it creates on first use, and writes the images
// and the cluster into its configuration.
func (s *shipment) configureStack(ctx context.Context) error {
	if err := s.pulumi.run(ctx, "stack", "select", "--create", stack); err != nil {
		return err
	}
	if err := s.sameCluster(ctx); err != nil {
		return err
	}
	config := []string{"config", "set-all", "--stack", stack, "--path"}
	set := func(key, value string) { config = append(config, "--plaintext", project+":"+key+"="+value) }
	for _, program := range slices.Sorted(maps.Keys(s.digests)) {
		set("images."+program, s.digests[program])
	}
	obsolete := "kubeContext" // a key of the other kind of cluster
	if s.w.bundled() {
		folder := filepath.Join(s.w.Data, "postgres")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return fmt.Errorf("creating the database's folder: %w", err)
		}
		set("database.localPath", folder)
	} else {
		set("kubeContext", s.w.KubeContext)
		obsolete = "database.localPath"
	}
	if err := s.pulumi.run(ctx, "config", "rm", "--stack", stack, "--path", project+":"+obsolete); err != nil {
		return err
	}
	return s.pulumi.run(ctx, config...)
}

// sameCluster fails if the stack has resources on another cluster than the one selected
// now: Pulumi would lose track of them.
func (s *shipment) sameCluster(ctx context.Context) error {
	var on string
	if err := s.pulumi.output(ctx, "kubeContext", &on); err != nil || on == "" {
		return err // without the output nothing is deployed
	}
	want := s.w.KubeContext
	if want == "" {
		want = cluster.Context
	}
	if on == want {
		return nil
	}
	undo := "KUBE_CONTEXT=" + on + " make down"
	if on == cluster.Context {
		undo = "make wipe"
	}
	return fmt.Errorf("the stack %s is deployed to the cluster %s, not to %s: take it down there first (%s)", stack, on, want, undo)
}

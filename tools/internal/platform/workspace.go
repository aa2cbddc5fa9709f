// Package platform implements what a developer does with the repo: start and stop the local
// environment, ship services to it, watch their canaries, and preview the AWS environments.
// Each command is a function.
package platform

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// URL is the address of the bundled cluster's gateway.
const URL = "http://localhost:30080"

const (
	project   = "loja-veloz"
	stack     = repo.LocalStack
	namespace = "shop"
)

// A Workspace is a repo on this machine, with the user's settings.
type Workspace struct {
	settings.Machine

	Root  string // of the repo
	Cache *toolchain.Cache
	Out   *console.Console
}

// Open returns the workspace of the repo at root.
func Open(root string, machine settings.Machine, out *console.Console) Workspace {
	cache := &toolchain.Cache{
		Root: machine.Cache, Pins: filepath.Join(root, "tools", "pins"), Out: out, Source: machine.Tools, Mirror: machine.Mirror,
	}
	return Workspace{Machine: machine, Root: root, Cache: cache, Out: out}
}

// Local returns a path below .local, the repo's folder of generated files.
func (w Workspace) Local(elem ...string) string { return repo.Local(w.Root, elem...) }

func (w Workspace) bundled() bool { return w.KubeContext == "" }

// cluster returns the bundled cluster.
func (w Workspace) cluster() (*cluster.Cluster, error) {
	bin, err := w.Cache.Dir(toolchain.Kubernetes)
	return &cluster.Cluster{Data: w.Data, Bin: bin, Out: w.Out}, err
}

// kubeconfig returns the path of the kubeconfig of the environment's cluster.
func (w Workspace) kubeconfig() (string, error) {
	if w.bundled() {
		c, err := w.cluster()
		return c.Kubeconfig(), err
	}
	if v := os.Getenv("KUBECONFIG"); v != "" {
		return v, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".kube", "config"), err
}

// program returns the path of a tool that was built here, or else its name, to be looked up
// on PATH.
func (w Workspace) program(name string) string {
	if built := w.Local("bin", name); executable(built) {
		return built
	}
	return name
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// A step is a part of a command.
type step struct {
	name string // prefixes the step's error
	run  func(context.Context) error
}

func runSteps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

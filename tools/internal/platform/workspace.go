// Package platform is what a developer does with the repo: bring the local environment up
// and down, ship services to it, watch their canaries, and preview the AWS environments.
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

// A Workspace is one repo on one machine, with the settings of the person who works there.
type Workspace struct {
	settings.Machine

	Root  string // of the repo
	Cache *toolchain.Cache
	Out   *console.Console
}

// Open is the workspace of the repo at root.
func Open(root string, machine settings.Machine, out *console.Console) Workspace {
	cache := &toolchain.Cache{Root: machine.Cache, Pins: filepath.Join(root, "tools", "pins"), Out: out}
	return Workspace{Machine: machine, Root: root, Cache: cache, Out: out}
}

// Local is a path below the repo's folder of generated things.
func (w Workspace) Local(elem ...string) string { return repo.Local(w.Root, elem...) }

func (w Workspace) bundled() bool { return w.KubeContext == "" }

// cluster is the bundled cluster.
func (w Workspace) cluster() (*cluster.Cluster, error) {
	bin, err := w.Cache.Dir(toolchain.Kubernetes)
	return &cluster.Cluster{Data: w.Data, Bin: bin, Out: w.Out}, err
}

// kubeconfig is the file that names the environment's cluster.
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

// program is the path of a tool that was built here, or its name for a lookup on PATH.
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

// A step is one named piece of a command.
type step struct {
	name string // what it does, for the error of one that fails
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

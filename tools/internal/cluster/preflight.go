package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// Elsewhere tells what to do on a machine where the local cluster cannot run.
const Elsewhere = "use any other cluster instead: KUBE_CONTEXT=<context of your kubeconfig> make up (kind, minikube, k3d, a shared one)"

// Supported refuses a machine where the local cluster cannot run at all.
func Supported() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the local cluster needs Linux, this machine runs %s: %s", runtime.GOOS, Elsewhere)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the local cluster needs root to run containers and to create links: run as root, or %s", Elsewhere)
	}
	return nil
}

// preflight refuses a machine on which a part cannot start, before anything is started.
func (c *Cluster) preflight(ctx context.Context, parts []part) error {
	if err := Supported(); err != nil {
		return err
	}
	// The checks run some of these programs.
	if err := c.install(ctx, missingPackages(parts)); err != nil {
		return err
	}
	return checkAll(ctx, parts)
}

// cniPlugin is the CNI plugin that the cluster uses.
const cniPlugin = "ptp"

// A requirement is a program of the Linux distribution, on PATH or a CNI plugin, with the
// Debian package that has it.
type requirement struct{ program, pkg string }

func (r requirement) present() bool {
	if r.program == cniPlugin {
		_, err := cniBinDir()
		return err == nil
	}
	_, err := exec.LookPath(r.program)
	return err == nil
}

// missingPackages are those of the programs that the parts need and this machine lacks.
func missingPackages(parts []part) []string {
	var missing []string
	for _, p := range parts {
		for _, r := range p.needs {
			if !r.present() && !slices.Contains(missing, r.pkg) {
				missing = append(missing, r.pkg)
			}
		}
	}
	return missing
}

// cniBinDir is where the distribution keeps the CNI plugins.
func cniBinDir() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, cniPlugin)); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the CNI plugin ptp is missing: install containernetworking-plugins")
}

// install adds packages of the distribution, if that is Debian or derived from it.
func (c *Cluster) install(ctx context.Context, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s, and there is no apt-get to install them: install them with this system's package manager, or %s",
			strings.Join(missing, ", "), Elsewhere)
	}
	c.Out.Step("installing Debian packages: %s", strings.Join(missing, ", "))
	// The packages' own services must not start: they would take the cluster's ports.
	const policy, ours = "/usr/sbin/policy-rc.d", "#!/bin/sh\n# of loja-veloz, while it installs packages\nexit 101\n"
	if b, err := os.ReadFile(policy); errors.Is(err, os.ErrNotExist) || string(b) == ours {
		if err := os.WriteFile(policy, []byte(ours), 0o755); err != nil {
			return err
		}
		defer func() { _ = os.Remove(policy) }()
	}
	apt := func(args ...string) error {
		return command.Command{
			Args: append([]string{"apt-get", "-o", "Acquire::Retries=3"}, args...),
			Env:  []string{"DEBIAN_FRONTEND=noninteractive"}, Log: filepath.Join(c.Data, "logs", "apt.log"),
		}.Run(ctx)
	}
	args := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if err := apt(args...); err == nil {
		return nil
	}
	// The package lists may be missing or old.
	if err := apt("update"); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(missing, ", "), err)
	}
	if err := apt(args...); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(missing, ", "), err)
	}
	return nil
}

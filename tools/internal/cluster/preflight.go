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

// Elsewhere is the end of an error on a machine where the local cluster cannot run. It says
// what the user can do instead.
const Elsewhere = "use another cluster (kind, minikube, k3d, a shared one): " +
	"KUBE_CONTEXT=<context of your kubeconfig> make up"

// Supported fails on a machine where the local cluster cannot run at all.
func Supported() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the local cluster needs Linux, and this machine runs %s: %s", runtime.GOOS, Elsewhere)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the local cluster needs root to run containers and to create network links: run the command as root, or %s",
			Elsewhere)
	}
	return nil
}

// preflight fails on a machine on which a part cannot start, before any part has started.
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

// A requirement is a program on PATH or a CNI plugin, and the Debian package that contains
// it.
type requirement struct{ program, pkg string }

func (r requirement) present() bool {
	if r.program == cniPlugin {
		_, err := cniBinDir()
		return err == nil
	}
	_, err := exec.LookPath(r.program)
	return err == nil
}

// missingPackages returns the packages of the programs that the parts need and this machine
// lacks.
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

// cniBinDir returns the distribution's folder of CNI plugins.
func cniBinDir() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, cniPlugin)); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the CNI plugin ptp is missing: install containernetworking-plugins")
}

// install installs Debian packages. It fails on a system without apt-get.
func (c *Cluster) install(ctx context.Context, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the local cluster needs %s, and this system has no apt-get: install them with its package manager, or %s",
			strings.Join(missing, ", "), Elsewhere)
	}
	c.Out.Step("installing Debian packages: %s", strings.Join(missing, ", "))
	// Keep the packages' services from starting, because they would take the cluster's ports.
	const policy, ours = "/usr/sbin/policy-rc.d", "#!/bin/sh\n# of loja-veloz, while it installs packages\nexit 101\n"
	if b, err := os.ReadFile(policy); errors.Is(err, os.ErrNotExist) || string(b) == ours {
		if err := os.WriteFile(policy, []byte(ours), 0o755); err != nil {
			return err
		}
		defer func() { _ = os.Remove(policy) }()
	}
	apt := func(args ...string) error {
		return command.Command{
			// Another installation, such as a new machine's updates, is waited for.
			Args: append([]string{"apt-get", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=600"}, args...),
			Env:  []string{"DEBIAN_FRONTEND=noninteractive"}, Log: filepath.Join(c.Data, "logs", "apt.log"),
		}.Run(ctx)
	}
	args := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if err := apt(args...); err == nil {
		return nil
	}
	// The package lists may be missing or outdated.
	if err := apt("update"); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(missing, ", "), err)
	}
	if err := apt(args...); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(missing, ", "), err)
	}
	return nil
}

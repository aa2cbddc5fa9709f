package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// Elsewhere is what to do where the local cluster cannot run.
const Elsewhere = "use any other cluster instead: KUBE_CONTEXT=<context of your kubeconfig> make up (kind, minikube, k3d, a shared one)"

// minFree is the free disk space that the cluster's data wants: images, etcd
// and some days of logs.
const minFree = 2 << 30

// ports of the cluster's components on loopback, and the node port of the
// gateway.
var ports = []int{2379, 2380, 5000, 10248, 10249, 10256, 10257, 10259, 30080}

// requirements are the programs of the Linux distribution that the cluster
// runs on, with the Debian package that has each.
var requirements = []struct{ program, pkg string }{
	{"containerd", "containerd"}, {"runc", "runc"}, {"iptables", "iptables"}, {"conntrack", "conntrack"},
	{"docker-registry", "docker-registry"}, {"ip", "iproute2"},
}

// Supported fails where the local cluster cannot run at all.
func Supported() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the local cluster needs Linux, this is %s: %s", runtime.GOOS, Elsewhere)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the local cluster needs root, for it runs containers and sets up links: run as root, or %s", Elsewhere)
	}
	return nil
}

func (c *Cluster) preflight(ctx context.Context) error {
	if err := Supported(); err != nil {
		return err
	}
	if err := c.install(ctx); err != nil {
		return err
	}
	var faults []error
	for _, port := range ports {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			continue
		}
		by := ""
		if holder := process.Holder(port); holder != "" {
			by = " by " + holder
		}
		faults = append(faults, fmt.Errorf("port %d on 127.0.0.1 is taken%s: the local cluster needs it", port, by))
	}
	var fs unix.Statfs_t
	parent := c.Data
	for unix.Statfs(parent, &fs) != nil && parent != "/" {
		parent = filepath.Dir(parent)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
		faults = append(faults, fmt.Errorf("%s has %d MiB free, the local cluster needs %d MiB: free some, or set LOJA_DATA to a folder on a larger disk", parent, free>>20, minFree>>20))
	}
	if err := overlapping(ctx); err != nil {
		faults = append(faults, err)
	}
	if rules, err := kubeRules(ctx); err != nil {
		faults = append(faults, err)
	} else if rules {
		faults = append(faults, fmt.Errorf("this machine has iptables rules of another Kubernetes (chains KUBE-*), which this one would overwrite: %s", Elsewhere))
	}
	return errors.Join(faults...)
}

// cniBinDir is where the distribution keeps the CNI plugins.
func cniBinDir() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "ptp")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the CNI plugin ptp is missing: install containernetworking-plugins")
}

// install adds the distribution's packages that are missing, where that is
// Debian or one of its kin.
func (c *Cluster) install(ctx context.Context) error {
	var missing []string
	for _, r := range requirements {
		if _, err := exec.LookPath(r.program); err != nil && !slices.Contains(missing, r.pkg) {
			missing = append(missing, r.pkg)
		}
	}
	if _, err := cniBinDir(); err != nil {
		missing = append(missing, "containernetworking-plugins")
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s, and there is no apt-get to install them: install them with this system's package manager, or %s", strings.Join(missing, ", "), Elsewhere)
	}
	c.Out.Step("installing Debian packages: %s", strings.Join(missing, ", "))
	// The packages' own services must not start beside the cluster's.
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

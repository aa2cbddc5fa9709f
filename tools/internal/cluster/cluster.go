// Package cluster runs a real single-node Kubernetes on this machine without systemd,
// Docker or a remote image registry: etcd, the control plane, a kubelet on containerd and
// a registry on localhost, as plain processes that listen only on loopback and on links
// that the cluster creates. It is a list of parts (part.go): Up, Down, Status and
// Leftovers walk that list.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// Addresses and names of the local cluster. The ranges are private (10.0.0.0/8). No packet
// for them leaves this machine, and none is masqueraded.
const (
	NodeName    = "loja"
	Context     = "loja-veloz" // of the kubeconfig
	Registry    = "localhost:5000"
	bridge      = "loja0"
	nodeIP      = "10.213.0.1"
	nodeCIDR    = "10.213.0.0/24"
	podCIDR     = "10.214.0.0/24"
	serviceCIDR = "10.215.0.0/16"
	dnsIP       = "10.215.0.10"
	cgroup      = "loja-veloz"
	runDir      = "/run/loja-veloz"
	gatewayPort = 30080 // NodePort of the gateway's Service
	// PrometheusPort is the NodePort of Prometheus's Service.
	PrometheusPort = 9090
	// JaegerPort is the NodePort of Jaeger's Service.
	JaegerPort = 16686
	// ConsolePort is the NodePort of the console's Service.
	ConsolePort = 9092
	// GitURL is the address of the repository that Argo CD reads, for this machine and for pods, and
	// GitBranch its branch.
	GitURL        = "http://" + gitAddress + "/" + gitRepository
	GitBranch     = "main"
	gitAddress    = nodeIP + ":3000"
	gitRepository = "deployments.git"
	// nodePorts is the range of NodePorts. It begins at 9090, below Kubernetes's default of
	// 30000, so that Prometheus and Jaeger have their usual ports.
	nodePorts = "9090-32767"
)

// A Cluster is the local cluster of a repo. At most one runs on a machine.
type Cluster struct {
	Data string // folder of the data that Down keeps
	Bin  string // folder with the Kubernetes programs
	Out  *console.Console
	// GitOps starts a git server too.
	GitOps bool
}

// GitFolder returns the folder of the git server: its repository and the token of those who push.
func (c *Cluster) GitFolder() string { return filepath.Join(c.Data, "git") }

// Kubeconfig returns the path of the administrator's kubeconfig, whose mode is 0600.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Data, "kubeconfig") }

func (c *Cluster) pki() string          { return filepath.Join(c.Data, "pki") }
func (c *Cluster) logs() string         { return filepath.Join(c.Data, "logs") }
func (c *Cluster) bin(n string) string  { return filepath.Join(c.Bin, n) }
func (c *Cluster) conf(n string) string { return filepath.Join(runDir, n) }

// Kubectl returns a kubectl command for this cluster.
func (c *Cluster) Kubectl(args ...string) command.Command {
	return command.Command{Args: append([]string{c.bin("kubectl"), "--kubeconfig=" + c.Kubeconfig()}, args...)}
}

// Up starts each part that does not run, and returns when the node is ready. It calls images
// once the registry answers and before pods start: images must push the images that the
// cluster itself needs.
func (c *Cluster) Up(ctx context.Context, images func(context.Context) error) error {
	running, err := c.Running()
	if err != nil {
		return err
	}
	if err := c.claimData(); err != nil {
		return err
	}
	parts := c.parts(images)
	if !running {
		if err := c.preflight(ctx, parts); err != nil {
			return err
		}
		if err := c.claimMachine(); err != nil {
			return err
		}
	}
	return bringUp(ctx, parts)
}

// Down stops the cluster, whatever state it is in, and keeps its data. Outside Data it
// leaves no process, mount, link, route, rule or file behind.
func (c *Cluster) Down(ctx context.Context) error {
	if running, err := c.Running(); err != nil || !running {
		return err
	}
	if err := Supported(); err != nil {
		return err
	}
	if err := takeDown(ctx, c.parts(nil)); err != nil {
		return fmt.Errorf("stopping the cluster: %w\nrun `make down` again: it retries what it could not remove", err)
	}
	return os.RemoveAll(runDir)
}

// Leftovers lists what Down should have removed and is still on this machine.
func (c *Cluster) Leftovers(ctx context.Context) ([]string, error) {
	left, err := leftovers(ctx, c.parts(nil))
	if _, missing := os.Stat(runDir); missing == nil {
		left = append(left, runDir)
	}
	return left, err
}

// Status reports the parts that consist of processes, in the order in which they go down.
func (c *Cluster) Status() ([]ProcessStatus, error) {
	var all []ProcessStatus
	for _, p := range slices.Backward(c.parts(nil)) {
		if p.pids == nil {
			continue
		}
		s, err := status(p)
		if err != nil {
			return nil, err
		}
		if p.name == gitProcess && !c.GitOps && len(s.PIDs) == 0 {
			continue // nothing wants it
		}
		all = append(all, s)
	}
	return all, nil
}

// dataMarker is a file in the cluster's data folder that distinguishes it from any other
// folder.
const dataMarker = ".loja-veloz"

// claimData creates the data folder. It refuses a folder with other files, because Wipe
// deletes the whole folder.
func (c *Cluster) claimData() error {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("creating the cluster's data folder: %w", err)
	}
	entries, err := os.ReadDir(c.Data)
	if err != nil {
		return err
	}
	marker := filepath.Join(c.Data, dataMarker)
	if _, err := os.Stat(marker); err != nil && len(entries) > 0 {
		return fmt.Errorf("LOJA_DATA=%s is not empty and not the cluster's data folder: name an empty or a new folder", c.Data)
	}
	return os.WriteFile(marker, nil, 0o600)
}

// minFree is the free disk space, in bytes, that the cluster needs for images, etcd and some
// days of logs.
const minFree = 2 << 30

func (c *Cluster) checkSpace(context.Context) error {
	var fs unix.Statfs_t
	parent := c.Data
	for unix.Statfs(parent, &fs) != nil && parent != "/" {
		parent = filepath.Dir(parent)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
		return fmt.Errorf("%s has %d MiB of free disk space, and the local cluster needs %d MiB: "+
			"free some, or set LOJA_DATA to a folder on a larger disk", parent, free>>20, minFree>>20)
	}
	return nil
}

func (c *Cluster) createFolders(context.Context) error {
	return errors.Join(os.MkdirAll(c.logs(), 0o700), os.MkdirAll(c.pki(), 0o700))
}

func ownerFile() string { return filepath.Join(runDir, "owner") }

// claimMachine records that this machine runs this repo's cluster. Down removes the record
// with the run folder, after everything else.
func (c *Cluster) claimMachine() error {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(ownerFile(), []byte(c.Data), 0o600)
}

// Running reports whether this repo's cluster was started and not stopped since. It fails if
// another repo's cluster was.
func (c *Cluster) Running() (bool, error) {
	b, err := os.ReadFile(ownerFile())
	if errors.Is(err, os.ErrNotExist) {
		procs, err := Processes()
		return len(procs) > 0, err
	}
	if err != nil {
		return false, fmt.Errorf("root started the local cluster, so only root can use it: %w", err)
	}
	if owner := string(b); owner != c.Data {
		return false, fmt.Errorf("another repo's cluster runs on this machine, with its data in %s: run `make down` there first", owner)
	}
	return true, nil
}

// Wipe deletes the cluster's data. The cluster must be down.
func (c *Cluster) Wipe() error {
	if running, err := c.Running(); err != nil {
		return err
	} else if running {
		return errors.New("the local cluster still runs: run `make down` first")
	}
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, dataMarker)); err != nil {
		return fmt.Errorf("LOJA_DATA=%s is not the cluster's data folder, so nothing was deleted: set LOJA_DATA as for `make up`", c.Data)
	}
	return os.RemoveAll(c.Data)
}

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// marker is an environment variable that every process of the cluster carries, with the
// name of its part as value, so that all are found again after any crash and without any
// file. Containers do not inherit it: their control group finds them. The variable keeps
// its name, by which down also finds the processes of a cluster that an older version
// started.
const marker = "LOJA_VELOZ_COMPONENT="

// containers is the name of the part that consists of all processes in pods.
const containers = "containers"

// goSettings trade a little CPU for memory: the control plane of one node holds few
// objects, for which half of Go's default heap growth is enough.
var goSettings = []string{"GOGC=50"}

// defaultGrace is how long a process may take to end after SIGTERM, before SIGKILL.
const defaultGrace = 3 * time.Second

// withProcesses completes a part that consists of processes, which outlive this one: how
// to find them, to end them with a grace period, and to see whether any is left.
func withProcesses(p part, grace time.Duration) part {
	p.pids = func() ([]int, error) {
		all, err := Processes()
		return all[p.name], err
	}
	p.down = func(context.Context) error { return process.EndFound(p.pids, syscall.SIGTERM, grace) }
	p.left = func(context.Context) ([]string, error) {
		pids, err := p.pids()
		if err != nil || len(pids) == 0 {
			return nil, err
		}
		return []string{fmt.Sprintf("processes of %s: %v", p.name, pids)}, nil
	}
	return p
}

// start starts the program of a part unless it runs.
func (c *Cluster) start(name string, args ...string) error {
	all, err := Processes()
	if err != nil || len(all[name]) > 0 {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it outlives this program
	cmd.Dir = c.Data
	cmd.Env = append(os.Environ(), goSettings...)
	return process.Detach(process.Spec{Name: name, Cmd: cmd, Mark: marker + name, Log: c.log(name)})
}

func (c *Cluster) log(name string) string { return filepath.Join(c.logs(), name+".log") }

// Processes finds the cluster's processes by the name of their part; those inside pods
// are called containers.
func Processes() (map[string][]int, error) {
	found, err := process.Marked(marker)
	if err != nil {
		return nil, err
	}
	pids, err := cgroupProcesses()
	if err != nil {
		return nil, err
	}
	if len(pids) > 0 {
		found[containers] = pids
	}
	return found, nil
}

// startTime is when the first process of a part began.
func startTime(name string) (time.Time, error) {
	all, err := Processes()
	if err != nil {
		return time.Time{}, err
	}
	if len(all[name]) == 0 {
		return time.Time{}, fmt.Errorf("%s does not run", name)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", all[name][0]))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// readyTimeout bounds each wait for a part of the cluster. On a loaded machine with two
// cores the slowest one, the API server, took 12 s.
const readyTimeout = 3 * time.Minute

// await polls check until it passes. It fails early when the named process ends; an
// empty name is for what no single process decides.
func (c *Cluster) await(ctx context.Context, name string, check func(context.Context) error) error {
	missing := 0
	err := process.Await(ctx, readyTimeout, 200*time.Millisecond, check, func() error {
		if name == "" {
			return nil
		}
		all, err := Processes()
		if err != nil {
			return err
		}
		// A process that has just been started has no environment yet, by which it is
		// found: missing it once proves nothing.
		if missing++; len(all[name]) > 0 {
			missing = 0
		}
		if missing > 1 {
			return fmt.Errorf("%s ended; the last lines of its log:\n%s", name, process.TailOf(c.log(name)))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\nthe logs are in %s", err, c.logs())
	}
	return nil
}

// A ProcessStatus is one line of the cluster's status.
type ProcessStatus struct {
	Name string // of the part
	PIDs []int  // empty if the part does not run
	PSS  int64  // bytes of memory, with the share of pages that others use too
}

// status reports the parts that consist of processes, the last to come up first.
func status(p part) (ProcessStatus, error) {
	pids, err := p.pids()
	if err != nil {
		return ProcessStatus{}, err
	}
	pss, err := process.PSS(pids...)
	return ProcessStatus{p.name, pids, pss}, err
}

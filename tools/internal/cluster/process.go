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

// marker is an environment variable of every process of the cluster, with the name of its
// part as the value. Processes are found by it after any crash, without a file. Containers
// do not inherit it; they are found by their control group. The variable says COMPONENT and
// keeps that name, so that down also finds the processes that an older version started.
const marker = "LOJA_VELOZ_COMPONENT="

// containers is the name of the part of all processes in pods.
const containers = "containers"

// goSettings halve Go's default heap growth, which saves memory and costs a little CPU: the
// control plane of one node holds few objects.
var goSettings = []string{"GOGC=50"}

// defaultGrace is the time between SIGTERM and SIGKILL.
const defaultGrace = 3 * time.Second

// withProcesses adds pids, down and left to a part whose processes outlive this one. grace
// is the time between SIGTERM and SIGKILL.
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

// start starts the program of a part unless it runs already.
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

// Processes returns the ids of the cluster's processes by the name of their part. The
// processes in pods belong to the part containers.
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

// startTime returns the time at which the first process of a part began.
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

// readyTimeout bounds the wait for one part. The slowest part, the API server, took 12 s on
// a loaded machine with two cores.
const readyTimeout = 3 * time.Minute

// await polls check until it passes. It fails early when the named process ends; with an
// empty name it watches no process.
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
		// Processes finds a process by its environment, which a process that has just
		// started does not have yet. Only the second miss in a row counts.
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
	PSS  int64  // proportional set size in bytes
}

// status reports one part.
func status(p part) (ProcessStatus, error) {
	pids, err := p.pids()
	if err != nil {
		return ProcessStatus{}, err
	}
	pss, err := process.PSS(pids...)
	return ProcessStatus{p.name, pids, pss}, err
}

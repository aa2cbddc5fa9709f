package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// marker is an environment variable that every process of the cluster carries,
// with the component's name, so that all of them are found again whoever died
// and whatever file was lost. Containers do not inherit it: they are found by
// their control group.
const marker = "LOJA_VELOZ_COMPONENT="

// components in the order in which they are stopped.
var components = []string{
	"kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager",
	"containers", "containerd", "kube-apiserver", "docker-registry", "etcd",
}

// goSettings trade a little CPU for memory: the control plane of one node
// holds few objects, and half of Go's default heap growth is waste here.
var goSettings = []string{"GOGC=50"}

// start starts a component unless it runs, as a process that outlives this one.
func (c *Cluster) start(name string, args ...string) error {
	procs, err := Processes()
	if err != nil {
		return err
	}
	if len(procs[name]) > 0 {
		return nil
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	logPath := filepath.Join(c.logs(), name+".log")
	// The log of the run before may tell why it ended.
	if err := os.Rename(logPath, logPath+".previous"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args[1:]...) //nolint:noctx // it outlives this program
	cmd.Args[0] = args[0]
	cmd.Dir = c.Data
	cmd.Env = append(append(os.Environ(), goSettings...), marker+name)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	return cmd.Process.Release()
}

// Processes finds the cluster's processes by component; those inside pods are
// called containers.
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
		found["containers"] = pids
	}
	return found, nil
}

// stop ends the processes of a component: SIGTERM, and SIGKILL for those that
// have not ended after the grace period.
func stop(name string, grace time.Duration) error {
	signal, deadline := syscall.SIGTERM, time.Now().Add(grace)
	for {
		procs, err := Processes()
		if err != nil {
			return err
		}
		pids := procs[name]
		if len(pids) == 0 {
			return nil
		}
		if signal != 0 {
			for _, pid := range pids {
				if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("ending %s (%d): %w", name, pid, err)
				}
			}
		}
		signal = 0
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		if time.Now().After(deadline.Add(10 * time.Second)) {
			return fmt.Errorf("%s does not end: processes %v", name, pids)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// startTime is when the component's first process began.
func startTime(name string) (time.Time, error) {
	procs, err := Processes()
	if err != nil {
		return time.Time{}, err
	}
	if len(procs[name]) == 0 {
		return time.Time{}, fmt.Errorf("%s does not run", name)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d", procs[name][0]))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// readyTimeout bounds each wait for a part of the cluster. On a loaded machine
// of two cores the slowest, the API server, took 12 s.
const readyTimeout = 3 * time.Minute

// wait polls until check passes. It fails early when the component ends.
func (c *Cluster) wait(ctx context.Context, component string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %s", readyTimeout))
	defer cancel()
	missing := 0
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if component != "" {
			procs, perr := Processes()
			if perr != nil {
				return perr
			}
			// A process that has only just been started has no environment yet, by
			// which it is found: once is not enough.
			if missing++; len(procs[component]) > 0 {
				missing = 0
			}
			if missing > 1 {
				return fmt.Errorf("%s ended; the last lines of its log:\n%s", component, c.logTail(component))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\nthe logs are in %s", context.Cause(ctx), err, c.logs())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *Cluster) waitHTTP(ctx context.Context, component, url string) error {
	return c.wait(ctx, component, func(ctx context.Context) error { return Answers(ctx, url) })
}

// Answers fails unless a GET of the address is answered with 200.
func Answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

func (c *Cluster) waitSocket(ctx context.Context, component, path string) error {
	return c.wait(ctx, component, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func (c *Cluster) logTail(component string) string {
	b, err := os.ReadFile(filepath.Join(c.logs(), component+".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-8):], "\n    ")
}

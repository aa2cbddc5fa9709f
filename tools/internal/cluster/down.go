package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// grace is how long each component may take to end after SIGTERM.
var grace = map[string]time.Duration{"containers": 10 * time.Second, "etcd": 10 * time.Second, "containerd": 2 * time.Second}

// Down ends the cluster and leaves no process, mount, link, route, rule or
// file outside Data behind, whatever state it is in. The data is kept.
func (c *Cluster) Down(ctx context.Context) error {
	if running, err := c.owned(); err != nil || !running {
		return err
	}
	if err := Supported(); err != nil {
		return err
	}
	var failed error
	for _, name := range components {
		g, ok := grace[name]
		if !ok {
			g = 3 * time.Second
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		failed = errors.Join(failed, stop(name, g))
	}
	failed = errors.Join(failed, unmount(runDir, c.Data))
	failed = errors.Join(failed, networkDown(ctx), cgroupDown())
	if failed != nil {
		return fmt.Errorf("stopping the cluster: %w\nrun `make down` again; what it could not remove it will try again", failed)
	}
	return os.RemoveAll(runDir)
}

// Leftovers lists what a stopped cluster must not leave on this machine.
func (c *Cluster) Leftovers(ctx context.Context) ([]string, error) {
	var left []string
	procs, err := Processes()
	if err != nil {
		return nil, err
	}
	for name, pids := range procs {
		left = append(left, fmt.Sprintf("processes of %s: %v", name, pids))
	}
	mounts, err := mountsBelow(runDir, c.Data)
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m)
	}
	links, err := ourLinks(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		left = append(left, "link "+l)
	}
	if err := overlapping(ctx); err != nil {
		left = append(left, err.Error())
	}
	if rules, err := kubeRules(ctx); err != nil {
		return nil, err
	} else if rules {
		left = append(left, "iptables chains KUBE-*")
	}
	for _, path := range append(cgroupDirs(), runDir) {
		if _, err := os.Stat(path); err == nil {
			left = append(left, path)
		}
	}
	return left, nil
}

// A ComponentStatus is one line of the cluster's status.
type ComponentStatus struct {
	Name string
	PIDs []int
	PSS  int64 // bytes of memory, shared pages counted in parts
}

// Status reports the components with what memory they use.
func (c *Cluster) Status() ([]ComponentStatus, error) {
	procs, err := Processes()
	if err != nil {
		return nil, err
	}
	var all []ComponentStatus
	for _, name := range components {
		s := ComponentStatus{Name: name, PIDs: procs[name]}
		for _, pid := range s.PIDs {
			n, err := process.PSS(pid)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			s.PSS += n
		}
		all = append(all, s)
	}
	return all, nil
}

// Running tells whether this checkout's cluster was started.
func (c *Cluster) Running() (bool, error) { return c.owned() }

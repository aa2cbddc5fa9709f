package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// A part is a step of the local cluster that can be checked, started and removed. A nil
// function means that there is nothing to do.
type part struct {
	name  string
	needs []requirement // programs of the Linux distribution that it runs
	ports []int         // TCP ports on 127.0.0.1 that it listens on

	// check fails on a machine on which the part cannot start. It changes nothing.
	check func(context.Context) error
	// up starts the part unless it is up already.
	up func(context.Context) error
	// down removes the part, whatever state it is in.
	down func(context.Context) error
	// left names what down should have removed and is still there.
	left func(context.Context) ([]string, error)
	// pids returns the ids of the part's processes. It is nil for a part without processes.
	pids func() ([]int, error)
}

// parts returns the cluster's parts in the order in which they come up. They go down in the
// reverse order. images fills the registry.
//
// The parts of etcd, the registry and containerd start their process and do not wait for
// it, so that the three become ready at the same time. The part that needs one waits.
func (c *Cluster) parts(images func(context.Context) error) []part {
	return []part{
		{name: "data folder", check: c.checkSpace, up: c.createFolders},
		{name: "certificates", up: c.certificates},
		{name: "configuration", up: c.writeConfig},
		{name: "control groups", up: cgroupUp, down: cgroupDown, left: cgroupLeft},
		{name: "network", needs: networkPrograms, check: checkNetwork, up: c.networkUp, down: networkDown, left: networkLeft},
		{name: "mounts", down: c.unmount, left: c.mountsLeft},
		c.etcd(),
		c.registry(),
		c.gitServer(),
		c.containerd(),
		c.apiServer(),
		{name: "images", up: func(ctx context.Context) error { return c.fillRegistry(ctx, images) }},
		c.containers(),
		c.controllerManager(),
		c.scheduler(),
		c.proxy(),
		c.kubelet(),
		{name: "node", up: c.awaitNode},
		{name: "cluster DNS", up: c.startDNS},
	}
}

// bringUp brings parts up in order, and stops at the first one that fails.
func bringUp(ctx context.Context, parts []part) error {
	for _, p := range parts {
		if p.up == nil {
			continue
		}
		if err := p.up(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// takeDown takes parts down in the reverse order. It goes on after a part that fails, so
// that it removes as much as possible.
func takeDown(ctx context.Context, parts []part) error {
	var errs []error
	for _, p := range slices.Backward(parts) {
		if p.down == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := p.down(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// leftovers joins what all parts left behind.
func leftovers(ctx context.Context, parts []part) ([]string, error) {
	var all []string
	for _, p := range parts {
		if p.left == nil {
			continue
		}
		left, err := p.left(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		all = append(all, left...)
	}
	return all, nil
}

// checkAll checks for every part whether it can start on this machine, and reports all
// errors at once.
func checkAll(ctx context.Context, parts []part) error {
	var errs []error
	for _, p := range parts {
		for _, port := range p.ports {
			errs = append(errs, checkPort(ctx, port))
		}
		if p.check != nil {
			errs = append(errs, p.check(ctx))
		}
	}
	return errors.Join(errs...)
}

func checkPort(ctx context.Context, port int) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		return l.Close()
	}
	by := ""
	if holder := process.Holder(port); holder != "" {
		by = " by " + holder
	}
	return fmt.Errorf("port %d on 127.0.0.1, which the local cluster needs, is taken%s: stop that process", port, by)
}

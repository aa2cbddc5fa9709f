package platform

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"

	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Deploy ships the working tree: it builds and pushes images, applies the stack, and
// watches the canaries to their end under load.
func Deploy(ctx context.Context, w Workspace, o settings.Deploy) error {
	d := &shipment{w: w, deploys: true, programs: o.Programs, fault: o.Fault}
	steps := []step{
		{"providing the tools", d.provideTools},
		{"selecting the stack", d.selectStack},
		{"starting the cluster", d.startCluster},
		{"building the images", d.buildImages},
		{"configuring the stack", d.configureStack},
		{"preparing the delivery", d.prepareDelivery},
		{"applying the stack", d.applyUnwatched},
		{"releasing", d.release},
	}
	if err := runSteps(ctx, steps...); err != nil {
		return err
	}
	if !o.Wait {
		w.Out.Step("applied; make status shows the canaries")
		return nil
	}
	return watchAll(ctx, w, d.pulumi, d.shipped, o.Load)
}

// applyUnwatched applies the stack without waiting for its Rollouts. This program watches
// the canaries itself, so that Pulumi's lock on the stack is free again at once.
func (d *shipment) applyUnwatched(ctx context.Context) error {
	if shipped := d.shipped; len(shipped) == 0 {
		d.w.Out.Step("no image changed: applying only the stack")
	} else {
		d.w.Out.Step("shipping %s", strings.Join(shipped, ", "))
	}
	config, err := d.pulumi.configWith("waitForRollout: false")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(config) }()
	return d.pulumi.up(ctx, "--config-file", config)
}

// watchAll watches every service, because more than an image can have changed, and sends
// load to their canaries.
func watchAll(ctx context.Context, w Workspace, p Pulumi, shipped []string, loaded bool) error {
	services, err := repo.Services(w.Root)
	if err != nil {
		return err
	}
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	stopLoads := func() {}
	if loaded && w.bundled() {
		last, err := p.outputs(ctx)
		if err != nil {
			return err
		}
		if stopLoads, err = loadCanaries(ctx, w, last, services); err != nil {
			return err
		}
	}
	errs := make([]error, len(services))
	var watches sync.WaitGroup
	for i, s := range services {
		watches.Go(func() { errs[i] = c.show(ctx, s) })
	}
	watches.Wait()
	stopLoads()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(shipped) > 0 {
		w.Out.Step("shipped: %s", strings.Join(shipped, ", "))
	}
	return nil
}

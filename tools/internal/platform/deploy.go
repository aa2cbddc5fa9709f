package platform

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/loja-veloz/platform/tools/internal/load"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// Deploy ships the working tree: it builds and pushes images, applies the stack, and
// watches the canaries to their end under load.
func Deploy(ctx context.Context, w Workspace, o settings.Deploy) error {
	d := &deployment{shipment: shipment{w: w, deploys: true, programs: o.Programs}}
	steps := []step{
		{"providing the tools", d.provideTools},
		{"starting the cluster", d.startCluster},
		{"reading the stack's images", d.readImages},
		{"building the images", d.buildImages},
		{"configuring the stack", d.configureStack},
		{"applying the stack", d.applyUnwatched},
	}
	if err := runSteps(ctx, steps...); err != nil {
		return err
	}
	if !o.Wait {
		w.Out.Step("applied; make status shows the canaries")
		return nil
	}
	return watchAll(ctx, w, d.pulumi, d.shipped(), o.Load)
}

// A deployment is a shipment that compares the images with those before.
type deployment struct {
	shipment

	before map[string]string
}

func (d *deployment) readImages(ctx context.Context) (err error) {
	d.before, err = d.pulumi.images(ctx)
	return err
}

// shipped are the programs whose image changes.
func (d *deployment) shipped() []string { return changed(d.before, d.digests) }

func changed(before, after map[string]string) []string {
	var names []string
	for name, ref := range after {
		if before[name] != ref {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// applyUnwatched applies the stack without waiting for its Rollouts. This program watches
// the canaries itself, so that Pulumi's lock on the stack is free again at once.
func (d *deployment) applyUnwatched(ctx context.Context) error {
	if shipped := d.shipped(); len(shipped) == 0 {
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
// load to those shipped.
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
	if loaded && w.bundled() && len(shipped) > 0 {
		if stopLoads, err = startLoads(ctx, w, p, shipped); err != nil {
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

// startLoads sends requests to each service that has a public path, until stop is called,
// which waits for the last answers.
func startLoads(ctx context.Context, w Workspace, p Pulumi, services []string) (stop func(), err error) {
	const perSecond, maxMinutes = 20, 30
	var deployed map[string]struct {
		URL string `json:"url"` // empty without a public path
	}
	if err := p.output(ctx, "services", &deployed); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var loads sync.WaitGroup
	for _, s := range services {
		url := deployed[s].URL
		if url == "" {
			continue
		}
		w.Out.Step("load on %s: %d requests/s at %s while the canary runs, for at most %d min (LOAD=off sends none)",
			s, perSecond, url, maxMinutes)
		loads.Go(func() {
			r := load.Run(ctx, load.Target{URL: url, PerSecond: perSecond, Max: maxMinutes * 60 * perSecond})
			w.Out.Step("load on %s: %s", s, r)
		})
	}
	return func() {
		cancel()
		loads.Wait()
	}, nil
}

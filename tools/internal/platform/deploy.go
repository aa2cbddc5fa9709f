package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/loja-veloz/platform/tools/internal/checkout"
	"github.com/loja-veloz/platform/tools/internal/load"
)

// DeployOptions are what a person chooses about a deploy.
type DeployOptions struct {
	Services []string // to build; none means all
	Wait     bool     // for the canaries to end
	Load     bool     // drive a bounded load at each service shipped meanwhile
}

// Deploy ships the working tree: images of the services are built and pushed,
// the stack is applied, and the canaries are watched to their end under load.
func (p *Platform) Deploy(ctx context.Context, o DeployOptions) error {
	for _, s := range o.Services {
		// The program that makes the databases has an image, and no canary.
		if s == checkout.Database {
			continue
		}
		if err := p.checkService(s); err != nil {
			return err
		}
	}
	if err := p.ClusterUp(ctx, p.deployTools(ctx)...); err != nil {
		return err
	}
	before, err := p.images(ctx)
	if err != nil {
		return err
	}
	after, err := p.buildServices(ctx, o.Services)
	if err != nil {
		return err
	}
	shipped := servicesShipped(before, after)
	if err := p.setImages(ctx, after); err != nil {
		return err
	}
	if len(shipped) == 0 {
		p.Out.Step("no image changed: applying the stack alone")
	} else {
		p.Out.Step("shipping %s", strings.Join(shipped, ", "))
	}
	// This program watches the canaries itself, so Pulumi need not: its lock
	// on the stack is free again at once.
	config, err := p.configWith("waitForRollout: false")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(config) }()
	if err := p.pulumiUp(ctx, "--config-file", config); err != nil {
		return err
	}
	if !o.Wait {
		p.Out.Step("applied; make status shows the canaries")
		return nil
	}
	return p.watchAll(ctx, shipped, o.Load)
}

// watchAll watches every service, for more than an image can have changed, and
// drives load at those shipped.
func (p *Platform) watchAll(ctx context.Context, shipped []string, drive bool) error {
	services, err := p.Services()
	if err != nil {
		return err
	}
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var loads sync.WaitGroup
	if drive && p.KubeContext == "" && len(shipped) > 0 {
		urls, err := p.urls(ctx)
		if err != nil {
			return err
		}
		for _, s := range shipped {
			if urls[s] == "" {
				continue // no public path
			}
			p.Out.Step("load on %s: 20 requests/s at %s while the canary runs, 30 min at most (LOAD=off leaves it out)", s, urls[s])
			loads.Go(func() {
				r := load.Run(loadCtx, load.Target{URL: urls[s], PerSecond: 20, Most: 30 * 60 * 20})
				p.Out.Step("load on %s: %s", s, r)
			})
		}
	}
	errs := make([]error, len(services))
	var watches sync.WaitGroup
	reader := p.rollouts()
	for i, s := range services {
		watches.Go(func() { errs[i] = p.watch(ctx, reader, s) })
	}
	watches.Wait()
	stopLoad()
	loads.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if len(shipped) > 0 {
		p.Out.Step("shipped: %s", strings.Join(shipped, ", "))
	}
	return nil
}

// urls are the public addresses of the services, by name, as the stack says.
func (p *Platform) urls(ctx context.Context) (map[string]string, error) {
	var services map[string]struct {
		URL string `json:"url"`
	}
	if err := p.output(ctx, "services", &services); err != nil {
		return nil, err
	}
	urls := map[string]string{}
	for name, s := range services {
		urls[name] = s.URL
	}
	return urls, nil
}

// images reads the references that the stack has now.
func (p *Platform) images(ctx context.Context) (map[string]string, error) {
	if _, err := os.Stat(p.stackFile()); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	c, err := p.run("pulumi", "--non-interactive", "config", "--stack", stack, "--json")
	if err != nil {
		return nil, err
	}
	out, err := c.Text(ctx)
	if err != nil {
		return nil, err
	}
	var config map[string]struct {
		ObjectValue json.RawMessage `json:"objectValue"`
	}
	if err := json.Unmarshal([]byte(out), &config); err != nil {
		return nil, fmt.Errorf("reading the stack's configuration: %w", err)
	}
	raw := config[project+":images"].ObjectValue
	if raw == nil {
		return nil, nil
	}
	var refs map[string]string
	if err := json.Unmarshal(raw, &refs); err != nil {
		return nil, fmt.Errorf("reading %s:images: %w", project, err)
	}
	return refs, nil
}

// configWith copies the stack file with one more line of configuration, for one
// command; the stack's own file stays as it is.
func (p *Platform) configWith(line string) (string, error) {
	b, err := os.ReadFile(p.stackFile())
	if err != nil {
		return "", err
	}
	text := strings.Replace(string(b), "config:\n", "config:\n  "+project+":"+line+"\n", 1)
	if text == string(b) {
		return "", fmt.Errorf("%s has no configuration", p.stackFile())
	}
	path := p.Local("Pulumi.once.yaml")
	return path, os.WriteFile(filepath.Clean(path), []byte(text), 0o600)
}

// Load drives the given load at a path of the gateway and prints what came back.
func (p *Platform) Load(ctx context.Context, t load.Target) error {
	p.Out.Step("load: %d requests, %d/s, at %s", t.Most, t.PerSecond, t.URL)
	r := load.Run(ctx, t)
	p.Out.Step("%s", r)
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed: %s", r.Failed, r.Requests, strings.Join(r.Errors, "; "))
	}
	return nil
}

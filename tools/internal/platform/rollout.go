package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
)

// rollouts reads what the judge of Rollouts asks for, by kubectl.
type rollouts struct {
	kubectl func(ctx context.Context, args ...string) (string, error)

	// One reading of all Rollouts serves the watches of all services for half a
	// poll interval: each start of kubectl takes processor time from the canary.
	mu   sync.Mutex
	read time.Time
	list []rollout.Rollout
	err  error
}

func openRollouts(w Workspace) (*rollouts, error) {
	k, err := openKubectl(w)
	return &rollouts{kubectl: k.Text}, err
}

// Rollout returns nil without an error when there is none of that name.
func (c *rollouts) Rollout(ctx context.Context, namespace, name string) (*rollout.Rollout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= rollout.PollInterval/2 {
		var list struct{ Items []rollout.Rollout }
		c.err = c.get(ctx, &list, namespace, "rollouts")
		c.list, c.read = list.Items, time.Now()
	}
	if c.err != nil {
		return nil, c.err
	}
	for i := range c.list {
		if c.list[i].Metadata.Name == name {
			return &c.list[i], nil
		}
	}
	return nil, nil
}

// Pods lists by label selector.
func (c *rollouts) Pods(ctx context.Context, namespace, selector string) ([]rollout.Pod, error) {
	var list struct{ Items []rollout.Pod }
	err := c.get(ctx, &list, namespace, "pods", "-l", selector)
	return list.Items, err
}

// AnalysisRun reads one AnalysisRun.
func (c *rollouts) AnalysisRun(ctx context.Context, namespace, name string) (*rollout.AnalysisRun, error) {
	var run rollout.AnalysisRun
	err := c.get(ctx, &run, namespace, "analysisrun", name)
	return &run, err
}

func (c *rollouts) get(ctx context.Context, object any, namespace string, what ...string) error {
	args := append([]string{"--request-timeout=10s", "-n", namespace, "get", "-o", "json"}, what...)
	out, err := c.kubectl(ctx, args...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), object); err != nil {
		return fmt.Errorf("reading %s: %w", strings.Join(what, " "), err)
	}
	return nil
}

// one reads the Rollout of a service that must have one.
func (c *rollouts) one(ctx context.Context, service string) (*rollout.Rollout, error) {
	r, err := c.Rollout(ctx, namespace, service)
	if err == nil && r == nil {
		err = fmt.Errorf("there is no Rollout %s in namespace %s", service, namespace)
	}
	return r, err
}

// watch reports each change of a service's Rollout until it is healthy. Its errors
// are those of rollout.Watch, with the service's name.
func (c *rollouts) watch(ctx context.Context, service string, say func(line string)) error {
	w := rollout.Watch{
		Cluster: c, Namespace: namespace, Name: service,
		Progress: func(line string) { say(service + ": " + line) },
	}
	if _, err := w.Until(ctx); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	return nil
}

// await reads a Rollout until it is as wanted. After the timeout it fails and
// returns the Rollout as it was read last.
func (c *rollouts) await(
	ctx context.Context, service string, timeout time.Duration, wanted func(*rollout.Rollout) bool,
) (*rollout.Rollout, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("gave up after %s", timeout))
	defer cancel()
	for {
		r, err := c.one(ctx, service)
		switch {
		case err != nil:
			return nil, errors.Join(context.Cause(ctx), err)
		case wanted(r):
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, context.Cause(ctx)
		case <-time.After(rollout.PollInterval / 2):
		}
	}
}

package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/traces"
)

// rollouts implements rollout.Cluster with kubectl.
type rollouts struct {
	kubectl func(ctx context.Context, args ...string) (string, error)
	out     *console.Console
	why     string // the reason of the person who aborts a canary; mostly empty

	// list is read once per half poll interval for all services that are watched, because
	// each start of kubectl takes processor time from the canary.
	mu   sync.Mutex
	read time.Time
	list []rollout.Rollout
	err  error
}

func openRollouts(w Workspace) (*rollouts, error) {
	k, err := openKubectl(w)
	return &rollouts{kubectl: k.Text, out: w.Out}, err
}

// Rollout returns nil without an error if no Rollout has the name.
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

// Pods lists the pods that match a label selector.
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

// Abort ends the update of a Rollout, and with it a pause that a person asked for: in this
// order, so that the update does not go on between the two.
func (c *rollouts) Abort(ctx context.Context, _, name string) error {
	if err := c.patchStatus(ctx, name, rollout.AbortPatch); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, "-n", namespace, "patch", "rollout", name, "--type=merge", "-p", unpause)
	return err
}

// Resume ends the pause of a Rollout: its update goes on.
func (c *rollouts) Resume(ctx context.Context, _, name string) error {
	return c.patchStatus(ctx, name, rollout.ResumePatch)
}

const unpause = `{"spec":{"paused":false}}`

// ReplicaSets lists the ReplicaSets that match a label selector.
func (c *rollouts) ReplicaSets(ctx context.Context, namespace, selector string) ([]rollout.ReplicaSet, error) {
	var list struct{ Items []rollout.ReplicaSet }
	err := c.get(ctx, &list, namespace, "replicasets", "-l", selector)
	return list.Items, err
}

// ConfigMap returns nil without an error if no ConfigMap has the name.
func (c *rollouts) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	var configMap struct{ Data map[string]string }
	err := c.get(ctx, &configMap, namespace, "configmap", name, "--ignore-not-found")
	return configMap.Data, err
}

// Raw reads a path of the API server.
func (c *rollouts) Raw(ctx context.Context, path string) ([]byte, error) {
	out, err := c.kubectl(ctx, "--request-timeout=10s", "get", "--raw", path)
	return []byte(out), err
}

// PatchReplicaSet applies a merge patch.
func (c *rollouts) PatchReplicaSet(ctx context.Context, namespace, name, patch string) error {
	_, err := c.kubectl(ctx, "-n", namespace, "patch", "replicaset", name, "--type=merge", "-p", patch)
	return err
}

// PatchConfigMap sets keys of a ConfigMap's data, and removes those with nil.
func (c *rollouts) PatchConfigMap(ctx context.Context, namespace, name string, data map[string]*string) error {
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		return fmt.Errorf("encoding the change of ConfigMap %s: %w", name, err)
	}
	_, err = c.kubectl(ctx, "-n", namespace, "patch", "configmap", name, "--type=merge", "-p", string(patch))
	return err
}

func (c *rollouts) get(ctx context.Context, object any, namespace string, what ...string) error {
	args := append([]string{"--request-timeout=10s", "-n", namespace, "get", "-o", "json"}, what...)
	out, err := c.kubectl(ctx, args...)
	if err != nil || out == "" { // nothing is printed for what may be missing
		return err
	}
	if err := json.Unmarshal([]byte(out), object); err != nil {
		return fmt.Errorf("reading %s: %w", strings.Join(what, " "), err)
	}
	return nil
}

// one reads the Rollout of a service, and fails if it is missing.
func (c *rollouts) one(ctx context.Context, service string) (*rollout.Rollout, error) {
	r, err := c.Rollout(ctx, namespace, service)
	if err == nil && r == nil {
		err = fmt.Errorf("there is no Rollout %s in namespace %s: create it with `make deploy`", service, namespace)
	}
	return r, err
}

// watch reports each change of a service's Rollout until it is healthy. Its errors are those
// of rollout.Watch, prefixed with the service's name.
func (c *rollouts) watch(ctx context.Context, service string, say func(line string)) error {
	w := rollout.Watch{
		Cluster: c, Namespace: namespace, Name: service, By: rollout.Actor(os.Getenv), Why: c.why,
		Jaeger:   rollout.ServiceProxy("tracing", "jaeger", cluster.JaegerPort),
		Progress: func(line string) { say(service + ": " + line) },
	}
	if _, err := w.Until(ctx); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	return nil
}

// show watches a service's Rollout and prints each change.
func (c *rollouts) show(ctx context.Context, service string) error {
	return c.watch(ctx, service, func(line string) { c.out.Step("%s", line) })
}

// Status prints the state of the services' Rollouts.
func Status(ctx context.Context, w Workspace, services []string) error {
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	quarantine, err := c.quarantine(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		r, err := c.one(ctx, s)
		if err != nil {
			return err
		}
		w.Out.Plain("%s: %s\n  image %s", s, r.Line(), r.Image())
		for _, e := range quarantine.Entries(s) {
			w.Out.Plain("  quarantined: %s", e)
		}
	}
	return nil
}

// Promote sends a canary to 100 % at once and skips the remaining steps.
func Promote(ctx context.Context, w Workspace, service string) error {
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	if err := c.underWay(ctx, service); err != nil {
		return err
	}
	if err := c.patchStatus(ctx, service, `{"status":{"promoteFull":true}}`); err != nil {
		return err
	}
	return c.show(ctx, service)
}

// Abort ends a canary, and those of its group: the stable versions get all traffic again. What was
// aborted is quarantined with the person's reason.
func Abort(ctx context.Context, w Workspace, o settings.Abort) error {
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	service := o.Service
	c.why = o.Reason
	if c.why == "" {
		c.why = "aborted by hand"
	}
	if err := c.underWay(ctx, service); err != nil {
		return err
	}
	aborted, err := c.one(ctx, service)
	if err != nil {
		return err
	}
	if err := c.Abort(ctx, namespace, service); err != nil {
		return err
	}
	_, members := aborted.Group()
	if len(members) == 0 {
		members = []string{service}
	}
	// The watch of each other member aborts it.
	return watchEach(members, func(member string) error { return c.returned(ctx, member) })
}

// returned waits until a service is aborted and its stable version has all traffic.
func (c *rollouts) returned(ctx context.Context, service string) error {
	var failed *rollout.FailureError
	if err := c.show(ctx, service); !errors.As(err, &failed) {
		return errors.Join(fmt.Errorf("the canary of %s ended before it could be aborted", service), err)
	}
	r, err := c.await(ctx, service, time.Minute, (*rollout.Rollout).StableHasAllTraffic)
	if err != nil {
		if r != nil {
			err = fmt.Errorf("%s is aborted, but %s: %w", service, r.Traffic(), err)
		}
		return err
	}
	c.out.Step("%s is aborted; the stable version has all traffic. %s", service, failed.Quarantine)
	return nil
}

// watchEach calls watch for all services at once, and joins their errors.
func watchEach(services []string, watch func(service string) error) error {
	errs := make([]error, len(services))
	var watches sync.WaitGroup
	for i, s := range services {
		watches.Go(func() { errs[i] = watch(s) })
	}
	watches.Wait()
	return errors.Join(errs...)
}

// releasePatience is how long the API server may take to notice that something is released.
const releasePatience = 20 * time.Second

// Release lets something be shipped again that was quarantined, and records who wants that and
// why. If the service's Rollout was aborted with it, its canary starts again.
func Release(ctx context.Context, w Workspace, o settings.Release) error {
	c, err := openRollouts(w)
	if err != nil {
		return err
	}
	return c.release(ctx, o, rollout.Release{Reason: o.Reason, By: rollout.Actor(os.Getenv), At: time.Now().UTC().Truncate(time.Second)})
}

func (c *rollouts) release(ctx context.Context, o settings.Release, decision rollout.Release) error {
	e, err := rollout.Lift(ctx, c, namespace, o.Service, o.What, decision)
	if err != nil {
		return err
	}
	if e != nil {
		c.out.Step("released by %s: %s", decision.By, e)
	}
	r, err := c.one(ctx, o.Service)
	if err != nil {
		return err
	}
	if !r.Status.Abort || (e != nil && !r.Has(*e)) {
		c.out.Step("make deploy ships it again")
		return nil
	}
	err = process.Await(ctx, releasePatience, rollout.PollInterval, func(ctx context.Context) error {
		return c.patchStatus(ctx, o.Service, `{"status":{"abort":false}}`)
	}, nil)
	if err != nil {
		return fmt.Errorf("starting the canary of %s again: %w", o.Service, err)
	}
	c.out.Step("the canary of %s starts again: make deploy sends it load and watches it", o.Service)
	return nil
}

// quarantine reads what is not shipped again.
func (c *rollouts) quarantine(ctx context.Context) (rollout.Quarantine, error) {
	return c.ConfigMap(ctx, namespace, rollout.QuarantineName)
}

// underWay fails if the service has no canary under way.
func (c *rollouts) underWay(ctx context.Context, service string) error {
	r, err := c.await(ctx, service, 20*time.Second, (*rollout.Rollout).Observed)
	switch {
	case err != nil && r != nil:
		return fmt.Errorf("%s: %s: %w", service, r.Line(), err)
	case err != nil:
		return err
	case !r.UnderWay():
		return fmt.Errorf("%s has no canary under way: %s", service, r.Line())
	}
	return nil
}

// await reads a Rollout until wanted reports true. After the timeout it fails and returns
// the Rollout that it read last.
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

func (c *rollouts) patchStatus(ctx context.Context, service, patch string) error {
	_, err := c.kubectl(ctx, "-n", namespace, "patch", "rollout", service, "--subresource=status", "--type=merge", "-p", patch)
	return err
}

// Traces returns the Jaeger of the bundled cluster.
func Traces() traces.Jaeger {
	return traces.Jaeger{URL: fmt.Sprintf("http://localhost:%d", cluster.JaegerPort), Keeps: "the traces of the last 6 hours"}
}

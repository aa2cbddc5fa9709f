package platform

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// ClusterUp starts the cluster and its registry.
func ClusterUp(ctx context.Context, w Workspace) error {
	s := &shipment{w: w}
	return runSteps(ctx, step{"providing the tools", s.provideTools}, step{"starting the cluster", s.startCluster})
}

// startCluster starts the bundled cluster, or checks that another one is ready.
func (s *shipment) startCluster(ctx context.Context) error {
	w := s.w
	if !w.bundled() {
		w.Out.Step("using the cluster of context %s", w.KubeContext)
		return askCluster(ctx, w)
	}
	c, err := w.cluster()
	if err != nil {
		return err
	}
	c.GitOps = s.gitops()
	began := time.Now()
	w.Out.Step("starting Kubernetes %s", toolchain.KubernetesVersion)
	fill := images.Controllers{
		Registry: cluster.Registry, Tools: clusterImages(w), GitOps: s.gitops(), Pull: s.pull, Cache: w.Cache,
		Sources: filepath.Join(w.Root, "tools"), Programs: w.Local(), Out: w.Out,
	}.Fill
	running, err := c.Running()
	if err != nil {
		return err
	}
	if err := c.Up(ctx, fill); err != nil {
		return err
	}
	if running && s.deploys {
		if err := s.readPoliciesAnew(ctx, c); err != nil {
			return err
		}
	}
	w.Out.Step("the cluster is ready after %s", console.Round(time.Since(began)))
	return nil
}

// readPoliciesAnew restarts an API server that runs already and has no policy of the quarantine, as
// after `pulumi destroy`. Kubernetes (1.30 to at least 1.36) stops watching ConfigMaps for its policies
// with the deletion of the last policy that reads one, and does not begin again until the API server
// starts anew: the next policy would read what the ConfigMap had before
// (https://github.com/kubernetes/kubernetes/issues/130887).
func (s *shipment) readPoliciesAnew(ctx context.Context, c *cluster.Cluster) error {
	k, err := openKubectl(s.w)
	if err != nil {
		return err
	}
	policy, err := k.Text(ctx, "get", "validatingadmissionpolicies", "--ignore-not-found", "-o", "name", "quarantine-"+namespace)
	if err != nil || policy != "" {
		return err
	}
	if err := c.RestartAPIServer(ctx); err != nil {
		return err
	}
	s.w.Out.Step("restarted the API server: it had no policy of the quarantine, and would read an old quarantine for a new one")
	return nil
}

func askCluster(ctx context.Context, w Workspace) error {
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	if _, err := k.Text(ctx, "get", "--raw", "/readyz"); err != nil {
		return fmt.Errorf("KUBE_CONTEXT=%s: %w", w.KubeContext, err)
	}
	return nil
}

// ClusterStatus prints the cluster's processes, its node and its pods.
func ClusterStatus(ctx context.Context, w Workspace) error {
	if w.bundled() {
		if err := processStatus(w); err != nil {
			return err
		}
	}
	k, err := openKubectl(w)
	if err != nil {
		return err
	}
	out, err := k.Text(ctx, "get", "nodes,pods", "--all-namespaces", "-o", "wide")
	if err != nil {
		return err
	}
	w.Out.Plain("%s", out)
	path := rollout.ServiceProxy("observability", "prometheus", cluster.PrometheusPort) + "/metrics"
	if metrics, err := k.Text(ctx, "get", "--raw", path); err == nil { // a cluster without the environment has no Prometheus
		w.Out.Plain("\n%s", ruleCost(metrics, time.Now()))
	}
	return nil
}

// ruleCost says what the evaluation of Prometheus's rules costs per minute since its start, by
// its own metrics. The duration of an evaluation includes the wait for a processor, so the
// processor time of the whole process, which also scrapes and answers, is the upper bound.
func ruleCost(metrics string, now time.Time) string {
	read := map[string]float64{}
	for line := range strings.Lines(metrics) {
		if fields := strings.Fields(line); len(fields) == 2 {
			value, err := strconv.ParseFloat(fields[1], 64)
			if err == nil {
				read[fields[0]] = value
			}
		}
	}
	began, took := read["process_start_time_seconds"], read["prometheus_rule_evaluation_duration_seconds_sum"]
	if began == 0 || took == 0 {
		return "rules of Prometheus: not evaluated yet"
	}
	minutes := (float64(now.UnixMilli())/1000 - began) / 60
	return fmt.Sprintf("rules of Prometheus: evaluations of %.1f s per minute; processor time of the whole process %.1f s per minute",
		took/minutes, read["process_cpu_seconds_total"]/minutes)
}

// processStatus prints the bundled cluster's processes, and fails if one does not run.
func processStatus(w Workspace) error {
	c, err := w.cluster()
	if err != nil {
		return err
	}
	s := &shipment{w: w}
	if err := s.delivers(); err != nil {
		return err
	}
	c.GitOps = s.gitops()
	if running, err := c.Running(); err != nil {
		return err
	} else if !running {
		return errors.New("the local cluster does not run: start it with `make up`")
	}
	processes, err := c.Status()
	if err != nil {
		return err
	}
	var dead []string
	for _, s := range processes {
		state := fmt.Sprintf("%d processes", len(s.PIDs))
		if len(s.PIDs) == 0 {
			state, dead = "NOT RUNNING", append(dead, s.Name)
		}
		w.Out.Plain("%-26s %-14s %6.1f MiB", s.Name, state, float64(s.PSS)/(1<<20))
	}
	w.Out.Plain("%-26s %-14s %6.1f MiB (PSS)\n", "sum", "", float64(memory(processes))/(1<<20))
	if len(dead) > 0 {
		return fmt.Errorf("not running: %s; start them again with `make up`; their logs are in %s",
			strings.Join(dead, ", "), filepath.Join(c.Data, "logs"))
	}
	return nil
}

// memory returns the sum of the processes' PSS in bytes.
func memory(processes []cluster.ProcessStatus) int64 {
	var sum int64
	for _, s := range processes {
		sum += s.PSS
	}
	return sum
}

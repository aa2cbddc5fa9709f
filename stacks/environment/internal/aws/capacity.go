package aws

import (
	"errors"
	"fmt"

	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// checkNodes refuses a cluster if its minimum of nodes has no room for every pod that the
// environment starts with, or its maximum for every service at its autoscaler's limit. The pods of
// canaries count in addition: see surge.
func (t *Target) checkNodes(p *plan.Plan) error {
	free, err := t.cluster.Nodes.Allocatable()
	if err != nil {
		return nil //nolint:nilerr // the cluster's Validate reports it
	}
	var errs []error
	for _, bound := range []struct {
		setting  string
		nodes    int32
		replicas func(workload.Size) int32
	}{
		{"minNodes", t.cluster.Nodes.Min, func(s workload.Size) int32 { return s.MinReplicas }},
		{"maxNodes", t.cluster.Nodes.Max, func(s workload.Size) int32 { return s.MaxReplicas }},
	} {
		pods := t.controllers(p)
		surges := surge(p, bound.replicas)
		for _, w := range p.Workloads {
			pods.Requests = append(pods.Requests, cluster.Pod{
				Name: w.Service, Count: bound.replicas(w.Size) + surges[w.Service],
				MilliCPU: int32(w.Size.MilliCPU), MemoryMiB: int32(w.Size.MemoryMiB), // #nosec G115 -- read as 32 bits
			})
		}
		for _, job := range p.CronJobs { // one run at a time
			pods.Requests = append(pods.Requests, cluster.Pod{
				Name: job.Name, Count: 1, MilliCPU: int32(job.MilliCPU), MemoryMiB: int32(job.MemoryMiB), // #nosec G115 -- read as 32 bits
			})
		}
		needed, err := t.cluster.Nodes.Fits(pods)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s:cluster.instanceType: %w", config.Namespace, err))
		case needed > bound.nodes:
			all, daemons := sum(pods.Requests), sum(pods.Daemons)
			errs = append(errs, fmt.Errorf("%s:cluster.%s is %d, and %d nodes are needed: %d pods request %d mCPU and %d MiB; "+
				"a %s offers %d mCPU, %d MiB and %d pods, of which each node's daemons take %d mCPU, %d MiB and %d pods",
				config.Namespace, bound.setting, bound.nodes, needed, all.Pods, all.MilliCPU, all.MemoryMiB,
				t.cluster.Nodes.InstanceType, free.MilliCPU, free.MemoryMiB, free.Pods, daemons.MilliCPU, daemons.MemoryMiB, len(pods.Daemons)))
		}
	}
	return errors.Join(errs...)
}

// surge returns how many pods canaries add to each service: the largest one its replicas again, as
// Rollouts keeps the stable pods until the canary has all the traffic, and one to each other service,
// as the first step of an update of all of them does.
func surge(p *plan.Plan, replicas func(workload.Size) int32) map[string]int32 {
	added, largest, most := map[string]int32{}, "", int64(-1)
	for _, w := range p.Workloads {
		added[w.Service] = 1
		if size := int64(replicas(w.Size)) * w.Size.MemoryMiB; size > most {
			largest, most = w.Service, size
		}
	}
	for _, w := range p.Workloads {
		if w.Service == largest {
			added[largest] = max(1, replicas(w.Size))
		}
	}
	return added
}

// sum adds up the requests of pods; a daemon has no count and counts once.
func sum(pods []cluster.Pod) cluster.Capacity {
	var all cluster.Capacity
	for _, p := range pods {
		count := max(p.Count, 1)
		all.Pods += count
		all.MilliCPU += count * p.MilliCPU
		all.MemoryMiB += count * p.MemoryMiB
	}
	return all
}

// controllers returns all pods except the services', with the requests in the values of their
// charts.
func (t *Target) controllers(p *plan.Plan) cluster.Pods {
	pods := t.cluster.SystemPods()
	sized := []interface{ Pods() []kube.PodSize }{t.loadBalancer, t.autoscaler, t.secrets, t.public, t.internal}
	if t.rollouts != nil {
		sized = append(sized, t.rollouts)
	}
	if t.metricsServer != nil {
		sized = append(sized, t.metricsServer)
	}
	if t.signatures != nil {
		sized = append(sized, t.signatures)
	}
	if t.argoCD != nil {
		sized = append(sized, t.argoCD, t.imageUpdater, t.rollback)
	}
	if t.datadog != nil {
		sized = append(sized, t.datadogWith(p))
	}
	if t.traces != nil {
		sized = append(sized, t.traces)
	}
	if prometheus := t.monitoring.Prometheus(p); prometheus != nil {
		sized = append(sized, prometheus)
	}
	if console := t.monitoring.Console(p); console != nil {
		sized = append(sized, console)
	}
	for _, component := range sized {
		for _, p := range component.Pods() {
			pod := cluster.Pod{Name: p.Name, Count: p.Count, MilliCPU: int32(p.MilliCPU), MemoryMiB: int32(p.MemoryMiB)}
			if p.Daemon {
				pods.Daemons = append(pods.Daemons, pod)
			} else {
				pods.Requests = append(pods.Requests, pod)
			}
		}
	}
	return pods
}

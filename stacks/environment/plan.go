package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// Namespaces of an environment.
const (
	shopNamespace          = "shop"
	gatewayNamespace       = "gateway"
	rolloutsNamespace      = "argo-rollouts"
	systemNamespace        = "kube-system"
	observabilityNamespace = "observability"
)

// plan is what an environment consists of: plain values, made from the
// configuration and complete before the first resource is registered.
type plan struct {
	shop          string
	cloud         *cloud                           // nil: the cluster exists
	gateway       *gateway.TraefikArgs             // nil: the cloud brings Kong
	rollouts      *delivery.RolloutsArgs           // nil: not installed by us
	metricsServer *observability.MetricsServerArgs // nil: not installed by us
	workloads     []*workload.Args
}

// newPlan makes the plan of an environment called name. It reports every
// component's faults at once.
func newPlan(name string, cfg *config.Config, services []service) (*plan, error) {
	p := &plan{shop: shopNamespace}
	var router gateway.Gateway
	var internal gateway.Gateway
	var cloudErr error
	if cfg.Cloud.Provider == "aws" {
		var pair gateway.KongPair
		p.cloud, pair, cloudErr = newCloud(name, cfg)
		router, internal = pair, pair.Internal
	} else {
		p.gateway = &gateway.TraefikArgs{
			Namespace:            gatewayNamespace,
			Class:                cfg.Gateway.Class,
			NodePort:             cfg.Gateway.NodePort,
			RouteNamespaces:      []string{shopNamespace},
			Replicas:             cfg.Gateway.Replicas,
			DefinitionsInstalled: !cfg.Gateway.InstallDefinitions,
		}
		router = gateway.NewTraefikRouter(p.gateway)
		if cfg.Delivery.InstallRollouts {
			p.rollouts = &delivery.RolloutsArgs{Namespace: rolloutsNamespace, WeightRules: router.WeightRules(), Replicas: 1}
		}
		if cfg.MetricsServer.Install {
			p.metricsServer = &observability.MetricsServerArgs{Namespace: systemNamespace, KubeletInsecureTLS: cfg.MetricsServer.KubeletInsecureTLS}
		}
	}
	for _, s := range services {
		p.workloads = append(p.workloads, newWorkload(name, cfg, s, router, internal))
	}
	return p, errors.Join(cloudErr, workload.Connect(p.workloads), p.validate(cfg))
}

func newWorkload(environment string, cfg *config.Config, s service, router, internal gateway.Gateway) *workload.Args {
	size := cfg.Services[s.name]
	args := &workload.Args{
		Service:     s.name,
		Namespace:   shopNamespace,
		Environment: environment,
		Image:       cfg.Images[s.name],
		LogFormat:   size.LogFormat,
		Env:         size.Env,
		Size: workload.Size{
			MinReplicas: size.MinReplicas, MaxReplicas: size.MaxReplicas,
			MilliCPU:  int64(size.MilliCPU),
			MemoryMiB: int64(size.MemoryMiB), MemoryLimitMiB: int64(size.MemoryLimitMiB),
		},
		Canary: workload.Canary{
			Weights:          cfg.Canary.Weights,
			Pause:            time.Duration(cfg.Canary.PauseSeconds) * time.Second,
			ProgressDeadline: time.Duration(cfg.Canary.ProgressDeadlineSeconds) * time.Second,
		},
		Gateway: router,
		Public:  s.public,
	}
	for _, callee := range s.calls {
		args.Calls = append(args.Calls, workload.Call{Service: callee, Via: internal})
	}
	if cfg.Telemetry.OTLPEndpoint != "" {
		args.Telemetry = &workload.Telemetry{
			Endpoint:  cfg.Telemetry.OTLPEndpoint,
			Collector: gateway.Pods{Namespace: observabilityNamespace, Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"}},
		}
		if cfg.Datadog.Install {
			args.Telemetry.Collector = observability.DatadogAgents(datadogNamespace)
		}
	}
	return args
}

// validate asks every component. A service without an image is the
// configuration's fault and reported there.
func (p *plan) validate(cfg *config.Config) error {
	var faults []error
	if p.gateway != nil {
		faults = append(faults, led("gateway", p.gateway.Validate())...)
	}
	for _, w := range p.workloads {
		if cfg.Images[w.Service] != "" {
			faults = append(faults, w.Validate())
		}
	}
	return errors.Join(faults...)
}

// led puts a component's name in front of each of its faults, a line each.
func led(component string, err error) []error {
	if err == nil {
		return nil
	}
	var faults []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		faults = append(faults, fmt.Errorf("%s: %s", component, line))
	}
	return faults
}

// wait makes every workload wait for its Rollout, until interrupt is done.
func (p *plan) wait(interrupt context.Context, cluster workload.Cluster, timeout time.Duration) {
	for _, w := range p.workloads {
		w.Wait = &workload.Wait{Cluster: cluster, Context: interrupt, Timeout: timeout}
	}
}

// stages gives every object that the environment itself makes, charts' objects
// apart, in an order in which they can be
// applied one after another.
func (p *plan) stages() (kube.Stages, error) {
	all := workload.NamespaceStages(p.shop)
	var components []interface{ Stages() (kube.Stages, error) }
	if p.gateway != nil {
		components = append(components, p.gateway)
	}
	if p.rollouts != nil {
		components = append(components, p.rollouts)
	}
	if p.metricsServer != nil {
		components = append(components, p.metricsServer)
	}
	for _, w := range p.workloads {
		components = append(components, w)
	}
	for _, component := range components {
		stages, err := component.Stages()
		if err != nil {
			return nil, err
		}
		all = append(all, stages...)
	}
	return all, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// deploy turns configuration into resources and returns the stack's outputs, none
// of them secret. Waits for Rollouts end when interrupt does. Its error has a
// line per fault.
func deploy(ctx *pulumi.Context, interrupt context.Context, values map[string]string) (pulumi.Map, error) {
	cfg, configErr := config.Load(values, sizes(services))
	p, planErr := newPlan(ctx.Stack(), cfg, services)
	if err := errors.Join(configErr, planErr); err != nil {
		return nil, err
	}
	cluster := kube.NewClient(cfg.KubeContext)
	if cfg.WaitForRollout {
		p.wait(interrupt, cluster, time.Duration(cfg.RolloutTimeoutSeconds)*time.Second)
	}

	// With an empty kubeconfig the provider takes the environment's, as kubectl
	// does; with none, the SDK would put KUBECONFIG's value into the state.
	providerArgs := &kubernetes.ProviderArgs{Kubeconfig: pulumi.String("")}
	if cfg.KubeContext != "" {
		providerArgs.Context = pulumi.String(cfg.KubeContext)
	}
	provider, err := kubernetes.NewProvider(ctx, "cluster", providerArgs)
	if err != nil {
		return nil, fmt.Errorf("registering the cluster: %w", err)
	}
	in := pulumi.Provider(provider)

	shop, err := workload.NewNamespace(ctx, p.shop, p.shop, in)
	if err != nil {
		return nil, err
	}
	// The gateway's Role is in the shop's namespace.
	edge, err := gateway.NewTraefik(ctx, "gateway", p.gateway, in, pulumi.DependsOn([]pulumi.Resource{shop}))
	if err != nil {
		return nil, err
	}
	needed := []pulumi.Resource{shop, edge}
	if p.rollouts != nil {
		rollouts, err := delivery.NewRollouts(ctx, "rollouts", p.rollouts, in)
		if err != nil {
			return nil, err
		}
		needed = append(needed, rollouts)
	}
	if p.metricsServer != nil {
		if _, err := observability.NewMetricsServer(ctx, "metrics", p.metricsServer, in); err != nil {
			return nil, err
		}
	}
	outputs := pulumi.Map{}
	url := fmt.Sprintf("http://localhost:%d", cfg.Gateway.NodePort)
	for _, args := range p.workloads {
		w, err := workload.New(ctx, args.Service, args, in, pulumi.DependsOn(needed))
		if err != nil {
			return nil, err
		}
		output := pulumi.Map{"image": pulumi.String(args.Image), "version": pulumi.String(w.Version), "phase": w.Phase}
		if len(args.Public) > 0 {
			output["url"] = pulumi.String(url + args.Public[0].Value)
		}
		outputs[args.Service] = output
	}

	return pulumi.Map{
		"gatewayURL":  pulumi.String(url),
		"services":    outputs,
		"kubeContext": pulumi.String(cluster.Context()),
		"namespaces": pulumi.ToStringMap(map[string]string{
			"services": p.shop, "gateway": gatewayNamespace, "delivery": rolloutsNamespace,
		}),
	}, nil
}

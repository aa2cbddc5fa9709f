package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// deploy turns configuration into resources and returns the stack's outputs. Waits
// for Rollouts end when interrupt does. Its error has a line per fault.
func deploy(ctx *pulumi.Context, interrupt context.Context, values map[string]string) (pulumi.Map, error) {
	return deployTo(ctx, interrupt, ctx.Stack(), values)
}

// deployTo is deploy for the environment called name.
func deployTo(ctx *pulumi.Context, interrupt context.Context, name string, values map[string]string) (pulumi.Map, error) {
	cfg, configErr := config.Load(values, sizes(services))
	p, planErr := newPlan(name, cfg, services)
	if err := errors.Join(configErr, planErr); err != nil {
		return nil, err
	}
	if err := policy.Enforce(ctx, p.rules(cfg)); err != nil {
		return nil, err
	}
	t, err := p.target(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.WaitForRollout {
		p.wait(interrupt, t.client, time.Duration(cfg.RolloutTimeoutSeconds)*time.Second)
	}
	in := pulumi.Provider(t.provider)
	shop, err := workload.NewNamespace(ctx, p.shop, p.shop, in)
	if err != nil {
		return nil, err
	}
	var databases pulumi.Resource
	if p.roles != nil {
		if databases, err = workload.NewNamespace(ctx, databaseNamespace, databaseNamespace, in); err != nil {
			return nil, err
		}
	}
	needed, err := p.install(ctx, t, shop, databases)
	if err != nil {
		return nil, err
	}
	outputs := pulumi.Map{}
	url := p.url(cfg)
	for _, args := range p.workloads {
		w, err := workload.New(ctx, args.Service, args, in, pulumi.DependsOn(append(needed, shop)))
		if err != nil {
			return nil, err
		}
		output := pulumi.Map{"image": pulumi.String(args.Image), "version": pulumi.String(w.Version), "phase": w.Phase}
		if len(args.Public) > 0 {
			output["url"] = pulumi.String(url + args.Public[0].Value)
		}
		outputs[args.Service] = output
	}

	maps.Copy(t.outputs, pulumi.Map{
		"gatewayURL": pulumi.String(url),
		"services":   outputs,
		"namespaces": pulumi.ToStringMap(p.namespaces()),
	})
	return t.outputs, nil
}

// rules are the platform's policy for this environment.
func (p *plan) rules(cfg *config.Config) policy.Options {
	if p.cloud != nil {
		return p.cloud.rules(cfg)
	}
	reason := "its image is built on this machine or taken from upstream by the tag that infra pins"
	return policy.Options{Exempt: []policy.Exemption{
		{Rule: policy.ImageDigest, Namespace: gatewayNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: gatewayInternalNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Resource: "database-server-server", Reason: reason},
		{Rule: policy.ImageDigest, Namespace: rolloutsNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: systemNamespace, Reason: reason},
	}}
}

// target gives the cluster to deploy to: the cloud's, once it has one, or the one
// that kubectl would use.
func (p *plan) target(ctx *pulumi.Context, cfg *config.Config) (*target, error) {
	if p.cloud != nil {
		return p.cloud.deploy(ctx)
	}
	client := kube.NewClient(cfg.KubeContext)
	// With an empty kubeconfig the provider takes the environment's, as kubectl
	// does; with none, the SDK would put KUBECONFIG's value into the state.
	args := &kubernetes.ProviderArgs{Kubeconfig: pulumi.String("")}
	if cfg.KubeContext != "" {
		args.Context = pulumi.String(cfg.KubeContext)
	}
	provider, err := kubernetes.NewProvider(ctx, "cluster", args)
	if err != nil {
		return nil, fmt.Errorf("registering the cluster: %w", err)
	}
	return &target{provider: provider, client: client, outputs: pulumi.Map{"kubeContext": pulumi.String(client.Context())}}, nil
}

// install puts the controllers into the cluster, and returns what has to be there
// before a workload is.
func (p *plan) install(ctx *pulumi.Context, t *target, shop, databases pulumi.Resource) ([]pulumi.Resource, error) {
	if p.cloud != nil {
		return p.cloud.install(ctx, t, shop, databases, p.roles)
	}
	in := pulumi.Provider(t.provider)
	// The gateways' Roles are in the shop's namespace.
	edge, err := gateway.NewTraefik(ctx, "gateway", p.gateway, in, pulumi.DependsOn([]pulumi.Resource{shop}))
	if err != nil {
		return nil, err
	}
	inside, err := gateway.NewTraefik(ctx, "internal-gateway", p.internal, in, pulumi.DependsOn([]pulumi.Resource{shop, edge}))
	if err != nil {
		return nil, err
	}
	needed := []pulumi.Resource{edge, inside}
	if p.roles != nil {
		server, err := database.NewServer(ctx, "database-server", p.server, in, pulumi.DependsOn([]pulumi.Resource{databases}))
		if err != nil {
			return nil, err
		}
		roles, err := database.NewRoles(ctx, "database-roles", p.roles, p.databaseHost(), in, pulumi.DependsOn([]pulumi.Resource{shop, databases, server}))
		if err != nil {
			return nil, err
		}
		needed = append(needed, roles)
	}
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
	return needed, nil
}

// url is where the shop is reached.
func (p *plan) url(cfg *config.Config) string {
	if p.cloud != nil {
		return "https://" + cfg.Gateway.Host
	}
	return fmt.Sprintf("http://localhost:%d", cfg.Gateway.NodePort)
}

// namespaces are those that people look into, by what they hold.
func (p *plan) namespaces() map[string]string {
	all := map[string]string{
		"services": p.shop, "gateway": gatewayNamespace, "internalGateway": gatewayInternalNamespace, "delivery": rolloutsNamespace,
		"database": databaseNamespace,
	}
	if p.cloud != nil {
		all["gateway"], all["internalGateway"] = kongNamespace, internalNamespace
	}
	return all
}

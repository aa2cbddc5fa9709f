package local

import (
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

type cluster struct {
	target   *Target
	provider *kubernetes.Provider
	client   *kube.Client
}

func (c *cluster) Provider() pulumi.ProviderResource { return c.provider }

func (c *cluster) Client() *kube.Client { return c.client }

func (c *cluster) Outputs() pulumi.Map {
	return pulumi.Map{"kubeContext": pulumi.String(c.client.Context())}
}

func (c *cluster) Install(ctx *pulumi.Context, p *plan.Plan, namespaces program.Namespaces) ([]pulumi.Resource, error) {
	t, in, shop := c.target, pulumi.Provider(c.provider), namespaces.Shop
	// The gateways' Roles are in the shop's namespace.
	edge, err := gateway.NewTraefik(ctx, "gateway", t.public, in, pulumi.DependsOn([]pulumi.Resource{shop}))
	if err != nil {
		return nil, err
	}
	inside, err := gateway.NewTraefik(ctx, "internal-gateway", t.internal, in, pulumi.DependsOn([]pulumi.Resource{shop, edge}))
	if err != nil {
		return nil, err
	}
	needed := []pulumi.Resource{edge, inside}
	if p.Roles != nil {
		spec := t.server(p)
		server, err := database.NewServer(ctx, "database-server", spec, in, pulumi.DependsOn([]pulumi.Resource{namespaces.Database}))
		if err != nil {
			return nil, err
		}
		roles, err := database.NewRoles(ctx, "database-roles", p.Roles, pulumi.String(spec.Host()), in,
			pulumi.DependsOn([]pulumi.Resource{shop, namespaces.Database, server}))
		if err != nil {
			return nil, err
		}
		needed = append(needed, roles)
	}
	if t.rollouts != nil {
		rollouts, err := delivery.NewRollouts(ctx, "rollouts", t.rollouts, in)
		if err != nil {
			return nil, err
		}
		needed = append(needed, rollouts)
	}
	if t.signatures != nil { // before anything runs in the shop; its Role is there
		signatures, err := delivery.NewSignatures(ctx, "signatures", t.signatures, in, pulumi.DependsOn([]pulumi.Resource{shop}))
		if err != nil {
			return nil, err
		}
		needed = append(needed, signatures)
	}
	monitoring, err := program.InstallMonitoring(ctx, t.monitoring, p, namespaces, in)
	if err != nil {
		return nil, err
	}
	needed = append(needed, monitoring...)
	if t.traces != nil {
		traces, err := observability.NewTraces(ctx, "traces", t.traces, in)
		if err != nil {
			return nil, err
		}
		needed = append(needed, traces)
	}
	if t.argoCD != nil {
		// Their Roles are in the namespaces of the services and of the traces.
		argoCD, err := delivery.NewLocalArgoCD(ctx, "argocd", t.argoCD, in, pulumi.DependsOn([]pulumi.Resource{shop}))
		if err != nil {
			return nil, err
		}
		rollback, err := delivery.NewRollback(ctx, "rollback", t.rollback, in, pulumi.DependsOn(append(needed, shop, argoCD)))
		if err != nil {
			return nil, err
		}
		needed = append(needed, argoCD, rollback)
	}
	if t.metricsServer != nil {
		if _, err := observability.NewMetricsServer(ctx, "metrics", t.metricsServer, in); err != nil {
			return nil, err
		}
	}
	return needed, nil
}

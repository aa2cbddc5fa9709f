package aws

import (
	"fmt"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/alarms"
	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/dns"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

const (
	// loadBalancerPatience is how long an update waits for the load balancer: AWS creates a
	// Network Load Balancer in two to three minutes.
	loadBalancerPatience = 10 * time.Minute
	// previewPatience is how long a preview waits for it. It suffices for a load balancer that an
	// earlier update created.
	previewPatience = 15 * time.Second
)

// unguarded is a warning of every preview and update if unsigned images run; it is empty if they do not.
func (t *Target) unguarded() string {
	if t.signatures != nil {
		return ""
	}
	return fmt.Sprintf("%s:delivery.signer and delivery.publicKey are empty: images run in %s whether somebody has signed them or not",
		config.Namespace, plan.ShopNamespace)
}

// after depends on needed and on the controllers' roles.
func (c *connected) after(needed ...pulumi.Resource) pulumi.ResourceOption {
	return pulumi.DependsOn(append(needed, c.associations...))
}

func (c *connected) Install(ctx *pulumi.Context, p *plan.Plan, namespaces program.Namespaces) ([]pulumi.Resource, error) {
	t, in := c.target, pulumi.Provider(c.provider)
	balancer, err := gateway.NewLoadBalancer(ctx, "load-balancer", t.loadBalancer, c.network.VPCID, in, c.after())
	if err != nil {
		return nil, err
	}
	if _, err := autoscaling.New(ctx, "autoscaler", t.autoscaler, in, c.after()); err != nil {
		return nil, err
	}
	if _, err := cluster.NewViewers(ctx, "viewers", in); err != nil {
		return nil, err
	}
	store, err := secrets.NewOperator(ctx, "secrets", t.secrets, in, c.after())
	if err != nil {
		return nil, err
	}
	needed, err := c.installSecrets(ctx, p, store, namespaces)
	if err != nil {
		return nil, err
	}
	if t.metricsServer != nil {
		if _, err := observability.NewMetricsServerRelease(ctx, "metrics", t.metricsServer, in); err != nil {
			return nil, err
		}
	}
	if t.datadog != nil {
		if _, err := observability.NewDatadog(ctx, "datadog", t.datadogWith(p), in, c.after(store)); err != nil {
			return nil, err
		}
	}
	if t.traces != nil {
		traces, err := observability.NewTraces(ctx, "traces", t.traces, in)
		if err != nil {
			return nil, err
		}
		needed = append(needed, traces)
	}
	monitoring, err := program.InstallMonitoring(ctx, t.monitoring, p, namespaces, in)
	if err != nil {
		return nil, err
	}
	needed = append(needed, monitoring...)
	if warning := t.unguarded(); warning != "" {
		_ = ctx.Log.Warn(warning, nil)
	}
	if t.signatures != nil { // before anything runs in the shop; its Role is there
		signatures, err := delivery.NewSignatures(ctx, "signatures", t.signatures, in, c.after(namespaces.Shop))
		if err != nil {
			return nil, err
		}
		needed = append(needed, signatures)
	}
	gateways, err := c.installGateways(ctx, namespaces.Shop, balancer)
	if err != nil {
		return nil, err
	}
	deliverers, err := c.installDelivery(ctx, store, namespaces.Shop)
	if err != nil {
		return nil, err
	}
	// No AWS resource follows.
	return append(append(needed, gateways...), deliverers...), c.adopted.Unmatched()
}

// installSecrets registers the programs' secrets, and the databases with their roles.
func (c *connected) installSecrets(ctx *pulumi.Context, p *plan.Plan, store pulumi.Resource,
	namespaces program.Namespaces) ([]pulumi.Resource, error) {
	in := pulumi.Provider(c.provider)
	var needed []pulumi.Resource
	for _, secret := range c.target.shopSecrets(p) {
		brought, err := secrets.NewSecret(ctx, secret.name, &secrets.SecretSpec{
			Name: secret.name, Namespace: plan.ShopNamespace, Store: secretStore, Remote: secret.remote, Keys: secret.keys,
			Version: secret.version,
		}, in, c.after(store, namespaces.Shop))
		if err != nil {
			return nil, err
		}
		needed = append(needed, brought)
	}
	if p.Roles == nil {
		return needed, nil
	}
	master, err := secrets.NewDatabase(ctx, masterSecret, &secrets.DatabaseSpec{
		Name: masterSecret, Namespace: plan.DatabaseNamespace, Store: secretStore,
	}, c.database.MasterSecretARN, in, c.after(store, namespaces.Database))
	if err != nil {
		return nil, err
	}
	roles, err := database.NewRoles(ctx, "database-roles", p.Roles, c.database.Endpoint, in, c.after(namespaces.Shop, master))
	return append(needed, roles), err
}

// installGateways registers both Kongs, the shop's public name, and the alarms, which watch the
// load balancer too.
func (c *connected) installGateways(ctx *pulumi.Context, shop, balancer pulumi.Resource) ([]pulumi.Resource, error) {
	t, in := c.target, pulumi.Provider(c.provider)
	var arn pulumi.StringInput = pulumi.String(t.cfg.Gateway.CertificateARN)
	if t.certificate != nil {
		certificate, err := dns.NewCertificate(ctx, "certificate", t.certificate, c.aws)
		if err != nil {
			return nil, err
		}
		arn = certificate.ARN
	}
	public, err := gateway.NewKong(ctx, "gateway", t.public, arn, in, c.after(shop, balancer))
	if err != nil {
		return nil, err
	}
	internal, err := gateway.NewKong(ctx, "internal-gateway", t.internal, nil, in, c.after(shop, public))
	if err != nil {
		return nil, err
	}
	watched := alarms.Inputs{NATGateways: c.network.NATGateways}
	if t.certificate != nil {
		patience := loadBalancerPatience
		if ctx.DryRun() {
			patience = previewPatience
		}
		host := public.Release.ID().ApplyT(func(pulumi.ID) (string, error) {
			return c.client.LoadBalancer(ctx.Context(), t.public.Namespace, t.public.ProxyService(), patience)
		}).(pulumi.StringOutput)
		if _, err := dns.NewRecord(ctx, "record", t.certificate, host, c.aws); err != nil {
			return nil, err
		}
		watched.LoadBalancer = host
	}
	if t.alarms != nil {
		if _, err := alarms.New(ctx, "alarms", t.alarms, watched, c.aws); err != nil {
			return nil, err
		}
	}
	return []pulumi.Resource{public, internal}, nil
}

// installDelivery registers what ships new versions. It returns the Rollouts controller and Argo CD,
// for which workloads wait.
func (c *connected) installDelivery(ctx *pulumi.Context, store, shop pulumi.Resource) ([]pulumi.Resource, error) {
	t, in := c.target, pulumi.Provider(c.provider)
	var needed []pulumi.Resource
	if t.rollouts != nil {
		rollouts, err := delivery.NewRolloutsRelease(ctx, "rollouts", t.rollouts, in, c.after(store))
		if err != nil {
			return nil, err
		}
		needed = append(needed, rollouts)
	}
	if t.argoCD != nil {
		argo, err := delivery.NewArgoCD(ctx, "argocd", t.argoCD, in, c.after(store))
		if err != nil {
			return nil, err
		}
		if _, err := delivery.NewImageUpdater(ctx, "image-updater", t.imageUpdater, in, c.after(argo)); err != nil {
			return nil, err
		}
		rollback, err := delivery.NewRollback(ctx, "rollback", t.rollback, in, c.after(append(needed, store, shop, argo)...))
		if err != nil {
			return nil, err
		}
		needed = append(needed, argo, rollback)
	}
	return needed, nil
}

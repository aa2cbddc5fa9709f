// Package aws deploys an environment to an EKS cluster of its own, with Kong, RDS and the
// secrets of Secrets Manager.
package aws

import (
	"maps"
	"slices"

	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/dns"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

const (
	kongNamespace     = "kong"
	internalNamespace = "kong-internal"
	argoNamespace     = "argocd"
	secretsNamespace  = "external-secrets"
	datadogNamespace  = "datadog"
	secretStore       = "aws"
	// observabilityNamespace holds a collector that Datadog did not install.
	observabilityNamespace = "observability"
	// masterSecret holds RDS's superuser in the cluster.
	masterSecret = "database-master"
)

// Target is an AWS account.
type Target struct {
	environment string
	cfg         *config.Config
	tags        map[string]string

	network     *network.Spec
	cluster     *cluster.Spec
	database    *instance.Spec
	certificate *dns.Spec // nil: gateway.certificateARN names one that exists

	loadBalancer     *gateway.LoadBalancerSpec
	autoscaler       *autoscaling.Spec
	secrets          *secrets.OperatorSpec
	metricsServer    *observability.MetricsServerReleaseSpec // nil: not installed
	public, internal *gateway.KongSpec
	router           gateway.KongPair
	routerErr        error
	rollouts         *delivery.RolloutsReleaseSpec // nil: not installed
	argoCD           *delivery.ArgoCDSpec          // nil: not installed, nor is imageUpdater
	imageUpdater     *delivery.ImageUpdaterSpec
	datadog          *observability.DatadogSpec // nil: not installed
}

// New prepares the target.
func New(environment string, cfg *config.Config) program.Target {
	name := "loja-veloz-" + environment
	t := &Target{
		environment: environment, cfg: cfg,
		tags: map[string]string{"Project": "loja-veloz", "Environment": environment, "ManagedBy": "pulumi"},
	}
	t.planAccount(name)
	t.planControllers(name)
	t.planGateways()
	t.planDelivery()
	return t
}

// planAccount plans what is outside the Kubernetes cluster, and the cluster.
func (t *Target) planAccount(name string) {
	cfg, in, size := t.cfg, t.cfg.Cloud, t.cfg.Cluster
	t.network = &network.Spec{
		Name: name, Region: in.Region, AccountID: in.AccountID, CIDR: in.CIDR, Zones: in.Zones, NATPerZone: in.NATPerZone,
		InterfaceEndpoints: in.InterfaceEndpoints, FlowLogDays: int(in.LogDays), ClusterName: name,
		Taken: in.Taken, Protect: in.Protected,
	}
	t.cluster = &cluster.Spec{
		Name: name, Version: size.Version, Region: in.Region, AccountID: in.AccountID,
		PublicAccessCIDRs: size.PublicAccessCIDRs, Admins: size.Admins, Viewers: size.Viewers,
		LogDays: int(in.LogDays), NodeTags: t.tags,
		Nodes: cluster.Nodes{
			InstanceType: size.InstanceType, Min: size.MinNodes, Max: size.MaxNodes, Desired: size.MinNodes,
			DiskGiB: size.DiskGiB, PrefixDelegation: size.PrefixDelegation, MaxPods: size.MaxPods,
		},
		Addons: cluster.Addons{
			VPCCNI: size.Addons["vpc-cni"], PodIdentityAgent: size.Addons["eks-pod-identity-agent"],
			CoreDNS: size.Addons["coredns"], KubeProxy: size.Addons["kube-proxy"], EBSCSI: size.Addons["aws-ebs-csi-driver"],
		},
		Protect: in.Protected,
	}
	t.database = &instance.Spec{
		Name: name, EngineVersion: cfg.Database.EngineVersion, InstanceClass: cfg.Database.InstanceClass,
		AllocatedGiB: cfg.Database.AllocatedGiB, MaxAllocatedGiB: cfg.Database.MaxAllocatedGiB,
		MultiAZ: cfg.Database.MultiAZ, BackupDays: cfg.Database.BackupDays, LogDays: int(in.LogDays), Protect: in.Protected,
	}
	if cfg.Gateway.CertificateARN == "" {
		t.certificate = &dns.Spec{Host: cfg.Gateway.Host, ZoneID: cfg.Gateway.ZoneID}
	}
}

func (t *Target) planControllers(name string) {
	cfg, in, size := t.cfg, t.cfg.Cloud, t.cfg.Cluster
	mirror, skip := cfg.Charts.Repository, !cfg.Charts.Await
	t.loadBalancer = &gateway.LoadBalancerSpec{
		Namespace: plan.SystemNamespace, ClusterName: name, Region: in.Region, Replicas: 2, ChartRepository: mirror, SkipAwait: skip,
	}
	t.autoscaler = &autoscaling.Spec{
		Namespace: plan.SystemNamespace, ClusterName: name, KubernetesVersion: size.Version, Region: in.Region, Replicas: 2,
		ChartRepository: mirror, SkipAwait: skip,
	}
	t.secrets = &secrets.OperatorSpec{
		Namespace: secretsNamespace, Region: in.Region, Store: secretStore,
		Namespaces: []string{plan.ShopNamespace, plan.DatabaseNamespace, datadogNamespace, plan.RolloutsNamespace, argoNamespace},
		Replicas:   2, ChartRepository: mirror, SkipAwait: skip,
	}
	if cfg.MetricsServer.Install {
		t.metricsServer = &observability.MetricsServerReleaseSpec{
			Namespace: plan.SystemNamespace, Replicas: 2, ChartRepository: mirror, SkipAwait: skip,
		}
	}
	if cfg.Datadog.Install {
		t.datadog = &observability.DatadogSpec{
			Namespace: datadogNamespace, Site: cfg.Datadog.Site, ClusterName: name,
			SecretName: cfg.Datadog.SecretName, Store: secretStore, ClusterAgentReplicas: 2, ChartRepository: mirror, SkipAwait: skip,
		}
	}
}

func (t *Target) planGateways() {
	cfg, mirror, skip := t.cfg, t.cfg.Charts.Repository, !t.cfg.Charts.Await
	t.public = &gateway.KongSpec{
		Namespace: kongNamespace, ReleaseName: "kong", Class: cfg.Gateway.Class, Public: true,
		Host: cfg.Gateway.Host, RouteNamespaces: []string{plan.ShopNamespace}, ScrapedFrom: datadogNamespace,
		Replicas: cfg.Gateway.Replicas, DefinitionsInstalled: !cfg.Gateway.InstallDefinitions, ChartRepository: mirror, SkipAwait: skip,
	}
	t.internal = &gateway.KongSpec{
		Namespace: internalNamespace, ReleaseName: "kong-internal", Class: cfg.Gateway.Class + "-internal",
		RouteNamespaces: []string{plan.ShopNamespace}, ScrapedFrom: datadogNamespace,
		Replicas: cfg.Gateway.Replicas, DefinitionsInstalled: true, ChartRepository: mirror, SkipAwait: skip,
	}
	t.router, t.routerErr = gateway.NewKongPair(t.public, t.internal)
}

// planDelivery plans what ships new versions.
func (t *Target) planDelivery() {
	cfg, mirror, skip := t.cfg, t.cfg.Charts.Repository, !t.cfg.Charts.Await
	if cfg.Delivery.InstallRollouts {
		t.rollouts = &delivery.RolloutsReleaseSpec{Namespace: plan.RolloutsNamespace, Replicas: 2, ChartRepository: mirror, SkipAwait: skip}
	}
	if cfg.Datadog.Install && t.rollouts != nil {
		t.rollouts.Datadog = &delivery.DatadogMetrics{Site: cfg.Datadog.Site, SecretName: cfg.Datadog.SecretName, Store: secretStore}
	}
	if !cfg.Delivery.ArgoCD {
		return
	}
	git := cfg.Delivery.Git
	var repositories []string
	for _, service := range slices.Sorted(maps.Keys(cfg.Services)) {
		repositories = append(repositories, "loja-veloz/"+service) // as bootstrap names them
	}
	t.argoCD = &delivery.ArgoCDSpec{
		Namespace: argoNamespace, Replicas: 2,
		Repository:      &delivery.GitRepository{URL: git.URL, SecretName: git.SecretName, Store: secretStore},
		ChartRepository: mirror, SkipAwait: skip,
	}
	t.imageUpdater = &delivery.ImageUpdaterSpec{
		Namespace: argoNamespace, AccountID: t.cluster.AccountID, Region: t.cluster.Region,
		Repository: git.URL, Branch: git.Branch,
		Applications: []delivery.UpdatedApplication{
			{NamePattern: plan.ShopNamespace, Path: "gitops/" + t.environment, Images: repositories},
		},
		ChartRepository: mirror, SkipAwait: skip,
	}
}

// Site implements program.Target.
func (t *Target) Site() plan.Site {
	site := plan.Site{
		Public: t.router, Internal: t.router.Internal,
		Collector: gateway.Pods{Namespace: observabilityNamespace, Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"}},
		Server: plan.Server{
			SSLMode: t.cfg.Database.SSLMode, Secret: masterSecret, CIDRs: []string{t.cfg.Cloud.CIDR},
			MaxConnections: t.database.MaxConnections(), Limit: "a " + t.database.InstanceClass,
		},
	}
	if t.cfg.Datadog.Install {
		site.Collector = observability.DatadogAgents(datadogNamespace)
	}
	// Validate reports ranges that cannot be planned.
	if zones, err := network.Plan(t.cfg.Cloud.CIDR, t.cfg.Cloud.Zones, t.cfg.Cloud.Taken...); err == nil {
		site.Server.CIDRs = nil
		for _, zone := range zones {
			site.Server.CIDRs = append(site.Server.CIDRs, zone.Database.String())
		}
	}
	return site
}

// secret is a secret of Secrets Manager that programs read, under the name that it has in
// the cluster.
type secret struct {
	name, remote string
	keys         []string
}

// shopSecrets are those that the plan needs. Validate refuses a plan that needs others.
func (t *Target) shopSecrets(p *plan.Plan) []secret {
	var needed []secret
	for _, s := range []secret{
		{name: "stripe", remote: t.cfg.Shop.StripeSecretName},
		{name: "api-keys", remote: t.cfg.Shop.APIKeysSecretName},
	} {
		if s.keys = p.Secrets[s.name]; len(s.keys) > 0 {
			needed = append(needed, s)
		}
	}
	return needed
}

// Policy implements program.Target.
func (t *Target) Policy() policy.Options {
	return policy.Options{
		Protected: t.cfg.Cloud.Protected, AllowReplace: t.cfg.Cloud.AllowReplace, DefaultTags: t.tags,
		Exempt: []policy.Exemption{{
			Rule: policy.PublicIngress, Resource: "gateway-release",
			Reason: "it is the gateway: the one load balancer that the internet reaches",
		}},
	}
}

// URL implements program.Target.
func (t *Target) URL() string { return "https://" + t.cfg.Gateway.Host }

// Namespaces implements program.Target.
func (t *Target) Namespaces() map[string]string {
	return map[string]string{
		"services": plan.ShopNamespace, "gateway": kongNamespace, "internalGateway": internalNamespace,
		"delivery": plan.RolloutsNamespace, "database": plan.DatabaseNamespace,
	}
}

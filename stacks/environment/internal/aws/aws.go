// Package aws deploys an environment to its own EKS cluster, with Kong, RDS and the secrets of
// Secrets Manager.
package aws

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/loja-veloz/platform/infra/alarms"
	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/dns"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/runner"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

const (
	kongNamespace     = "kong"
	internalNamespace = "kong-internal"
	secretsNamespace  = "external-secrets"
	datadogNamespace  = "datadog"
	secretStore       = "aws"
	// masterSecret is the Secret with the credentials of RDS's superuser.
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
	alarms      *alarms.Spec // nil: alarms.emails is empty
	runner      *runner.Spec // nil: not installed
	certificate *dns.Spec    // nil: gateway.certificateARN names one that exists

	loadBalancer     *gateway.LoadBalancerSpec
	autoscaler       *autoscaling.Spec
	secrets          *secrets.OperatorSpec
	metricsServer    *observability.MetricsServerReleaseSpec // nil: not installed
	public, internal *gateway.KongSpec
	router           gateway.KongPair
	routerErr        error
	scraper          *workload.Scraper // nil: Datadog reads no metrics of the services
	scraperErr       error
	rollouts         *delivery.RolloutsReleaseSpec // nil: not installed
	signatures       *delivery.SignaturesSpec      // nil: unsigned images run
	argoCD           *delivery.ArgoCDSpec          // nil: not installed, nor are imageUpdater and rollback
	imageUpdater     *delivery.ImageUpdaterSpec
	rollback         *delivery.RollbackSpec     // with argoCD
	datadog          *observability.DatadogSpec // nil: not installed
	traces           *observability.TracesSpec  // nil: programs send to otlpEndpoint themselves, or nowhere
	monitoring       *plan.Monitoring
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

// planAccount plans the cluster and what is outside it.
func (t *Target) planAccount(name string) {
	cfg, in, size := t.cfg, t.cfg.Cloud, t.cfg.Cluster
	t.network = &network.Spec{
		Name: name, Region: in.Region, AccountID: in.AccountID, CIDR: in.CIDR, Zones: in.Zones, NATPerZone: in.NATPerZone,
		InterfaceEndpoints: in.InterfaceEndpoints, FlowLogDays: int(in.LogDays), ClusterName: name,
		Taken: in.Taken, Protect: in.Protected,
	}
	t.cluster = &cluster.Spec{
		Name: name, Version: size.Version, ExtendedSupport: size.ExtendedSupport, Region: in.Region, AccountID: in.AccountID,
		PublicAccessCIDRs: size.PublicAccessCIDRs, Admins: size.Admins, Viewers: size.Viewers,
		LogDays: int(in.LogDays), NodeTags: t.tags,
		Nodes: cluster.Nodes{
			InstanceType: size.InstanceType, Min: size.MinNodes, Max: size.MaxNodes, Release: size.NodeRelease,
			DiskGiB: size.DiskGiB, PrefixDelegation: size.PrefixDelegation, MaxPods: size.MaxPods,
		},
		Addons: cluster.Addons{
			VPCCNI: size.Addons["vpc-cni"], PodIdentityAgent: size.Addons["eks-pod-identity-agent"],
			CoreDNS: size.Addons["coredns"], KubeProxy: size.Addons["kube-proxy"], EBSCSI: size.Addons["aws-ebs-csi-driver"],
		},
		VolumeDriver: size.VolumeDriver, Protect: in.Protected,
	}
	t.database = &instance.Spec{
		Name: name, EngineVersion: cfg.Database.EngineVersion, InstanceClass: cfg.Database.InstanceClass,
		AllocatedGiB: cfg.Database.AllocatedGiB, MaxAllocatedGiB: cfg.Database.MaxAllocatedGiB,
		MultiAZ: cfg.Database.MultiAZ, BackupDays: cfg.Database.BackupDays, RestoreFrom: cfg.Database.RestoreFrom,
		LogDays: int(in.LogDays), Protect: in.Protected,
	}
	if len(cfg.Alarms.Emails) > 0 {
		t.alarms = &alarms.Spec{
			Name: name, Environment: t.environment, Emails: cfg.Alarms.Emails, MonthlyBudgetUSD: cfg.Alarms.MonthlyBudgetUSD,
			Database: name, InstanceClass: cfg.Database.InstanceClass, AllocatedGiB: cfg.Database.AllocatedGiB,
			MaxConnections: t.database.MaxConnections(),
		}
	}
	if cfg.Runner.Install {
		t.runner = &runner.Spec{
			Name: name, Region: in.Region, AccountID: in.AccountID, LogDays: int(in.LogDays),
			Repository: cfg.Runner.Repository, ConnectionARN: cfg.Runner.ConnectionARN,
		}
	}
	if cfg.Gateway.CertificateARN == "" {
		t.certificate = &dns.Spec{Host: cfg.Gateway.Host, ZoneID: cfg.Gateway.ZoneID, Region: in.Region}
	}
}

// chart returns the namespace and the settings of a controller's chart.
func (t *Target) chart(namespace string, replicas int32) kube.Chart {
	return kube.Chart{
		Namespace: namespace, Replicas: replicas, ChartRepository: t.cfg.Charts.Repository, SkipAwait: !t.cfg.Charts.Await,
	}
}

func (t *Target) planControllers(name string) {
	cfg, in, size := t.cfg, t.cfg.Cloud, t.cfg.Cluster
	t.loadBalancer = &gateway.LoadBalancerSpec{
		Chart: t.chart(plan.SystemNamespace, 2), ClusterName: name, Region: in.Region,
	}
	t.autoscaler = &autoscaling.Spec{
		Chart: t.chart(plan.SystemNamespace, 2), ClusterName: name, KubernetesVersion: size.Version, Region: in.Region,
	}
	t.secrets = &secrets.OperatorSpec{
		Chart: t.chart(secretsNamespace, 2), Region: in.Region, Store: secretStore,
		Namespaces: []string{plan.ShopNamespace, plan.DatabaseNamespace, datadogNamespace},
	}
	if cfg.MetricsServer.Install {
		t.metricsServer = &observability.MetricsServerReleaseSpec{Chart: t.chart(plan.SystemNamespace, 2)}
	}
	if cfg.Datadog.Install {
		t.datadog = &observability.DatadogSpec{
			Chart: t.chart(datadogNamespace, 2), Site: cfg.Datadog.Site, ClusterName: name,
			SecretName: cfg.Datadog.SecretName, SecretVersion: cfg.Datadog.SecretVersion, Store: secretStore,
		}
	}
	if cfg.Telemetry.Collector && cfg.Telemetry.OTLPEndpoint != "" {
		t.traces = &observability.TracesSpec{
			Namespace: plan.TracingNamespace, Clients: []kube.PodSelector{workload.Pods(plan.ShopNamespace)},
			Forward: cfg.Telemetry.OTLPEndpoint, ForwardTo: t.receivers(), NodePort: cfg.Telemetry.JaegerNodePort,
			SkipAwait: !cfg.Charts.Await,
		}
	}
	t.monitoring = plan.NewMonitoring(cfg, t.traces)
	if cfg.Datadog.Install && cfg.Datadog.Objectives {
		var annotations map[string]string
		annotations, t.scraperErr = observability.DatadogAnnotations(workload.Container, workload.Port, t.environment)
		t.scraper = &workload.Scraper{Pods: observability.DatadogAgents(datadogNamespace), Annotations: annotations}
	}
}

// datadogWith returns Datadog with the objectives of the plan's services, if it has to know
// them.
func (t *Target) datadogWith(p *plan.Plan) *observability.DatadogSpec {
	spec := *t.datadog
	if t.scraper == nil {
		return &spec
	}
	spec.Objectives = &observability.DatadogObjectives{
		Environment: t.environment, Namespace: plan.ShopNamespace, Services: p.Objectives(),
		Alarms: slo.Alarms(t.cfg.Telemetry.OTLPEndpoint != ""),
	}
	return &spec
}

func (t *Target) planGateways() {
	cfg := t.cfg
	t.public = &gateway.KongSpec{
		Chart: t.chart(kongNamespace, cfg.Gateway.Replicas), ReleaseName: "kong", Class: cfg.Gateway.Class, Public: true,
		Host: cfg.Gateway.Host, RouteNamespaces: []string{plan.ShopNamespace}, ScrapedFrom: datadogNamespace,
		DefinitionsInstalled: !cfg.Gateway.InstallDefinitions,
	}
	t.internal = &gateway.KongSpec{
		Chart: t.chart(internalNamespace, cfg.Gateway.Replicas), ReleaseName: "kong-internal", Class: cfg.Gateway.Class + "-internal",
		RouteNamespaces: []string{plan.ShopNamespace}, ScrapedFrom: datadogNamespace, DefinitionsInstalled: true,
	}
	t.router, t.routerErr = gateway.NewKongPair(t.public, t.internal)
}

// planDelivery plans what ships new versions.
func (t *Target) planDelivery() {
	cfg := t.cfg
	if cfg.Delivery.InstallRollouts {
		t.rollouts = &delivery.RolloutsReleaseSpec{Chart: t.chart(plan.RolloutsNamespace, 2)}
	}
	if cfg.Delivery.PublicKey != "" || cfg.Delivery.Signer != "" {
		t.signatures = &delivery.SignaturesSpec{
			Namespace: plan.SignaturesNamespace, Guarded: plan.ShopNamespace, Images: []string{t.ownImages() + "*"},
			PublicKey: cfg.Delivery.PublicKey, Workflow: cfg.Delivery.Signer, Replicas: 2, SkipAwait: !cfg.Charts.Await,
		}
	}
	if cfg.Delivery.Mode != config.GitOps {
		return
	}
	git := cfg.Delivery.Git
	t.secrets.Namespaces = append(t.secrets.Namespaces, gitops.Namespace)
	t.argoCD = &delivery.ArgoCDSpec{
		Chart:      t.chart(gitops.Namespace, 2),
		Repository: &delivery.GitRepository{URL: git.URL, SecretName: git.SecretName, Store: secretStore},
	}
	t.imageUpdater = &delivery.ImageUpdaterSpec{
		Chart: t.chart(gitops.Namespace, 1), AccountID: t.cluster.AccountID, Region: t.cluster.Region,
		Repository: git.URL, Branch: git.Branch, PublicKey: cfg.Delivery.PublicKey,
	}
	for _, service := range slices.Sorted(maps.Keys(cfg.Services)) {
		t.imageUpdater.Applications = append(t.imageUpdater.Applications, delivery.UpdatedApplication{
			NamePattern: service, Path: plan.ManifestPath(cfg, t.environment) + "/" + service,
			Images: []string{"loja-veloz/" + service}, // the name that bootstrap uses
		})
	}
	t.rollback = plan.Rollback(t.environment, cfg, t.monitoring, t.traces)
	t.rollback.Remote, t.rollback.Version, t.rollback.Store = git.PushSecretName, git.PushSecretVersion, secretStore
	if t.scraper != nil {
		metrics := t.rollback.Scrape()
		annotations, err := observability.DatadogAnnotations(metrics.Job, metrics.Port, t.environment)
		t.scraperErr = errors.Join(t.scraperErr, err)
		t.rollback.Scraper = &workload.Scraper{Pods: t.scraper.Pods, Annotations: annotations}
	}
}

// ownImages is what the names of images in bootstrap's repositories begin with.
func (t *Target) ownImages() string {
	return fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com/loja-veloz/", t.cfg.Cloud.AccountID, t.cfg.Cloud.Region)
}

// receivers are the pods behind telemetry.otlpEndpoint.
func (t *Target) receivers() kube.PodSelector {
	if t.cfg.Datadog.Install {
		return observability.DatadogAgents(datadogNamespace)
	}
	return plan.OtherCollector
}

// Site implements program.Target.
func (t *Target) Site() plan.Site {
	site := plan.Site{
		Metrics: t.monitoring.Metrics(), Readers: t.monitoring.Readers(), SecretVersions: map[string]string{},
		Public: t.router, Internal: t.router.Internal,
		Telemetry: plan.Telemetry(t.cfg, t.traces, t.receivers()), Scraper: t.scraper,
		Server: plan.Server{
			SSLMode: t.cfg.Database.SSLMode, Secret: masterSecret, CIDRs: []string{t.cfg.Cloud.CIDR},
			MaxConnections: t.database.MaxConnections(), Limit: "a " + t.database.InstanceClass,
		},
	}
	for _, s := range t.known() {
		site.SecretVersions[s.name] = s.version
	}
	// Validate reports a range that cannot be planned.
	if zones, err := network.Plan(t.cfg.Cloud.CIDR, t.cfg.Cloud.Zones, t.cfg.Cloud.Taken...); err == nil {
		site.Server.CIDRs = nil
		for _, zone := range zones {
			site.Server.CIDRs = append(site.Server.CIDRs, zone.Database.String())
		}
	}
	return site
}

// secret is a version of a secret of Secrets Manager that programs read, with its name in the
// cluster.
type secret struct {
	name, remote, version string
	keys                  []string
}

// known are the secrets for which there are settings.
func (t *Target) known() []secret {
	shop := t.cfg.Shop
	return []secret{
		{name: "stripe", remote: shop.StripeSecretName, version: shop.StripeSecretVersion},
		{name: "api-keys", remote: shop.APIKeysSecretName, version: shop.APIKeysSecretVersion},
	}
}

// shopSecrets returns the secrets that the plan needs. Validate refuses a plan that needs
// others.
func (t *Target) shopSecrets(p *plan.Plan) []secret {
	var needed []secret
	for _, s := range t.known() {
		if s.keys = p.Secrets[s.name]; len(s.keys) > 0 {
			needed = append(needed, s)
		}
	}
	return needed
}

// Policy implements program.Target.
func (t *Target) Policy() policy.Options {
	options := policy.Options{
		Protected: t.cfg.Cloud.Protected, AllowReplace: t.cfg.Cloud.AllowReplace, DefaultTags: t.tags,
		Exempt: []policy.Exemption{{
			Rule: policy.PublicIngress, Resource: "gateway-release",
			Reason: "it is the gateway, the only public load balancer",
		}},
	}
	for _, upstream := range []string{"prometheus-deployment", "traces-deployment", "signatures-deployment"} {
		options.Exempt = append(options.Exempt, policy.Exemption{
			Rule: policy.ImageDigest, Resource: upstream,
			Reason: "it is an upstream image with a tag that infra pins, like those of the charts",
		})
	}
	return options
}

// URL implements program.Target.
func (t *Target) URL() string { return "https://" + t.cfg.Gateway.Host }

// Namespaces implements program.Target.
func (t *Target) Namespaces() map[string]string {
	return map[string]string{
		"services": plan.ShopNamespace, "gateway": kongNamespace, "internalGateway": internalNamespace,
		"delivery": plan.RolloutsNamespace, "database": plan.DatabaseNamespace, "observability": plan.ObservabilityNamespace,
	}
}

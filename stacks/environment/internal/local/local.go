// Package local deploys an environment, with Traefik and PostgreSQL, to an existing Kubernetes
// cluster.
package local

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

const (
	gatewayNamespace         = "gateway"
	internalGatewayNamespace = "gateway-internal"
)

// Target is an existing cluster.
type Target struct {
	cfg              *config.Config
	public, internal *gateway.TraefikSpec
	router           gateway.TraefikPair
	routerErr        error
	rollouts         *delivery.RolloutsSpec           // nil: the cluster has the controller
	signatures       *delivery.SignaturesSpec         // nil: unsigned images run
	metricsServer    *observability.MetricsServerSpec // nil: the cluster has one
	traces           *observability.TracesSpec        // nil: programs send to another collector, or nowhere
	monitoring       *plan.Monitoring
	argoCD           *delivery.LocalArgoCDSpec // nil: this stack applies the services
	rollback         *delivery.RollbackSpec    // with argoCD
}

// New prepares the target. The environment's name is in the path of its manifests.
func New(environment string, cfg *config.Config) program.Target {
	t := &Target{
		cfg: cfg,
		public: &gateway.TraefikSpec{
			Namespace:            gatewayNamespace,
			Class:                cfg.Gateway.Class,
			NodePort:             cfg.Gateway.NodePort,
			RouteNamespaces:      []string{plan.ShopNamespace},
			Replicas:             cfg.Gateway.Replicas,
			DefinitionsInstalled: !cfg.Gateway.InstallDefinitions,
		},
		internal: &gateway.TraefikSpec{
			Namespace:            internalGatewayNamespace,
			Class:                cfg.Gateway.Class + "-internal",
			Internal:             true,
			RouteNamespaces:      []string{plan.ShopNamespace},
			Replicas:             cfg.Gateway.Replicas,
			DefinitionsInstalled: true, // by the public instance
		},
	}
	t.router, t.routerErr = gateway.NewTraefikPair(t.public, t.internal)
	if cfg.Delivery.InstallRollouts {
		t.rollouts = &delivery.RolloutsSpec{Namespace: plan.RolloutsNamespace, WeightRules: t.router.WeightRules(), Replicas: 1}
	}
	if cfg.Delivery.PublicKey != "" {
		t.signatures = &delivery.SignaturesSpec{
			Namespace: plan.SignaturesNamespace, Guarded: plan.ShopNamespace, Images: []string{"**"}, PublicKey: cfg.Delivery.PublicKey,
			Replicas: 1, HostNetwork: true, // images are named as the nodes reach their registry, which is on loopback
		}
	}
	if cfg.MetricsServer.Install {
		t.metricsServer = &observability.MetricsServerSpec{
			Namespace: plan.SystemNamespace, KubeletInsecureTLS: cfg.MetricsServer.KubeletInsecureTLS,
		}
	}
	if cfg.Telemetry.Collector {
		t.traces = &observability.TracesSpec{
			Namespace: plan.TracingNamespace, Clients: []kube.PodSelector{workload.Pods(plan.ShopNamespace)},
			Forward: cfg.Telemetry.OTLPEndpoint, NodePort: cfg.Telemetry.JaegerNodePort,
		}
		if t.traces.Forward != "" {
			t.traces.ForwardTo = plan.OtherCollector
		}
	}
	t.monitoring = plan.NewMonitoring(cfg, t.traces)
	if cfg.Delivery.Mode == config.GitOps {
		t.planDelivery(environment)
	}
	return t
}

// planDelivery plans Argo CD, and what brings aborted canaries to its repository.
func (t *Target) planDelivery(environment string) {
	git := t.cfg.Delivery.Git
	// What is embedded can be read, and Argo CD without definitions is refused.
	definitions, _ := gitops.Definitions()
	t.argoCD = &delivery.LocalArgoCDSpec{
		Namespace: gitops.Namespace, Repository: git.URL, ServicesNamespace: plan.ShopNamespace, Definitions: definitions,
	}
	t.rollback = plan.Rollback(environment, t.cfg, t.monitoring, t.traces)
}

// Site implements program.Target.
func (t *Target) Site() plan.Site {
	return plan.Site{
		Metrics: t.monitoring.Metrics(), Readers: t.monitoring.Readers(),
		Public: t.router, Internal: t.router.Internal,
		Telemetry: plan.Telemetry(t.cfg, t.traces, plan.OtherCollector),
		Server: plan.Server{
			SSLMode: "disable", // the connection stays in the cluster
			Secret:  database.AdminSecret, User: database.Superuser, Labels: database.ServerLabels(),
			MaxConnections: database.MaxConnections, Limit: "PostgreSQL in the cluster",
		},
	}
}

// server describes PostgreSQL, which admits the plan's clients.
func (t *Target) server(p *plan.Plan) *database.ServerSpec {
	return &database.ServerSpec{
		Namespace: plan.DatabaseNamespace, Image: t.cfg.Images[config.DatabaseImage],
		StorageGiB: t.cfg.Database.LocalGiB, LocalPath: t.cfg.Database.LocalPath, Clients: p.DatabaseClients,
	}
}

// Validate implements program.Target.
func (t *Target) Validate(p *plan.Plan) error {
	components := []plan.Component{{Name: "gateway", Spec: t.public}, {Name: "internal gateway", Spec: t.internal}}
	if p.Roles != nil {
		components = append(components, plan.Component{Name: "database", Spec: t.server(p)})
	}
	if t.traces != nil {
		components = append(components, plan.Component{Name: "telemetry", Spec: t.traces})
	}
	if t.argoCD != nil {
		components = append(components, plan.Component{Name: "argo cd", Spec: t.argoCD}, plan.Component{Name: "rollback", Spec: t.rollback})
	}
	if t.signatures != nil {
		components = append(components, plan.Component{Name: "signatures", Spec: t.signatures})
	}
	components = append(components, t.monitoring.Components(p)...)
	return errors.Join(validate(t.cfg), t.routerErr, plan.Validate(components))
}

// validate refuses what only AWS has: the secrets of Secrets Manager, and settings that need
// them.
func validate(cfg *config.Config) error {
	var errs []error
	for _, setting := range []struct {
		set bool
		key string
	}{
		{cfg.Shop.Acquirer == "stripe", "shop.acquirer is stripe, which"},
		{cfg.Shop.Auth == "api-key", "shop.auth is api-key, which"},
		{cfg.Delivery.Signer != "", "delivery.signer"},
		{cfg.Delivery.Git.SecretName != "", "delivery.git.secretName"},
		{cfg.Delivery.Git.PushSecretName != "", "delivery.git.pushSecretName"},
		{cfg.Delivery.Git.PushSecretVersion != "", "delivery.git.pushSecretVersion"},
		{cfg.Datadog.Install, "datadog.install"},
		{cfg.Runner.Install, "runner.install"},
	} {
		if setting.set {
			errs = append(errs, fmt.Errorf("%s:%s needs cloud.provider aws", config.Namespace, setting.key))
		}
	}
	return errors.Join(errs...)
}

// Policy implements program.Target.
func (t *Target) Policy() policy.Options {
	reason := "its image is built on this machine, or is an upstream image with a tag that infra pins"
	return policy.Options{Exempt: []policy.Exemption{
		{Rule: policy.ImageDigest, Namespace: gatewayNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: internalGatewayNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Resource: "database-server-server", Reason: reason},
		{Rule: policy.ImageDigest, Namespace: plan.RolloutsNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: plan.SignaturesNamespace, Reason: reason},
		{Rule: policy.RestrictedPod, Namespace: plan.SignaturesNamespace,
			Reason: "policy-controller reaches a registry on the node's loopback"},
		{Rule: policy.ImageDigest, Namespace: plan.SystemNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: plan.ObservabilityNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: plan.TracingNamespace, Reason: reason},
		{Rule: policy.ImageDigest, Namespace: gitops.Namespace, Reason: reason},
	}}
}

// URL implements program.Target.
func (t *Target) URL() string { return fmt.Sprintf("http://localhost:%d", t.cfg.Gateway.NodePort) }

// Namespaces implements program.Target.
func (t *Target) Namespaces() map[string]string {
	return map[string]string{
		"services": plan.ShopNamespace, "gateway": gatewayNamespace, "internalGateway": internalGatewayNamespace,
		"delivery": plan.RolloutsNamespace, "database": plan.DatabaseNamespace, "observability": plan.ObservabilityNamespace,
	}
}

// Connect implements program.Target. The cluster is the one that kubectl uses.
func (t *Target) Connect(ctx *pulumi.Context, _ *plan.Plan) (program.Cluster, error) {
	// With an empty kubeconfig the provider uses the environment's, as kubectl does. Without one
	// the SDK would write the value of KUBECONFIG into the state.
	args := &kubernetes.ProviderArgs{Kubeconfig: pulumi.String("")}
	if t.cfg.KubeContext != "" {
		args.Context = pulumi.String(t.cfg.KubeContext)
	}
	provider, err := kubernetes.NewProvider(ctx, "cluster", args)
	if err != nil {
		return nil, fmt.Errorf("registering the cluster: %w", err)
	}
	return &cluster{target: t, provider: provider, client: kube.NewClient(t.cfg.KubeContext)}, nil
}

// Stages returns every object that Install registers, except the namespaces, in an order in
// which they can be applied.
func (t *Target) Stages(p *plan.Plan) (kube.Stages, error) {
	components := []interface{ Stages() (kube.Stages, error) }{t.public, t.internal}
	if p.Roles != nil {
		server := t.server(p)
		components = append(components, server, roles{p.Roles, server.Host()})
	}
	if t.rollouts != nil {
		components = append(components, t.rollouts)
	}
	if t.signatures != nil {
		components = append(components, t.signatures)
	}
	if t.metricsServer != nil {
		components = append(components, t.metricsServer)
	}
	if prometheus := t.monitoring.Prometheus(p); prometheus != nil {
		components = append(components, prometheus)
	}
	if t.traces != nil {
		components = append(components, t.traces)
	}
	if console := t.monitoring.Console(p); console != nil {
		components = append(components, console)
	}
	if t.argoCD != nil {
		components = append(components, t.argoCD, t.rollback)
	}
	var all kube.Stages
	for _, component := range components {
		stages, err := component.Stages()
		if err != nil {
			return nil, err
		}
		all = append(all, stages...)
	}
	return all, nil
}

// roles describes the databases and roles on a server with a known address.
type roles struct {
	spec *database.RolesSpec
	host string
}

func (r roles) Stages() (kube.Stages, error) { return r.spec.Stages(pulumi.String(r.host)) }

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/dns"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// Namespaces that an environment has in AWS only.
const (
	kongNamespace     = "kong"
	internalNamespace = "kong-internal"
	argoNamespace     = "argocd"
	secretsNamespace  = "external-secrets"
	datadogNamespace  = "datadog"
	secretStore       = "aws"
)

// cloud is the part of an environment that AWS brings, complete before the first
// resource is registered but for what bootstrap and AWS answer.
type cloud struct {
	environment string
	offline     bool
	tags        map[string]string
	bootstrap   string

	network     *network.Spec
	cluster     *cluster.Spec
	database    *instance.Spec
	certificate *dns.Spec // nil: a certificate that exists
	// certificateARN is the certificate that exists.
	certificateARN pulumi.StringInput

	loadBalancer     *gateway.LoadBalancerSpec
	autoscaler       *autoscaling.Spec
	secrets          *secrets.OperatorSpec
	metricsServer    *observability.MetricsServerReleaseSpec
	public, internal *gateway.KongSpec
	rollouts         *delivery.RolloutsReleaseSpec
	argoCD           *delivery.ArgoCDSpec
	imageUpdater     *delivery.ImageUpdaterSpec
	datadog          *observability.DatadogSpec
	// shopSecrets are brought for services.
	shopSecrets []shopSecret

	// associated are the controllers' roles, which have to be there before their
	// pods.
	associated []pulumi.Resource
	// vpcID is the network's.
	vpcID pulumi.StringOutput
	// masterSecret is where RDS keeps its master user.
	masterSecret pulumi.StringOutput
	// databaseHost is RDS's name.
	databaseHost pulumi.StringOutput
}

// shopSecret is a secret of Secrets Manager that services are given.
type shopSecret struct {
	name, remote string
	keys         []string
}

// loadBalancerPatience is how long the load balancer controller may take: AWS
// makes a Network Load Balancer in two to three minutes.
const (
	loadBalancerPatience = 10 * time.Minute
	previewPatience      = 15 * time.Second
)

// newCloud makes the plan of an environment's cloud.
func newCloud(environment string, cfg *config.Config) (*cloud, gateway.KongPair, error) {
	name := "loja-veloz-" + environment
	in, size := cfg.Cloud, cfg.Cluster
	mirror, skip := cfg.Charts.Repository, !cfg.Charts.Await
	tags := map[string]string{"Project": "loja-veloz", "Environment": environment, "ManagedBy": "pulumi"}
	c := &cloud{
		environment: environment, offline: in.Offline, bootstrap: in.Bootstrap,
		tags: tags,
		network: &network.Spec{
			Name: name, Region: in.Region, AccountID: in.AccountID, CIDR: in.CIDR, Zones: in.Zones, NATPerZone: in.NATPerZone,
			InterfaceEndpoints: in.InterfaceEndpoints, FlowLogDays: int(in.LogDays), ClusterName: name,
			Taken: in.Taken, Protect: in.Protected,
		},
		cluster: &cluster.Spec{
			Name: name, Version: size.Version, Region: in.Region, AccountID: in.AccountID,
			PublicAccessCIDRs: size.PublicAccessCIDRs, Admins: size.Admins, Viewers: size.Viewers,
			LogDays: int(in.LogDays), NodeTags: tags,
			Nodes: cluster.Nodes{
				InstanceType: size.InstanceType, Min: size.MinNodes, Max: size.MaxNodes, Desired: size.MinNodes,
				DiskGiB: size.DiskGiB, PrefixDelegation: size.PrefixDelegation, MaxPods: size.MaxPods,
			},
			Addons: cluster.Addons{
				VPCCNI: size.Addons["vpc-cni"], PodIdentityAgent: size.Addons["eks-pod-identity-agent"],
				CoreDNS: size.Addons["coredns"], KubeProxy: size.Addons["kube-proxy"], EBSCSI: size.Addons["aws-ebs-csi-driver"],
			},
			Protect: in.Protected,
		},
		database: &instance.Spec{
			Name: name, EngineVersion: cfg.Database.EngineVersion, InstanceClass: cfg.Database.InstanceClass,
			AllocatedGiB: cfg.Database.AllocatedGiB, MaxAllocatedGiB: cfg.Database.MaxAllocatedGiB,
			MultiAZ: cfg.Database.MultiAZ, BackupDays: cfg.Database.BackupDays, LogDays: int(in.LogDays), Protect: in.Protected,
		},
		loadBalancer: &gateway.LoadBalancerSpec{
			Namespace: systemNamespace, ClusterName: name, Region: in.Region, Replicas: 2, ChartRepository: mirror, SkipAwait: skip,
		},
		autoscaler: &autoscaling.Spec{
			Namespace: systemNamespace, ClusterName: name, KubernetesVersion: size.Version, Region: in.Region, Replicas: 2,
			ChartRepository: mirror, SkipAwait: skip,
		},
		secrets: &secrets.OperatorSpec{
			Namespace: secretsNamespace, Region: in.Region, Store: secretStore,
			Namespaces: []string{shopNamespace, databaseNamespace, datadogNamespace, rolloutsNamespace, argoNamespace}, Replicas: 2, ChartRepository: mirror, SkipAwait: skip,
		},
		public: &gateway.KongSpec{
			Namespace: kongNamespace, ReleaseName: "kong", Class: cfg.Gateway.Class, Public: true,
			Host: cfg.Gateway.Host, RouteNamespaces: []string{shopNamespace}, ScrapedFrom: datadogNamespace,
			Replicas: cfg.Gateway.Replicas, DefinitionsInstalled: !cfg.Gateway.InstallDefinitions, ChartRepository: mirror, SkipAwait: skip,
		},
		internal: &gateway.KongSpec{
			Namespace: internalNamespace, ReleaseName: "kong-internal", Class: cfg.Gateway.Class + "-internal",
			RouteNamespaces: []string{shopNamespace}, ScrapedFrom: datadogNamespace,
			Replicas: cfg.Gateway.Replicas, DefinitionsInstalled: true, ChartRepository: mirror, SkipAwait: skip,
		},
	}
	if cfg.Gateway.CertificateARN != "" {
		c.certificateARN = pulumi.String(cfg.Gateway.CertificateARN)
	} else {
		c.certificate = &dns.Spec{Host: cfg.Gateway.Host, ZoneID: cfg.Gateway.ZoneID}
	}
	if cfg.MetricsServer.Install {
		c.metricsServer = &observability.MetricsServerReleaseSpec{Namespace: systemNamespace, Replicas: 2, ChartRepository: mirror, SkipAwait: skip}
	}
	c.planDelivery(cfg)
	if cfg.Shop.Acquirer == "stripe" {
		c.shopSecrets = append(c.shopSecrets, shopSecret{stripeSecret, cfg.Shop.StripeSecretName, []string{stripeKey}})
	}
	if cfg.Shop.Auth == "api-key" {
		c.shopSecrets = append(c.shopSecrets, shopSecret{apiKeysSecret, cfg.Shop.APIKeysSecretName, []string{apiKeysKey, storefrontKey}})
	}
	if cfg.Datadog.Install {
		c.datadog = &observability.DatadogSpec{
			Namespace: datadogNamespace, Site: cfg.Datadog.Site, ClusterName: name,
			SecretName: cfg.Datadog.SecretName, Store: secretStore, ClusterAgentReplicas: 2, ChartRepository: mirror, SkipAwait: skip,
		}
	}
	router, err := gateway.NewKongPair(c.public, c.internal)
	return c, router, errors.Join(err, c.validate())
}

// masterSecret is RDS's superuser in the cluster.
const masterSecret = "database-master"

// planRoles says where the databases and roles are made: on RDS, in the subnets
// that are its own.
func (c *cloud) planRoles(cfg *config.Config, roles *database.RolesSpec) {
	roles.SSLMode, roles.Secret = cfg.Database.SSLMode, masterSecret
	zones, err := network.Plan(cfg.Cloud.CIDR, cfg.Cloud.Zones, cfg.Cloud.Taken...)
	if err != nil {
		roles.CIDRs = []string{cfg.Cloud.CIDR} // the network reports it
		return
	}
	for _, zone := range zones {
		roles.CIDRs = append(roles.CIDRs, zone.Database.String())
	}
}

// planDelivery adds what ships new versions.
func (c *cloud) planDelivery(cfg *config.Config) {
	mirror, skip := cfg.Charts.Repository, !cfg.Charts.Await
	if cfg.Delivery.InstallRollouts {
		c.rollouts = &delivery.RolloutsReleaseSpec{Namespace: rolloutsNamespace, Replicas: 2, ChartRepository: mirror, SkipAwait: skip}
	}
	if cfg.Datadog.Install && c.rollouts != nil {
		c.rollouts.Datadog = &delivery.DatadogMetrics{Site: cfg.Datadog.Site, SecretName: cfg.Datadog.SecretName, Store: secretStore}
	}
	if !cfg.Delivery.ArgoCD {
		return
	}
	git := cfg.Delivery.Git
	var repositories []string
	for _, service := range slices.Sorted(maps.Keys(cfg.Services)) {
		repositories = append(repositories, "loja-veloz/"+service) // as bootstrap names them
	}
	c.argoCD = &delivery.ArgoCDSpec{
		Namespace: argoNamespace, Replicas: 2,
		Repository:      &delivery.GitRepository{URL: git.URL, SecretName: git.SecretName, Store: secretStore},
		ChartRepository: mirror, SkipAwait: skip,
	}
	c.imageUpdater = &delivery.ImageUpdaterSpec{
		Namespace: argoNamespace, AccountID: c.cluster.AccountID, Region: c.cluster.Region,
		Repository: git.URL, Branch: git.Branch,
		Applications:    []delivery.UpdatedApplication{{NamePattern: shopNamespace, Path: "gitops/" + c.environment, Images: repositories}},
		ChartRepository: mirror, SkipAwait: skip,
	}
}

// validate asks every component; each fault is led by the component's name.
func (c *cloud) validate() error {
	type component struct {
		name string
		spec interface{ Validate() error }
	}
	components := []component{
		{"network", c.network}, {"cluster", c.cluster}, {"database", c.database},
		{"load balancer controller", c.loadBalancer}, {"cluster autoscaler", c.autoscaler}, {"external secrets", c.secrets},
		{"gateway", c.public}, {"internal gateway", c.internal},
	}
	if c.rollouts != nil {
		components = append(components, component{"rollouts", c.rollouts})
	}
	if c.certificate != nil {
		components = append(components, component{"certificate", c.certificate})
	}
	if c.metricsServer != nil {
		components = append(components, component{"metrics-server", c.metricsServer})
	}
	if c.datadog != nil {
		components = append(components, component{"datadog", c.datadog})
	}
	if c.argoCD != nil {
		components = append(components, component{"argo cd", c.argoCD}, component{"image updater", c.imageUpdater})
	}
	var faults []error
	for _, component := range components {
		faults = append(faults, led(component.name, component.spec.Validate())...)
	}
	if c.environment == "prod" && !c.cluster.Protect {
		faults = append(faults, errors.New("cloud.protected is false: prod's data has to outlive mistakes"))
	}
	return errors.Join(faults...)
}

// account is what bootstrap made for an environment.
type account struct {
	key, up, preview, push, boundary string
	repositories                     []pulumi.StringInput
	registryURLs                     pulumi.StringMap
}

// readAccount reads the outputs of bootstrap, which are plain: the program needs
// them to decide what to register.
func (c *cloud) readAccount(ctx *pulumi.Context) (*account, error) {
	ref, err := pulumi.NewStackReference(ctx, c.bootstrap, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the stack %s: %w", c.bootstrap, err)
	}
	var faults []error
	output := func(name string) any {
		details, err := ref.GetOutputDetails(name)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("reading output %s of %s: %w", name, c.bootstrap, err))
		case details.Value == nil:
			faults = append(faults, fmt.Errorf("stack %s has no output %s: bring it up first", c.bootstrap, name))
		}
		return details.Value
	}
	environments, _ := output("environments").(map[string]any)
	own, found := environments[c.environment].(map[string]any)
	if !found {
		faults = append(faults, fmt.Errorf("stack %s knows no environment %s: add it to loja-veloz-bootstrap:environments", c.bootstrap, c.environment))
	}
	text := func(value any) string { s, _ := value.(string); return s }
	arn := func(name string) string {
		value := text(own[name])
		if found && !strings.HasPrefix(value, "arn:aws") {
			faults = append(faults, fmt.Errorf("stack %s has %v for environments.%s.%s: an ARN is expected", c.bootstrap, own[name], c.environment, name))
		}
		return value
	}
	a := &account{
		key: arn("keyARN"), up: arn("upRoleARN"), preview: arn("previewRoleARN"), boundary: arn("permissionsBoundaryARN"),
		push: text(output("pushRoleARN")),
	}
	repositories, _ := output("repositoryURLs").(map[string]any)
	a.registryURLs = pulumi.StringMap{}
	for _, name := range slices.Sorted(maps.Keys(repositories)) {
		a.registryURLs[name] = pulumi.String(text(repositories[name]))
		a.repositories = append(a.repositories, pulumi.String(fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", c.cluster.Region, c.cluster.AccountID, name)))
	}
	return a, errors.Join(faults...)
}

// target is the cluster that an environment is deployed to.
type target struct {
	provider pulumi.ProviderResource
	client   *kube.Client
	outputs  pulumi.Map
	// aws is what resources of AWS need, such as the shop's record.
	aws pulumi.ResourceOption
}

// deploy makes network, cluster and database, and gives the cluster to deploy to.
func (c *cloud) deploy(ctx *pulumi.Context) (*target, error) {
	args := &aws.ProviderArgs{
		Region:      pulumi.String(c.cluster.Region),
		DefaultTags: aws.ProviderDefaultTagsArgs{Tags: pulumi.ToStringMap(c.tags)},
	}
	if c.offline {
		args.SkipCredentialsValidation, args.SkipRequestingAccountId, args.SkipMetadataApiCheck = pulumi.Bool(true), pulumi.Bool(true), pulumi.Bool(true)
	} else {
		// With somebody else's credentials nothing is made.
		args.AllowedAccountIds = pulumi.StringArray{pulumi.String(c.cluster.AccountID)}
	}
	provider, err := aws.NewProvider(ctx, "aws", args)
	if err != nil {
		return nil, fmt.Errorf("registering the account: %w", err)
	}
	in := pulumi.Provider(provider)
	own, err := c.readAccount(ctx)
	if err != nil {
		return nil, err
	}
	key := pulumi.String(own.key)

	net, err := network.New(ctx, "network", c.network, network.Inputs{KeyARN: key, PermissionsBoundary: own.boundary}, in)
	if err != nil {
		return nil, err
	}
	eks, err := cluster.New(ctx, "cluster", c.cluster, cluster.Inputs{
		VPCID: net.VPCID, PublicSubnets: net.PublicSubnets, PrivateSubnets: net.PrivateSubnets, Routes: net.Routes, KeyARN: key,
		Admins: []string{own.up}, Viewers: []string{own.preview}, PermissionsBoundary: own.boundary,
	}, in)
	if err != nil {
		return nil, err
	}
	db, err := instance.New(ctx, "database", c.database, instance.Inputs{
		VPCID: net.VPCID, Subnets: net.DatabaseSubnets, ClusterSecurityGroupID: eks.SecurityGroupID, KeyARN: key,
		PermissionsBoundary: own.boundary,
	}, in)
	if err != nil {
		return nil, err
	}
	kubernetesProvider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{
		Kubeconfig: eks.Kubeconfig, ClusterIdentifier: pulumi.String(c.cluster.Name),
	}, pulumi.DependsOn(eks.Ready))
	if err != nil {
		return nil, fmt.Errorf("registering the cluster: %w", err)
	}

	kubeconfig := make(chan string, 1)
	eks.Kubeconfig.ApplyT(func(text string) string {
		kubeconfig <- text
		return text
	})
	client := kube.NewClientFor(func(ctx context.Context) (string, error) {
		select {
		case text := <-kubeconfig:
			kubeconfig <- text
			return text, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})

	if err := c.identities(ctx, eks, own, db, in); err != nil {
		return nil, err
	}
	c.vpcID, c.masterSecret, c.databaseHost = net.VPCID, db.MasterSecretARN, db.Endpoint
	return &target{
		provider: kubernetesProvider, client: client, aws: in,
		outputs: pulumi.Map{
			"clusterName":             eks.Name,
			"kubeconfig":              eks.Kubeconfig,
			"databaseEndpoint":        db.Endpoint,
			"databaseMasterSecretARN": db.MasterSecretARN,
			"registryURLs":            own.registryURLs,
			"vpcID":                   net.VPCID,
			"roleARNs": pulumi.Map{
				"up": pulumi.String(own.up), "preview": pulumi.String(own.preview), "push": pulumi.String(own.push),
			},
		},
	}, nil
}

// identities lets the controllers' pods into AWS, before the pods start.
func (c *cloud) identities(ctx *pulumi.Context, eks *cluster.Cluster, own *account, db *instance.Database, in pulumi.ResourceOption) error {
	account, region, name := c.cluster.AccountID, c.cluster.Region, c.cluster.Name
	readable := []pulumi.StringInput{db.MasterSecretARN}
	named := func(secret string) pulumi.StringInput {
		// Secrets Manager adds six characters to a secret's name.
		return pulumi.String(fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-??????", region, account, secret))
	}
	if c.datadog != nil {
		readable = append(readable, named(c.datadog.SecretName))
	}
	for _, secret := range c.shopSecrets {
		readable = append(readable, named(secret.remote))
	}
	if c.argoCD != nil {
		readable = append(readable, named(c.argoCD.Repository.SecretName))
	}
	roles := []struct {
		name, namespace, serviceAccount string
		policy                          identity.PolicyDocument
		needed                          bool
	}{
		{"load-balancer", systemNamespace, gateway.LoadBalancerServiceAccount, identity.LoadBalancerController(account, region, name), true},
		{"autoscaler", systemNamespace, autoscaling.ServiceAccount, identity.ClusterAutoscaler(account, region, name), true},
		{"secrets", secretsNamespace, secrets.ServiceAccount, identity.ExternalSecrets(region, readable, []pulumi.StringInput{pulumi.String(own.key)}), true},
		{"image-updater", argoNamespace, delivery.ImageUpdaterServiceAccount, identity.ImageUpdater(region, own.repositories), c.imageUpdater != nil},
	}
	for _, role := range roles {
		if !role.needed {
			continue
		}
		pods, err := identity.NewPodRole(ctx, role.name, &identity.PodRoleSpec{
			RoleName: name + "-" + role.name, Cluster: name, AccountID: account, Region: region,
			Namespace: role.namespace, ServiceAccount: role.serviceAccount,
		}, identity.PodRoleInputs{ClusterName: eks.Name, Policy: role.policy, PermissionsBoundary: own.boundary}, in)
		if err != nil {
			return err
		}
		c.associated = append(c.associated, pods.Association)
	}
	return nil
}

// install puts the controllers into the cluster. What it returns has to be there
// before a workload is.
func (c *cloud) install(ctx *pulumi.Context, t *target, shop, databases pulumi.Resource, roles *database.RolesSpec) ([]pulumi.Resource, error) {
	in := pulumi.Provider(t.provider)
	after := func(needed ...pulumi.Resource) pulumi.ResourceOption {
		return pulumi.DependsOn(append(needed, c.associated...))
	}
	balancer, err := gateway.NewLoadBalancer(ctx, "load-balancer", c.loadBalancer, c.vpcID, in, after())
	if err != nil {
		return nil, err
	}
	if _, err := autoscaling.New(ctx, "autoscaler", c.autoscaler, in, after()); err != nil {
		return nil, err
	}
	store, err := secrets.NewOperator(ctx, "secrets", c.secrets, in, after())
	if err != nil {
		return nil, err
	}
	needed, err := c.installSecrets(ctx, in, after, store, shop, databases, roles)
	if err != nil {
		return nil, err
	}
	if c.metricsServer != nil {
		if _, err := observability.NewMetricsServerRelease(ctx, "metrics", c.metricsServer, in); err != nil {
			return nil, err
		}
	}
	if c.datadog != nil {
		if _, err := observability.NewDatadog(ctx, "datadog", c.datadog, in, after(store)); err != nil {
			return nil, err
		}
	}
	if c.certificate != nil {
		certificate, err := dns.NewCertificate(ctx, "certificate", c.certificate, t.aws)
		if err != nil {
			return nil, err
		}
		c.certificateARN = certificate.ARN
	}
	public, err := gateway.NewKong(ctx, "gateway", c.public, c.certificateARN, in, after(shop, balancer))
	if err != nil {
		return nil, err
	}
	internal, err := gateway.NewKong(ctx, "internal-gateway", c.internal, nil, in, after(shop, public))
	if err != nil {
		return nil, err
	}
	if c.certificate != nil {
		patience := loadBalancerPatience
		if ctx.DryRun() {
			patience = previewPatience // it is there since the last update
		}
		host := public.Release.ID().ApplyT(func(pulumi.ID) (string, error) {
			return t.client.LoadBalancer(ctx.Context(), c.public.Namespace, c.public.ProxyService(), patience)
		}).(pulumi.StringOutput)
		if _, err := dns.NewRecord(ctx, "record", c.certificate, host, t.aws); err != nil {
			return nil, err
		}
	}
	needed = append(needed, public, internal)
	if c.rollouts != nil {
		rollouts, err := delivery.NewRolloutsRelease(ctx, "rollouts", c.rollouts, in, after(store))
		if err != nil {
			return nil, err
		}
		needed = append(needed, rollouts)
	}
	if c.argoCD != nil {
		argo, err := delivery.NewArgoCD(ctx, "argocd", c.argoCD, in, after(store))
		if err != nil {
			return nil, err
		}
		if _, err := delivery.NewImageUpdater(ctx, "image-updater", c.imageUpdater, in, after(argo)); err != nil {
			return nil, err
		}
	}
	return needed, nil
}

// installSecrets brings the services' secrets and the databases with their roles,
// and returns what services have to wait for.
func (c *cloud) installSecrets(ctx *pulumi.Context, in pulumi.ResourceOption, after func(...pulumi.Resource) pulumi.ResourceOption,
	store, shop, databases pulumi.Resource, roles *database.RolesSpec) ([]pulumi.Resource, error) {
	var needed []pulumi.Resource
	for _, secret := range c.shopSecrets {
		brought, err := secrets.NewSecret(ctx, secret.name, &secrets.SecretSpec{
			Name: secret.name, Namespace: shopNamespace, Store: secretStore, Remote: secret.remote, Keys: secret.keys,
		}, in, after(store, shop))
		if err != nil {
			return nil, err
		}
		needed = append(needed, brought)
	}
	if roles == nil {
		return needed, nil
	}
	master, err := secrets.NewDatabase(ctx, masterSecret, &secrets.DatabaseSpec{
		Name: masterSecret, Namespace: databaseNamespace, Store: secretStore,
	}, c.masterSecret, in, after(store, databases))
	if err != nil {
		return nil, err
	}
	made, err := database.NewRoles(ctx, "database-roles", roles, c.databaseHost, in, after(shop, master))
	if err != nil {
		return nil, err
	}
	return append(needed, made), nil
}

// rules are the platform's for this environment.
func (c *cloud) rules(cfg *config.Config) policy.Options {
	return policy.Options{
		Protected: cfg.Cloud.Protected, AllowReplace: cfg.Cloud.AllowReplace, DefaultTags: c.tags,
		Exempt: []policy.Exemption{
			{Rule: policy.PublicIngress, Resource: "gateway-release", Reason: "it is the gateway: the one load balancer that the internet reaches"},
		},
	}
}

package aws

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// Validate implements program.Target.
func (t *Target) Validate(p *plan.Plan) error {
	components := []plan.Component{
		{Name: "network", Spec: t.network}, {Name: "cluster", Spec: t.cluster}, {Name: "database", Spec: t.database},
		{Name: "load balancer controller", Spec: t.loadBalancer}, {Name: "cluster autoscaler", Spec: t.autoscaler},
		{Name: "external secrets", Spec: t.secrets}, {Name: "gateway", Spec: t.public}, {Name: "internal gateway", Spec: t.internal},
	}
	if t.rollouts != nil {
		components = append(components, plan.Component{Name: "rollouts", Spec: t.rollouts})
	}
	if t.certificate != nil {
		components = append(components, plan.Component{Name: "certificate", Spec: t.certificate})
	}
	if t.alarms != nil {
		components = append(components, plan.Component{Name: "alarms", Spec: t.alarms})
	}
	if t.runner != nil {
		components = append(components, plan.Component{Name: "runner", Spec: t.runner})
	}
	if t.metricsServer != nil {
		components = append(components, plan.Component{Name: "metrics-server", Spec: t.metricsServer})
	}
	if t.traces != nil {
		components = append(components, plan.Component{Name: "telemetry", Spec: t.traces})
	}
	if t.datadog != nil {
		components = append(components, plan.Component{Name: "datadog", Spec: t.datadogWith(p)})
	}
	if t.signatures != nil {
		components = append(components, plan.Component{Name: "signatures", Spec: t.signatures})
	}
	if t.argoCD != nil {
		components = append(components,
			plan.Component{Name: "argo cd", Spec: t.argoCD}, plan.Component{Name: "image updater", Spec: t.imageUpdater},
			plan.Component{Name: "rollback", Spec: t.rollback})
	}
	components = append(components, t.monitoring.Components(p)...)
	return errors.Join(validate(t.cfg), t.validateSecrets(p), t.validateImages(p), t.routerErr, t.scraperErr,
		plan.Validate(components), t.checkNodes(p))
}

// validateSecrets refuses a program's secret for which there is no setting with its name in
// Secrets Manager.
func (t *Target) validateSecrets(p *plan.Plan) error {
	var errs []error
	brought := t.shopSecrets(p)
	for _, name := range slices.Sorted(maps.Keys(p.Secrets)) {
		if !slices.ContainsFunc(brought, func(s secret) bool { return s.name == name }) {
			errs = append(errs, fmt.Errorf("no setting names the secret in Secrets Manager for the Secret %s, which a program reads: "+
				"known are stripe and api-keys", name))
		}
	}
	return errors.Join(errs...)
}

// validateImages refuses images that the admission would refuse, so that no update waits for a Rollout without pods.
// Where Argo CD delivers, git has them.
func (t *Target) validateImages(p *plan.Plan) error {
	if t.signatures == nil || t.cfg.Delivery.Mode == config.GitOps {
		return nil
	}
	var errs []error
	check := func(name, image string) {
		repository, own := strings.CutPrefix(image, t.ownImages())
		if image != "" && (!own || strings.Contains(repository, "/")) {
			errs = append(errs, fmt.Errorf("%s:images.%s is %s: with delivery.publicKey or delivery.signer only images of %s run in %s",
				config.Namespace, name, image, t.ownImages(), plan.ShopNamespace))
		}
	}
	for _, w := range p.Workloads {
		check(w.Service, w.Image)
	}
	for _, job := range p.CronJobs {
		check(job.Name, job.Image)
	}
	return errors.Join(errs...)
}

// addons are the add-ons of EKS whose version can be set.
var addons = []string{"aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "vpc-cni"}

// validate checks the settings that depend on the target.
func validate(cfg *config.Config) error {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(config.Namespace+":"+format, args...))
	}
	for _, setting := range []struct {
		needed     bool
		key, value string
		reason     string
	}{
		{cfg.Shop.Acquirer == "stripe", "stripePublishableKey", cfg.Shop.StripePublishableKey, "shop.acquirer is stripe"},
		{cfg.Shop.Acquirer == "stripe", "stripeSecretName", cfg.Shop.StripeSecretName, "shop.acquirer is stripe"},
		{cfg.Shop.Acquirer == "stripe", "stripeSecretVersion", cfg.Shop.StripeSecretVersion, "shop.acquirer is stripe"},
		{cfg.Shop.Auth != "off", "apiKeysSecretName", cfg.Shop.APIKeysSecretName, "shop.auth is " + cfg.Shop.Auth},
		{cfg.Shop.Auth != "off", "apiKeysSecretVersion", cfg.Shop.APIKeysSecretVersion, "shop.auth is " + cfg.Shop.Auth},
	} {
		if setting.needed && setting.value == "" {
			add("shop.%s is missing: %s", setting.key, setting.reason)
		}
		if strings.HasSuffix(setting.key, "Version") && setting.value != "" && !secrets.VersionID(setting.value) {
			add("shop.%s is %q: use the id of a version in Secrets Manager, a UUID", setting.key, setting.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Images)) {
		if strings.Contains(cfg.Images[name], "/drill/") {
			add("images.%s is %s, which injects a fault for a drill: only a local environment runs it", name, cfg.Images[name])
		}
	}
	// Neither asks for a password.
	if cfg.Console.NodePort != 0 {
		add("console.nodePort is %d: in AWS reach it with kubectl -n observability port-forward service/console 9092:80", cfg.Console.NodePort)
	}
	if cfg.Prometheus.NodePort != 0 {
		add("prometheus.nodePort is %d: in AWS reach it with kubectl -n observability port-forward service/prometheus 9090:9090",
			cfg.Prometheus.NodePort)
	}
	validateDatabase(cfg, add)
	if cfg.KubeContext != "" {
		add("kubeContext is %q: with cloud.provider aws the stack deploys to the cluster that it creates", cfg.KubeContext)
	}
	if len(cfg.Cluster.PublicAccessCIDRs) == 0 {
		add("cluster.publicAccessCIDRs is empty: nobody outside the VPC, CI included, could reach the API server")
	}
	if cfg.Cloud.Bootstrap == "" || strings.Count(cfg.Cloud.Bootstrap, "/") != 2 {
		add("cloud.bootstrap is %q: organization/loja-veloz-bootstrap/STACK is expected", cfg.Cloud.Bootstrap)
	}
	// An environment with a standby in a second zone has data that matters.
	if cfg.Database.MultiAZ && !cfg.Cloud.Protected {
		add("cloud.protected is false: with database.multiAZ the data has to outlive mistakes")
	}
	validateControllers(cfg, add)
	return errors.Join(errs...)
}

func validateDatabase(cfg *config.Config, add func(format string, args ...any)) {
	if cfg.Database.LocalPath != "" {
		add("database.localPath is %q: with cloud.provider aws the data is in RDS", cfg.Database.LocalPath)
	}
	switch cfg.Database.SSLMode {
	case "require":
	case "verify-full":
		if !slices.Contains(instance.VerifiedRegions, cfg.Cloud.Region) {
			add("database.sslMode is verify-full and cloud.region %s: the images have the authorities of RDS in %s; use one of these, or require",
				cfg.Cloud.Region, strings.Join(instance.VerifiedRegions, ", "))
		}
	default:
		add("database.sslMode is %q: use verify-full or require", cfg.Database.SSLMode)
	}
}

func validateControllers(cfg *config.Config, add func(format string, args ...any)) {
	if cfg.Gateway.Host == "" {
		add("gateway.host is empty: the shop needs a public name")
	}
	if (cfg.Gateway.ZoneID == "") == (cfg.Gateway.CertificateARN == "") {
		add("gateway.zoneID and gateway.certificateARN: exactly one of them is needed")
	}
	// A listener takes certificates of its own region and account alone (Elastic Load Balancing, Network
	// Load Balancers, Server certificates).
	here := fmt.Sprintf(":acm:%s:%s:certificate/", cfg.Cloud.Region, cfg.Cloud.AccountID)
	if arn := cfg.Gateway.CertificateARN; arn != "" && (!strings.HasPrefix(arn, "arn:aws") || !strings.Contains(arn, here)) {
		add("gateway.certificateARN is %q: use the ARN of a certificate of ACM in this region and account, arn:aws%s...", arn, here)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Cluster.Addons)) {
		if !slices.Contains(addons, name) {
			add("cluster.addons.%s is not an add-on of this platform; known are %s", name, strings.Join(addons, ", "))
		}
	}
	local := config.Defaults(nil)
	if cfg.Gateway.NodePort != local.Gateway.NodePort {
		add("gateway.nodePort is %d: in AWS the gateway has a load balancer and no node port", cfg.Gateway.NodePort)
	}
	if cfg.MetricsServer.KubeletInsecureTLS {
		add("metricsServer.kubeletInsecureTLS is true: set false, since the cluster's CA signs the certificates of EKS's kubelets")
	}
	validateGit(cfg, add)
	if cfg.Datadog.Install && cfg.Datadog.SecretName == "" {
		add("datadog.secretName is missing: it names the secret that holds api-key, app-key and token")
	}
	switch version := cfg.Datadog.SecretVersion; {
	case cfg.Datadog.Install && version == "":
		add("datadog.secretVersion is missing: with it, another version of the keys restarts the agents")
	case version != "" && !secrets.VersionID(version):
		add("datadog.secretVersion is %q: use the id of a version in Secrets Manager, a UUID", version)
	}
}

// validateGit checks the credentials of the git repository, which Argo CD and the program rollback need.
func validateGit(cfg *config.Config, add func(format string, args ...any)) {
	git := cfg.Delivery.Git
	for _, setting := range []struct{ key, value string }{
		{"secretName", git.SecretName}, {"pushSecretName", git.PushSecretName}, {"pushSecretVersion", git.PushSecretVersion},
	} {
		switch gitops := cfg.Delivery.Mode == config.GitOps; {
		case gitops && setting.value == "":
			add("delivery.git.%s is missing: delivery.mode is gitops", setting.key)
		case !gitops && setting.value != "":
			add("delivery.git.%s is %q, and nothing reads it: delivery.mode is %s", setting.key, setting.value, cfg.Delivery.Mode)
		}
	}
	if git.SecretName != "" && git.SecretName == git.PushSecretName {
		add("delivery.git.pushSecretName is %q, as delivery.git.secretName: Argo CD's token may only read", git.PushSecretName)
	}
	if version := git.PushSecretVersion; version != "" && !secrets.VersionID(version) {
		add("delivery.git.pushSecretVersion is %q: use the id of a version in Secrets Manager, a UUID", version)
	}
}

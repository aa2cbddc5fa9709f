package aws

import (
	"fmt"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

func TestSettingsThatAWSRefuses(t *testing.T) {
	cfg := config.Defaults(nil)
	cfg.Cloud.Provider, cfg.KubeContext = "aws", "kind"
	cfg.Database.LocalPath, cfg.Database.SSLMode, cfg.Database.MultiAZ = "/data", "disable", true
	cfg.Shop.Acquirer, cfg.Shop.Auth, cfg.Shop.APIKeysSecretVersion = "stripe", "api-key", "AWSCURRENT"
	cfg.Cluster.Addons = map[string]string{"dns": "1"}
	cfg.Gateway.NodePort, cfg.Gateway.CertificateARN, cfg.Gateway.ZoneID = 30081, "certificate", "Z1"
	cfg.MetricsServer.KubeletInsecureTLS, cfg.Delivery.Mode, cfg.Datadog.Install = true, config.GitOps, true
	cfg.Delivery.Git.PushSecretVersion = "AWSCURRENT"
	cfg.Images = map[string]string{"estoque": "registry/drill/estoque@sha256:0"}
	cfg.Prometheus.NodePort, cfg.Console.NodePort = 9090, 9092
	err := validate(cfg)
	if err == nil {
		t.Fatal("taken")
	}
	want := []string{
		`kubeContext is "kind"`, `database.localPath is "/data"`, `database.sslMode is "disable"`,
		"shop.stripePublishableKey is missing: shop.acquirer is stripe",
		"shop.stripeSecretName is missing: shop.acquirer is stripe", "shop.apiKeysSecretName is missing: shop.auth is api-key",
		"shop.stripeSecretVersion is missing: shop.acquirer is stripe", `shop.apiKeysSecretVersion is "AWSCURRENT": use the id of a version`,
		`cloud.bootstrap is ""`, "cloud.protected is false: with database.multiAZ", "cluster.addons.dns is not an add-on",
		"kubeletInsecureTLS is true", "delivery.git.secretName is missing: delivery.mode is gitops",
		"delivery.git.pushSecretName is missing: delivery.mode is gitops", `delivery.git.pushSecretVersion is "AWSCURRENT": use the id of a version`,
		"publicAccessCIDRs is empty", "gateway.host is empty", "exactly one of them",
		`gateway.certificateARN is "certificate"`, "gateway.nodePort is 30081", "datadog.secretName is missing", "datadog.secretVersion is missing",
		"images.estoque is registry/drill/estoque@sha256:0, which injects a fault", "prometheus.nodePort is 9090", "console.nodePort is 9092",
	}
	for _, line := range want {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("not reported: %s\nin:\n%v", line, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != len(want) {
		t.Errorf("%d errors are reported, want %d:\n%v", n, len(want), err)
	}
}

func TestUnsignedImagesRunWithAWarning(t *testing.T) {
	cfg := configured()
	if warning := New("dev", cfg).(*Target).unguarded(); !strings.Contains(warning, "delivery.signer and delivery.publicKey are empty") {
		t.Errorf("without a signer the warning is %q", warning)
	}
	cfg.Delivery.Signer = "https://github.com/loja-veloz/platform/.github/workflows/release.yml@refs/heads/main"
	target := New("dev", cfg).(*Target)
	if warning := target.unguarded(); warning != "" {
		t.Errorf("with a signer the warning is %q", warning)
	}
	own := real + ".dkr.ecr." + cfg.Cloud.Region + ".amazonaws.com/loja-veloz/"
	p := &plan.Plan{
		Workloads: []*workload.Spec{{Service: "pedidos", Image: own + "pedidos@sha256:0"}, {Service: "estoque", Image: "quay.io/estoque@sha256:0"}},
		CronJobs:  []*workload.CronJobSpec{{Name: "audit", Image: own + "team/audit@sha256:0"}},
	}
	infratest.Refused(t, target.validateImages(p), "images.estoque is quay.io/estoque@sha256:0: with delivery.publicKey or delivery.signer only images of "+own,
		"images.audit is "+own+"team/audit@sha256:0")
	cfg.Delivery.Mode = config.GitOps
	if err := target.validateImages(p); err != nil {
		t.Errorf("in mode gitops git has the images: %v", err)
	}
	cfg.Delivery.Mode = "pulumi"
	if err := target.validateImages(&plan.Plan{Workloads: p.Workloads[:1]}); err != nil {
		t.Error(err)
	}
}

func TestASecretHasToBeInSecretsManager(t *testing.T) {
	target := New("dev", config.Defaults(nil)).(*Target)
	p := &plan.Plan{Secrets: map[string][]string{"stripe": {"api-key", "webhook-secret"}, "mail": {"password"}}}
	err := target.validateSecrets(p)
	if err == nil || !strings.Contains(err.Error(), "for the Secret mail,") || strings.Contains(err.Error(), "for the Secret stripe,") {
		t.Errorf("the error is %v", err)
	}
}

func TestVerifyFullNeedsTheAuthoritiesOfTheRegion(t *testing.T) {
	cfg := configured()
	cfg.Cloud.Region, cfg.Cloud.Bootstrap = "sa-east-1", "organization/loja-veloz-bootstrap/account"
	if cfg.Database.SSLMode != "verify-full" {
		t.Errorf("database.sslMode is %q by default, want verify-full", cfg.Database.SSLMode)
	}
	if err := validate(cfg); err != nil {
		t.Errorf("verify-full in %s is refused: %v", cfg.Cloud.Region, err)
	}
	cfg.Cloud.Region = "il-central-1"
	infratest.Refused(t, validate(cfg), "database.sslMode is verify-full and cloud.region il-central-1: the images have the authorities of RDS in af-south-1,")
	cfg.Database.SSLMode = "require"
	if err := validate(cfg); err != nil {
		t.Errorf("require is refused: %v", err)
	}
}

func TestACertificateIsInTheRegionAndTheAccount(t *testing.T) {
	cfg := configured()
	for arn, ours := range map[string]bool{
		"arn:aws:acm:us-east-1:111122223333:certificate/0":  true,
		"arn:aws:acm:eu-west-1:111122223333:certificate/0":  false,
		"arn:aws:acm:us-east-1:999999999999:certificate/0":  false,
		"arn:aws:iam::111122223333:server-certificate/shop": false,
	} {
		cfg.Cloud.Region, cfg.Cloud.AccountID, cfg.Gateway.ZoneID, cfg.Gateway.CertificateARN = "us-east-1", "111122223333", "", arn
		if err := validate(cfg); strings.Contains(fmt.Sprint(err), "gateway.certificateARN") == ours {
			t.Errorf("%s: %v", arn, err)
		}
	}
}

// TestCredentialsOfGitNeedGitOps: in mode pulumi nothing reads them.
func TestCredentialsOfGitNeedGitOps(t *testing.T) {
	cfg := configured()
	cfg.Cloud.Region, cfg.Cloud.Bootstrap = "us-east-1", "organization/loja-veloz-bootstrap/account"
	cfg.Delivery.Git = config.Git{SecretName: "a", PushSecretName: "b", PushSecretVersion: "00000000-0000-4000-8000-000000000001"}
	infratest.Refused(t, validate(cfg), `delivery.git.secretName is "a", and nothing reads it: delivery.mode is pulumi`,
		`delivery.git.pushSecretName is "b", and nothing reads it`, "delivery.git.pushSecretVersion is")
	cfg.Delivery.Mode, cfg.Delivery.Git.PushSecretName = config.GitOps, "a"
	infratest.Refused(t, validate(cfg), `delivery.git.pushSecretName is "a", as delivery.git.secretName`)
	cfg.Delivery.Git.PushSecretName = "b"
	if err := validate(cfg); err != nil {
		t.Errorf("mode gitops: %v", err)
	}
}

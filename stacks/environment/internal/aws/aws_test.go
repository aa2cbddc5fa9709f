package aws

import (
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/infratest"
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
		"kubeletInsecureTLS is true", "delivery.git.secretName is missing: delivery.mode is gitops", "publicAccessCIDRs is empty", "gateway.host is empty", "exactly one of them",
		`gateway.certificateARN is "certificate"`, "gateway.nodePort is 30081", "datadog.secretName is missing",
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

func TestASecretHasToBeInSecretsManager(t *testing.T) {
	target := New("dev", config.Defaults(nil)).(*Target)
	p := &plan.Plan{Secrets: map[string][]string{"stripe": {"api-key", "webhook-secret"}, "mail": {"password"}}}
	err := target.validateSecrets(p)
	if err == nil || !strings.Contains(err.Error(), "for the Secret mail,") || strings.Contains(err.Error(), "for the Secret stripe,") {
		t.Errorf("the error is %v", err)
	}
}

// The images lack the bundle by which a client would verify RDS.
func TestVerifyFullIsRefused(t *testing.T) {
	cfg := configured()
	cfg.Database.SSLMode = "verify-full"
	infratest.Refused(t, validate(cfg), "database.sslMode is verify-full: the images do not have RDS's bundle")
}

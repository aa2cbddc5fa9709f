package local

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

func TestWhatNeedsAWSIsRefused(t *testing.T) {
	cfg := config.Defaults(nil)
	if err := validate(cfg); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	cfg.Shop.Acquirer, cfg.Shop.Auth, cfg.Delivery.Git.SecretName, cfg.Datadog.Install = "stripe", "api-key", "git", true
	cfg.Delivery.Git.PushSecretName, cfg.Delivery.Git.PushSecretVersion = "git", "1"
	cfg.Runner.Install, cfg.Delivery.Signer = true, "https://github.com/o/r/.github/workflows/release.yml@refs/heads/main"
	want := []string{
		"shop.acquirer is stripe, which needs cloud.provider aws", "shop.auth is api-key, which needs cloud.provider aws",
		"delivery.git.secretName needs", "delivery.git.pushSecretName needs", "delivery.git.pushSecretVersion needs", "datadog.install needs",
		"runner.install needs", "delivery.signer needs",
	}
	err := validate(cfg)
	if err == nil {
		t.Fatal("taken")
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

func TestAConsoleWithoutImageIsRefused(t *testing.T) {
	target := New("local", config.Defaults(nil)).(*Target)
	if err := target.Validate(&plan.Plan{}); err == nil || !strings.Contains(err.Error(), "console: Image is empty") {
		t.Errorf("the error is %v", err)
	}
}

// TestGitOpsBringsItsPrograms: Argo CD, and what brings aborted canaries to the same repository; and
// neither where the stack applies the services.
func TestGitOpsBringsItsPrograms(t *testing.T) {
	cfg := config.Defaults(nil)
	cfg.Console.Install = false // it needs services to show
	cfg.Images[config.ConsoleImage] = "localhost:5000/console@sha256:" + strings.Repeat("1", 64)
	deployments := func() map[string]*appsv1.Deployment {
		stages, err := New("local", cfg).(*Target).Stages(&plan.Plan{})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]*appsv1.Deployment{}
		for _, m := range stages.All() {
			if d, ok := m.Object.(*appsv1.Deployment); ok && d.Namespace == "argocd" {
				found[d.Name] = d
			}
		}
		return found
	}
	if there := deployments(); len(there) > 0 {
		t.Errorf("the mode pulumi has %v", there)
	}
	cfg.Delivery.Mode, cfg.Delivery.Git.URL, cfg.Delivery.Git.Path = config.GitOps, "http://10.213.0.1:3000/deployments.git", "services"
	there := deployments()
	for _, name := range []string{"argocd-application-controller", "argocd-repo-server", "argocd-redis", "rollback"} {
		if there[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	want := map[string]string{"GIT_URL": cfg.Delivery.Git.URL, "GIT_PATH": "services", "GIT_BRANCH": "main"}
	for _, v := range there["rollback"].Spec.Template.Spec.Containers[0].Env {
		if want[v.Name] == v.Value {
			delete(want, v.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("rollback lacks %v", want)
	}
	// Prometheus reads what counts the rollbacks that fail, and is admitted.
	for installed, want := range map[bool]int{true: 1, false: 0} {
		cfg.Prometheus.Install = installed
		stages, err := New("local", cfg).(*Target).Stages(&plan.Plan{})
		if err != nil {
			t.Fatal(err)
		}
		scraped, admitted := 0, 0
		for _, m := range stages.All() {
			switch object := m.Object.(type) {
			case *corev1.ConfigMap:
				if strings.Contains(object.Data["prometheus.yml"], "rollback.argocd:8080") {
					scraped++
				}
			case *networkingv1.NetworkPolicy:
				if object.Name == "rollback" {
					admitted = len(object.Spec.Ingress)
				}
			}
		}
		if scraped != want || admitted != want {
			t.Errorf("with Prometheus %t, rollback is scraped %d times and admits %d", installed, scraped, admitted)
		}
	}
	cfg.Images[config.ConsoleImage] = ""
	if err := New("local", cfg).(*Target).Validate(&plan.Plan{}); err == nil || !strings.Contains(err.Error(), "rollback: Image is empty") {
		t.Errorf("without the console's image: %v", err)
	}
}

package local

import (
	"strings"
	"testing"

	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

func TestWhatNeedsAWSIsRefused(t *testing.T) {
	cfg := config.Defaults(nil)
	if err := validate(cfg); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	cfg.Shop.Acquirer, cfg.Shop.Auth, cfg.Delivery.Git.SecretName, cfg.Datadog.Install = "stripe", "api-key", "git", true
	want := []string{
		"shop.acquirer is stripe, which needs cloud.provider aws", "shop.auth is api-key, which needs cloud.provider aws",
		"delivery.git.secretName needs", "datadog.install needs",
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

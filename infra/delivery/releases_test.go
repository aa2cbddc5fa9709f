package delivery_test

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/charts/chartstest"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

const (
	repository = "https://github.com/loja-veloz/platform.git"
	store      = "aws-secrets-manager"
)

func argoCD() *delivery.ArgoCDArgs {
	return &delivery.ArgoCDArgs{
		Namespace: "argocd", Host: "argocd.example.com", IngressClass: "kong-internal",
		Admins: []string{"platform-team"}, Deployers: []string{"developers"}, Replicas: 2,
		Repository: &delivery.GitRepository{URL: repository, SecretName: "loja-veloz/prod/git", Store: store},
	}
}

func imageUpdater() *delivery.ImageUpdaterArgs {
	return &delivery.ImageUpdaterArgs{
		Namespace: "argocd", AccountID: "111122223333", Region: "us-east-1", Repository: repository, Branch: "main",
		Applications: []delivery.UpdatedApplication{{NamePattern: "sample-web-app", Path: "deploy/prod/sample-web-app", Images: []string{"sample-web-app"}}},
	}
}

func rolloutsRelease() *delivery.RolloutsReleaseArgs {
	return &delivery.RolloutsReleaseArgs{
		Namespace: "argo-rollouts", Replicas: 2,
		Datadog: &delivery.DatadogMetrics{Site: "datadoghq.com", SecretName: "loja-veloz/prod/datadog", Store: store},
	}
}

func TestReleases(t *testing.T) {
	for name, build := range map[string]func() (*kube.Installation, error){
		"argocd": argoCD().Installation, "imageupdater": imageUpdater().Installation, "rollouts-release": rolloutsRelease().Installation,
	} {
		parts, err := build()
		if err != nil {
			t.Fatal(err)
		}
		infratest.Golden(t, name, parts.Objects())
		chartstest.Golden(t, name+"-values", parts.Release)
	}
}

// TestTheVersionsAreOne: the hand-made installation and the chart's run the same
// controller.
func TestTheVersionsAreOne(t *testing.T) {
	if charts.RolloutsController.Tag != delivery.RolloutsVersion {
		t.Errorf("the chart runs %s, the manifests %s", charts.RolloutsController.Tag, delivery.RolloutsVersion)
	}
}

func TestApplication(t *testing.T) {
	application, err := delivery.NewApplication(&delivery.ApplicationArgs{
		Name: "sample-web-app", Namespace: "argocd", RepoURL: repository, Path: "deploy/prod/sample-web-app", Revision: "main", Target: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "application", []kube.Manifest{{Name: "application", Object: application}})
	copied := application.DeepCopyObject().(*delivery.Application)
	copied.Spec.IgnoreDifferences[0].JQPathExpressions[0], copied.Spec.SyncPolicy.Automated.Prune = "x", false
	if application.Spec.IgnoreDifferences[0].JQPathExpressions[0] == "x" || !application.Spec.SyncPolicy.Automated.Prune {
		t.Error("a copy shares with the original")
	}
}

func TestNewReleases(t *testing.T) {
	recorder, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		cd, err := delivery.NewArgoCD(ctx, "argocd", argoCD())
		if err != nil {
			return err
		}
		if _, err := delivery.NewImageUpdater(ctx, "updater", imageUpdater(), pulumi.DependsOn([]pulumi.Resource{cd.Release})); err != nil {
			return err
		}
		_, err = delivery.NewRolloutsRelease(ctx, "rollouts", rolloutsRelease())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	for later, earlier := range map[string]string{
		"argocd-release": "argocd-repository", "argocd-repository": "argocd-namespace",
		"updater-release": "argocd-release", "updater-updates": "updater-release",
		"rollouts-release": "rollouts-datadog", "rollouts-datadog": "rollouts-namespace",
	} {
		if !recorder.Waits(t, later, earlier) {
			t.Errorf("%s does not wait for %s", later, earlier)
		}
	}
}

func TestReleaseRefusals(t *testing.T) {
	_, application := delivery.NewApplication(&delivery.ApplicationArgs{RepoURL: "git@github.com:x/y"})
	for want, err := range map[string]error{
		"Namespace is empty":                    (&delivery.ArgoCDArgs{}).Validate(),
		"Replicas is 0":                         (&delivery.ArgoCDArgs{}).Validate(),
		"give both or neither":                  (&delivery.ArgoCDArgs{Host: "x"}).Validate(),
		`Admins[0] is "a,b"`:                    (&delivery.ArgoCDArgs{Admins: []string{"a,b"}}).Validate(),
		"Repository.URL is":                     (&delivery.ArgoCDArgs{Repository: &delivery.GitRepository{URL: "https://u:p@x/y"}}).Validate(),
		"Repository.SecretName is empty":        (&delivery.ArgoCDArgs{Repository: &delivery.GitRepository{}}).Validate(),
		"Repository.Store is empty":             (&delivery.ArgoCDArgs{Repository: &delivery.GitRepository{}}).Validate(),
		"AccountID is":                          (&delivery.ImageUpdaterArgs{}).Validate(),
		"Region is":                             (&delivery.ImageUpdaterArgs{}).Validate(),
		"Branch is empty":                       (&delivery.ImageUpdaterArgs{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].NamePattern is empty":  (&delivery.ImageUpdaterArgs{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].Path is empty":         (&delivery.ImageUpdaterArgs{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].Images is empty":       (&delivery.ImageUpdaterArgs{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Datadog.Site is empty":                 (&delivery.RolloutsReleaseArgs{Datadog: &delivery.DatadogMetrics{}}).Validate(),
		"ChartRepository is \"http://x\": use":  (&delivery.RolloutsReleaseArgs{ChartRepository: "http://x"}).Validate(),
		"Target is empty":                       application,
		`RepoURL is "git@github.com:x/y": an h`: application,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
	none := imageUpdater()
	none.Applications, none.Repository, none.Branch = nil, "", ""
	if parts, err := none.Installation(); err != nil || len(parts.Objects()) != 0 {
		t.Errorf("with nothing to update it makes objects (%v)", err)
	}
}

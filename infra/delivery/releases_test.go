package delivery_test

import (
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

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

func argoCD() *delivery.ArgoCDSpec {
	return &delivery.ArgoCDSpec{
		Chart:      kube.Chart{Namespace: "argocd", Replicas: 2},
		Repository: &delivery.GitRepository{URL: repository, SecretName: "loja-veloz/prod/git", Store: store},
	}
}

func imageUpdater() *delivery.ImageUpdaterSpec {
	return &delivery.ImageUpdaterSpec{
		Chart: kube.Chart{Namespace: "argocd", Replicas: 1}, AccountID: "111122223333", Region: "us-east-1", Repository: repository, Branch: "main",
		PublicKey: publicKey,
		Applications: []delivery.UpdatedApplication{{NamePattern: "sample-web-app", Path: "deploy/prod/sample-web-app",
			Images: []string{"sample-web-app"}}},
	}
}

func rolloutsRelease() *delivery.RolloutsReleaseSpec {
	return &delivery.RolloutsReleaseSpec{Chart: kube.Chart{Namespace: "argo-rollouts", Replicas: 2}}
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

// TestRestrictedContainers: the namespace admits the container whose security context we set.
func TestRestrictedContainers(t *testing.T) {
	release, err := rolloutsRelease().Release()
	if err != nil {
		t.Fatal(err)
	}
	values := release.Values.(delivery.RolloutsValues)
	c := values.Controller.InitContainers[0].SecurityContext
	if c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.ReadOnlyRootFilesystem == nil ||
		!*c.ReadOnlyRootFilesystem ||
		c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		c.SeccompProfile == nil || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the namespace refuses the plugin: %+v", c)
	}
}

func TestPods(t *testing.T) {
	pods := slices.Concat(rolloutsRelease().Pods(), argoCD().Pods(), imageUpdater().Pods())
	want := []kube.PodSize{
		{Name: "argo-rollouts", Count: 2, MilliCPU: 50, MemoryMiB: 96},
		{Name: "argocd-application-controller", Count: 1, MilliCPU: 100, MemoryMiB: 384},
		{Name: "argocd-server", Count: 2, MilliCPU: 50, MemoryMiB: 128},
		{Name: "argocd-repo-server", Count: 2, MilliCPU: 50, MemoryMiB: 192},
		{Name: "argocd-applicationset-controller", Count: 2, MilliCPU: 20, MemoryMiB: 96},
		{Name: "argocd-redis", Count: 1, MilliCPU: 20, MemoryMiB: 64},
		{Name: "argocd-image-updater", Count: 1, MilliCPU: 20, MemoryMiB: 64},
	}
	if !slices.Equal(pods, want) {
		t.Errorf("pods are %+v", pods)
	}
	wrong := slices.Concat((&delivery.RolloutsReleaseSpec{}).Pods(), (&delivery.ArgoCDSpec{}).Pods(), (&delivery.ImageUpdaterSpec{}).Pods())
	if len(wrong) > 0 {
		t.Errorf("an invalid spec has the pods %+v", wrong)
	}
}

func TestWithoutARepositoryThereIsNoSecret(t *testing.T) {
	local := argoCD()
	local.Repository = nil
	parts, err := local.Installation()
	if err != nil {
		t.Fatal(err)
	}
	if len(parts.Objects()) != 1 {
		t.Errorf("want the namespace alone: %v", parts.Objects())
	}
}

// TestBothInstallationsHaveTheSameVersion: the manifests and the chart run the same controller.
func TestBothInstallationsHaveTheSameVersion(t *testing.T) {
	if charts.RolloutsController.Tag != delivery.RolloutsVersion {
		t.Errorf("the chart runs %s, the manifests %s", charts.RolloutsController.Tag, delivery.RolloutsVersion)
	}
}

func TestNewReleases(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
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
	recorder.InOrder(t, map[string][]string{
		"argocd-release": {"argocd-repository"}, "argocd-repository": {"argocd-namespace"},
		"updater-release": {"argocd-release"}, "updater-updates": {"updater-release"},
		"rollouts-release": {"rollouts-namespace"},
	})
}

func TestReleaseRefusals(t *testing.T) {
	for want, err := range map[string]error{
		"Namespace is empty":                     (&delivery.ArgoCDSpec{}).Validate(),
		"Replicas is 0":                          (&delivery.ArgoCDSpec{}).Validate(),
		"Repository.URL is":                      (&delivery.ArgoCDSpec{Repository: &delivery.GitRepository{URL: "https://u:p@x/y"}}).Validate(),
		"Repository.SecretName is empty":         (&delivery.ArgoCDSpec{Repository: &delivery.GitRepository{}}).Validate(),
		"Repository.Store is empty":              (&delivery.ArgoCDSpec{Repository: &delivery.GitRepository{}}).Validate(),
		"AccountID is":                           (&delivery.ImageUpdaterSpec{}).Validate(),
		"Region is":                              (&delivery.ImageUpdaterSpec{}).Validate(),
		"PublicKey is not one public key":        (&delivery.ImageUpdaterSpec{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Branch is empty":                        (&delivery.ImageUpdaterSpec{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].NamePattern is empty":   (&delivery.ImageUpdaterSpec{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].Path is empty":          (&delivery.ImageUpdaterSpec{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"Applications[0].Images is empty":        (&delivery.ImageUpdaterSpec{Applications: make([]delivery.UpdatedApplication, 1)}).Validate(),
		"ChartRepository is \"http://x\": use":   (&delivery.RolloutsReleaseSpec{Chart: kube.Chart{ChartRepository: "http://x"}}).Validate(),
		`Repository.URL is "git@github.com:x/y"`: (&delivery.ArgoCDSpec{Repository: &delivery.GitRepository{URL: "git@github.com:x/y"}}).Validate(),
	} {
		infratest.Refused(t, err, want)
	}
	none := imageUpdater()
	none.Applications, none.Repository, none.Branch = nil, "", ""
	if parts, err := none.Installation(); err != nil || len(parts.Objects()) != 0 {
		t.Errorf("with nothing to update there are objects (%v)", err)
	}
}

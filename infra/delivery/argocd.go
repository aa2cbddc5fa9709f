package delivery

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/infra/validate"
)

// ArgoCDSpec describes an Argo CD, which people reach by port-forward as its local user admin.
type ArgoCDSpec struct {
	kube.Chart

	// Repository is the git repository that Argo CD reads; nil adds none.
	Repository *GitRepository
}

// GitRepository is a git repository and its credentials.
type GitRepository struct {
	// URL begins with https://.
	URL string
	// SecretName is the secret in AWS Secrets Manager with the keys username and
	// password, and Store the ClusterSecretStore that reads it.
	SecretName, Store string
}

// ArgoCD is the installed Argo CD.
type ArgoCD struct {
	pulumi.ResourceState
	kube.Objects

	// Release is the Helm release, for which Applications have to wait.
	Release *kube.HelmRelease
}

// NewArgoCD installs Argo CD. Errors name the argument that is wrong.
func NewArgoCD(ctx *pulumi.Context, name string, spec *ArgoCDSpec, opts ...pulumi.ResourceOption) (*ArgoCD, error) {
	a := &ArgoCD{}
	var err error
	if a.Release, err = kube.NewChart(ctx, "argo cd", "loja-veloz:delivery:ArgoCD", name, a, spec.Installation, opts); err != nil {
		return nil, err
	}
	return a, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *ArgoCDSpec) Validate() error {
	var errs validate.Errors
	if s.Repository != nil {
		errs.Join(s.Repository.validate())
	}
	s.Check(&errs)
	return errs.Err()
}

func (g *GitRepository) validate() error {
	var errs validate.Errors
	if err := gitops.ValidURL(g.URL, false); err != nil {
		errs.Add("Repository.URL", "%s", err)
	}
	errs.Required("Repository.SecretName", g.SecretName)
	errs.Required("Repository.Store", g.Store)
	return errs.Err()
}

// ArgoCDValues are the chart's values, as far as they are used here.
//
// The chart's own security contexts satisfy the restricted namespace. redis has its seccomp
// profile on the pod; all others, including the Job that generates redis' password, have it on
// the container.
type ArgoCDValues struct {
	Global  ArgoCDGlobal  `json:"global"`
	Configs ArgoCDConfigs `json:"configs"`
	RedisHA Switch        `json:"redis-ha"`
	Redis   ArgoCDRedis   `json:"redis"`
	Dex     Switch        `json:"dex"`
	// Notifications are off: no receiver is configured.
	Notifications  Switch           `json:"notifications"`
	Controller     ArgoCDController `json:"controller"`
	Server         ArgoCDServer     `json:"server"`
	RepoServer     ArgoCDPart       `json:"repoServer"`
	ApplicationSet ArgoCDPart       `json:"applicationSet"`
}

// Switch turns a part of a chart on or off.
type Switch struct {
	Enabled bool `json:"enabled"`
}

// Tag replaces an image's tag.
type Tag struct {
	Tag string `json:"tag"`
}

// ArgoCDGlobal is what all components share.
type ArgoCDGlobal struct {
	Image   Tag           `json:"image"`
	Logging ArgoCDLogging `json:"logging"`
}

// ArgoCDLogging is json or text.
type ArgoCDLogging struct {
	Format string `json:"format"`
}

// ArgoCDConfigs are its ConfigMaps.
type ArgoCDConfigs struct {
	Params ArgoCDParams `json:"params"`
	RBAC   ArgoCDRBAC   `json:"rbac"`
}

// ArgoCDParams are command-line parameters; the dots belong to the key.
type ArgoCDParams struct {
	ServerInsecure bool `json:"server.insecure"`
}

// ArgoCDRBAC is the access control of users; the dots belong to the key.
type ArgoCDRBAC struct {
	// PolicyDefault is empty: only the local user admin may do anything.
	PolicyDefault string `json:"policy.default"`
}

// ArgoCDController compares and applies.
type ArgoCDController struct {
	Replicas  int32                       `json:"replicas"`
	PDB       MaxUnavailableBudget        `json:"pdb"`
	Metrics   Switch                      `json:"metrics"`
	Resources corev1.ResourceRequirements `json:"resources"`
}

// ArgoCDServer is the API and the pages.
type ArgoCDServer struct {
	Replicas  int32                       `json:"replicas"`
	PDB       MinAvailableBudget          `json:"pdb"`
	Metrics   Switch                      `json:"metrics"`
	Ingress   Switch                      `json:"ingress"`
	Resources corev1.ResourceRequirements `json:"resources"`
}

// ArgoCDRedis is its cache, one pod.
type ArgoCDRedis struct {
	Resources corev1.ResourceRequirements `json:"resources"`
}

// ArgoCDPart is another component.
type ArgoCDPart struct {
	Replicas  int32                       `json:"replicas"`
	PDB       MinAvailableBudget          `json:"pdb"`
	Resources corev1.ResourceRequirements `json:"resources"`
}

// MaxUnavailableBudget limits the voluntary disruptions of the pods.
type MaxUnavailableBudget struct {
	Enabled        bool  `json:"enabled"`
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
}

// MinAvailableBudget limits the voluntary disruptions of the pods.
type MinAvailableBudget struct {
	Enabled      bool  `json:"enabled"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// budgetOf keeps at least one of several pods. It does not protect a single pod, which could
// then never leave its node.
func budgetOf(replicas int32) MinAvailableBudget {
	if replicas < 2 {
		return MinAvailableBudget{}
	}
	return MinAvailableBudget{Enabled: true, MinAvailable: 1}
}

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *ArgoCDSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	part := func(milliCPU, memory, limit int64) ArgoCDPart {
		return ArgoCDPart{Replicas: s.Replicas, PDB: budgetOf(s.Replicas), Resources: kube.Sizes(milliCPU, memory, limit)}
	}
	// The chart names its objects argocd-... after the release.
	return s.NewRelease("argocd", charts.ArgoCD, 900, ArgoCDValues{
		Global: ArgoCDGlobal{Image: Tag{Tag: charts.ArgoCDServer.Tag}, Logging: ArgoCDLogging{Format: "json"}},
		Redis:  ArgoCDRedis{Resources: kube.Sizes(20, 64, 256)},
		Configs: ArgoCDConfigs{
			// The port-forward encrypts the connection.
			Params: ArgoCDParams{ServerInsecure: true},
		},
		Controller: ArgoCDController{
			Replicas: 1, PDB: MaxUnavailableBudget{Enabled: true, MaxUnavailable: 1},
			Metrics: Switch{Enabled: true}, Resources: kube.Sizes(100, 384, 1024),
		},
		Server: ArgoCDServer{
			Replicas: s.Replicas, PDB: budgetOf(s.Replicas), Metrics: Switch{Enabled: true},
			Resources: kube.Sizes(50, 128, 384),
		},
		RepoServer:     part(50, 192, 768),
		ApplicationSet: part(20, 96, 256),
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *ArgoCDSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	v := release.Values.(ArgoCDValues)
	return []kube.PodSize{
		kube.SizeOf("argocd-application-controller", v.Controller.Replicas, v.Controller.Resources),
		kube.SizeOf("argocd-server", v.Server.Replicas, v.Server.Resources),
		kube.SizeOf("argocd-repo-server", v.RepoServer.Replicas, v.RepoServer.Resources),
		kube.SizeOf("argocd-applicationset-controller", v.ApplicationSet.Replicas, v.ApplicationSet.Resources),
		kube.SizeOf("argocd-redis", 1, v.Redis.Resources), // the chart has one, and no field for it
	}
}

// Installation returns everything that Argo CD consists of, or an error that reports everything
// that is wrong.
func (s *ArgoCDSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	before := s.NamespaceStages()
	if r := s.Repository; r != nil {
		before = append(before, []kube.Manifest{{
			Name: "repository", Object: secrets.NewRepositorySecret("repository", s.Namespace, r.Store, r.SecretName, r.URL),
		}})
	}
	return &kube.Installation{Before: before, Release: release}, nil
}

package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/secrets"
)

// ArgoCDSpec say how to install Argo CD, which is reached by port-forward.
type ArgoCDSpec struct {
	// Namespace is created for it.
	Namespace string
	// OIDC is the identity provider; nil leaves the local user admin alone.
	OIDC *OIDC
	// Admins and Deployers are groups of the identity provider, and need OIDC: the
	// first may do everything, the second see and synchronise. Nobody else but the
	// local user admin may do anything.
	Admins, Deployers []string
	// Repository is the git repository that it reads; nil adds none.
	Repository *GitRepository
	// Replicas is the number of pods of what is not the controller, which is alone.
	Replicas int32
	// ChartRepository replaces the chart's own; see kube.Release.
	ChartRepository string
	// SkipAwait does not wait until the pods are ready.
	SkipAwait bool
}

// OIDC is an identity provider. Argo CD asks it for the scopes openid, profile,
// email and groups, and reads a person's groups in the claim groups.
type OIDC struct {
	// Name is on the button, Issuer begins with https://, and ClientID is Argo CD's
	// own with the provider.
	Name, Issuer, ClientID string
	// SecretName is the secret in AWS Secrets Manager with the key clientSecret, and
	// Store the ClusterSecretStore that reads it.
	SecretName, Store string
}

// GitRepository is a git repository and the credentials to it.
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

	// Release is what Applications have to wait for.
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

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *ArgoCDSpec) Validate() error {
	var faults []error
	if s.Namespace == "" {
		faults = append(faults, errors.New("Namespace is empty"))
	}
	for _, list := range []struct {
		field  string
		groups []string
	}{{"Admins", s.Admins}, {"Deployers", s.Deployers}} {
		if len(list.groups) > 0 && s.OIDC == nil {
			faults = append(faults, fmt.Errorf("%s has groups, and OIDC is missing: nobody would be in them", list.field))
		}
		for i, group := range list.groups {
			if group == "" || strings.ContainsAny(group, ",\"\n") {
				faults = append(faults, fmt.Errorf("%s[%d] is %q: a group has no comma, quote or line break", list.field, i, group))
			}
		}
	}
	if s.OIDC != nil {
		faults = append(faults, s.OIDC.validate())
	}
	if s.Repository != nil {
		faults = append(faults, s.Repository.validate())
	}
	if s.Replicas < 1 {
		faults = append(faults, fmt.Errorf("Replicas is %d: at least 1 is needed", s.Replicas))
	}
	if err := kube.ValidRepository(s.ChartRepository); err != nil {
		faults = append(faults, fmt.Errorf("ChartRepository %w", err))
	}
	return errors.Join(faults...)
}

func (o *OIDC) validate() error {
	var faults []error
	for _, needed := range []struct{ field, value string }{
		{"Name", o.Name}, {"ClientID", o.ClientID}, {"SecretName", o.SecretName}, {"Store", o.Store},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("OIDC.%s is empty", needed.field))
		}
	}
	if u, err := url.Parse(o.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		faults = append(faults, fmt.Errorf("OIDC.Issuer is %q: an https:// URL without credentials, query or fragment is expected", o.Issuer))
	}
	return errors.Join(faults...)
}

// ForwardedURL is where Argo CD is through
// kubectl port-forward -n <Namespace> svc/argocd-server 8080:80
// and with OIDC has to be: the provider is told ForwardedURL/auth/callback.
const ForwardedURL = "http://localhost:8080"

// oidcSecret is the Secret with the key secrets.OIDCClientSecret.
const oidcSecret = "argocd-oidc"

// config is Argo CD's setting oidc.config, which is YAML and so may be JSON.
func (o *OIDC) config() (string, error) {
	raw, err := json.Marshal(oidcConfig{
		Name: o.Name, Issuer: o.Issuer, ClientID: o.ClientID,
		ClientSecret: "$" + oidcSecret + ":" + secrets.OIDCClientSecret,
	})
	if err != nil {
		return "", fmt.Errorf("encoding oidc.config: %w", err)
	}
	return string(raw), nil
}

type oidcConfig struct {
	Name     string `json:"name"`
	Issuer   string `json:"issuer"`
	ClientID string `json:"clientID"`
	// ClientSecret names a Secret in Argo CD's namespace and a key of it; Argo CD
	// reads only Secrets that carry its label.
	ClientSecret string `json:"clientSecret"`
}

func (g *GitRepository) validate() error {
	var faults []error
	if err := gitURL(g.URL); err != nil {
		faults = append(faults, fmt.Errorf("Repository.URL %w", err))
	}
	if g.SecretName == "" {
		faults = append(faults, errors.New("Repository.SecretName is empty"))
	}
	if g.Store == "" {
		faults = append(faults, errors.New("Repository.Store is empty"))
	}
	return errors.Join(faults...)
}

// gitURL takes the URL of a repository without credentials in it.
func gitURL(repository string) error {
	u, err := url.Parse(repository)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("is %q: an https:// URL without credentials is expected", repository)
	}
	return nil
}

// ArgoCDValues are the chart's values, as far as they are used here. The
// components' resources, redis, notifications and configs.cm are from the chart's
// documentation, not rendered.
//
// The chart's own security contexts satisfy the restricted namespace: redis has its
// seccomp profile on the pod, all others, the Job that makes redis' password
// included, on the container.
type ArgoCDValues struct {
	Global  ArgoCDGlobal  `json:"global"`
	Configs ArgoCDConfigs `json:"configs"`
	RedisHA Switch        `json:"redis-ha"`
	Redis   ArgoCDRedis   `json:"redis"`
	Dex     Switch        `json:"dex"`
	// Notifications: off, for nobody configured where to.
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
	Domain  string        `json:"domain"`
	Image   Tag           `json:"image"`
	Logging ArgoCDLogging `json:"logging"`
}

// ArgoCDLogging is json or text.
type ArgoCDLogging struct {
	Format string `json:"format"`
}

// ArgoCDConfigs are its ConfigMaps.
type ArgoCDConfigs struct {
	CM     *ArgoCDCM    `json:"cm,omitempty"`
	Params ArgoCDParams `json:"params"`
	RBAC   ArgoCDRBAC   `json:"rbac"`
}

// ArgoCDCM is its main ConfigMap; the dot belongs to the key.
type ArgoCDCM struct {
	// URL is where browsers are, and the provider sends them back to.
	URL        string `json:"url"`
	OIDCConfig string `json:"oidc.config"`
}

// ArgoCDParams are command-line parameters; the dots belong to the key.
type ArgoCDParams struct {
	ServerInsecure bool `json:"server.insecure"`
}

// ArgoCDRBAC is who may do what; the dots belong to the keys.
type ArgoCDRBAC struct {
	// PolicyDefault is empty: who is in no group may do nothing.
	PolicyDefault string `json:"policy.default"`
	PolicyCSV     string `json:"policy.csv"`
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

// MaxUnavailableBudget keeps pods during voluntary disruptions.
type MaxUnavailableBudget struct {
	Enabled        bool  `json:"enabled"`
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
}

// MinAvailableBudget keeps pods during voluntary disruptions.
type MinAvailableBudget struct {
	Enabled      bool  `json:"enabled"`
	MinAvailable int32 `json:"minAvailable,omitempty"`
}

// budgetOf keeps one of several pods. Of one pod it keeps none: it could never
// leave its node.
func budgetOf(replicas int32) MinAvailableBudget {
	if replicas < 2 {
		return MinAvailableBudget{}
	}
	return MinAvailableBudget{Enabled: true, MinAvailable: 1}
}

// policy gives the groups their roles.
func (s *ArgoCDSpec) policy() string {
	var csv strings.Builder
	for _, verb := range []string{"get", "sync"} {
		fmt.Fprintf(&csv, "p, role:deployer, applications, %s, */*, allow\n", verb)
	}
	for _, group := range s.Deployers {
		fmt.Fprintf(&csv, "g, %s, role:deployer\n", group)
	}
	for _, group := range s.Admins {
		fmt.Fprintf(&csv, "g, %s, role:admin\n", group)
	}
	return csv.String()
}

// Release gives the Helm release, or every reason why not.
func (s *ArgoCDSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	var cm *ArgoCDCM
	if s.OIDC != nil {
		config, err := s.OIDC.config()
		if err != nil {
			return nil, err
		}
		cm = &ArgoCDCM{URL: ForwardedURL, OIDCConfig: config}
	}
	part := func(milliCPU, memory, limit int64) ArgoCDPart {
		return ArgoCDPart{Replicas: s.Replicas, PDB: budgetOf(s.Replicas), Resources: kube.Sizes(milliCPU, memory, limit)}
	}
	return &kube.Release{
		// The chart calls its objects argocd-... after the release.
		Name: "argocd", Namespace: s.Namespace,
		Chart: charts.ArgoCD, Repository: s.ChartRepository,
		Values: ArgoCDValues{
			Global: ArgoCDGlobal{Domain: fmt.Sprintf("argocd-server.%s.svc", s.Namespace), Image: Tag{Tag: charts.ArgoCDServer.Tag}, Logging: ArgoCDLogging{Format: "json"}},
			Redis:  ArgoCDRedis{Resources: kube.Sizes(20, 64, 256)},
			Configs: ArgoCDConfigs{
				CM: cm,
				// The port-forward is the encryption.
				Params: ArgoCDParams{ServerInsecure: true},
				RBAC:   ArgoCDRBAC{PolicyCSV: s.policy()},
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
		},
		Atomic: true, SkipAwait: s.SkipAwait, TimeoutSeconds: 900, MaxHistory: 5,
	}, nil
}

// Pods are those of the release; nil for arguments that are wrong.
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

// Installation gives everything that Argo CD consists of, or every reason why not.
func (s *ArgoCDSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	before := kube.Stages{{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}}}
	var read []kube.Manifest
	if r := s.Repository; r != nil {
		read = append(read, kube.Manifest{
			Name: "repository", Object: secrets.NewRepositorySecret("repository", s.Namespace, r.Store, r.SecretName, r.URL),
		})
	}
	if o := s.OIDC; o != nil {
		read = append(read, kube.Manifest{
			Name: "oidc", Object: secrets.NewOIDCSecret(oidcSecret, s.Namespace, o.Store, o.SecretName),
		})
	}
	if len(read) > 0 {
		before = append(before, read)
	}
	return &kube.Installation{Before: before, Release: release}, nil
}

package delivery

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/form"
	"github.com/loja-veloz/platform/infra/kube"
)

// ImageUpdaterServiceAccount is the identity that its pod identity role is for.
const ImageUpdaterServiceAccount = "argocd-image-updater"

// credentialsExpire stays below the 12 hours for which a token of ECR lives.
const credentialsExpire = "10h"

// loginScript prints one line user:password. The home folder of the image is read
// only, and the AWS CLI wants one that it can write to.
const loginScript = `#!/bin/sh
HOME=/tmp aws ecr get-authorization-token --region "$AWS_REGION" --output text --query 'authorizationData[].authorizationToken' | base64 -d
`

// ImageUpdater is the installed updater. For each image it looks in ECR for the
// tag that was built last, writes it into newTag of the image's entry in the
// kustomization, and commits that; Argo CD does the rest. It writes no digest: what
// is deployed this way is named by tag, and as immutable as ECR keeps its tags. What
// Pulumi deploys is named by digest, and none of the updater's business.
type ImageUpdater struct {
	pulumi.ResourceState
}

// ImageUpdaterSpec say whose images to watch and where to write what is new.
type ImageUpdaterSpec struct {
	// Namespace is that of Argo CD and its Applications, which has to exist.
	Namespace string
	// AccountID and Region are those of the ECR registry.
	AccountID, Region string
	// Repository is the git repository to which tags are written, with the
	// credentials that Argo CD has for it, and Branch the branch.
	Repository, Branch string
	// Applications are the Applications and the images in each.
	Applications []UpdatedApplication
	// ChartRepository replaces the chart's own; see kube.Release.
	ChartRepository string
	// SkipAwait does not wait until the pod is ready.
	SkipAwait bool
}

// UpdatedApplication is an Application whose images are updated.
type UpdatedApplication struct {
	// NamePattern matches the Application's name.
	NamePattern string
	// Path is the folder in the git repository with its kustomization, from the
	// repository's root.
	Path string
	// Images are the repositories in ECR, by their names without the registry.
	Images []string
}

// NewImageUpdater installs the updater. The role that may read ECR is associated
// with ImageUpdaterServiceAccount in Namespace. Errors name the argument that is
// wrong.
func NewImageUpdater(ctx *pulumi.Context, name string, spec *ImageUpdaterSpec, opts ...pulumi.ResourceOption) (*ImageUpdater, error) {
	u := &ImageUpdater{}
	if _, err := kube.NewChart(ctx, "image updater", "loja-veloz:delivery:ImageUpdater", name, u, spec.Installation, opts); err != nil {
		return nil, err
	}
	return u, nil
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *ImageUpdaterSpec) Validate() error {
	var faults []error
	if s.Namespace == "" {
		faults = append(faults, errors.New("Namespace is empty"))
	}
	if !form.ValidAccount(s.AccountID) {
		faults = append(faults, fmt.Errorf("AccountID is %q: 12 digits are expected", s.AccountID))
	}
	if !form.ValidRegion(s.Region) {
		faults = append(faults, fmt.Errorf("Region is %q: a region such as us-east-1 is expected", s.Region))
	}
	if len(s.Applications) > 0 {
		if err := gitURL(s.Repository); err != nil {
			faults = append(faults, fmt.Errorf("Repository %w", err))
		}
		if s.Branch == "" {
			faults = append(faults, errors.New("Branch is empty"))
		}
	}
	for i, app := range s.Applications {
		if app.NamePattern == "" {
			faults = append(faults, fmt.Errorf("Applications[%d].NamePattern is empty", i))
		}
		if app.Path == "" {
			faults = append(faults, fmt.Errorf("Applications[%d].Path is empty", i))
		}
		if len(app.Images) == 0 {
			faults = append(faults, fmt.Errorf("Applications[%d].Images is empty", i))
		}
	}
	if err := kube.ValidRepository(s.ChartRepository); err != nil {
		faults = append(faults, fmt.Errorf("ChartRepository %w", err))
	}
	return errors.Join(faults...)
}

// ImageUpdaterValues are the chart's values, as far as they are used here.
type ImageUpdaterValues struct {
	Config         ImageUpdaterConfig  `json:"config"`
	AuthScripts    ImageUpdaterScripts `json:"authScripts"`
	ExtraEnv       []corev1.EnvVar     `json:"extraEnv"`
	ServiceAccount ImageUpdaterAccount `json:"serviceAccount"`
	// Resources: from the chart's documentation, not rendered.
	Resources corev1.ResourceRequirements `json:"resources"`
}

// ImageUpdaterConfig is its ConfigMap; the dot belongs to the key.
type ImageUpdaterConfig struct {
	LogLevel   string          `json:"log.level"`
	Registries []ImageRegistry `json:"registries"`
}

// ImageRegistry is a registry and how to log in to it.
type ImageRegistry struct {
	Name        string `json:"name"`
	APIURL      string `json:"api_url"`
	Prefix      string `json:"prefix"`
	Ping        bool   `json:"ping"`
	Credentials string `json:"credentials"`
	CredsExpire string `json:"credsexpire"`
}

// ImageUpdaterScripts are files in /scripts.
type ImageUpdaterScripts struct {
	Enabled bool              `json:"enabled"`
	Scripts map[string]string `json:"scripts"`
}

// ImageUpdaterAccount names the identity.
type ImageUpdaterAccount struct {
	Name string `json:"name"`
}

func (s *ImageUpdaterSpec) registry() string {
	return fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com", s.AccountID, s.Region)
}

// Release gives the Helm release, or every reason why not.
func (s *ImageUpdaterSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	const script = "ecr-login.sh"
	return &kube.Release{
		Name: "argocd-image-updater", Namespace: s.Namespace,
		Chart: charts.ImageUpdater, Repository: s.ChartRepository,
		Values: ImageUpdaterValues{
			Config: ImageUpdaterConfig{LogLevel: "info", Registries: []ImageRegistry{{
				Name: "ECR", APIURL: "https://" + s.registry(), Prefix: s.registry(), Ping: true,
				Credentials: "ext:/scripts/" + script, CredsExpire: credentialsExpire,
			}}},
			AuthScripts:    ImageUpdaterScripts{Enabled: true, Scripts: map[string]string{script: loginScript}},
			ExtraEnv:       []corev1.EnvVar{{Name: "AWS_REGION", Value: s.Region}},
			ServiceAccount: ImageUpdaterAccount{Name: ImageUpdaterServiceAccount},
			Resources:      kube.Sizes(20, 64, 256),
		},
		Atomic: true, SkipAwait: s.SkipAwait, TimeoutSeconds: 600, MaxHistory: 5,
	}, nil
}

// Pods are those of the release; nil for arguments that are wrong.
func (s *ImageUpdaterSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	// The chart has one pod, and advises against more.
	return []kube.PodSize{kube.SizeOf("argocd-image-updater", 1, release.Values.(ImageUpdaterValues).Resources)}
}

// Installation gives everything that the updater consists of, or every reason why
// not. Without Applications there is nothing to update yet, and no object of its
// kind.
func (s *ImageUpdaterSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	parts := &kube.Installation{Release: release}
	if len(s.Applications) > 0 {
		parts.After = kube.Stages{{{Name: "updates", Object: s.updates()}}}
	}
	return parts, nil
}

// ImageUpdates is the part of Image Updater's resource ImageUpdater that is used
// here. Its own Go type is not imported: its module wants Argo CD's.
type ImageUpdates struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ImageUpdatesSpec `json:"spec"`
}

// ImageUpdatesSpec says what to update and where to write it.
type ImageUpdatesSpec struct {
	ApplicationRefs []ApplicationRef `json:"applicationRefs"`
}

// WriteBackConfig is where tags are written.
type WriteBackConfig struct {
	Method    string    `json:"method"`
	GitConfig GitConfig `json:"gitConfig"`
}

// GitConfig is a branch of a git repository.
type GitConfig struct {
	Repository      string `json:"repository"`
	Branch          string `json:"branch"`
	WriteBackTarget string `json:"writeBackTarget"`
}

// ApplicationRef is an Application by the pattern of its name.
type ApplicationRef struct {
	NamePattern     string          `json:"namePattern"`
	Images          []UpdatedImage  `json:"images"`
	WriteBackConfig WriteBackConfig `json:"writeBackConfig"`
}

// UpdatedImage is one image of it.
type UpdatedImage struct {
	Alias                string         `json:"alias"`
	ImageName            string         `json:"imageName"`
	CommonUpdateSettings UpdateSettings `json:"commonUpdateSettings"`
	ManifestTargets      UpdateTargets  `json:"manifestTargets"`
}

// UpdateSettings choose the new image.
type UpdateSettings struct {
	UpdateStrategy string `json:"updateStrategy"`
}

// UpdateTargets is where the image is named in the manifests.
type UpdateTargets struct {
	Kustomize KustomizeTarget `json:"kustomize"`
}

// KustomizeTarget is the image in a kustomization.
type KustomizeTarget struct {
	Name string `json:"name"`
}

// updates follows the images by the time at which they were built: their tags are
// commits, which have no order. CI has to set SOURCE_DATE_EPOCH, for ko otherwise
// dates every image 1970.
func (s *ImageUpdaterSpec) updates() *ImageUpdates {
	updates := &ImageUpdates{
		TypeMeta:   metav1.TypeMeta{APIVersion: "argocd-image-updater.argoproj.io/v1alpha1", Kind: "ImageUpdater"},
		ObjectMeta: metav1.ObjectMeta{Name: "loja-veloz", Namespace: s.Namespace},
	}
	for _, app := range s.Applications {
		ref := ApplicationRef{
			NamePattern: app.NamePattern,
			WriteBackConfig: WriteBackConfig{Method: "git", GitConfig: GitConfig{
				Repository: s.Repository, Branch: s.Branch, WriteBackTarget: "kustomization:/" + app.Path,
			}},
		}
		for _, image := range app.Images {
			name := s.registry() + "/" + image
			ref.Images = append(ref.Images, UpdatedImage{
				Alias: path.Base(image), ImageName: name, // an alias has no slash
				CommonUpdateSettings: UpdateSettings{UpdateStrategy: "newest-build"},
				ManifestTargets:      UpdateTargets{Kustomize: KustomizeTarget{Name: name}},
			})
		}
		updates.Spec.ApplicationRefs = append(updates.Spec.ApplicationRefs, ref)
	}
	return updates
}

// DeepCopyObject makes ImageUpdates a runtime.Object.
func (u *ImageUpdates) DeepCopyObject() runtime.Object {
	c := *u
	c.Labels = maps.Clone(u.Labels)
	c.Annotations = maps.Clone(u.Annotations)
	c.Spec.ApplicationRefs = slices.Clone(u.Spec.ApplicationRefs)
	for i, ref := range c.Spec.ApplicationRefs {
		c.Spec.ApplicationRefs[i].Images = slices.Clone(ref.Images)
	}
	return &c
}

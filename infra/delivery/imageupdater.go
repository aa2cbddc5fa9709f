package delivery

import (
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// ImageUpdaterServiceAccount is the service account that its pod identity role belongs to.
const ImageUpdaterServiceAccount = "argocd-image-updater"

// UpdatedTag is the tag that moves to each image that is to be deployed.
const UpdatedTag = "main"

// credentialsExpire is below the 12 hours for which a token of ECR is valid.
const credentialsExpire = "10h"

// loginScript prints one line, user:password. The AWS CLI needs a writable home folder, and the
// image's is read-only.
const loginScript = `#!/bin/sh
HOME=/tmp aws ecr get-authorization-token --region "$AWS_REGION" --output text --query 'authorizationData[].authorizationToken' | base64 -d
`

// ImageUpdater is the installed updater. For each image it follows the tag UpdatedTag in ECR, writes
// its digest into the image's entry in the kustomization, and commits that; Argo CD deploys it. It
// does not change what Pulumi deploys.
type ImageUpdater struct {
	pulumi.ResourceState
	kube.Objects
}

// ImageUpdaterSpec says which images to watch and where to write new digests.
type ImageUpdaterSpec struct {
	// Chart.Namespace is the existing namespace of Argo CD and its Applications. Replicas is 1:
	// the updater keeps its state in memory.
	kube.Chart

	// AccountID and Region are those of the ECR registry.
	AccountID, Region string
	// Repository is the git repository to which digests are written, with Argo CD's credentials, and
	// Branch the branch.
	Repository, Branch string
	// PublicKey is the key, in PEM, that has signed the images, as cosign.pub has it: Image Updater 1.3
	// verifies by a key alone. It is required with Applications, and no other image is written to git.
	PublicKey string
	// Applications are the Applications to update, each with its images.
	Applications []UpdatedApplication
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

// NewImageUpdater installs the updater. Associate the role that may read ECR with
// ImageUpdaterServiceAccount in Namespace first. Errors name the argument that is wrong.
func NewImageUpdater(ctx *pulumi.Context, name string, spec *ImageUpdaterSpec, opts ...pulumi.ResourceOption) (*ImageUpdater, error) {
	u := &ImageUpdater{}
	if _, err := kube.NewChart(ctx, "image updater", "loja-veloz:delivery:ImageUpdater", name, u, spec.Installation, opts); err != nil {
		return nil, err
	}
	return u, nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *ImageUpdaterSpec) Validate() error {
	var errs validate.Errors
	errs.Account("AccountID", s.AccountID, "Region", s.Region)
	if len(s.Applications) > 0 {
		if err := gitops.ValidURL(s.Repository, false); err != nil {
			errs.Add("Repository", "%s", err)
		}
		if s.Branch == "" {
			errs.Add("Branch", "is empty")
		}
		if err := PublicKey(s.PublicKey); err != nil {
			errs.Add("PublicKey", "%s", err)
		}
	}
	for i, app := range s.Applications {
		if app.NamePattern == "" {
			errs.Join(fmt.Errorf("Applications[%d].NamePattern is empty", i))
		}
		if app.Path == "" {
			errs.Join(fmt.Errorf("Applications[%d].Path is empty", i))
		}
		if len(app.Images) == 0 {
			errs.Join(fmt.Errorf("Applications[%d].Images is empty", i))
		}
	}
	s.Check(&errs)
	if s.Replicas > 1 {
		errs.Add("Replicas", "is %d: the chart runs one pod", s.Replicas)
	}
	return errs.Err()
}

// ImageUpdaterValues are the chart's values, as far as they are used here.
type ImageUpdaterValues struct {
	Config         ImageUpdaterConfig  `json:"config"`
	AuthScripts    ImageUpdaterScripts `json:"authScripts"`
	ExtraEnv       []corev1.EnvVar     `json:"extraEnv"`
	ServiceAccount ImageUpdaterAccount `json:"serviceAccount"`

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

// Release returns the Helm release, or an error that reports everything that is wrong.
func (s *ImageUpdaterSpec) Release() (*kube.Release, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	const script = "ecr-login.sh"
	return s.NewRelease("argocd-image-updater", charts.ImageUpdater, 600, ImageUpdaterValues{
		Config: ImageUpdaterConfig{LogLevel: "info", Registries: []ImageRegistry{{
			Name: "ECR", APIURL: "https://" + s.registry(), Prefix: s.registry(), Ping: true,
			Credentials: "ext:/scripts/" + script, CredsExpire: credentialsExpire,
		}}},
		AuthScripts:    ImageUpdaterScripts{Enabled: true, Scripts: map[string]string{script: loginScript}},
		ExtraEnv:       []corev1.EnvVar{{Name: "AWS_REGION", Value: s.Region}},
		ServiceAccount: ImageUpdaterAccount{Name: ImageUpdaterServiceAccount},
		Resources:      kube.Sizes(20, 64, 256),
	}), nil
}

// Pods returns the pods of the release, or nil if the spec is invalid.
func (s *ImageUpdaterSpec) Pods() []kube.PodSize {
	release, err := s.Release()
	if err != nil {
		return nil
	}
	return []kube.PodSize{kube.SizeOf("argocd-image-updater", s.Replicas, release.Values.(ImageUpdaterValues).Resources)}
}

// Installation returns everything that the updater consists of, or an error that reports
// everything that is wrong. Without Applications it contains no ImageUpdater object.
func (s *ImageUpdaterSpec) Installation() (*kube.Installation, error) {
	release, err := s.Release()
	if err != nil {
		return nil, err
	}
	parts := &kube.Installation{Release: release}
	if len(s.Applications) > 0 {
		parts.After = kube.Stages{{{Name: "key", Object: s.key()}}, {{Name: "updates", Object: s.updates()}}}
	}
	return parts, nil
}

// ImageUpdates is the part of Image Updater's resource ImageUpdater that is used here. Its own
// Go type is not imported, because its module requires Argo CD's.
type ImageUpdates struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ImageUpdatesSpec `json:"spec"`
}

// ImageUpdatesSpec says what to update and where to write it.
type ImageUpdatesSpec struct {
	ApplicationRefs []ApplicationRef `json:"applicationRefs"`
}

// WriteBackConfig is where digests are written.
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
	NamePattern        string             `json:"namePattern"`
	Images             []UpdatedImage     `json:"images"`
	ImagesVerification ImagesVerification `json:"imagesVerification"`
	WriteBackConfig    WriteBackConfig    `json:"writeBackConfig"`
}

// ImagesVerification is by which signatures images are chosen.
type ImagesVerification struct {
	Enabled   bool      `json:"enabled"`
	CosignKey CosignKey `json:"cosignKey"`
}

// CosignKey is a public key in a Secret of the updater's namespace.
type CosignKey struct {
	SecretName string `json:"secretName"`
	Key        string `json:"key"`
}

// UpdatedImage is one image of an Application.
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

// The Secret of the public key and its key.
const (
	signingKey     = "signing-key"
	signingKeyFile = "cosign.pub"
)

// key returns the Secret in which the updater looks for the public key. It hides nothing.
func (s *ImageUpdaterSpec) key() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: signingKey, Namespace: s.Namespace}, Data: map[string][]byte{signingKeyFile: []byte(s.PublicKey)},
	}
}

// updates returns the ImageUpdater object. The other strategies write tags, which Kustomize refuses:
// it copies the digest into the version (infra/gitops).
func (s *ImageUpdaterSpec) updates() *ImageUpdates {
	updates := &ImageUpdates{
		TypeMeta:   metav1.TypeMeta{APIVersion: "argocd-image-updater.argoproj.io/v1alpha1", Kind: "ImageUpdater"},
		ObjectMeta: metav1.ObjectMeta{Name: "loja-veloz", Namespace: s.Namespace},
	}
	for _, app := range s.Applications {
		ref := ApplicationRef{
			NamePattern:        app.NamePattern,
			ImagesVerification: ImagesVerification{Enabled: true, CosignKey: CosignKey{SecretName: signingKey, Key: signingKeyFile}},
			WriteBackConfig: WriteBackConfig{Method: "git", GitConfig: GitConfig{
				Repository: s.Repository, Branch: s.Branch, WriteBackTarget: "kustomization:/" + app.Path,
			}},
		}
		for _, image := range app.Images {
			name := s.registry() + "/" + image
			ref.Images = append(ref.Images, UpdatedImage{
				Alias: path.Base(image), ImageName: name + ":" + UpdatedTag, // an alias may not contain a slash
				CommonUpdateSettings: UpdateSettings{UpdateStrategy: "digest"},
				ManifestTargets:      UpdateTargets{Kustomize: KustomizeTarget{Name: name}},
			})
		}
		updates.Spec.ApplicationRefs = append(updates.Spec.ApplicationRefs, ref)
	}
	return updates
}

// DeepCopyObject lets ImageUpdates be a runtime.Object.
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

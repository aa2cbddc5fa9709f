package gitops

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

//go:generate go run ../internal/crdgen -module github.com/argoproj/argo-cd/v3@v3.2.11 -path manifests/crds/application-crd.yaml -license Apache-2.0 -out crds/applications
//go:generate go run ../internal/crdgen -module github.com/argoproj/argo-cd/v3@v3.2.11 -path manifests/crds/appproject-crd.yaml -license Apache-2.0 -out crds/appprojects

//go:embed crds
var definitions embed.FS

// Definitions returns the CustomResourceDefinitions of Applications and AppProjects.
func Definitions() ([]kube.Manifest, error) {
	folder, err := fs.Sub(definitions, "crds")
	if err != nil {
		return nil, err
	}
	return kube.Definitions(folder)
}

const (
	// Namespace is that of Argo CD and its objects.
	Namespace = "argocd"
	// Project is the name of the AppProject of all services.
	Project = "shop"

	apiVersion = "argoproj.io/v1alpha1"
	inCluster  = "https://kubernetes.default.svc"
)

// Spec describes what Argo CD applies.
type Spec struct {
	// URL is the git repository, https:// without credentials, or http:// too if Plain is true.
	// Branch is the one that is applied, and Path the folder with the services' folders, from the
	// repository's root.
	URL, Branch, Path string
	// Plain admits http://, for a repository on the same machine.
	Plain bool
	// Target is the namespace of the services' objects.
	Target string
	// Services are what is in the repository. Their images do not matter here.
	Services []Service
}

// Applications are the AppProject and the Applications of an environment.
type Applications struct {
	pulumi.ResourceState
	kube.Objects
}

// New creates them. Argo CD has to exist.
func New(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*Applications, error) {
	a := &Applications{}
	_, err := kube.NewComponent(ctx, "gitops", "loja-veloz:gitops:Applications", name, a, spec.Stages, opts)
	return a, err
}

// ValidURL refuses what is not the URL of a repository without credentials: https://, or with plain
// http:// too.
func ValidURL(repository string, plain bool) error {
	u, err := url.Parse(repository)
	if err != nil || (u.Scheme != "https" && (!plain || u.Scheme != "http")) || u.Host == "" || u.User != nil {
		return fmt.Errorf("is %q: use an https:// URL without credentials", repository)
	}
	return nil
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if err := ValidURL(s.URL, s.Plain); err != nil {
		errs.Add("URL", "%s", err)
	}
	errs.Required("Branch", s.Branch)
	errs.Required("Target", s.Target)
	if s.Path == "." || !fs.ValidPath(s.Path) {
		errs.Add("Path", "is %q: use a folder of the repository, such as deploy/prod, without / at its ends", s.Path)
	}
	if len(s.Services) == 0 {
		errs.Add("Services", "is empty")
	}
	return errs.Err()
}

// Stages returns the AppProject, and then an Application for each service, or an error that reports
// everything that is wrong.
func (s *Spec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	kinds := map[Kind]bool{}
	var applications []kube.Manifest
	for _, service := range s.Services {
		application, err := s.application(service, kinds)
		if err != nil {
			return nil, err
		}
		applications = append(applications, kube.Manifest{Name: service.Name, Object: application})
	}
	return kube.Stages{{{Name: "project", Object: s.project(kinds)}}, applications}, nil
}

// AppProject is the part of Argo CD's resource that is used here. Argo CD's own Go types are not
// imported: their module requires all of Kubernetes. A dry run compares these with its definitions.
type AppProject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AppProjectSpec `json:"spec"`
}

// AppProjectSpec limits what Applications may apply, and where.
type AppProjectSpec struct {
	Description  string        `json:"description"`
	SourceRepos  []string      `json:"sourceRepos"`
	Destinations []Destination `json:"destinations"`
	// NamespaceResourceWhitelist are the only kinds in a namespace. Without a list for kinds outside
	// of namespaces, there are none.
	NamespaceResourceWhitelist []Kind `json:"namespaceResourceWhitelist"`
}

// Kind is an API group and one of its kinds.
type Kind struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

// Destination is a namespace of a cluster.
type Destination struct {
	Server    string `json:"server"`
	Namespace string `json:"namespace"`
}

// Application is the part of Argo CD's resource that is used here.
type Application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSpec `json:"spec"`
}

// ApplicationSpec says what is applied where and how.
type ApplicationSpec struct {
	Project           string       `json:"project"`
	Source            Source       `json:"source"`
	Destination       Destination  `json:"destination"`
	SyncPolicy        SyncPolicy   `json:"syncPolicy"`
	IgnoreDifferences []Difference `json:"ignoreDifferences,omitempty"`
}

// Source is a folder of a git repository.
type Source struct {
	RepoURL        string `json:"repoURL"`
	TargetRevision string `json:"targetRevision"`
	Path           string `json:"path"`
}

// SyncPolicy says when Argo CD applies, and with which options.
type SyncPolicy struct {
	Automated   Automated `json:"automated"`
	SyncOptions []string  `json:"syncOptions"`
	Retry       Retry     `json:"retry"`
}

// Automated applies without a person.
type Automated struct {
	Prune    bool `json:"prune"`
	SelfHeal bool `json:"selfHeal"`
	// AllowEmpty would let a folder without objects delete everything.
	AllowEmpty bool `json:"allowEmpty"`
}

// Retry repeats a sync that failed; with Refresh a newer commit takes the place of the failed one.
type Retry struct {
	Limit   int64   `json:"limit"`
	Refresh bool    `json:"refresh"`
	Backoff Backoff `json:"backoff"`
}

// Backoff is the time between repetitions.
type Backoff struct {
	Duration    string `json:"duration"`
	Factor      int64  `json:"factor"`
	MaxDuration string `json:"maxDuration"`
}

// Difference names fields of an object that another controller writes.
type Difference struct {
	Group        string   `json:"group,omitempty"`
	Kind         string   `json:"kind"`
	Name         string   `json:"name"`
	Namespace    string   `json:"namespace"`
	JSONPointers []string `json:"jsonPointers"`
}

func (s *Spec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "loja-veloz"}}
}

func (s *Spec) project(kinds map[Kind]bool) *AppProject {
	return &AppProject{
		TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: "AppProject"}, ObjectMeta: s.meta(Project),
		Spec: AppProjectSpec{
			Description: "The services of the shop, and nothing else.",
			SourceRepos: []string{s.URL}, Destinations: []Destination{{Server: inCluster, Namespace: s.Target}},
			NamespaceResourceWhitelist: slices.SortedFunc(maps.Keys(kinds), func(a, b Kind) int {
				return strings.Compare(a.Group+"/"+a.Kind, b.Group+"/"+b.Kind)
			}),
		},
	}
}

// application adds the kinds of its objects. It has no finalizer: when it is deleted, its objects stay.
func (s *Spec) application(service Service, kinds map[Kind]bool) (*Application, error) {
	meta := s.meta(service.Name)
	// The API server's dry run knows what it would add to an object; Argo CD does not.
	meta.Annotations = map[string]string{compareOptions: "ServerSideDiff=true"}
	a := &Application{
		TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: "Application"}, ObjectMeta: meta,
		Spec: ApplicationSpec{
			Project:     Project,
			Source:      Source{RepoURL: s.URL, TargetRevision: s.Branch, Path: path.Join(s.Path, service.Name)},
			Destination: Destination{Server: inCluster, Namespace: s.Target},
			SyncPolicy: SyncPolicy{
				Automated: Automated{Prune: true, SelfHeal: true},
				SyncOptions: []string{
					"CreateNamespace=false", "FailOnSharedResource=true",
					// What has another name now, such as a route, is deleted after the new one exists.
					"PruneLast=true",
					"RespectIgnoreDifferences=true", "ServerSideApply=true",
				},
				Retry: Retry{Limit: 5, Refresh: true, Backoff: Backoff{Duration: "5s", Factor: 2, MaxDuration: "1m"}},
			},
		},
	}
	for _, m := range service.Stages.All() {
		gvk, err := kube.KindOf(m.Object)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", service.Name, err)
		}
		if namespace := m.Object.GetNamespace(); namespace != s.Target {
			return nil, fmt.Errorf("service %s: %s %s is in namespace %q, not in %s", service.Name, gvk.Kind, m.Object.GetName(), namespace,
				s.Target)
		}
		kinds[Kind{gvk.Group, gvk.Kind}] = true
		if len(m.IgnoreChanges) == 0 {
			continue
		}
		ignored := Difference{Group: gvk.Group, Kind: gvk.Kind, Name: m.Object.GetName(), Namespace: s.Target}
		for _, field := range m.IgnoreChanges {
			ignored.JSONPointers = append(ignored.JSONPointers, "/"+strings.ReplaceAll(field, ".", "/"))
		}
		a.Spec.IgnoreDifferences = append(a.Spec.IgnoreDifferences, ignored)
	}
	return a, nil
}

// DeepCopyObject lets AppProject be a runtime.Object.
func (p *AppProject) DeepCopyObject() runtime.Object {
	c := *p
	p.DeepCopyInto(&c.ObjectMeta)
	c.Spec.SourceRepos = slices.Clone(p.Spec.SourceRepos)
	c.Spec.Destinations = slices.Clone(p.Spec.Destinations)
	c.Spec.NamespaceResourceWhitelist = slices.Clone(p.Spec.NamespaceResourceWhitelist)
	return &c
}

// DeepCopyObject lets Application be a runtime.Object.
func (a *Application) DeepCopyObject() runtime.Object {
	c := *a
	a.DeepCopyInto(&c.ObjectMeta)
	c.Spec.SyncPolicy.SyncOptions = slices.Clone(a.Spec.SyncPolicy.SyncOptions)
	c.Spec.IgnoreDifferences = slices.Clone(a.Spec.IgnoreDifferences)
	for i := range c.Spec.IgnoreDifferences {
		c.Spec.IgnoreDifferences[i].JSONPointers = slices.Clone(c.Spec.IgnoreDifferences[i].JSONPointers)
	}
	return &c
}

package delivery

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Application is the part of Argo CD's resource that is used here. Argo CD's own
// Go type is not imported: its module brings the whole of it along.
type Application struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ApplicationSpec `json:"spec"`
}

// ApplicationSpec says what is synchronised to where.
type ApplicationSpec struct {
	Project           string             `json:"project"`
	Source            Source             `json:"source"`
	Destination       Destination        `json:"destination"`
	SyncPolicy        SyncPolicy         `json:"syncPolicy"`
	IgnoreDifferences []IgnoreDifference `json:"ignoreDifferences,omitempty"`
}

// Source is a folder of a git repository, with a kustomization in it.
type Source struct {
	RepoURL        string `json:"repoURL"`
	Path           string `json:"path"`
	TargetRevision string `json:"targetRevision"`
}

// Destination is a namespace of a cluster.
type Destination struct {
	Server    string `json:"server"`
	Namespace string `json:"namespace"`
}

// SyncPolicy is when and how.
type SyncPolicy struct {
	Automated   *Automated `json:"automated,omitempty"`
	SyncOptions []string   `json:"syncOptions,omitempty"`
}

// Automated synchronises without being asked.
type Automated struct {
	Prune    bool `json:"prune"`
	SelfHeal bool `json:"selfHeal"`
}

// IgnoreDifference is what others own in objects of a kind.
type IgnoreDifference struct {
	Group             string   `json:"group"`
	Kind              string   `json:"kind"`
	JQPathExpressions []string `json:"jqPathExpressions"`
}

// ApplicationArgs say what to synchronise.
type ApplicationArgs struct {
	// Name is the Application's, and Namespace that of Argo CD.
	Name, Namespace string
	// RepoURL, Path and Revision are where the manifests lie: a folder with a
	// kustomization, so that Image Updater can write tags into it.
	RepoURL, Path, Revision string
	// Target is the namespace that they go to; it has to exist.
	Target string
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (a *ApplicationArgs) Validate() error {
	var faults []error
	for _, needed := range []struct{ field, value string }{
		{"Name", a.Name}, {"Namespace", a.Namespace}, {"Path", a.Path}, {"Revision", a.Revision}, {"Target", a.Target},
	} {
		if needed.value == "" {
			faults = append(faults, fmt.Errorf("%s is empty", needed.field))
		}
	}
	if err := gitURL(a.RepoURL); err != nil {
		faults = append(faults, fmt.Errorf("RepoURL %w", err))
	}
	return errors.Join(faults...)
}

// NewApplication is an Application that leaves to Rollouts the weights of
// HTTPRoutes: they are no difference, and an object without a difference is not
// applied. (Not with RespectIgnoreDifferences, which would merge into a list that
// has one owner.) Its errors name the argument that is wrong.
func NewApplication(args *ApplicationArgs) (*Application, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("application %s: %w", args.Name, err)
	}
	return &Application{
		TypeMeta:   metav1.TypeMeta{APIVersion: "argoproj.io/v1alpha1", Kind: "Application"},
		ObjectMeta: metav1.ObjectMeta{Name: args.Name, Namespace: args.Namespace},
		Spec: ApplicationSpec{
			Project:     "default",
			Source:      Source{RepoURL: args.RepoURL, Path: args.Path, TargetRevision: args.Revision},
			Destination: Destination{Server: "https://kubernetes.default.svc", Namespace: args.Target},
			SyncPolicy: SyncPolicy{
				Automated:   &Automated{Prune: true, SelfHeal: true},
				SyncOptions: []string{"ApplyOutOfSyncOnly=true"},
			},
			IgnoreDifferences: []IgnoreDifference{{
				Group: gatewayv1.GroupName, Kind: "HTTPRoute",
				JQPathExpressions: []string{".spec.rules[]?.backendRefs[]?.weight"},
			}},
		},
	}, nil
}

// DeepCopyObject makes Application a runtime.Object.
func (a *Application) DeepCopyObject() runtime.Object {
	c := *a
	c.Labels = maps.Clone(a.Labels)
	c.Annotations = maps.Clone(a.Annotations)
	if a.Spec.SyncPolicy.Automated != nil {
		c.Spec.SyncPolicy.Automated = new(*a.Spec.SyncPolicy.Automated)
	}
	c.Spec.SyncPolicy.SyncOptions = slices.Clone(a.Spec.SyncPolicy.SyncOptions)
	c.Spec.IgnoreDifferences = slices.Clone(a.Spec.IgnoreDifferences)
	for i, ignored := range c.Spec.IgnoreDifferences {
		c.Spec.IgnoreDifferences[i].JQPathExpressions = slices.Clone(ignored.JQPathExpressions)
	}
	return &c
}

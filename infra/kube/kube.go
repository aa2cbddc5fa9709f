// Package kube turns Kubernetes objects, described with the Go types that the
// controllers themselves use, into Pulumi resources.
//
// Custom resources are so typed as strictly as core objects, and the generated
// API packages of pulumi-kubernetes, which take minutes to compile, stay out of
// the import graph.
package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/loja-veloz/platform/infra/component"
)

// ReplaceUnready is the annotation that makes a Job which failed, or did not end, a
// new one with the next update.
const ReplaceUnready = "pulumi.com/replaceUnready"

// timeoutSeconds is the annotation that says how long the provider waits.
const timeoutSeconds = "pulumi.com/timeoutSeconds"

// SkipAwait is the annotation that tells the provider not to wait until the
// object is ready: for Services whose pods come and go with a Rollout, which is
// waited for as a whole.
const SkipAwait = "pulumi.com/skipAwait"

// Object is any upstream API object: *corev1.Service, *v1alpha1.Rollout,
// *unstructured.Unstructured.
type Object interface {
	metav1.Object
	runtime.Object
}

// Manifest is one object and how Pulumi is to treat it.
type Manifest struct {
	// Name is the resource's name within its component; it has to be unique there.
	Name   string
	Object Object
	// IgnoreChanges lists property paths that a controller writes: what the
	// program says about them counts when the object is created and never after.
	IgnoreChanges []string
	// RetainOnDelete leaves the object in the cluster when the program no longer has it:
	// others still use it.
	RetainOnDelete bool
	// Overlays are laid over the object when it is registered.
	Overlays []Overlay
}

// Overlay sets one field of an object to a Pulumi Input: for the few values,
// such as an endpoint, that only exist once another resource does.
type Overlay struct {
	// Path leads to the field through JSON names, for example
	// []string{"spec", "externalName"}. Maps on the way are created; lists are
	// not entered.
	Path  []string
	Value pulumi.Input
}

// Resource is a Kubernetes object in Pulumi's state. Its outputs are not bound
// to Go fields: programs use what they put in, and dependencies go by the
// resource itself. (pulumi-kubernetes' own apiextensions.CustomResource would
// bind them at 21 CPU seconds of compile time for its meta/v1 package.)
type Resource struct {
	pulumi.CustomResourceState
}

// scheme knows the API groups that the platform uses and no other: registering
// all of client-go's costs a minute of compiling.
var scheme, schemeErr = newScheme()

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	builder := runtime.NewSchemeBuilder(
		corev1.AddToScheme,
		appsv1.AddToScheme,
		autoscalingv2.AddToScheme,
		batchv1.AddToScheme,
		networkingv1.AddToScheme,
		policyv1.AddToScheme,
		rbacv1.AddToScheme,
		apiregistrationv1.AddToScheme,
		rolloutsv1alpha1.AddToScheme,
		gatewayv1.Install,
	)
	return s, builder.AddToScheme(s)
}

// KindOf names the API group, version and kind of obj. An object that says its
// own (unstructured ones, and our own types) is believed; any other has to be of
// a registered type.
func KindOf(obj Object) (schema.GroupVersionKind, error) {
	if gvk := obj.GetObjectKind().GroupVersionKind(); gvk.Version != "" && gvk.Kind != "" {
		return gvk, nil
	}
	if schemeErr != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("registering the API groups: %w", schemeErr)
	}
	kinds, _, err := scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("finding the kind of a %T: %w", obj, err)
	}
	return kinds[0], nil
}

// Encode gives obj as it is sent to the API server: with apiVersion and kind,
// without status and without the null fields that upstream types carry; an
// unstructured object as it is. Errors name the object.
func Encode(obj Object) (map[string]any, error) {
	gvk, err := KindOf(obj)
	if err != nil {
		return nil, err
	}
	if obj.GetName() == "" {
		return nil, fmt.Errorf("%s: metadata.name is empty", gvk.Kind)
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u.DeepCopy().Object, nil // somebody else's document, sent as it is
	}
	raw, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %s: %w", gvk.Kind, obj.GetName(), err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("decoding the JSON of %s %s: %w", gvk.Kind, obj.GetName(), err)
	}
	fields["apiVersion"], fields["kind"] = gvk.GroupVersion().String(), gvk.Kind
	delete(fields, "status")
	dropNulls(fields)
	return fields, nil
}

// dropNulls removes the null fields that upstream types leave where they are
// empty, creationTimestamp before all: a strict server would take them for ours.
func dropNulls(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, nested := range v {
			if nested == nil {
				delete(v, key)
				continue
			}
			dropNulls(nested)
		}
	case []any:
		for _, nested := range v {
			dropNulls(nested)
		}
	}
}

// Token is the Pulumi type that pulumi-kubernetes gives to a kind, for example
// kubernetes:core/v1:Service or kubernetes:argoproj.io/v1alpha1:Rollout.
func Token(gvk schema.GroupVersionKind) string {
	group := gvk.Group
	if group == "" {
		group = "core"
	}
	return fmt.Sprintf("kubernetes:%s/%s:%s", group, gvk.Version, gvk.Kind)
}

// properties carries an encoded object with Inputs in it to RegisterResource.
type properties map[string]any

// ElementType makes properties a pulumi.Input whose keys are sent as they are.
func (properties) ElementType() reflect.Type { return reflect.TypeFor[map[string]any]() }

// Apply registers obj as a Pulumi resource called name, with the overlays laid
// over it.
func Apply(ctx *pulumi.Context, name string, obj Object, overlays []Overlay, opts ...pulumi.ResourceOption) (*Resource, error) {
	fields, err := Encode(obj)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", name, err)
	}
	for _, overlay := range overlays {
		if err := overlay.lay(fields); err != nil {
			return nil, fmt.Errorf("resource %s: %w", name, err)
		}
	}
	gvk, err := KindOf(obj)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", name, err)
	}
	resource := &Resource{}
	if err := ctx.RegisterResource(Token(gvk), name, properties(fields), resource, opts...); err != nil {
		return nil, fmt.Errorf("registering %s %s: %w", gvk.Kind, name, err)
	}
	return resource, nil
}

// Stages are manifests in the order in which they have to exist: everything in a
// stage waits for all of the stage before.
type Stages [][]Manifest

// All gives every manifest, in an order in which they can be applied one after another.
func (s Stages) All() []Manifest { return slices.Concat(s...) }

// ApplyStages registers the objects of a component that was itself created with
// opts: as its children, called <component name>-<manifest name>, and depending
// on what opts depend on, which Pulumi does not hand down by itself. It returns
// the resources by stage.
func ApplyStages(ctx *pulumi.Context, parent pulumi.Resource, name string, stages Stages, opts []pulumi.ResourceOption) ([][]*Resource,
	error) {
	own, err := pulumi.NewResourceOptions(opts...)
	if err != nil {
		return nil, fmt.Errorf("reading the options: %w", err)
	}
	applied, _, err := applyStages(ctx, parent, name, stages, own.DependsOn)
	return applied, err
}

// applyStages registers stage after stage. It returns the resources by stage, and what comes next has to wait for:
// the last stage, or what was given if there is none.
func applyStages(ctx *pulumi.Context, parent pulumi.Resource, name string, stages Stages,
	before []pulumi.Resource) ([][]*Resource, []pulumi.Resource, error) {
	applied := make([][]*Resource, 0, len(stages))
	for _, stage := range stages {
		var resources []*Resource
		var next []pulumi.Resource
		for _, m := range stage {
			resource, err := Apply(ctx, name+"-"+m.Name, m.Object, m.Overlays,
				pulumi.Parent(parent), pulumi.DependsOn(before), pulumi.IgnoreChanges(m.IgnoreChanges),
				pulumi.RetainOnDelete(m.RetainOnDelete))
			if err != nil {
				return nil, nil, err
			}
			resources, next = append(resources, resource), append(next, resource)
		}
		applied = append(applied, resources)
		if len(next) > 0 {
			before = next
		}
	}
	return applied, before, nil
}

// NewComponent registers a component that consists of objects: the component itself, and the objects as its children.
// It returns the objects by stage. Errors begin with what the component is and its name.
func NewComponent(ctx *pulumi.Context, what, token, name string, c pulumi.ComponentResource, describe func() (Stages, error),
	opts []pulumi.ResourceOption) ([][]*Resource, error) {
	stages, err := describe()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	var applied [][]*Resource
	err = component.Register(ctx, what, token, name, c, opts, func() (pulumi.Map, error) {
		applied, err = ApplyStages(ctx, c, name, stages, opts)
		return pulumi.Map{}, err
	})
	return applied, err
}

func (o Overlay) lay(fields map[string]any) error {
	if len(o.Path) == 0 {
		return errors.New("an overlay has no path")
	}
	at := fields
	for i, key := range o.Path[:len(o.Path)-1] {
		nested, there := at[key]
		if !there {
			nested = map[string]any{}
			at[key] = nested
		}
		next, ok := nested.(map[string]any)
		if !ok {
			return fmt.Errorf("overlay %s: %s is not a map", strings.Join(o.Path, "."), strings.Join(o.Path[:i+1], "."))
		}
		at = next
	}
	at[o.Path[len(o.Path)-1]] = o.Value
	return nil
}

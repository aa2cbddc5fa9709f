// Package kube registers Kubernetes objects, described with the Go types of their controllers,
// as Pulumi resources.
//
// In this way custom resources are typed like core objects, and no program imports the
// generated API packages of pulumi-kubernetes, which take minutes to compile.
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
	admissionv1 "k8s.io/api/admissionregistration/v1"
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

// ReplaceUnready is the annotation with which the next update replaces a Job that failed or did
// not end.
const ReplaceUnready = "pulumi.com/replaceUnready"

// timeoutSeconds is the annotation for how long the provider waits.
const timeoutSeconds = "pulumi.com/timeoutSeconds"

// SkipAwait is the annotation with which the provider does not wait until the object is ready.
// It is for Services of a Rollout: updates wait for the Rollout instead.
const SkipAwait = "pulumi.com/skipAwait"

// Object is any upstream API object: *corev1.Service, *v1alpha1.Rollout,
// *unstructured.Unstructured.
type Object interface {
	metav1.Object
	runtime.Object
}

// Manifest is one object, and how Pulumi treats it.
type Manifest struct {
	// Name is the resource's name within its component; it has to be unique there.
	Name   string
	Object Object
	// IgnoreChanges lists property paths that a controller writes. The program's values are used
	// only when the object is created.
	IgnoreChanges []string
	// RetainOnDelete leaves the object in the cluster when the program no longer declares it.
	RetainOnDelete bool
	// Overlays are applied to the object when it is registered.
	Overlays []Overlay
}

// Overlay sets one field of an object to a Pulumi Input, for values that are outputs of another
// resource, such as an endpoint.
type Overlay struct {
	// Path is the field's path in JSON names, for example []string{"spec", "externalName"}.
	// Missing maps are created; a path through a list is an error.
	Path  []string
	Value pulumi.Input
}

// Resource is a Kubernetes object in Pulumi's state. Its outputs have no Go fields: programs
// know the inputs, and depend on the resource itself. (apiextensions.CustomResource of
// pulumi-kubernetes has such fields; its meta/v1 package takes 21 CPU seconds to compile.)
type Resource struct {
	pulumi.CustomResourceState
}

// scheme contains only the API groups that the platform uses: all of client-go's take a minute
// to compile.
var scheme, schemeErr = newScheme()

func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	builder := runtime.NewSchemeBuilder(
		corev1.AddToScheme,
		admissionv1.AddToScheme,
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

// KindOf returns the API group, version and kind of obj: those that obj has set, as
// unstructured objects and our own types do, or those of its registered type.
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

// Encode returns obj as it is sent to the API server: with apiVersion and kind, without status
// and without the null fields of upstream types. An unstructured object stays as it is. Errors
// name the object.
func Encode(obj Object) (map[string]any, error) {
	gvk, err := KindOf(obj)
	if err != nil {
		return nil, err
	}
	if obj.GetName() == "" {
		return nil, fmt.Errorf("%s: metadata.name is empty", gvk.Kind)
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return u.DeepCopy().Object, nil // sent as it is
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

// dropNulls removes the null fields that upstream types encode for empty values, such as
// creationTimestamp: strict validation would treat them as set.
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

// Token returns pulumi-kubernetes' type token of a kind, for example kubernetes:core/v1:Service
// or kubernetes:argoproj.io/v1alpha1:Rollout.
func Token(gvk schema.GroupVersionKind) string {
	group := gvk.Group
	if group == "" {
		group = "core"
	}
	return fmt.Sprintf("kubernetes:%s/%s:%s", group, gvk.Version, gvk.Kind)
}

// properties is an encoded object that may contain Inputs, for RegisterResource.
type properties map[string]any

// ElementType implements pulumi.Input: the keys are sent as they are.
func (properties) ElementType() reflect.Type { return reflect.TypeFor[map[string]any]() }

// Apply registers obj as a Pulumi resource called name, with the overlays applied. The values of
// a Secret are secret in state and diffs too, those without a credential included.
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
	if gvk.Kind == "Secret" && gvk.Group == "" {
		markSecret(fields)
	}
	resource := &Resource{}
	if err := ctx.RegisterResource(Token(gvk), name, properties(fields), resource, opts...); err != nil {
		return nil, fmt.Errorf("registering %s %s: %w", gvk.Kind, name, err)
	}
	return resource, nil
}

func markSecret(fields map[string]any) {
	for _, key := range []string{"data", "stringData"} {
		values, _ := fields[key].(map[string]any)
		for name, value := range values {
			values[name] = pulumi.ToSecret(value)
		}
	}
}

// Stages are manifests in the order in which they are created: every manifest waits for all
// manifests of the stage before.
type Stages [][]Manifest

// All returns every manifest, in an order in which they can be applied one after another.
func (s Stages) All() []Manifest { return slices.Concat(s...) }

// Retain leaves every object in the cluster when the program no longer declares it.
func (s Stages) Retain() {
	for _, stage := range s {
		for i := range stage {
			stage[i].RetainOnDelete = true
		}
	}
}

// ApplyStages registers the objects of a component that was created with opts, as its children
// called <component name>-<manifest name>. They depend on what opts depend on, which Pulumi
// does not pass to children. It returns the resources by stage.
func ApplyStages(ctx *pulumi.Context, parent pulumi.Resource, name string, stages Stages, opts []pulumi.ResourceOption) ([][]*Resource,
	error) {
	before, err := dependencies(opts)
	if err != nil {
		return nil, err
	}
	applied, _, err := applyStages(ctx, parent, name, stages, before)
	return applied, err
}

// ApplyChecked is ApplyStages with a check, which runs in updates once everything exists that opts
// depend on. Its error is that of the first stage, of which nothing is registered then.
func ApplyChecked(ctx *pulumi.Context, parent pulumi.Resource, name string, stages Stages, opts []pulumi.ResourceOption,
	check func() error) ([][]*Resource, error) {
	before, err := dependencies(opts)
	if err != nil {
		return nil, err
	}
	var checked []pulumi.ResourceOption
	if !ctx.DryRun() {
		created := make([]any, len(before))
		for i, resource := range before {
			created[i] = resource.URN()
		}
		passed := pulumi.All(created...).ApplyT(func([]any) ([]pulumi.Resource, error) { return nil, check() })
		checked = append(checked, pulumi.DependsOnInputs(passed.(pulumi.ResourceArrayOutput)))
	}
	applied, _, err := applyStages(ctx, parent, name, stages, before, checked...)
	return applied, err
}

// applyStages registers stage after stage, the first one with more options. It returns the resources by stage, and the resources
// for which later ones have to wait: the last stage, or the given ones if there is no stage.
func applyStages(ctx *pulumi.Context, parent pulumi.Resource, name string, stages Stages,
	before []pulumi.Resource, first ...pulumi.ResourceOption) ([][]*Resource, []pulumi.Resource, error) {
	applied := make([][]*Resource, 0, len(stages))
	for _, stage := range stages {
		var resources []*Resource
		var next []pulumi.Resource
		for _, m := range stage {
			resource, err := Apply(ctx, name+"-"+m.Name, m.Object, m.Overlays, append(first[:len(first):len(first)],
				pulumi.Parent(parent), pulumi.DependsOn(before), pulumi.IgnoreChanges(m.IgnoreChanges),
				pulumi.RetainOnDelete(m.RetainOnDelete))...)
			if err != nil {
				return nil, nil, err
			}
			resources, next = append(resources, resource), append(next, resource)
		}
		applied = append(applied, resources)
		if len(next) > 0 {
			before, first = next, nil
		}
	}
	return applied, before, nil
}

// Objects are the resources of a component that consists of Kubernetes objects, which embeds it next
// to pulumi.ResourceState.
//
// Pulumi's SDK (v3.220) adds children to their parent in the background. A dependency on a component
// misses the children that are not added yet, so this package depends on the objects themselves.
type Objects struct{ all []pulumi.Resource }

// owner is a component that embeds Objects.
type owner interface {
	pulumi.ComponentResource
	holder
}

type holder interface{ owned() *[]pulumi.Resource }

var _ holder = (*Objects)(nil)

func (o *Objects) owned() *[]pulumi.Resource { return &o.all }

// dependencies returns what opts depend on, with the objects of a component in its place.
func dependencies(opts []pulumi.ResourceOption) ([]pulumi.Resource, error) {
	own, err := pulumi.NewResourceOptions(opts...)
	if err != nil {
		return nil, fmt.Errorf("reading the options: %w", err)
	}
	var all []pulumi.Resource
	for _, dependency := range own.DependsOn {
		if c, ok := dependency.(owner); ok {
			all = append(all, *c.owned()...)
		} else {
			all = append(all, dependency)
		}
	}
	return all, nil
}

// flat returns the resources of all stages.
func flat(stages [][]*Resource) []pulumi.Resource {
	var all []pulumi.Resource
	for _, stage := range stages {
		for _, resource := range stage {
			all = append(all, resource)
		}
	}
	return all
}

// NewComponent registers a component that consists of objects: the component itself, and the objects as its children.
// It returns the objects by stage. Errors begin with what the component is and its name.
func NewComponent(ctx *pulumi.Context, what, token, name string, c owner, describe func() (Stages, error),
	opts []pulumi.ResourceOption) ([][]*Resource, error) {
	stages, err := describe()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	var applied [][]*Resource
	err = component.Register(ctx, what, token, name, c, opts, func() (pulumi.Map, error) {
		applied, err = ApplyStages(ctx, c, name, stages, opts)
		*c.owned() = flat(applied)
		return pulumi.Map{}, err
	})
	return applied, err
}

func (o Overlay) lay(fields map[string]any) error {
	if len(o.Path) == 0 {
		return errors.New("an overlay has an empty path")
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

package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/internals"
)

// Enforce refuses every later resource that breaks a rule, whether the program registers it or
// a component package in another process, such as eks.Cluster: its registration and the
// deployment fail with a sentence per violation. Call it before the first resource.
//
// It also protects stateful resources, in every environment, unless AllowReplace names them:
// the engine then refuses to replace or delete them. The code of a Protected environment has to
// protect them itself as well.
//
// Pulumi's mocks run no transforms: with them Enforce only validates o, and tests use Audit.
func Enforce(ctx *pulumi.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	// Resources of this process are protected by the older transformation API, which changes only
	// the option. The SDK decodes what a transform returns, and drops options that it does not
	// know (DeletedWith, v3.220.0) and the dependencies of properties.
	if err := ctx.RegisterStackTransformation(o.protect); err != nil {
		return fmt.Errorf("policy: registering the protection: %w", err)
	}
	if ctx.RunningWithMocks() {
		return nil
	}
	if err := ctx.RegisterResourceTransform(o.transform(ctx)); err != nil {
		return fmt.Errorf("policy: registering the rules: %w", err)
	}
	return nil
}

// protect sets or lifts the protection of a stateful resource of this process.
func (o *Options) protect(args *pulumi.ResourceTransformationArgs) *pulumi.ResourceTransformationResult {
	if !Stateful(args.Type) {
		return nil
	}
	lift := o.mayReplace(args.Name)
	if !lift && o.Protected {
		return nil // the rule requires that the program protects it
	}
	return &pulumi.ResourceTransformationResult{Props: args.Props, Opts: append(args.Opts, pulumi.Protect(!lift))}
}

func (o *Options) transform(ctx *pulumi.Context) pulumi.ResourceTransform {
	return func(_ context.Context, args *pulumi.ResourceTransformArgs) *pulumi.ResourceTransformResult {
		inputs, err := properties(ctx.Context(), args.Props)
		if err != nil {
			return refuse(args, fmt.Errorf("policy: reading %s %q: %w", args.Type, args.Name, err))
		}
		provider := ""
		if args.Opts.Provider != nil {
			provider = "given"
		}
		r := Resource{
			Type: args.Type, Name: args.Name, Custom: args.Custom,
			Provider: provider, Protect: args.Opts.Protect, Inputs: inputs,
		}
		if err := violated(o, r); err != nil {
			// People read this diagnostic: two gRPC errors wrap the error of the refusal.
			_ = ctx.Log.Error(err.Error(), nil)
			return refuse(args, err)
		}
		// Protect the children of components in another process.
		if keep := !o.mayReplace(r.Name); Stateful(r.Type) && r.Protect != keep {
			opts := args.Opts
			opts.Protect = keep
			return &pulumi.ResourceTransformResult{Props: args.Props, Opts: opts}
		}
		return nil
	}
}

// refuse fails a registration. A transform of the Go SDK cannot return an error, so it sets an
// input that resolves to one.
func refuse(args *pulumi.ResourceTransformArgs, err error) *pulumi.ResourceTransformResult {
	failed := pulumi.String("").ToStringOutput().ApplyT(func(string) (string, error) { return "", err })
	return &pulumi.ResourceTransformResult{Props: pulumi.Map{"policy": failed}, Opts: args.Opts}
}

// properties converts the resolved inputs of a transform into values that are marked secret or
// unknown.
func properties(ctx context.Context, inputs pulumi.Map) (resource.PropertyMap, error) {
	properties := resource.PropertyMap{}
	for key, input := range inputs {
		value, err := property(ctx, input)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		properties[resource.PropertyKey(key)] = value
	}
	return properties, nil
}

func property(ctx context.Context, input any) (resource.PropertyValue, error) {
	switch v := input.(type) {
	case nil:
		return resource.NewNullProperty(), nil
	case pulumi.String:
		return resource.NewStringProperty(string(v)), nil
	case pulumi.Bool:
		return resource.NewBoolProperty(bool(v)), nil
	case pulumi.Float64:
		return resource.NewNumberProperty(float64(v)), nil
	case pulumi.Map:
		object, err := properties(ctx, v)
		return resource.NewObjectProperty(object), err
	case pulumi.Array:
		array := make([]resource.PropertyValue, 0, len(v))
		for _, item := range v {
			value, err := property(ctx, item)
			if err != nil {
				return resource.PropertyValue{}, err
			}
			array = append(array, value)
		}
		return resource.NewArrayProperty(array), nil
	case pulumi.Output:
		return awaited(ctx, v)
	case map[string]any:
		object := resource.PropertyMap{}
		for key, nested := range v {
			value, err := property(ctx, nested)
			if err != nil {
				return resource.PropertyValue{}, err
			}
			object[resource.PropertyKey(key)] = value
		}
		return resource.NewObjectProperty(object), nil
	case []any:
		array := make([]resource.PropertyValue, 0, len(v))
		for _, nested := range v {
			value, err := property(ctx, nested)
			if err != nil {
				return resource.PropertyValue{}, err
			}
			array = append(array, value)
		}
		return resource.NewArrayProperty(array), nil
	case string, bool, float64, int:
		return resource.NewPropertyValue(v), nil
	default: // no rule checks assets, archives and references to resources
		return resource.NewNullProperty(), nil
	}
}

func awaited(ctx context.Context, output pulumi.Output) (resource.PropertyValue, error) {
	result, err := internals.UnsafeAwaitOutput(ctx, output)
	if err != nil {
		return resource.PropertyValue{}, err
	}
	value := resource.MakeComputed(resource.NewStringProperty(""))
	if result.Known {
		if value, err = property(ctx, result.Value); err != nil {
			return resource.PropertyValue{}, err
		}
	}
	if result.Secret {
		value = resource.MakeSecret(value)
	}
	return value, nil
}

// Sentences returns the violations in a deployment's error, one per line, without what gRPC
// adds; "" if there are none.
func Sentences(err error) string {
	if err == nil {
		return ""
	}
	var lines []string
	seen := map[string]bool{}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		for _, rule := range Rules() {
			if at := strings.Index(line, "policy "+rule.Name+": "); at >= 0 && !seen[line[at:]] {
				seen[line[at:]] = true
				lines = append(lines, line[at:])
			}
		}
	}
	return strings.Join(lines, "\n")
}

// Package component registers Pulumi components: what every constructor of infra has in common.
package component

import (
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Register registers a component of the type token. Then it calls build, which registers the
// children, and registers the outputs that build returns. Errors begin with what the component
// is and its name.
func Register(ctx *pulumi.Context, what, token, name string, c pulumi.ComponentResource, opts []pulumi.ResourceOption,
	build func() (pulumi.Map, error)) error {
	if err := ctx.RegisterComponentResource(token, name, c, opts...); err != nil {
		return fmt.Errorf("registering %s %s: %w", what, name, err)
	}
	outputs, err := build()
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, name, err)
	}
	if err := ctx.RegisterResourceOutputs(c, outputs); err != nil {
		return fmt.Errorf("registering the outputs of %s %s: %w", what, name, err)
	}
	return nil
}

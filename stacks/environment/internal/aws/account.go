package aws

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// account is what bootstrap created for an environment.
type account struct {
	key, up, preview, push, boundary string
	repositories                     []pulumi.StringInput
	registryURLs                     pulumi.StringMap
}

// readAccount reads the outputs of bootstrap as plain values: the program needs them before it
// registers resources.
func (t *Target) readAccount(ctx *pulumi.Context) (*account, error) {
	ref, err := pulumi.NewStackReference(ctx, t.cfg.Cloud.Bootstrap, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the stack %s: %w", t.cfg.Cloud.Bootstrap, err)
	}
	var errs []error
	output := func(name string) any {
		details, err := ref.GetOutputDetails(name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("reading output %s of %s: %w", name, t.cfg.Cloud.Bootstrap, err))
		case details.Value == nil:
			errs = append(errs, fmt.Errorf("stack %s has no output %s: run pulumi up in stacks/bootstrap first", t.cfg.Cloud.Bootstrap, name))
		}
		return details.Value
	}
	environments, _ := output("environments").(map[string]any)
	own, found := environments[t.environment].(map[string]any)
	if !found {
		errs = append(errs, fmt.Errorf("stack %s has no environment %s: add it to loja-veloz-bootstrap:environments",
			t.cfg.Cloud.Bootstrap, t.environment))
	}
	text := func(value any) string { s, _ := value.(string); return s }
	arn := func(name string) string {
		value := text(own[name])
		if found && !strings.HasPrefix(value, "arn:aws") {
			errs = append(errs, fmt.Errorf("output environments.%s.%s of stack %s is %v: an ARN is expected",
				t.environment, name, t.cfg.Cloud.Bootstrap, own[name]))
		}
		return value
	}
	a := &account{
		key: arn("keyARN"), up: arn("upRoleARN"), preview: arn("previewRoleARN"), boundary: arn("permissionsBoundaryARN"),
		push: text(output("pushRoleARN")),
	}
	repositories, _ := output("repositoryURLs").(map[string]any)
	a.registryURLs = pulumi.StringMap{}
	for _, name := range slices.Sorted(maps.Keys(repositories)) {
		a.registryURLs[name] = pulumi.String(text(repositories[name]))
		arn := fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s", t.cluster.Region, t.cluster.AccountID, name)
		a.repositories = append(a.repositories, pulumi.String(arn))
	}
	return a, errors.Join(errs...)
}

package main

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/adopt"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/registry"
)

// shared replaces the environment in the tags of what an account has once.
const shared = "shared"

// tags are the default tags of the AWS provider. What an account has once belongs to no
// environment.
func tags() map[string]string {
	return map[string]string{"Project": project, "Environment": shared, "ManagedBy": "pulumi"}
}

// rules returns the platform's policy, with the exemptions of this stack.
func rules(c *config) policy.Options {
	o := policy.Options{Protected: true, AllowReplace: c.AllowReplace, DefaultTags: tags()}
	for _, environment := range c.Environments {
		o.Exempt = append(o.Exempt, policy.Exemption{
			Rule: policy.WildcardIAM, Resource: "ci-" + environment + "-boundary",
			Reason: "a permissions boundary grants nothing: the roles' own policies name the resources",
		})
	}
	return o
}

// deploy turns configuration into resources and returns the stack's outputs, none of them
// secret. programs are those that have an image. Its error has a line for each.
func deploy(ctx *pulumi.Context, values map[string]string, programs []string) (pulumi.Map, error) {
	c, err := load(values, programs)
	if err != nil {
		return nil, err
	}
	if err := policy.Enforce(ctx, rules(c)); err != nil {
		return nil, err
	}
	adopted, err := adopt.Existing(ctx, namespace+":adopt", c.Adopt)
	if err != nil {
		return nil, err
	}
	// AllowedAccountIds refuses the credentials of another account.
	provider, err := aws.NewProvider(ctx, "aws", &aws.ProviderArgs{
		Region:            pulumi.String(c.Region),
		AllowedAccountIds: pulumi.StringArray{pulumi.String(c.AccountID)},
		DefaultTags:       aws.ProviderDefaultTagsArgs{Tags: pulumi.ToStringMap(tags())},
	})
	if err != nil {
		return nil, fmt.Errorf("registering the account: %w", err)
	}
	in := pulumi.Provider(provider)

	k, err := newKeys(ctx, "keys", c, in)
	if err != nil {
		return nil, err
	}
	s, err := newState(ctx, "state", c, k.Account, in)
	if err != nil {
		return nil, err
	}
	images, err := registry.New(ctx, "images", c.registry(), k.Account, in)
	if err != nil {
		return nil, err
	}
	ci, err := newCIRoles(ctx, "ci", c, k, in)
	if err != nil {
		return nil, err
	}
	if err := adopted.Unmatched(); err != nil {
		return nil, err
	}

	environments := pulumi.Map{}
	for _, name := range c.Environments {
		environments[name] = pulumi.Map{
			"secretsProvider":        pulumi.String(secretsProvider(secretsAlias(name), c.Region)),
			"keyAlias":               pulumi.String(secretsAlias(name)),
			"keyARN":                 k.ByEnvironment[name],
			"previewRoleARN":         ci.Preview[name],
			"upRoleARN":              ci.Up[name],
			"permissionsBoundaryARN": ci.Boundary[name],
		}
	}
	return pulumi.Map{
		"accountId":       pulumi.String(c.AccountID),
		"region":          pulumi.String(c.Region),
		"stateBucket":     pulumi.String(c.StateBucket),
		"backendURL":      pulumi.String(s.BackendURL),
		"secretsProvider": pulumi.String(secretsProvider(accountAlias, c.Region)),
		"accountKeyARN":   k.Account,
		// registry is the value of REGISTRY=: the images of the programs are below it.
		"registry":          pulumi.String(fmt.Sprintf("%s.dkr.ecr.%s.amazonaws.com/%s", c.AccountID, c.Region, project)),
		"repositoryURLs":    images.URLs, // by the name of the repository in ECR
		"environments":      environments,
		"pushRoleARN":       ci.Push,
		"githubProviderARN": ci.ProviderARN,
	}, nil
}

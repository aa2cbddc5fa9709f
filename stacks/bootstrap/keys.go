package main

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/kms"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/identity"
)

// deletionDays is for how many days a deleted key can be restored: the maximum in KMS.
const deletionDays = 30

// keys are the account's KMS keys.
type keys struct {
	pulumi.ResourceState

	// Account encrypts what environments share: images and state.
	Account pulumi.StringOutput
	// ByEnvironment encrypts an environment's secrets, in Pulumi's state and in AWS.
	ByEnvironment map[string]pulumi.StringOutput
}

// accountAlias and secretsAlias are the keys' names.
const accountAlias = "alias/" + project + "-account"

func secretsAlias(environment string) string {
	return fmt.Sprintf("alias/%s-%s-secrets", project, environment)
}

// secretsProvider returns the argument of `pulumi stack init --secrets-provider`.
func secretsProvider(alias, region string) string {
	return fmt.Sprintf("awskms://%s?region=%s", alias, region)
}

func newKeys(ctx *pulumi.Context, name string, c *config, opts ...pulumi.ResourceOption) (*keys, error) {
	k := &keys{ByEnvironment: map[string]pulumi.StringOutput{}}
	if err := ctx.RegisterComponentResource("loja-veloz:bootstrap:Keys", name, k, opts...); err != nil {
		return nil, fmt.Errorf("registering the keys: %w", err)
	}
	policy, err := identity.KeyPolicy(c.AccountID, c.Region).Text()
	if err != nil {
		return nil, fmt.Errorf("encoding the keys' policy: %w", err)
	}
	add := func(part, alias, description string) (pulumi.StringOutput, error) {
		key, err := kms.NewKey(ctx, name+"-"+part, &kms.KeyArgs{
			Description: pulumi.String(description), Policy: pulumi.String(policy),
			EnableKeyRotation: pulumi.Bool(true), DeletionWindowInDays: pulumi.Int(deletionDays),
			Tags: pulumi.StringMap{"Name": pulumi.String(alias)},
		}, pulumi.Parent(k), pulumi.Protect(true))
		if err != nil {
			return pulumi.StringOutput{}, fmt.Errorf("creating key %s: %w", alias, err)
		}
		if _, err := kms.NewAlias(ctx, name+"-"+part+"-alias", &kms.AliasArgs{
			Name: pulumi.String(alias), TargetKeyId: key.KeyId,
		}, pulumi.Parent(k)); err != nil {
			return pulumi.StringOutput{}, fmt.Errorf("creating the alias of key %s: %w", alias, err)
		}
		return key.Arn, nil
	}
	if k.Account, err = add("account", accountAlias, "Images and state of "+project); err != nil {
		return nil, err
	}
	outputs := pulumi.Map{"account": k.Account}
	for _, environment := range c.Environments {
		arn, err := add(environment, secretsAlias(environment), "Secrets of "+project+" "+environment)
		if err != nil {
			return nil, err
		}
		k.ByEnvironment[environment], outputs[environment] = arn, arn
	}
	if err := ctx.RegisterResourceOutputs(k, outputs); err != nil {
		return nil, fmt.Errorf("registering the keys' outputs: %w", err)
	}
	return k, nil
}

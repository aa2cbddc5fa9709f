// Command bootstrap is the Pulumi program for what exists once per AWS account: the bucket for
// state, keys, image repositories, and the roles of CI. Environments read its outputs by
// StackReference. docs/aws/bootstrap.md describes the first run.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

func main() {
	if err := run(os.Getenv("PULUMI_CONFIG")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run deploys with the configuration from Pulumi's language host, a JSON object of full keys
// and values.
func run(rawConfig string) error {
	values := map[string]string{}
	if rawConfig != "" {
		if err := json.Unmarshal([]byte(rawConfig), &values); err != nil {
			return fmt.Errorf("decoding PULUMI_CONFIG: %w", err)
		}
	}
	programs, err := repo.Catalogue()
	if err != nil {
		return err
	}
	var refused error
	err = pulumi.RunErr(func(ctx *pulumi.Context) error {
		var outputs pulumi.Map
		outputs, refused = deploy(ctx, values, programs.Images())
		for name, output := range outputs {
			policy.Export(ctx, name, output)
		}
		return refused
	})
	switch {
	case refused != nil:
		return refused // without Pulumi's wrapping: one line per error
	case policy.Sentences(err) != "":
		return fmt.Errorf("refused by policy:\n%s", policy.Sentences(err))
	default:
		return err
	}
}

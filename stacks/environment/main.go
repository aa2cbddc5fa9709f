// Command environment is the Pulumi program of one environment: configuration
// in, components composed, outputs out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/workload"
)

//go:generate go run ./internal/parameters ../../docs/parameters.md

func main() {
	if err := run(os.Getenv("PULUMI_CONFIG")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run deploys with the configuration that Pulumi's language host hands over: a
// JSON object of full keys and values.
func run(rawConfig string) error {
	values := map[string]string{}
	if rawConfig != "" {
		if err := json.Unmarshal([]byte(rawConfig), &values); err != nil {
			return fmt.Errorf("decoding PULUMI_CONFIG: %w", err)
		}
	}
	// The first Ctrl-C ends the wait for Rollouts with a sentence; a second one
	// ends the program as usual.
	interrupt, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupt, stop)

	var refused error
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		var outputs pulumi.Map
		outputs, refused = deploy(ctx, interrupt, values)
		for name, output := range outputs {
			policy.Export(ctx, name, output)
		}
		return refused
	})
	var failed *workload.RolloutError
	switch {
	case refused != nil:
		return refused // without what Pulumi wraps around it: a line per fault
	case errors.As(err, &failed):
		return failed
	case policy.Sentences(err) != "":
		return fmt.Errorf("refused by policy:\n%s", policy.Sentences(err))
	default:
		return err
	}
}

// Command environment is the Pulumi program of one environment. It deploys to an existing
// cluster. If the configuration names AWS, it replaces itself by command aws, so that the SDK
// of AWS is compiled only for deployments to AWS.
package main

import (
	"fmt"
	"os"

	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/local"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

//go:generate go run ./internal/parameters ../../docs/parameters.md

func main() {
	if err := start(becomeAWS, program.Main); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// start runs the program of the target that the configuration names: aws replaces this process
// and returns only with an error; here runs in this process.
func start(aws func() error, here func(program.NewTarget)) error {
	values, err := program.Values(os.Args[1:])
	if err != nil {
		return err
	}
	if config.Provider(values) == "aws" {
		return aws()
	}
	here(local.New)
	return nil
}

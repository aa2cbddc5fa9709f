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
	values, err := program.Values()
	if err == nil && config.Provider(values) == "aws" {
		err = becomeAWS()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program.Main(local.New)
}

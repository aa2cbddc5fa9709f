// Command environment is the Pulumi program of one environment: configuration in,
// components composed, outputs out. It deploys to a cluster that exists. Where the
// configuration names AWS it becomes command aws, so that only who deploys there compiles
// the SDK of AWS.
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

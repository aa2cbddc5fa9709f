// Command aws is the Pulumi program of an environment in AWS. If the configuration names AWS,
// command environment builds it and replaces its own process by it.
package main

import (
	"github.com/loja-veloz/platform/stacks/environment/internal/aws"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

func main() { program.Main(aws.New) }

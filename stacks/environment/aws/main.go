// Command aws is the Pulumi program of an environment in AWS. Command environment builds
// it and becomes it where the configuration names AWS.
package main

import (
	"github.com/loja-veloz/platform/stacks/environment/internal/aws"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

func main() { program.Main(aws.New) }

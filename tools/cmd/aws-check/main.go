// Command aws-check asks an AWS account, before the first pulumi up of an environment, for what
// would stop it. It is a program of its own so that the program loja, which every make target
// builds, does not contain the AWS SDK.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/loja-veloz/platform/tools/internal/awscheck"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flags := flag.NewFlagSet("aws-check", flag.ContinueOnError)
	environment := flags.String("stack", "", "the environment, for example dev (STACK=)")
	address := flags.String("address", "", "the caller's public IPv4 address (ADDRESS=); empty asks checkip.amazonaws.com")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *environment == "" {
		return fmt.Errorf("STACK is not set: name an environment, for example STACK=dev")
	}
	root, err := repo.Root()
	if err != nil {
		return err
	}
	stack, err := awscheck.ReadStack(root, *environment)
	if err != nil {
		return err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(stack.Cloud.Region))
	if err != nil {
		return fmt.Errorf("reading the AWS configuration: %w", err)
	}
	return awscheck.New(stack, cfg, *address).Run(ctx, os.Stdout)
}

// Command pulumi-resource-aws is a Pulumi plugin that stands in for pulumi-aws where the
// released plugin is not available; see package standin. Under the names aws and kubectl it
// stands in for the few commands of those that the EKS component and the kubeconfig of EKS
// run.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"

	"github.com/loja-veloz/platform/tools/internal/standin/cli"
	"github.com/loja-veloz/platform/tools/internal/standin/plugin"
)

func main() {
	run := serve
	switch filepath.Base(os.Args[0]) {
	case "aws":
		run = func(args []string) error { return cli.AWS(args, os.Getenv, os.Stdout) }
	case "kubectl":
		run = func(args []string) error { return cli.Kubectl(args, os.Stdout) }
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers the engine until the engine ends or sends a signal. It prints the port to
// standard output, where the engine reads it.
func serve(args []string) error {
	engine := ""
	for _, arg := range args {
		// The engine's address comes after flags, some of which have a value.
		if !strings.HasPrefix(arg, "-") {
			engine = arg
		}
	}
	provider, err := plugin.New(engine)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cancel := make(chan bool)
	go func() {
		<-ctx.Done()
		close(cancel)
	}()
	if engine != "" {
		// If the engine ends without stopping the plugin, the plugin ends too.
		if err := rpcutil.Healthcheck(ctx, engine, 5*time.Minute, stop); err != nil {
			return fmt.Errorf("the engine at %s: %w", engine, err)
		}
	}
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(s *grpc.Server) error {
			pulumirpc.RegisterResourceProviderServer(s, provider)
			return nil
		},
		Options: []grpc.ServerOption{grpc.MaxRecvMsgSize(400 << 20)},
	})
	if err != nil {
		return fmt.Errorf("serving the plugin: %w", err)
	}
	fmt.Println(handle.Port)
	return <-handle.Done
}

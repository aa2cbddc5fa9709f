// Command api-gateway is the one entry of Loja Veloz's API. It lets through what
// clients may do and nothing else, says who asks, keeps a caller within its rate
// and a failing service from pulling the others down.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/gateway"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const name = "api-gateway"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// run serves until ctx is done and every request is answered.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(args, getenv)
	settings := readSettings(env)
	if err := env.Err(); err != nil {
		return err
	}

	logger := logging.New(stdout, settings.server.Log)
	tracing, err := telemetry.Start(ctx, settings.server.Telemetry, logger)
	if err != nil {
		return fmt.Errorf("starting telemetry: %w", err)
	}
	defer tracing.Close()

	srv, err := newServer(settings, logger, tracing.Provider)
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

// newServer wires the gateway to the addresses that clients may use.
func newServer(settings settings, logger *slog.Logger, provider trace.TracerProvider) (*server.Server, error) {
	g := newGateway(settings, provider, logger)
	srv, err := server.New(settings.server, logger, provider, server.Options{
		BodyLimit: settings.bodyLimit, Health: g.health.serve, Document: contract.Document,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}
	if err := g.register(srv); err != nil {
		return nil, err
	}
	return srv, nil
}

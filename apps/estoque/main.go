// Command estoque keeps the shop's items and their stock, and reserves it for
// orders: every line of an order or none, for a while, and never twice.
//
// `estoque migrate` brings the database's schema up to date and exits.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const (
	name = "estoque"
	// schemaWait bounds the wait for the migration at the start.
	schemaWait = time.Minute
)

//go:generate sqlc generate

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// settings of the service.
type settings struct {
	server   server.Settings
	database postgres.Settings
	seed     bool // SEED_CATALOGUE: fill an empty catalogue
}

// run serves until ctx is done and every request is answered; with the argument
// migrate it migrates instead.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) == 1 && args[0] == "migrate" {
		return migrate(ctx, getenv, stdout)
	}
	env := config.NewReader(args, getenv)
	settings := settings{
		server:   server.ReadSettings(env, name),
		database: postgres.ReadSettings(env),
		seed:     env.Choice("SEED_CATALOGUE", "false", "true") == "true",
	}
	if err := env.Err(); err != nil {
		return err
	}
	logger := logging.New(stdout, settings.server.Log)
	tracing, err := telemetry.Start(ctx, settings.server.Telemetry, logger)
	if err != nil {
		return fmt.Errorf("starting telemetry: %w", err)
	}
	defer tracing.Close()
	return serve(ctx, settings, logger, tracing.Provider)
}

func migrate(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(nil, getenv)
	identity := env.Identity(name)
	log := logging.ReadSettings(env, identity.Service)
	database := postgres.ReadSettings(env)
	if err := env.Err(); err != nil {
		return err
	}
	return postgres.Migrate(ctx, database.URL, migrations.Files, logging.New(stdout, log))
}

func serve(ctx context.Context, settings settings, logger *slog.Logger, provider trace.TracerProvider) error {
	pool, err := postgres.Open(ctx, settings.database, logger, provider)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer pool.Close()
	waiting, cancel := context.WithTimeout(ctx, schemaWait)
	defer cancel()
	if err := postgres.WaitSchema(waiting, pool, migrations.Files); err != nil {
		return fmt.Errorf("waiting for the schema: %w", err)
	}
	goods := stock.New(pool)
	if settings.seed {
		added, err := goods.Seed(ctx)
		if err != nil {
			return err
		}
		logger.InfoContext(ctx, "the catalogue is there", "added", added)
	}

	counts := stock.NewCounts()
	srv, err := newServer(settings.server, logger, provider, goods, counts)
	if err != nil {
		return err
	}
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))

	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // also when the server cannot listen
	sweeping.Go(func() { sweep(ctx, goods, counts, logger, sweepPause) })
	return srv.Run(ctx)
}

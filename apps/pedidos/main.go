// Command pedidos is the orders of Loja Veloz: it takes an order, and carries it
// through stock and payment to its end, whatever fails on the way.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

//go:generate sqlc generate

const (
	name = "pedidos"
	// bodyLimit in bytes is several times what the largest order takes.
	bodyLimit = 16 << 10
	// callTimeout is above the time that pagamentos gives an acquirer, so that it is
	// pagamentos which says what is not known.
	callTimeout = 13 * time.Second
	// schemaTimeout is how long the schema may take to be migrated.
	schemaTimeout = time.Minute
)

//go:embed migrations
var migrationFiles embed.FS

func migrations() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the name is a constant
	}
	return files
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// settings are the service's own.
type settings struct {
	server     server.Settings
	log        logging.Settings
	traces     telemetry.Settings
	database   postgres.Settings
	estoque    string
	pagamentos string
	lease      time.Duration
}

func readSettings(args []string, getenv func(string) string) (settings, error) {
	env := config.NewReader(args, getenv)
	s := settings{
		server:     server.ReadSettings(env, name),
		database:   postgres.ReadSettings(env),
		estoque:    env.HTTPURL("ESTOQUE_URL"),
		pagamentos: env.HTTPURL("PAGAMENTOS_URL"),
		lease:      env.Duration("CHECKOUT_LEASE", 30*time.Second, 3*time.Second, 10*time.Minute),
	}
	s.log = logging.ReadSettings(env, s.server.Identity.Service)
	s.traces = telemetry.ReadSettings(env, s.server.Identity)
	for variable, value := range map[string]string{"ESTOQUE_URL": s.estoque, "PAGAMENTOS_URL": s.pagamentos} {
		if value == "" {
			env.Reject(variable, "missing")
		}
	}
	return s, env.Err()
}

// run serves until ctx is done and every request is answered, or carries out the
// subcommand in args.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "migrate" {
		return migrate(ctx, args[1:], getenv, stdout)
	}
	s, err := readSettings(args, getenv)
	if err != nil {
		return err
	}
	logger := logging.New(stdout, s.log)
	tracing, err := telemetry.Start(ctx, s.traces, logger)
	if err != nil {
		return fmt.Errorf("starting telemetry: %w", err)
	}
	defer tracing.Close()
	pool, err := postgres.Open(ctx, s.database, logger, tracing.Provider)
	if err != nil {
		return fmt.Errorf("preparing the database: %w", err)
	}
	defer pool.Close()
	waiting, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	if err := postgres.WaitSchema(waiting, pool, migrations()); err != nil {
		return err
	}
	a, err := newApp(s, pool, logger, tracing.Provider)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// migrate brings the schema to what this version needs: River's tables, then ours.
// It is run by the role that owns the schema.
func migrate(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(args, getenv)
	log := logging.ReadSettings(env, name)
	database := postgres.ReadSettings(env)
	if err := env.Err(); err != nil {
		return err
	}
	logger := logging.New(stdout, log)
	if err := migrateJobs(ctx, database.URL, logger); err != nil {
		return err
	}
	return postgres.Migrate(ctx, database.URL, migrations(), logger)
}

// jobsLock is the advisory lock of the jobs' migration, of which River itself
// does not see to it that it is made once.
const jobsLock = 0x70656469646f73

// migrateJobs makes River's tables.
func migrateJobs(ctx context.Context, url string, logger *slog.Logger) (err error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return errors.New("migrating the jobs: DATABASE_URL cannot be used")
	}
	defer pool.Close()
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", jobsLock); err != nil {
			return fmt.Errorf("waiting for another migration: %w", err)
		}
		defer func() { _ = conn.Conn().Close(context.WithoutCancel(ctx)) }() // and with it the lock
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(quiet{logger.Handler()})})
		if err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		result, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		if err != nil {
			return fmt.Errorf("applying: %w", err)
		}
		for _, version := range result.Versions {
			logger.InfoContext(ctx, "jobs migrated", "version", version.Version)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("migrating the jobs: %w", err)
	}
	return nil
}

// app is the whole service.
type app struct {
	server    *server.Server
	checkouts *checkouts
	jobs      *jobs
}

func newApp(s settings, pool *pgxpool.Pool, logger *slog.Logger, provider trace.TracerProvider) (*app, error) {
	srv, err := server.New(s.server, logger, provider, server.Options{BodyLimit: bodyLimit, Explain: explain, Document: pedidos.Document})
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}
	doer := client.New(callTimeout, provider)
	stock, err := newEstoque(s.estoque, doer)
	if err != nil {
		return nil, err
	}
	payments, err := newPagamentos(s.pagamentos, doer)
	if err != nil {
		return nil, err
	}
	queries := store.New(pool)
	cs := &checkouts{
		pool: pool, queries: queries, stock: stock, payments: payments,
		metrics: newMetrics(srv.Metrics()), logger: logger, lease: s.lease,
	}
	a := &app{server: srv, checkouts: cs}
	if a.jobs, err = newJobs(pool, cs, provider, logger); err != nil {
		return nil, err
	}
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	pedidos.RegisterHandlersWithOptions(srv.Router(), pedidos.NewHandler(newOperations(cs)),
		pedidos.GinServerOptions{ErrorHandler: api.ParameterError})
	return a, nil
}

// run serves and works on jobs until ctx is done. Jobs and orders that are being
// carried on are given a moment; what does not make it is resumed by the next
// process.
func (a *app) run(ctx context.Context) error {
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	if err := a.jobs.client.Start(working); err != nil {
		return fmt.Errorf("starting the jobs: %w", err)
	}
	served := a.server.Run(ctx)

	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { a.checkouts.wait(); close(done) }()
	select {
	case <-done:
	case <-leaving.Done():
	}
	if err := a.jobs.client.Stop(leaving); err != nil {
		if err := a.jobs.client.StopAndCancel(context.WithoutCancel(ctx)); err != nil {
			return errors.Join(served, fmt.Errorf("stopping the jobs: %w", err))
		}
	}
	return served
}

// Command pagamentos is the payments of Loja Veloz: one per order, charged at
// most once whatever happens.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

const name = "pagamentos"

const (
	// bodyLimit is ample for the one document that is taken.
	bodyLimit = 16 << 10
	// schemaWait is how long the database and its migration may take to be there.
	schemaWait = time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// run serves until ctx is done and every request is answered; with the argument
// migrate it brings the schema up to date instead.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "migrate" {
		return migrate(ctx, args[1:], getenv, stdout)
	}
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

	pool, err := postgres.Open(ctx, settings.database, logger, tracing.Provider)
	if err != nil {
		return err
	}
	defer pool.Close()
	waiting, cancel := context.WithTimeout(ctx, schemaWait)
	defer cancel()
	if err := postgres.WaitSchema(waiting, pool, migrations.Files); err != nil {
		return fmt.Errorf("waiting for the schema: %w", err)
	}

	srv, payments, err := newServer(settings, pool, newAcquirer(settings, pool, tracing.Provider), logger, tracing.Provider)
	if err != nil {
		return err
	}
	var resolving sync.WaitGroup
	resolver, stop := context.WithCancel(ctx)
	resolving.Go(func() { payments.resolve(resolver, resolveEvery) })
	err = srv.Run(ctx)
	stop()
	resolving.Wait()
	return err
}

func migrate(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(args, getenv)
	identity := env.Identity(name)
	log := logging.ReadSettings(env, identity.Service)
	database := postgres.ReadSettings(env)
	if err := env.Err(); err != nil {
		return err
	}
	return postgres.Migrate(ctx, database.URL, migrations.Files, logging.New(stdout, log))
}

// settings are what the service reads from its environment.
type settings struct {
	server     server.Settings
	database   postgres.Settings
	acquirer   string          // ACQUIRER: simulator or stripe
	stripe     stripe.Settings // with ACQUIRER=stripe
	timeout    time.Duration   // ACQUIRER_TIMEOUT: of one call of the acquirer
	currencies []string        // CURRENCIES: those that are taken
}

func readSettings(env *config.Reader) settings {
	s := settings{
		server:   server.ReadSettings(env, name),
		database: postgres.ReadSettings(env),
		// Less than the minute after which the resolver takes a payment up.
		timeout: env.Duration("ACQUIRER_TIMEOUT", 10*time.Second, 100*time.Millisecond, 30*time.Second),
	}
	switch s.acquirer = env.Text("ACQUIRER", ""); s.acquirer {
	case simulator.Name:
	case stripe.Name:
		s.stripe = stripe.ReadSettings(env)
	case "":
		env.Reject("ACQUIRER", "required: %s or %s", simulator.Name, stripe.Name)
	default:
		env.Reject("ACQUIRER", "%q is neither %s nor %s", s.acquirer, simulator.Name, stripe.Name)
	}
	for _, currency := range strings.Split(env.Text("CURRENCIES", "BRL"), ",") {
		currency = strings.TrimSpace(currency)
		if !money.IsCurrency(currency) || slices.Contains(s.currencies, currency) {
			env.Reject("CURRENCIES", "%q is not the code of a currency such as BRL, or is there twice", currency)
		}
		s.currencies = append(s.currencies, currency)
	}
	return s
}

func newAcquirer(s settings, pool *pgxpool.Pool, provider trace.TracerProvider) acquirer.Acquirer {
	if s.acquirer == stripe.Name {
		return stripe.New(s.stripe, s.timeout, provider)
	}
	return simulator.New(pool)
}

// newServer wires the operations to their addresses.
func newServer(s settings, pool *pgxpool.Pool, cards acquirer.Acquirer, logger *slog.Logger, provider trace.TracerProvider) (*server.Server, *payments, error) {
	srv, err := server.New(s.server, logger, provider, server.Options{BodyLimit: bodyLimit, Explain: explain, Document: contract.Document})
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the server: %w", err)
	}
	metrics := newMetrics(srv.Metrics())
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	payments := newPayments(pool, observe(cards, metrics, provider), s.timeout, metrics, logger, provider)
	contract.RegisterHandlersWithOptions(srv.Router(), contract.NewHandler(&handlers{payments, s.currencies}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
	return srv, payments, nil
}

// explain knows what it means that the database cannot be used.
func explain(err error) *problem.Error {
	if !postgres.Down(err) && !errors.Is(err, errStore) {
		return nil
	}
	e := problem.Wrap(problem.Unavailable, "The service cannot reach its database. Please try again in a moment.", err)
	e.RetryAfter = time.Second
	return e
}

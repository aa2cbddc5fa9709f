// Command pagamentos keeps the payments of Loja Veloz: one per order, charged at
// most once.
//
// `pagamentos migrate` brings the database's schema up to date and exits.
package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

const name = "pagamentos"

// bodyLimit in bytes is several times what the only request body takes.
const bodyLimit = 16 << 10

var run = service.Commands{"": serve, "migrate": postgres.MigrateCommand(name, migrations.Files)}.Run

func main() { service.Main(name, run) }

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	settings, database := readSettings(env), postgres.ReadSettings(env)
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	pool, err := postgres.Connect(ctx, database, migrations.Files, frame.Logger, frame.Provider)
	if err != nil {
		return err
	}
	defer pool.Close()
	srv, payments, err := newServer(frame, settings, pool, newAcquirer(settings, pool, frame.Provider))
	if err != nil {
		return err
	}
	return frame.Serve(ctx, srv, newResolver(frame, payments, resolveInterval))
}

// settings are the service's own.
type settings struct {
	acquirer   string          // ACQUIRER: required, simulator or stripe
	stripe     stripe.Settings // with ACQUIRER=stripe
	timeout    time.Duration   // ACQUIRER_TIMEOUT: 10s, for one call of the acquirer
	currencies []string        // CURRENCIES: BRL; those that are accepted
}

func readSettings(env *config.Reader) settings {
	s := settings{
		// Below the minute after which the resolver takes up a payment.
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
func newServer(frame *service.Frame, s settings, pool *pgxpool.Pool, cards acquirer.Acquirer) (*server.Server, *payments, error) {
	srv, err := frame.NewServer(server.Options{BodyLimit: bodyLimit, Explain: explain, Document: contract.Document})
	if err != nil {
		return nil, nil, err
	}
	metrics := newMetrics(srv.Metrics())
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	payments := newPayments(pool, observe(cards, metrics, frame.Provider), s.timeout, metrics, frame.Logger, frame.Provider)
	contract.RegisterHandlersWithOptions(srv.Router(), contract.NewHandler(&handlers{payments, s.currencies}),
		contract.GinServerOptions{ErrorHandler: api.ParameterError})
	return srv, payments, nil
}

// explain maps a database outage to 503 with Retry-After.
func explain(err error) *problem.Error {
	if !postgres.Down(err) && !errors.Is(err, errStore) {
		return nil
	}
	e := problem.Wrap(problem.Unavailable, "The service cannot reach its database. Please try again in a moment.", err)
	e.RetryAfter = time.Second
	return e
}

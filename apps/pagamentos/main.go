// Command pagamentos keeps the payments of Loja Veloz: one per order, charged at
// most once.
//
// Commands, which need the service's settings:
//
//   - `pagamentos migrate` brings the database's schema up to date.
//   - `pagamentos needing-person` lists the payments that do not finish by themselves.
//   - `pagamentos retry ORDER_ID` repeats the next step of a payment.
//   - `pagamentos refunded ORDER_ID REFERENCE` records a refund by other means.
//   - `pagamentos give-up REFUND_ID` ends a partial refund that the acquirer refuses.
//
// Instead of ORDER_ID, the id of a partial refund may be given.
package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

const name = "pagamentos"

// resolveInterval is the mean pause between two rounds of the resolver.
const resolveInterval = 15 * time.Second

//go:generate sqlc generate

var run = service.Commands{
	"": serve, "migrate": postgres.MigrateCommand(name, migrations.Files),
	"needing-person": listNeedingPerson, "retry": retry, "refunded": recordRefund,
	"give-up": giveUpRefund,
}.Run

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
	if settings.acquirer == stripe.Name && settings.stripe.WebhookSecret == "" {
		frame.Logger.Warn("STRIPE_WEBHOOK_SECRET is not set: Stripe cannot say when a shopper has authenticated or a refund has failed")
	}
	pruning := retention.Loop(frame, srv.Metrics(), retention.Interval,
		retention.Rows{Table: "pagamento_transitions", Age: settings.history, Prune: payments.PruneTransitions})
	return frame.Serve(ctx, srv, newResolver(frame, payments, resolveInterval), pruning)
}

// settings are those that only this service has.
type settings struct {
	acquirer   string          // ACQUIRER: required, simulator or stripe
	stripe     stripe.Settings // with ACQUIRER=stripe
	timeout    time.Duration   // ACQUIRER_TIMEOUT: of one call to the acquirer; default 10s
	currencies []string        // CURRENCIES: the accepted currencies; default BRL
	history    time.Duration   // HISTORY_RETENTION: how long the transitions of finished payments stay; default 400 days
}

func readSettings(env *config.Reader) settings {
	s := settings{
		// At most 30 s, because the resolver takes up a payment after a minute.
		timeout: env.Duration("ACQUIRER_TIMEOUT", 10*time.Second, 100*time.Millisecond, 30*time.Second),
		history: env.Duration("HISTORY_RETENTION", retention.Default, 30*24*time.Hour, retention.Max),
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
			env.Reject("CURRENCIES", "%q is a duplicate or not an ISO 4217 code such as BRL", currency)
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

// Command pedidos takes the orders of Loja Veloz, and carries each one through stock
// and payment until it is final, even if processes or services fail on the way.
//
// `pedidos migrate` brings the database's schema up to date and exits.
package main

import (
	"context"
	"io"
	"time"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/jobs"
	"github.com/loja-veloz/platform/apps/pedidos/migrations"
	"github.com/loja-veloz/platform/apps/pedidos/peers"
	"github.com/loja-veloz/platform/apps/pedidos/webhook"
)

//go:generate sqlc generate

const (
	name = "pedidos"
	// callTimeout is longer than pagamentos waits for an acquirer, so that pagamentos can
	// answer that the outcome of a payment is unknown.
	callTimeout = 13 * time.Second
)

var run = service.Commands{"": serve, "migrate": postgres.MigrateCommand(name, migrations.Files, jobs.Migrate)}.Run

func main() { service.Main(name, run) }

// settings are those that only this service has.
type settings struct {
	lease        time.Duration // CHECKOUT_LEASE: how long a process may work on an order; default 30s
	cancelWithin time.Duration // CANCEL_WITHIN: after its placement, an order may be cancelled; default 7 days
	// authenticateWithin (AUTHENTICATE_WITHIN) is how long after its placement an order waits for
	// its shopper to authenticate; default 10 min. estoque keeps a reservation for 15.
	authenticateWithin time.Duration
	// answers (ANSWER_RETENTION) is how long after its placement a final order keeps the answer to
	// its client; default 30 days. A request with its key is then told how the order stands.
	answers time.Duration
	// history (HISTORY_RETENTION) is how long it keeps its transitions; default 400 days.
	history  time.Duration
	webhooks webhook.Mode // WEBHOOKS: to which addresses events may be sent; default off
}

func readSettings(env *config.Reader) settings {
	const day = 24 * time.Hour
	s := settings{
		lease:              env.Duration("CHECKOUT_LEASE", 30*time.Second, 3*time.Second, 10*time.Minute),
		cancelWithin:       env.Duration("CANCEL_WITHIN", 7*day, time.Minute, 365*day),
		authenticateWithin: env.Duration("AUTHENTICATE_WITHIN", 10*time.Minute, 10*time.Second, 14*time.Minute),
		answers:            env.Duration("ANSWER_RETENTION", 30*day, day, retention.Max),
		history:            env.Duration("HISTORY_RETENTION", retention.Default, webhook.KeepEvents, retention.Max),
		webhooks:           webhook.Mode(env.Choice("WEBHOOKS", string(webhook.Off), string(webhook.Public), string(webhook.Any))),
	}
	retention.AtLeast(env, "HISTORY_RETENTION", s.history, s.cancelWithin+day,
		"an order that can be cancelled (CANCEL_WITHIN) needs its transitions until a day later")
	return s
}

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	database := postgres.ReadSettings(env)
	estoque, pagamentos := env.HTTPURL("ESTOQUE_URL"), env.HTTPURL("PAGAMENTOS_URL")
	for variable, url := range map[string]string{"ESTOQUE_URL": estoque, "PAGAMENTOS_URL": pagamentos} {
		if url == "" {
			env.Reject(variable, "missing")
		}
	}
	own := readSettings(env)
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	doer := client.New(callTimeout, frame.Provider)
	stock, err := peers.NewStock(estoque, doer)
	if err != nil {
		return err
	}
	payments, err := peers.NewPayments(pagamentos, doer)
	if err != nil {
		return err
	}
	pool, err := postgres.Connect(ctx, database, migrations.Files, frame.Logger, frame.Provider)
	if err != nil {
		return err
	}
	defer pool.Close()
	a, err := newApp(frame, pool, stock, payments, own)
	if err != nil {
		return err
	}
	return frame.Serve(ctx, a.server, a.workers...)
}

package main

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/httpapi"
)

func newServer(
	frame *service.Frame, s settings, pool *pgxpool.Pool, cards acquirer.Acquirer,
) (*server.Server, *charging.Payments, error) {
	srv, err := frame.NewServer(server.Options{
		BodyLimit: httpapi.BodyLimit, Explain: httpapi.Explain, Document: contract.Document,
	})
	if err != nil {
		return nil, nil, err
	}
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	payments := charging.New(pool, cards, s.timeout, charging.NewMetrics(srv.Metrics()), frame.Logger, frame.Provider)
	httpapi.Register(srv.Router(), payments, s.currencies)
	if cards, ok := cards.(*stripe.Stripe); ok && cards.HasWebhook() {
		srv.Handle("webhook", "/webhooks/stripe", httpapi.Webhook(payments, "Stripe-Signature", cards.Notice), http.MethodPost)
	}
	return srv, payments, nil
}

// newResolver returns the loop that finishes payments whose request did not, because of
// a crash or because the client did not repeat it.
func newResolver(frame *service.Frame, payments *charging.Payments, interval time.Duration) service.Worker {
	return frame.Loop("resolve-payments", interval, func(ctx context.Context) error {
		_, err := payments.ResolveDue(ctx)
		return err
	})
}

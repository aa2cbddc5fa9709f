package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/httpapi"
	"github.com/loja-veloz/platform/apps/pedidos/jobs"
	"github.com/loja-veloz/platform/apps/pedidos/store"
	"github.com/loja-veloz/platform/apps/pedidos/webhook"
)

// measureEvery is the mean pause between two measurements of the events that wait.
const measureEvery = 15 * time.Second

// followInterval is the mean pause between two rounds in which pagamentos is asked for partial refunds.
const followInterval = 5 * time.Second

// app is the whole service.
type app struct {
	server  *server.Server
	orders  *checkout.Service
	workers []service.Worker
}

func newApp(
	frame *service.Frame, pool *pgxpool.Pool, stock checkout.Stock, payments checkout.Payments, s settings,
) (*app, error) {
	srv, err := frame.NewServer(server.Options{BodyLimit: httpapi.BodyLimit, Explain: httpapi.Explain, Document: contract.Document})
	if err != nil {
		return nil, err
	}
	view := httpapi.View{CancelWithin: s.cancelWithin}
	queue, err := jobs.NewQueue(pool, frame.Logger)
	if err != nil {
		return nil, err
	}
	orders := checkout.New(checkout.Config{
		Pool: pool, Queries: store.New(pool), Stock: stock, Payments: payments, Queue: queue,
		Encode: view.Encode, Lease: s.lease,
		CancelWithin: s.cancelWithin, AuthenticateWithin: s.authenticateWithin,
		Logger: frame.Logger, Registry: srv.Metrics(),
	})
	workers, err := queue.Workers(frame, s.lease, orders.Resume)
	if err != nil {
		return nil, err
	}
	webhooks := webhook.New(webhook.Config{
		Pool: pool, Mode: s.webhooks, Logger: frame.Logger, Failures: frame.Failures, Registry: srv.Metrics(),
		Order: func(ctx context.Context, event store.TakeDeliveriesRow) ([]byte, error) {
			then, err := orders.AsOf(ctx, event.OrderID, event.Position, event.At, event.Refunds)
			if err != nil {
				return nil, err
			}
			return view.Encode(&then)
		},
	})
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	httpapi.Register(srv.Router(), orders, webhooks)
	workers = append(workers, orders.Drain, webhooks.Run, frame.Loop("webhooks-age", measureEvery, webhooks.MeasureAge),
		frame.Loop("follow-refunds", followInterval, orders.FollowRefunds),
		newPruning(frame, srv.Metrics(), pool, s, retention.Interval))
	return &app{srv, orders, workers}, nil
}

// newPruning returns the loop that erases the answers and the transitions of old orders, and old events.
func newPruning(
	frame *service.Frame, registry prometheus.Registerer, pool *pgxpool.Pool, s settings, interval time.Duration,
) service.Worker {
	queries := store.New(pool)
	return retention.Loop(frame, registry, interval,
		retention.Rows{Table: "pedidos", Age: s.answers, Prune: func(ctx context.Context, before time.Time, max int32) (int64, error) {
			return queries.PruneAnswers(ctx, store.PruneAnswersParams{Before: retention.FirstID(before), MaxRows: max})
		}},
		retention.Rows{Table: "pedido_transitions", Age: s.history, Prune: func(ctx context.Context, before time.Time, max int32) (int64, error) {
			return queries.PruneTransitions(ctx, store.PruneTransitionsParams{Before: retention.FirstID(before), MaxOrders: max})
		}},
		retention.Rows{Table: "pedido_events", Age: webhook.KeepEvents, Prune: func(ctx context.Context, t time.Time, max int32) (int64, error) {
			return webhook.Prune(ctx, pool, t, max)
		}})
}

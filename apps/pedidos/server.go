package main

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/httpapi"
	"github.com/loja-veloz/platform/apps/pedidos/jobs"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

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
	queue, err := jobs.NewQueue(pool, frame.Logger)
	if err != nil {
		return nil, err
	}
	orders := checkout.New(checkout.Config{
		Pool: pool, Queries: store.New(pool), Stock: stock, Payments: payments, Queue: queue,
		Encode: httpapi.View{CancelWithin: s.cancelWithin}.Encode, Lease: s.lease,
		CancelWithin: s.cancelWithin, AuthenticateWithin: s.authenticateWithin,
		Logger: frame.Logger, Registry: srv.Metrics(),
	})
	workers, err := queue.Workers(frame, s.lease, orders.Resume)
	if err != nil {
		return nil, err
	}
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	httpapi.Register(srv.Router(), orders)
	follow := frame.Loop("follow-refunds", followInterval, orders.FollowRefunds)
	return &app{srv, orders, append(workers, orders.Drain, follow)}, nil
}

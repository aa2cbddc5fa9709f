// Command estoque keeps the shop's items and their stock. It reserves stock for an
// order, all of its lines or none, until the order is confirmed or released, or the
// reservation expires.
//
// `estoque migrate` brings the database's schema up to date and exits.
package main

import (
	"context"
	"io"
	"time"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const name = "estoque"

//go:generate sqlc generate

var run = service.Commands{"": serve, "migrate": postgres.MigrateCommand(name, migrations.Files)}.Run

func main() { service.Main(name, run) }

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	database := postgres.ReadSettings(env)
	seed := env.Choice("SEED_CATALOGUE", "false", "true") == "true" // only if the catalogue is empty
	keep := readRetention(env)
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
	goods := stock.New(pool)
	if seed {
		added, err := goods.Seed(ctx)
		if err != nil {
			return err
		}
		frame.Logger.InfoContext(ctx, "catalogue seeded", "added", added)
	}
	counts := stock.NewCounts()
	srv, err := newServer(frame, goods, counts)
	if err != nil {
		return err
	}
	srv.Metrics().MustRegister(postgres.NewMetrics(pool))
	pruning := retention.Loop(frame, srv.Metrics(), retention.Interval,
		retention.Rows{Table: "estoque_reservations", Age: keep, Prune: goods.Prune})
	return frame.Serve(ctx, srv, newSweep(frame, goods, counts, sweepInterval), pruning)
}

// readRetention reads how long reservations stay that hold no unit, default 400 days.
func readRetention(env *config.Reader) time.Duration {
	age := env.Duration("RESERVATION_RETENTION", retention.Default, time.Hour, retention.Max)
	retention.AtLeast(env, "RESERVATION_RETENTION", age, retention.Default,
		"an order can be cancelled for up to 365 days and refunded for weeks, and only its reservation knows the units that come back")
	return age
}

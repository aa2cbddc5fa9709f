package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

func getenv(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestAllWrongSettingsAreNamed(t *testing.T) {
	for _, args := range [][]string{nil, {"migrate"}} {
		values := map[string]string{
			"DATABASE_URL": "postgres://estoque:secret@", "DATABASE_MAX_CONNECTIONS": "0", "SERVICE_NAME": "a b", "LOG_LEVEL": "loud",
		}
		names := []string{"DATABASE_URL", "DATABASE_MAX_CONNECTIONS", "SERVICE_NAME", "LOG_LEVEL"}
		if args == nil {
			values["PORT"], values["SEED_CATALOGUE"], values["RESERVATION_RETENTION"] = "x", "perhaps", "8760h"
			names = append(names, "PORT", "SEED_CATALOGUE", "RESERVATION_RETENTION: 8760h0m0s is shorter than 9600h0m0s: an order can be cancelled")
		}
		err := run(t.Context(), args, getenv(values), io.Discard)
		if err == nil {
			t.Fatal("started with wrong settings")
		}
		for _, name := range names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q: %s is not named in %v", args, name, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is shown: %v", err)
		}
	}
	// A second argument is an error, although the first is a subcommand.
	err := run(t.Context(), []string{"migrate", "now"}, getenv(nil), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") || !strings.Contains(err.Error(), `"now"`) {
		t.Errorf("got %v, want DATABASE_URL and the argument named", err)
	}
}

// output collects a running service's log.
type output struct{ apitest.Log }

// address returns the URL at which the service listens, or "" if it does not listen yet.
func (o *output) address() string {
	for line := range strings.Lines(o.String()) {
		var record struct{ Message, Address string }
		if json.Unmarshal([]byte(line), &record) == nil && record.Message == "listening" {
			return "http://" + record.Address
		}
	}
	return ""
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestTheServiceFromMigrationToShutdown(t *testing.T) {
	db := postgrestest.New(t, nil)
	log := &output{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, nil, getenv(map[string]string{
			"DATABASE_URL": db.URL, "SEED_CATALOGUE": "true", "BIND_ADDRESS": "127.0.0.1", "PORT": "0", "DRAIN_PAUSE": "0s",
		}), log)
	}()
	eventually(t, "the service to find no schema", func() bool {
		var looks int
		err := db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' AND query LIKE '%goose_db_version%'`).Scan(&looks)
		if err != nil {
			t.Fatal(err)
		}
		return looks > 0
	})
	if log.address() != "" {
		t.Error("listening without a schema")
	}
	for range 2 { // the second migration changes nothing
		if err := run(t.Context(), []string{"migrate"}, getenv(map[string]string{"DATABASE_URL": db.OwnerURL}), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the service to listen", func() bool { return log.address() != "" })

	client, err := contract.NewClientWithResponses(log.address())
	if err != nil {
		t.Fatal(err)
	}
	page, err := client.ListItemsWithResponse(ctx, &contract.ListItemsParams{Limit: new(int32(100))})
	if err != nil || page.JSON200 == nil || len(page.JSON200.Items) < 12 {
		t.Fatalf("the seeded catalogue: %v, %v", page, err)
	}

	// The sweep releases the stock of an expired reservation.
	order := uuid.Must(uuid.NewV7())
	item := page.JSON200.Items[0]
	body := contract.ReservationRequest{
		Lines: []contract.ReservationLineRequest{{SKU: item.SKU, Quantity: 7}}, ExpiresInSeconds: new(int32(1)),
	}
	if response, err := client.ReserveWithResponse(ctx, order, body); err != nil || response.StatusCode() != http.StatusCreated {
		t.Fatalf("reserving: %v, %v", response, err)
	}
	eventually(t, "the reservation to expire", func() bool {
		shown, err := client.ShowItemWithResponse(ctx, item.SKU)
		return err == nil && shown.JSON200.Available == item.Available
	})

	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the service does not stop")
	}
	if strings.Contains(log.String(), "of-tests") {
		t.Error("the password is in the log")
	}
}

func TestStartToReady(t *testing.T) {
	db := postgrestest.New(t, migrations.Files)
	log := &output{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	start := time.Now()
	go func() {
		done <- run(ctx, nil, getenv(map[string]string{
			"DATABASE_URL": db.URL, "BIND_ADDRESS": "127.0.0.1", "PORT": "0", "DRAIN_PAUSE": "0s",
		}), log)
	}()
	eventually(t, "the service to listen", func() bool { return log.address() != "" })
	t.Logf("ready after %s", time.Since(start))
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTheSweepSurvivesAnOutageAndStops(t *testing.T) {
	db := postgrestest.New(t, migrations.Files)
	log := &output{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	ctx, stop := context.WithCancel(t.Context())
	owner, err := pgx.Connect(t.Context(), db.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	admin := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	admin(`ALTER TABLE estoque_reservations RENAME TO away`)
	var sweeping sync.WaitGroup
	frame := service.New(server.Settings{}, logger, noop.NewTracerProvider())
	sweep := newSweep(frame, stock.New(db.Pool), stock.NewCounts(), time.Millisecond)
	sweeping.Go(func() {
		if err := sweep(ctx); err != nil {
			t.Error(err)
		}
	})
	logged := func(text string) func() bool {
		return func() bool { return strings.Contains(log.String(), text) }
	}
	eventually(t, "the log of the failure", logged("background task failed"))
	failed := db.Pool.Stat().AcquireCount()
	eventually(t, "more sweeps that fail", func() bool { return db.Pool.Stat().AcquireCount() >= failed+5 })
	admin(`ALTER TABLE away RENAME TO estoque_reservations`)
	eventually(t, "the log of the recovery", logged("background task recovered"))
	stop()
	sweeping.Wait()
	if n := strings.Count(log.String(), "task failed"); n != 1 {
		t.Errorf("the failure was logged %d times, want once:\n%s", n, log.String())
	}
}

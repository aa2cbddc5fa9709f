package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

var things = fstest.MapFS{"00001_things.sql": {Data: []byte(`-- +goose Up
CREATE TABLE things (
    id bigint PRIMARY KEY,
    amount int NOT NULL DEFAULT 0 CONSTRAINT things_amount CHECK (amount >= 0),
    parent bigint CONSTRAINT things_parent REFERENCES things
);
`)}}

var silent = slog.New(slog.DiscardHandler)

func read(env map[string]string) (postgres.Settings, error) {
	reader := config.NewReader(nil, func(name string) string { return env[name] })
	settings := postgres.ReadSettings(reader)
	return settings, reader.Err()
}

func TestSettings(t *testing.T) {
	settings, err := read(map[string]string{"DATABASE_URL": "postgres://pedidos:hunter2@server:5432/pedidos?sslmode=disable"})
	if err != nil || settings.MaxConnections != 8 {
		t.Errorf("settings = %+v, %v; want 8 connections", settings, err)
	}
	settings, err = read(map[string]string{"DATABASE_URL": "postgres://a:b@c/d", "DATABASE_MAX_CONNECTIONS": "20", "SERVICE_NAME": "pedidos"})
	if err != nil || settings.MaxConnections != 20 || settings.Application != "pedidos" {
		t.Errorf("settings = %+v, %v; want 20 connections of pedidos", settings, err)
	}
}

func TestErrorsOfTheURLDoNotShowIt(t *testing.T) {
	for _, raw := range []string{
		"", "host=server password=hunter2", "mysql://a:hunter2@server/pedidos", "postgres://a:hunter2@/pedidos",
		"postgres://:hunter2@server/pedidos", "postgres://a:hunter2@server", "postgres://a:hunter2@server/", "postgres://a:hunter2@server:port/pedidos",
		"postgres://a:hunter2%zz@server/pedidos", "postgres://a:hunter2@server/pedidos?sslmode=hunter2", "postgres://a:hunter2@server/d?sslrootcert=/hunter2",
	} {
		_, err := read(map[string]string{"DATABASE_URL": raw})
		if err == nil || !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want an error of DATABASE_URL without the password", raw, err)
		}
		if _, err := postgres.Open(t.Context(), postgres.Settings{URL: raw}, silent, noop.NewTracerProvider()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open %s: %v, want an error without the password", raw, err)
		}
	}
	for _, count := range []string{"0", "101", "many"} {
		if _, err := read(map[string]string{"DATABASE_URL": "postgres://a:b@c/d", "DATABASE_MAX_CONNECTIONS": count}); err == nil || !strings.Contains(err.Error(), "DATABASE_MAX_CONNECTIONS") {
			t.Errorf("%s connections: %v, want an error", count, err)
		}
	}
}

func TestSettingsAreShownWithoutThePassword(t *testing.T) {
	settings := postgres.Settings{URL: "postgres://pedidos:hunter2@server:5432/pedidos?password=hunter2", MaxConnections: 8}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "settings", settings)
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "settings", settings)
	shown := log.String() + fmt.Sprintf("%v %+v %#v %s %v", settings, settings, settings, settings, struct{ S postgres.Settings }{settings}) +
		fmt.Sprintf("%v %#v", postgres.Role{Name: "a", Password: "hunter2"}, postgres.Roles{Owner: postgres.Role{Password: "hunter2"}})
	if strings.Contains(shown, "hunter2") {
		t.Errorf("the password is shown: %s", shown)
	}
	if !strings.Contains(shown, "postgres://pedidos@server:5432/pedidos") {
		t.Errorf("the URL without its password is missing: %s", shown)
	}
}

func TestASessionHasItsLimits(t *testing.T) {
	db := postgrestest.New(t, things)
	pool := open(t, postgres.Settings{URL: db.URL + "&lock_timeout=1234", MaxConnections: 3, Application: "pedidos"})
	for setting, want := range map[string]string{
		"application_name": "pedidos", "statement_timeout": "10s", "lock_timeout": "1234ms",
		"idle_in_transaction_session_timeout": "15s", "random_page_cost": "1.1", "timezone": "UTC",
	} {
		var got string
		if err := pool.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %q", setting, got, err, want)
		}
	}
	if got := pool.Stat().MaxConns(); got != 3 {
		t.Errorf("the pool opens up to %d connections, want 3", got)
	}
}

func open(t *testing.T, settings postgres.Settings) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), settings, silent, noop.NewTracerProvider())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestAStatementHasASpanWithoutItsParameters(t *testing.T) {
	db := postgrestest.New(t, things)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	pool, err := postgres.Open(t.Context(), postgres.Settings{URL: db.URL}, silent, provider)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	ctx, parent := provider.Tracer("test").Start(t.Context(), "request")
	if _, err := pool.Exec(ctx, "-- counts\n insert INTO things (id, amount) VALUES ($1, $2)", 4242, 77); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, "SELECT $1::text::int", "of-tests-4242"); err == nil || !strings.Contains(err.Error(), "4242") {
		t.Fatalf("a text is a number: %v", err)
	}
	parent.End()

	var names []string
	for _, span := range spans.Ended() {
		if status := span.Status(); span.Name() == "SELECT" && status.Description != "22P02" {
			t.Errorf("the status of a refused statement is %v, want its SQLSTATE", status)
		}
		names = append(names, span.Name())
		shown := fmt.Sprint(span.Attributes())
		if strings.Contains(shown, "4242") || strings.Contains(shown, "hunter2") || strings.Contains(shown, "of-tests-") {
			t.Errorf("span %s shows a parameter or the password: %s", span.Name(), shown)
		}
	}
	if got := strings.Join(names, " "); got != "connect INSERT SELECT request" {
		t.Errorf("spans: %s; want connect INSERT SELECT request", got)
	}
}

func TestOpenDoesNotNeedTheServer(t *testing.T) {
	pool := open(t, postgres.Settings{URL: "postgres://a:b@" + closedAddress(t) + "/d?sslmode=disable"})
	_, err := pool.Exec(t.Context(), "SELECT 1")
	if !postgres.Down(err) {
		t.Errorf("Down(%v) = false, want true", err)
	}
}

// closedAddress returns an address that refuses connections.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestDownTellsAnUnusableDatabaseFromOtherFailures(t *testing.T) {
	db := postgrestest.New(t, things)
	ctx := t.Context()

	single := open(t, postgres.Settings{URL: db.URL, MaxConnections: 1})
	conn, err := single.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	_, exhausted := single.Exec(short, "SELECT 1")
	cancel()

	admin, err := pgx.Connect(ctx, db.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx)
	if _, err := admin.Exec(ctx, `SELECT pg_terminate_backend($1)`, conn.Conn().PgConn().PID()); err != nil {
		t.Fatal(err)
	}
	_, terminated := conn.Exec(ctx, "SELECT 1")
	_, closed := conn.Exec(ctx, "SELECT 1")
	conn.Release()

	_, readOnly := db.Pool.Exec(ctx, "BEGIN READ ONLY; INSERT INTO things VALUES (1)")
	_, duplicate := db.Pool.Exec(ctx, "INSERT INTO things VALUES (1), (1)")
	_, syntax := db.Pool.Exec(ctx, "SELEKT")
	canceled, stop := context.WithCancel(ctx)
	stop()
	_, gone := db.Pool.Exec(canceled, "SELECT 1")

	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"no connection in time":  {exhausted, true},
		"ended by the server":    {terminated, true},
		"connection closed":      {closed, true},
		"read-only":              {readOnly, true},
		"starting":               {&pgconn.PgError{Code: "57P03"}, true},
		"full":                   {fmt.Errorf("reading: %w", &pgconn.PgError{Code: "53300"}), true},
		"no space":               {&pgconn.PgError{Code: "53100"}, true},
		"cut":                    {fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), true},
		"reset":                  {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true},
		"duplicate":              {duplicate, false},
		"syntax":                 {syntax, false},
		"client disconnected":    {gone, false},
		"another service's HTTP": {&url.Error{Op: "Get", Err: syscall.ECONNREFUSED}, false},
		"no rows":                {pgx.ErrNoRows, false},
		"none":                   {nil, false},
	} {
		if got := postgres.Down(test.err); got != test.want || test.want && test.err == nil {
			t.Errorf("%s: Down(%v) = %t, want %t", name, test.err, got, test.want)
		}
	}
}

func TestMetricsOfThePool(t *testing.T) {
	db := postgrestest.New(t, things)
	ctx := t.Context()
	pool := open(t, postgres.Settings{URL: db.URL, MaxConnections: 2})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(postgres.NewMetrics(pool)); err != nil {
		t.Fatal(err)
	}
	one, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two.Release()
	got := gather(t, registry)
	two, err = pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	if _, err := pool.Acquire(short); err == nil {
		t.Fatal("a pool of two connections returned a third")
	}
	time.AfterFunc(20*time.Millisecond, one.Release)
	three, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer three.Release()
	defer two.Release()
	for name, want := range map[string]float64{
		"database_pool_connections in_use": 1, "database_pool_connections idle": 1, "database_pool_connections opening": 0,
		"database_pool_connections_max": 2, "database_pool_connections_opened_total": 2,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	after := gather(t, registry)
	if after["database_pool_waits_total"] <= got["database_pool_waits_total"] {
		t.Errorf("database_pool_waits_total = %v, then %v: the wait is not counted",
			got["database_pool_waits_total"], after["database_pool_waits_total"])
	}
	if waited := after["database_pool_wait_seconds_total"] - got["database_pool_wait_seconds_total"]; waited < .01 {
		t.Errorf("waited %v s, want the 20 ms until the release", waited)
	}
}

func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			if family.GetType() == dto.MetricType_COUNTER {
				values[name] = metric.GetCounter().GetValue()
			} else {
				values[name] = metric.GetGauge().GetValue()
			}
		}
	}
	return values
}

// Command audit checks the shop's invariants against its databases, as a role that can
// only read: that no money, no unit of stock and no order is lost. It prints a report
// and fails if an invariant is violated. With AUDIT_EVERY it keeps running, and serves
// its metrics.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const (
	name = "audit"
	// maxDuration bounds one audit. The CronJob's own limit is a little longer.
	maxDuration = 10 * time.Minute
	// connections to each database: one for each of the two looks.
	connections = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

type settings struct {
	server                       server.Settings
	push                         telemetry.Settings
	pedidos, pagamentos, estoque string        // AUDIT_..._DATABASE_URL: as the role auditor
	every                        time.Duration // AUDIT_EVERY: time between audits; 0 audits once and ends
}

func readSettings(args []string, getenv func(string) string) (settings, error) {
	env := config.NewReader(args, getenv)
	s := settings{
		server:     server.ReadSettings(env, name),
		pedidos:    postgres.ReadURL(env, "AUDIT_PEDIDOS_DATABASE_URL"),
		pagamentos: postgres.ReadURL(env, "AUDIT_PAGAMENTOS_DATABASE_URL"),
		estoque:    postgres.ReadURL(env, "AUDIT_ESTOQUE_DATABASE_URL"),
		every:      env.Duration("AUDIT_EVERY", 0, time.Second, 24*time.Hour),
	}
	s.push = telemetry.ReadMetricSettings(env, s.server.Identity)
	return s, env.Err()
}

// run audits once and prints the report, or serves until ctx is done.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	s, err := readSettings(args, getenv)
	if err != nil {
		return err
	}
	logger := logging.New(stdout, s.server.Log)
	databases, closeAll, err := open(ctx, s, logger)
	if err != nil {
		return err
	}
	defer closeAll()
	if s.every > 0 {
		return serve(ctx, s, databases, logger)
	}
	registry := prometheus.NewRegistry()
	report, err := check(ctx, databases, newMetrics(registry))
	if err != nil {
		return err
	}
	// A collector that is away makes no audit fail.
	if err := telemetry.PushMetrics(ctx, s.push, registry); err != nil {
		logger.WarnContext(ctx, "the audit's metrics are lost", "error", err.Error())
	}
	return report.Print(stdout)
}

// open prepares the databases; connections are opened when they are needed.
func open(ctx context.Context, s settings, logger *slog.Logger) (invariant.Databases, func(), error) {
	var d invariant.Databases
	closeAll := func() {}
	for _, database := range []struct {
		url  string
		pool **pgxpool.Pool
	}{{s.pedidos, &d.Pedidos}, {s.pagamentos, &d.Pagamentos}, {s.estoque, &d.Estoque}} {
		pool, err := postgres.Open(ctx, postgres.Settings{URL: database.url, MaxConnections: connections, Application: name},
			logger, noop.NewTracerProvider())
		if err != nil {
			closeAll()
			return d, nil, fmt.Errorf("preparing the databases: %w", err)
		}
		closeOthers := closeAll
		closeAll = func() { pool.Close(); closeOthers() }
		*database.pool = pool
	}
	return d, closeAll, nil
}

func check(ctx context.Context, databases invariant.Databases, m *metrics) (*invariant.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxDuration, fmt.Errorf("no end after %s", maxDuration))
	defer cancel()
	began := time.Now()
	report, err := invariant.Check(ctx, databases)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return nil, fmt.Errorf("auditing: %w", err)
	}
	m.record(report, time.Since(began))
	return report, nil
}

// serve audits at once and then regularly, logs each violation, and serves the metrics.
func serve(ctx context.Context, s settings, databases invariant.Databases, logger *slog.Logger) error {
	srv, err := server.New(s.server, logger, noop.NewTracerProvider(), server.Options{})
	if err != nil {
		return fmt.Errorf("preparing the server: %w", err)
	}
	m := newMetrics(srv.Metrics())
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			report, err := check(ctx, databases, m)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				logger.ErrorContext(ctx, "the audit failed", "error", err.Error())
			default:
				logReport(ctx, logger, report)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(s.every):
			}
		}
	}()
	err = srv.Run(ctx)
	cancel()
	<-ended
	return err
}

func logReport(ctx context.Context, logger *slog.Logger, report *invariant.Report) {
	for _, rule := range invariant.Invariants {
		v := report.Violations[rule]
		for _, violation := range v.Listed {
			logger.ErrorContext(ctx, "an invariant is violated", "invariant", string(rule), "total", v.Total,
				"subject", violation.Subject, "detail", violation.Detail)
		}
	}
}

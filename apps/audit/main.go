// Command audit checks the shop's invariants against its databases, as a role that writes
// nothing but its own checkpoint, in the schema audit of the database pedidos: that no
// money, no unit of stock and no order is lost. It prints a report and fails if an
// invariant is violated. With AUDIT_WHOLE_EVERY it reads only what has changed, until that
// time has passed since it read everything. With AUDIT_EVERY it keeps running, and serves
// its metrics.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const (
	name = "audit"
	// maxDuration limits one audit. The CronJob's own limit is a little longer.
	maxDuration = 10 * time.Minute
	// connections to each database: one for the first read and one for the recheck.
	connections = 2
)

var run = service.Commands{"": audit}.Run

func main() { service.Main(name, run) }

type settings struct {
	pedidos, pagamentos, estoque string        // AUDIT_..._DATABASE_URL: as the role auditor
	every                        time.Duration // AUDIT_EVERY: time between audits; 0 audits once and ends
	wholeEvery                   time.Duration // AUDIT_WHOLE_EVERY: age of the last whole audit that makes the next one whole; 0: each is
}

func readSettings(env *config.Reader) settings {
	return settings{
		pedidos:    postgres.ReadURL(env, "AUDIT_PEDIDOS_DATABASE_URL"),
		pagamentos: postgres.ReadURL(env, "AUDIT_PAGAMENTOS_DATABASE_URL"),
		estoque:    postgres.ReadURL(env, "AUDIT_ESTOQUE_DATABASE_URL"),
		every:      env.Duration("AUDIT_EVERY", 0, time.Second, 24*time.Hour),
		wholeEvery: env.Duration("AUDIT_WHOLE_EVERY", 0, time.Minute, 24*time.Hour),
	}
}

// audit audits once and prints the report. With AUDIT_EVERY it serves until ctx is done.
func audit(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	s, push := readSettings(env), telemetry.ReadMetricSettings(env, env.Identity(name))
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	options := invariant.Options{WholeEvery: s.wholeEvery}
	if options.Program, err = program(); err != nil {
		return err
	}
	databases, closeAll, err := open(ctx, s, frame.Logger)
	if err != nil {
		return err
	}
	defer closeAll()
	if s.every > 0 {
		return serve(ctx, frame, databases, options, s.every)
	}
	registry := prometheus.NewRegistry()
	report, err := check(ctx, frame.Logger, databases, options, newMetrics(registry))
	if err != nil {
		return err
	}
	// An unreachable collector does not make the audit fail.
	if err := telemetry.PushMetrics(ctx, push, registry); err != nil {
		frame.Logger.WarnContext(ctx, "sending the audit's metrics failed", "error", err.Error())
	}
	return report.Print(stdout)
}

// program returns the hash of this executable: another version may have other rules, in whichever package.
func program() (string, error) {
	hash := sha256.New()
	path, err := os.Executable()
	if err == nil {
		var file *os.File
		if file, err = os.Open(path); err == nil {
			_, err = io.Copy(hash, file)
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return "", fmt.Errorf("reading the program's own file, which identifies its version: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// open prepares the pools, which connect when they are first used.
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

func check(
	ctx context.Context, logger *slog.Logger, databases invariant.Databases, options invariant.Options, m *metrics,
) (*invariant.Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxDuration, fmt.Errorf("the audit takes longer than %s", maxDuration))
	defer cancel()
	began := time.Now()
	report, err := invariant.Check(ctx, databases, options)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return nil, fmt.Errorf("auditing: %w", err)
	}
	m.record(report, time.Since(began))
	if report.Unsaved != nil {
		logger.WarnContext(ctx, "the next audit reads again what this one has read", "error", report.Unsaved.Error())
	}
	return report, nil
}

// serve audits immediately and then regularly, logs violations, and serves the metrics.
func serve(ctx context.Context, frame *service.Frame, databases invariant.Databases, options invariant.Options, every time.Duration) error {
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		return err
	}
	m := newMetrics(srv.Metrics())
	work := func(ctx context.Context) error {
		report, err := check(ctx, frame.Logger, databases, options, m)
		if err == nil {
			logReport(ctx, frame.Logger, report)
		}
		return err
	}
	return frame.Serve(ctx, srv, frame.LoopNow("audit", every, work))
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

// Package service is the frame that the programs of the shop share: commands, settings,
// logs, traces, the server, background work, and the order in which they stop. A
// program with a database adds postgres.Connect. The frame does not import it, so that
// a program without a database contains no driver.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// Command runs one command of a program. It reads its settings from env, and returns
// all errors of env before it starts anything.
type Command func(ctx context.Context, env *config.Reader, stdout io.Writer) error

// Commands are a program's commands by name. The command "" runs if the first argument
// names no other.
type Commands map[string]Command

// Run runs the command that the first of args names, until it ends or ctx is done.
func (c Commands) Run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) > 0 && args[0] != "" {
		if command := c[args[0]]; command != nil {
			return command(ctx, config.NewReader(args[1:], getenv), stdout)
		}
	}
	if serve := c[""]; serve != nil {
		return serve(ctx, config.NewReader(args, getenv), stdout)
	}
	names := strings.Join(slices.Sorted(maps.Keys(c)), " or ")
	if len(args) == 0 {
		return fmt.Errorf("missing command: use %s", names)
	}
	return fmt.Errorf("unknown command %q: use %s", args[0], names)
}

// Main runs a program until it ends or receives SIGTERM or an interrupt. It exits with
// status 1 if the program fails. A second signal kills the process.
func Main(name string, run func(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // restores the signals' default action
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Frame has the parts that a service builds on.
type Frame struct {
	Settings server.Settings
	Logger   *slog.Logger
	Provider trace.TracerProvider
	Failures *Failures // of background work; NewServer registers its metric
	tracing  *telemetry.Tracing
}

// Start reads the settings that all services share, and starts logging and tracing. It
// returns all errors of env: those of the shared settings, and of the settings that the
// service read before. The caller closes the frame last.
func Start(ctx context.Context, name string, env *config.Reader, stdout io.Writer) (*Frame, error) {
	settings := server.ReadSettings(env, name)
	logSettings := logging.ReadSettings(env, settings.Identity.Service)
	traceSettings := telemetry.ReadSettings(env, settings.Identity)
	if err := env.Err(); err != nil {
		return nil, err
	}
	logger := logging.New(stdout, logSettings)
	tracing, err := telemetry.Start(ctx, traceSettings, logger)
	if err != nil {
		return nil, fmt.Errorf("starting telemetry: %w", err)
	}
	f := New(settings, logger, tracing.Provider)
	f.tracing = tracing
	return f, nil
}

// New returns a frame around a logger and a provider that the caller owns.
func New(settings server.Settings, logger *slog.Logger, provider trace.TracerProvider) *Frame {
	return &Frame{Settings: settings, Logger: logger, Provider: provider, Failures: newFailures(logger)}
}

// Close sends the last traces.
func (f *Frame) Close() {
	if f.tracing != nil {
		f.tracing.Close()
	}
}

// NewServer returns the service's server, to which the caller adds its routes.
func (f *Frame) NewServer(options server.Options) (*server.Server, error) {
	srv, err := server.New(f.Settings, f.Logger, f.Provider, options)
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}
	srv.Metrics().MustRegister(f.Failures.total)
	if f.tracing != nil && f.tracing.Spans != nil {
		srv.Metrics().MustRegister(f.tracing.Spans)
	}
	return srv, nil
}

// Worker is work in the background. It runs until ctx is done, and returns after all
// that it started has ended. If it returns an error earlier, the service ends.
type Worker func(ctx context.Context) error

// Serve answers requests and runs the workers until ctx is done, or until the server or
// a worker fails. The workers stop after the server has drained, since requests may
// need them.
func (f *Frame) Serve(ctx context.Context, srv *server.Server, workers ...Worker) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	working, stopWorkers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorkers()
	var running sync.WaitGroup
	failed := make([]error, len(workers))
	for i, work := range workers {
		running.Go(func() {
			if failed[i] = work(working); failed[i] != nil {
				stop()
			}
		})
	}
	served := srv.Run(ctx)
	stopWorkers()
	running.Wait()
	return errors.Join(append([]error{served}, failed...)...)
}

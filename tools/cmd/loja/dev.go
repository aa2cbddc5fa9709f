package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/traces"
)

// devCommands are the subcommands for the shop that runs on the host.
func devCommands() []*cobra.Command {
	return []*cobra.Command{
		plain("dev", "run the shop on the host, without a cluster (settings: .env)", runDev),
		plain("dev-down", "stop make dev from another terminal", func(_ context.Context, w platform.Workspace) error {
			return dev.Down(w.Local("dev"), w.Out)
		}),
		plain("dev-status", "print the processes of make dev", func(ctx context.Context, w platform.Workspace) error {
			return dev.Status(ctx, w.Local("dev"), w.Out)
		}),
		plain("audit", "check the shop's invariants in its databases", audit),
		command("trace", "print the spans of an order as a tree (ORDER=...)",
			(*settings.Reader).Order, trace),
	}
}

// audit checks the databases of make dev, or those of the cluster if make dev does not run.
func audit(ctx context.Context, w platform.Workspace) error {
	runs, err := dev.Runs(w.Local("dev"))
	if err != nil {
		return err
	}
	if runs {
		return dev.Audit(ctx, w.Local("dev"), w.Out)
	}
	return platform.Audit(ctx, w)
}

// trace asks the Jaeger of make dev, or that of the cluster if make dev does not run.
func trace(ctx context.Context, w platform.Workspace, order string) error {
	if err := traces.CheckOrder(order); err != nil {
		return err
	}
	runs, err := dev.Runs(w.Local("dev"))
	if err != nil {
		return err
	}
	jaeger := platform.Traces()
	if runs {
		if jaeger, err = dev.Traces(w.Local("dev")); err != nil {
			return err
		}
	}
	return jaeger.Order(ctx, order, w.Out)
}

// runDev runs the shop until the first interrupt, which stops it in order. A second
// interrupt ends it at once.
func runDev(ctx context.Context, w platform.Workspace) error {
	context.AfterFunc(ctx, func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again
		os.Exit(130) // the kernel then kills every child
	})
	programs, err := repo.Catalogue(w.Root)
	if err != nil {
		return err
	}
	options, err := dev.ReadOptions(filepath.Join(w.Root, ".env"), os.Getenv, programs)
	if err != nil {
		return err
	}
	options.Dir, options.Out = w.Local("dev"), w.Out
	s, err := dev.Start(ctx, options)
	if err != nil {
		return err
	}
	w.Out.Plain("%s", s.Summary())
	failed := s.Wait(ctx)
	w.Out.Step("stopping; press Ctrl-C again to end it at once")
	if err := errors.Join(failed, s.Stop()); err != nil {
		return err
	}
	w.Out.Step("stopped; the data stays in %s", w.Local("dev"))
	return nil
}

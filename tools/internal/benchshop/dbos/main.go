// Command dbos takes the orders of Loja Veloz as pedidos does, with DBOS instead of a state
// machine of its own: an order is a workflow, and each call to estoque or pagamentos a step. It
// exists for `ONLY=dbos make bench-shop` only, which measures it in the place of pedidos.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "dbos:", err)
		os.Exit(1) //nolint:gocritic // the process ends, and its signal handler with it
	}
}

// stopTimeout is how long orders may take after SIGTERM.
const stopTimeout = 5 * time.Second

// run serves orders until ctx is done. It reads DATABASE_URL, ESTOQUE_URL, PAGAMENTOS_URL, PORT,
// and STEPS: "calls" for a step per call, "order" for one step that makes all calls.
func run(ctx context.Context, getenv func(string) string) (err error) {
	steps := getenv("STEPS")
	if steps != "calls" && steps != "order" {
		return fmt.Errorf("STEPS is %q: calls or order", steps)
	}
	runtime, err := dbos.NewContext(context.WithoutCancel(ctx), dbos.Config{
		AppName: "bench-shop", DatabaseURL: getenv("DATABASE_URL"),
		// The default is the program's hash: then a rebuilt program does not resume the orders of the one before.
		ApplicationVersion: "bench-shop",
		Logger:             slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return fmt.Errorf("connecting to DATABASE_URL: %w", err)
	}
	s := newShop(runtime, newPeers(getenv("ESTOQUE_URL"), getenv("PAGAMENTOS_URL")), steps == "order")
	if err := dbos.Launch(runtime); err != nil {
		return fmt.Errorf("launching DBOS: %w", err)
	}
	defer func() { err = errors.Join(err, dbos.Shutdown(runtime, stopTimeout)) }()
	return serve(ctx, net.JoinHostPort("127.0.0.1", getenv("PORT")), s.handler())
}

func serve(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return server.Shutdown(stopping)
}

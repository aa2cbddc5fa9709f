// Command sample-web-app is the shop window of Loja Veloz: a page with the goods
// and an order form that says which version and pod served it, a page that follows
// an order to its end, and a page that echoes a request.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const name = "sample-web-app"

// settings of the service.
type settings struct {
	server server.Settings
	api    string // API_URL: where api-gateway is; "": the shop is closed
	key    string // API_KEY: what api-gateway knows this service by, where it asks
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// run serves until ctx is done and every request is answered.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(args, getenv)
	settings := settings{
		server: server.ReadSettings(env, name),
		api:    env.HTTPURL("API_URL"),
		key:    env.Text("API_KEY", ""),
	}
	if err := env.Err(); err != nil {
		return err
	}

	logger := logging.New(stdout, settings.server.Log)
	tracing, err := telemetry.Start(ctx, settings.server.Telemetry, logger)
	if err != nil {
		return fmt.Errorf("starting telemetry: %w", err)
	}
	defer tracing.Close()

	srv, err := newServer(settings, logger, tracing.Provider)
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

// newServer wires the pages to their addresses.
func newServer(settings settings, logger *slog.Logger, provider trace.TracerProvider) (*server.Server, error) {
	static, err := loadAssets()
	if err != nil {
		return nil, err
	}
	shop, err := newShop(settings.api, settings.key, logger, provider)
	if err != nil {
		return nil, err
	}
	pages, err := loadPages(static, settings.server.Identity, shop)
	if err != nil {
		return nil, err
	}
	srv, err := server.New(settings.server, logger, provider, server.Options{
		BodyLimit:             echoLimit,
		ContentSecurityPolicy: contentSecurityPolicy,
		RenderError:           pages.renderError,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}

	srv.Handle("window", "/", pages.showWindow, http.MethodGet)
	srv.Handle("checkout", "/checkout", pages.checkOut, http.MethodPost)
	// Whoever reloads the form's address by hand wants the window.
	srv.Handle("checkout", "/checkout", func(c *gin.Context) error { seeOther(c, "/"); return nil }, http.MethodGet)
	srv.Handle("order", "/orders/:id", pages.showOrder, http.MethodGet)
	srv.Handle("cancel", "/orders/:id/cancel", pages.cancelOrder, http.MethodPost)
	srv.Handle("echo", "/echo", pages.showEcho, echoMethods...)
	srv.Handle("echo", "/echo/*path", pages.showEcho, echoMethods...)
	srv.Handle("static", "/static/:file", static.serve, http.MethodGet)
	return srv, nil
}

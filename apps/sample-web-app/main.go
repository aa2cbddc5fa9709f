// Command sample-web-app is the storefront of Loja Veloz. It serves a page with the
// items on sale and an order form, which shows the version and the pod that served it;
// a page that follows an order until it is final; and a page that echoes a request.
package main

import (
	"context"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/clientip"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const name = "sample-web-app"

// settings are those that only this service has.
type settings struct {
	api string // API_URL: base URL of api-gateway; "" closes the shop
	key string // API_KEY: the storefront's key; "" sends none
	// proxies (TRUSTED_PROXIES) is the number of our own proxies that a request passes before
	// this service, each of which adds to X-Forwarded-For; default 0.
	proxies int
	till    till
}

var run = service.Commands{"": serve}.Run

func main() { service.Main(name, run) }

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	settings := settings{
		api: env.HTTPURL("API_URL"), key: env.Text("API_KEY", ""),
		proxies: env.Int("TRUSTED_PROXIES", 0, 0, clientip.MaxProxies),
		till:    readTill(env),
	}
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	srv, err := newServer(frame, settings)
	if err != nil {
		return err
	}
	return frame.Serve(ctx, srv)
}

// newServer returns the server with the pages' routes.
func newServer(frame *service.Frame, settings settings) (*server.Server, error) {
	static, err := loadAssets()
	if err != nil {
		return nil, err
	}
	if settings.till.closed && settings.api != "" {
		frame.Logger.Warn("the shop takes no orders: ACQUIRER is stripe, and STRIPE_PUBLISHABLE_KEY is not set")
		settings.api = ""
	}
	shop, err := newShop(settings.api, settings.key, frame.Logger, frame.Provider)
	if err != nil {
		return nil, err
	}
	pages, err := loadPages(static, frame.Settings.Identity, shop, settings)
	if err != nil {
		return nil, err
	}
	srv, err := frame.NewServer(server.Options{
		BodyLimit:             echoLimit,
		ContentSecurityPolicy: contentSecurityPolicy,
		RenderError:           pages.renderError,
	})
	if err != nil {
		return nil, err
	}

	srv.Handle("window", "/", pages.showWindow, http.MethodGet)
	srv.Handle("checkout", "/checkout", pages.checkOut, http.MethodPost)
	// A shopper who opens the form's address gets the form.
	srv.Handle("checkout", "/checkout", func(c *gin.Context) error { seeOther(c, "/"); return nil }, http.MethodGet)
	srv.Handle("order", "/orders/:id", pages.showOrder, http.MethodGet)
	srv.Handle("cancel", "/orders/:id/cancel", pages.cancelOrder(), http.MethodPost)
	srv.Handle("payment", "/orders/:id/payment", pages.continuePayment(), http.MethodPost)
	srv.Handle("echo", "/echo", pages.showEcho, echoMethods...)
	srv.Handle("echo", "/echo/*path", pages.showEcho, echoMethods...)
	srv.Handle("static", "/static/:file", static.serve, http.MethodGet)
	return srv, nil
}

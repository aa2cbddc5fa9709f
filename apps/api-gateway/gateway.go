package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/clientip"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// scope is the instrumentation scope of the gateway's spans.
const scope = "github.com/loja-veloz/platform/apps/api-gateway"

// route is a path of the API, as a gin template, and the methods that clients may
// use. The routes are the allow-list: clients cannot reach reservations, the list of
// payments, captures, refunds or administration.
type route struct {
	path     string
	methods  []string
	upstream string
}

var routes = []route{
	{"/estoque", []string{http.MethodGet}, "estoque"},
	{"/estoque/:sku", []string{http.MethodGet}, "estoque"},
	{"/pedidos", []string{http.MethodGet, http.MethodPost}, "pedidos"},
	{"/pedidos/:order_id", []string{http.MethodGet}, "pedidos"},
	{"/pedidos/:order_id/cancel", []string{http.MethodPost}, "pedidos"},
	{"/pedidos/:order_id/payment", []string{http.MethodPost}, "pedidos"},
	{"/webhooks", []string{http.MethodGet, http.MethodPost}, "pedidos"},
	{"/webhooks/:webhook_id", []string{http.MethodGet, http.MethodDelete}, "pedidos"},
	{"/webhooks/:webhook_id/rotate", []string{http.MethodPost}, "pedidos"},
	{"/webhooks/:webhook_id/disable", []string{http.MethodPost}, "pedidos"},
	{"/webhooks/:webhook_id/enable", []string{http.MethodPost}, "pedidos"},
	{"/webhooks/:webhook_id/deliveries", []string{http.MethodGet}, "pedidos"},
	{"/webhooks/:webhook_id/deliveries/:event_id/redeliver", []string{http.MethodPost}, "pedidos"},
	{"/pagamentos/:order_id", []string{http.MethodGet}, "pagamentos"},
}

// gateway checks requests and forwards them to the upstreams.
type gateway struct {
	settings  settings
	logger    *slog.Logger
	limiter   *limiter // nil: no limit
	upstreams map[string]*upstream
	metrics   *metrics
	health    *deepHealth
}

func newGateway(frame *service.Frame, settings settings) *gateway {
	g := &gateway{settings: settings, logger: frame.Logger, upstreams: map[string]*upstream{}, metrics: newMetrics()}
	if settings.rate.perSecond > 0 {
		g.limiter = newLimiter(settings.rate)
	}
	tracer := frame.Provider.Tracer(scope)
	for name, base := range settings.upstreams {
		g.upstreams[name] = newUpstream(name, base, settings, tracer, frame.Logger, g.metrics)
	}
	g.health = newDeepHealth(frame.Settings.Identity, g.upstreams)
	return g
}

// register adds the routes and the metrics to the server.
func (g *gateway) register(srv *server.Server) error {
	router := srv.Router()
	for _, r := range routes {
		up := g.upstreams[r.upstream]
		allowed := r.methods
		for _, method := range r.methods {
			guard := up.guard(method + " " + r.path)
			timeout := g.settings.writeTimeout
			if method == http.MethodGet {
				timeout = g.settings.readTimeout
				allowed = append(slices.Clone(allowed), http.MethodHead)
				router.HEAD(r.path, g.forward(up.call(guard, http.MethodHead, r.path, timeout)))
			}
			router.Handle(method, r.path, g.forward(up.call(guard, method, r.path, timeout)))
		}
		if g.settings.cors.enabled() {
			slices.Sort(allowed)
			router.OPTIONS(r.path, g.preflight(strings.Join(allowed, ", ")))
		}
	}
	if err := g.metrics.register(srv.Metrics(), g); err != nil {
		return fmt.Errorf("registering the gateway's metrics: %w", err)
	}
	return nil
}

func (g *gateway) preflight(methods string) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.settings.cors.preflight(c.Writer.Header(), c.Request.Header, methods)
		c.Status(http.StatusNoContent)
	}
}

// forward sends an admitted request to call, and answers any other with a problem.
func (g *gateway) forward(call *call) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.settings.cors.apply(c.Writer.Header(), c.Request.Header)
		body, client, err := g.admit(c)
		if err == nil {
			err = call.serve(c.Writer, c.Request, client, body)
		}
		if err != nil {
			_ = c.Error(err) // returns its argument
		}
	}
}

// admit returns the body and the client of a request, or why it is not forwarded.
func (g *gateway) admit(c *gin.Context) (body []byte, client value.ClientID, err error) {
	// gin matches routes on the decoded path. Refuse a path that had escapes, since an
	// upstream might decode it in another way. RawPath, or a character that is not
	// plain, shows that it had.
	if at := c.Request.URL; at.RawPath != "" || !plainPath(at.Path) {
		return nil, "", problem.New(problem.NotFound, "There is nothing at this address.")
	}
	client, denied := g.settings.auth.principal(c.Request.Header)
	if err := g.limit(c, client, denied != nil); err != nil {
		return nil, "", err
	}
	if denied != nil {
		given := hasCredentials(c.Request.Header)
		if given { // the client does not learn why
			g.logger.InfoContext(c.Request.Context(), "credentials refused", "reason", telemetry.Clean(denied.Error()))
		}
		c.Header("WWW-Authenticate", g.settings.auth.challenge(given))
		return nil, "", problem.Wrap(problem.Unauthorized, "This request needs valid credentials.", denied)
	}
	body, err = readBody(c.Request, g.settings.bodyLimit)
	return body, client, err
}

// limit applies the rate limit. It counts an authenticated client by its name. It
// counts anonymous requests, and those with wrong credentials, by their address, so
// that guessing credentials is limited too. It counts the shoppers of a shop front by
// their addresses, so that one of them does not close the shop for the others.
func (g *gateway) limit(c *gin.Context, client value.ClientID, denied bool) error {
	if g.limiter == nil {
		return nil
	}
	counted := caller{principal: client}
	switch {
	case denied, client == value.Anonymous:
		counted = caller{address: clientip.Of(c.Request, g.settings.rate.proxies)}
	case slices.Contains(g.settings.rate.fronts, string(client)):
		// A request of the front itself, such as for the list of items, has no address.
		counted.address, _ = netip.ParseAddr(c.GetHeader(clientip.Header))
	}
	verdict := g.limiter.take(counted)
	verdict.describe(c.Writer.Header(), g.settings.rate.burst)
	if verdict.allowed {
		return nil
	}
	g.metrics.limited.Inc()
	e := problem.New(problem.RateLimited, "Too many requests from this client. Please try again in a moment.")
	e.RetryAfter = max(verdict.wait, time.Second)
	return e
}

// readBody reads the whole body before the gateway calls an upstream. A slow client
// then occupies only its own connection, a body over the limit gets 413, and an error
// after that is the upstream's.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Method != http.MethodPost || r.ContentLength == 0 {
		return nil, nil // the body of a GET has no meaning (RFC 9110, 9.3.1), so drop it
	}
	if r.ContentLength > limit {
		return nil, problem.FromBody(&http.MaxBytesError{Limit: limit})
	}
	// Trust Content-Length only for a small body. A larger buffer grows as bytes
	// arrive, so that a client cannot reserve memory by announcing a length.
	const maxReserved = 4 << 10
	var content bytes.Buffer
	if 0 < r.ContentLength && r.ContentLength <= maxReserved {
		content.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	if _, err := io.Copy(&content, r.Body); err != nil { // the server limits the body
		return nil, problem.FromBody(err)
	}
	return content.Bytes(), nil
}

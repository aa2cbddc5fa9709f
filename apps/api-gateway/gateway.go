package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

// scope is the instrumentation scope of the gateway's spans.
const scope = "github.com/loja-veloz/platform/apps/api-gateway"

// route is an address of the API, as a gin template, and what clients may do
// there. What is in no route is not to be had from outside: reservations, the
// list of payments, their capture and refund, administration.
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
	{"/pagamentos/:order_id", []string{http.MethodGet}, "pagamentos"},
}

// gateway is what a request passes on its way to an upstream.
type gateway struct {
	settings  settings
	limiter   *limiter // nil: no limit
	upstreams map[string]*upstream
	metrics   *metrics
	health    *deepHealth
}

func newGateway(frame *service.Frame, settings settings) *gateway {
	g := &gateway{settings: settings, upstreams: map[string]*upstream{}, metrics: newMetrics()}
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
	if err := g.metrics.register(srv.Metrics(), g); err != nil {
		return fmt.Errorf("registering the gateway's metrics: %w", err)
	}
	router := srv.Router()
	for _, r := range routes {
		up := g.upstreams[r.upstream]
		allowed := r.methods
		for _, method := range r.methods {
			timeout := g.settings.writeTimeout
			if method == http.MethodGet {
				timeout = g.settings.readTimeout
				allowed = append(slices.Clone(allowed), http.MethodHead)
				router.HEAD(r.path, g.forward(up.call(http.MethodHead, r.path, timeout)))
			}
			router.Handle(method, r.path, g.forward(up.call(method, r.path, timeout)))
		}
		if g.settings.cors.enabled() {
			slices.Sort(allowed)
			router.OPTIONS(r.path, g.preflight(strings.Join(allowed, ", ")))
		}
	}
	return nil
}

func (g *gateway) preflight(methods string) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.settings.cors.preflight(c.Writer.Header(), c.Request.Header, methods)
		c.Status(http.StatusNoContent)
	}
}

// forward lets a request through to call, or says why not.
func (g *gateway) forward(call *call) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.settings.cors.apply(c.Writer.Header(), c.Request.Header)
		body, who, err := g.admit(c)
		if err == nil {
			err = call.serve(c.Writer, c.Request, who, body)
		}
		if err != nil {
			_ = c.Error(err) // returns what it was given
		}
	}
}

// admit returns the body and the client of a request that may go on.
func (g *gateway) admit(c *gin.Context) (body []byte, who string, err error) {
	// The route was found by the decoded path; what was decoded is not plain.
	if at := c.Request.URL; at.RawPath != "" || !plainPath(at.Path) {
		return nil, "", problem.New(problem.NotFound, "There is nothing at this address.")
	}
	who, denied := g.settings.auth.principal(c.Request.Header)
	if err := g.limit(c, who, denied != nil); err != nil {
		return nil, "", err
	}
	if denied != nil {
		c.Header("WWW-Authenticate", g.settings.auth.challenge(hasCredentials(c.Request.Header)))
		return nil, "", problem.Wrap(problem.Unauthorized, "This needs valid credentials.", denied)
	}
	body, err = readBody(c.Request, g.settings.bodyLimit)
	return body, who, err
}

// limit counts the request of a client: by its name, or by its address where it
// has none, which is also how guesses at credentials are counted.
func (g *gateway) limit(c *gin.Context, who string, denied bool) error {
	if g.limiter == nil {
		return nil
	}
	counted := client{principal: who}
	if denied || who == anonymous {
		counted = client{address: g.address(c.Request)}
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

func (g *gateway) address(r *http.Request) netip.Addr {
	return clientAddress(r, g.settings.rate.proxies)
}

// readBody takes a request's body in whole before an upstream hears of it: a
// client that sends slowly holds nothing but its own connection, one that sends
// too much is told so, and what then fails is the upstream's failure.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Method != http.MethodPost || r.ContentLength == 0 {
		return nil, nil // the body of a GET means nothing, and goes no further
	}
	if r.ContentLength > limit {
		return nil, problem.FromBody(&http.MaxBytesError{Limit: limit})
	}
	// The length that is claimed is believed for a small body only: memory is for
	// what has arrived.
	const believed = 4 << 10
	var content bytes.Buffer
	if 0 < r.ContentLength && r.ContentLength <= believed {
		content.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	if _, err := io.Copy(&content, r.Body); err != nil { // limited by the server
		return nil, problem.FromBody(err)
	}
	return content.Bytes(), nil
}

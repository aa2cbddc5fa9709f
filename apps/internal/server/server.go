// Package server is the HTTP server that all services share. It has request ids,
// traces, metrics, access logs, limits, recovery from panics, probes, and a shutdown
// that loses no request.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	// A proxy closes an idle connection earlier (Traefik: after 90 s by default). So the
	// service never closes one just as a proxy sends a request.
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 32 << 10
	// defaultBodyLimit in bytes is more than the JSON documents of an API need.
	defaultBodyLimit = 1 << 20
)

// Handler answers a request, or returns an error. The client reads a *problem.Error;
// any other error is logged and answered as internal. Handlers pass
// c.Request.Context() to the functions that they call.
type Handler func(c *gin.Context) error

// Options are set by a service's code. The zero value suits an API.
type Options struct {
	// BodyLimit is the largest request body in bytes; 0 means 1 MiB.
	BodyLimit int64
	// ContentSecurityPolicy is the header of that name; "" means a policy that allows
	// nothing.
	ContentSecurityPolicy string
	// Explain maps an error that is not a *problem.Error to one. If it returns nil, or
	// is nil, the error is answered as internal.
	Explain func(err error) *problem.Error
	// Health answers /health; nil means always ok.
	Health Handler
	// Document is the service's OpenAPI document in YAML, which /docs shows if the
	// settings allow it; nil means that there is none.
	Document []byte
	// RenderError writes an error as the answer; nil means as problem details.
	RenderError func(c *gin.Context, e *problem.Error) error
}

// Server is one service's HTTP server.
type Server struct {
	settings Settings
	options  Options
	logger   *slog.Logger
	tracer   trace.Tracer
	engine   *gin.Engine
	metrics  *metrics
	draining atomic.Bool
}

// New returns a Server with /health, /ready and /metrics; the caller adds the
// service's own routes by Handle and calls Run.
func New(settings Settings, logger *slog.Logger, provider trace.TracerProvider, options Options) (*Server, error) {
	if options.BodyLimit == 0 {
		options.BodyLimit = defaultBodyLimit
	}
	if options.ContentSecurityPolicy == "" {
		options.ContentSecurityPolicy = "default-src 'none'; frame-ancestors 'none'"
	}
	if options.RenderError == nil {
		options.RenderError = func(c *gin.Context, e *problem.Error) error {
			return problem.Write(c.Writer, e)
		}
	}

	gin.SetMode(gin.ReleaseMode) // the debug mode prints routes to stdout, between the log lines
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	// gin would answer with a redirect before any middleware runs.
	engine.RedirectTrailingSlash = false
	// Do not take the client's address from headers.
	if err := engine.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("setting the trusted proxies: %w", err)
	}

	s := &Server{
		settings: settings,
		options:  options,
		logger:   logger,
		tracer:   provider.Tracer(telemetry.Scope),
		engine:   engine,
		metrics:  newMetrics(settings.Identity.Service),
	}
	engine.Use(s.headers, s.observe)
	if inject := fault.Handler(); inject != nil {
		logger.Warn("this program injects faults: it was built for a drill")
		engine.Use(inject)
	}
	engine.NoRoute(s.answer("not found", func(*gin.Context) error {
		return problem.New(problem.NotFound, "There is nothing at this address.")
	}))
	engine.NoMethod(s.answer("method not allowed", func(c *gin.Context) error {
		return problem.New(problem.MethodNotAllowed, "This address does not accept the method "+methodLabel(c.Request.Method)+".")
	}))
	s.addProbes()
	if settings.Docs && options.Document != nil {
		s.addDocs()
	}
	return s, nil
}

// Handle routes the methods of a path, which is a gin template, to h. A path that
// accepts GET also accepts HEAD. The handler's span has the given name.
func (s *Server) Handle(name, path string, h Handler, methods ...string) {
	for _, method := range methods {
		s.engine.Handle(method, path, s.answer(name, h))
		if method == http.MethodGet {
			s.engine.Handle(http.MethodHead, path, s.answer(name, h))
		}
	}
}

// Router returns the router at which servers generated from OpenAPI documents register
// their routes. A path that accepts GET also accepts HEAD. The router answers with the
// error that an operation leaves in its context. It refuses a query that cannot be parsed, of
// which an operation would see only a part.
func (s *Server) Router() gin.IRouter {
	return headToo{s.engine.Group("", func(c *gin.Context) {
		if _, err := url.ParseQuery(c.Request.URL.RawQuery); err != nil {
			s.fail(c, problem.Wrap(problem.Invalid, "The query of the address cannot be read.", err))
			c.Abort()
			return
		}
		c.Next()
		if last := c.Errors.Last(); last != nil {
			s.fail(c, last.Err)
		}
	})}
}

type headToo struct{ *gin.RouterGroup }

// GET also routes HEAD.
func (r headToo) GET(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	r.HEAD(path, handlers...)
	return r.RouterGroup.GET(path, handlers...)
}

// Metrics returns the registry for the service's own metrics. It adds the label service
// to them.
func (s *Server) Metrics() prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"service": s.settings.Identity.Service}, s.metrics.registry)
}

// Handler returns the whole service as an http.Handler.
func (s *Server) Handler() http.Handler {
	return http.MaxBytesHandler(s.engine, s.options.BodyLimit)
}

// answer runs h in its own span, and renders the error that h returns.
func (s *Server) answer(name string, h Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		request := c.Request
		ctx, span := telemetry.Span(request.Context(), name)
		defer span.End()
		c.Request = request.WithContext(ctx)
		if err := h(c); err != nil {
			telemetry.Failed(ctx, err)
			s.fail(c, err)
		}
		c.Request = request // the caller continues in the request's span
	}
}

// fail answers with err. It logs err if its status is 500 or above.
func (s *Server) fail(c *gin.Context, err error) {
	e := s.explain(err)
	if e.Status() >= http.StatusInternalServerError {
		s.logger.ErrorContext(c.Request.Context(), "request failed", "error", err.Error(),
			"request_id", c.Writer.Header().Get(requestIDHeader))
	}
	s.respond(c, e)
}

func (s *Server) explain(err error) *problem.Error {
	if known := new(problem.Error); s.options.Explain != nil && !errors.As(err, &known) {
		if e := s.options.Explain(err); e != nil {
			return e
		}
	}
	return problem.From(err)
}

// respond answers with e. If a part of an answer was sent already, it aborts the
// connection, so that the client sees a failure.
func (s *Server) respond(c *gin.Context, e *problem.Error) {
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	if err := s.options.RenderError(c, e); err != nil {
		s.logger.WarnContext(c.Request.Context(), "writing the error's answer failed", "error", err.Error())
	}
}

// Run serves until ctx is done, and then shuts down: /ready turns to 503, the server
// answers requests for the drain pause, closes the listener, and waits for running
// requests. Run returns an error if it cannot listen, or if requests still run after
// the shutdown timeout.
func (s *Server) Run(ctx context.Context) error {
	address := net.JoinHostPort(s.settings.BindAddress, strconv.Itoa(s.settings.Port))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listening on PORT %d: %w", s.settings.Port, err)
	}
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Otherwise net/http answers OPTIONS *, without the headers and the access log.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.logger.Info("listening", "address", listener.Addr().String(),
		"version", s.settings.Identity.Version, "pod", s.settings.Identity.Pod)

	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}

	s.draining.Store(true)
	s.logger.Info("draining", "pause", s.settings.DrainPause.String())
	select {
	case err := <-served:
		return fmt.Errorf("serving on %s while draining: %w", listener.Addr(), err)
	case <-time.After(s.settings.DrainPause):
	}

	// ctx is done, so the timeout for running requests needs a context without its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		err = fmt.Errorf("waiting SHUTDOWN_TIMEOUT (%s) for running requests: %w", s.settings.ShutdownTimeout, err)
		return errors.Join(err, server.Close())
	}
	s.logger.Info("stopped")
	return nil
}

// Package server is the HTTP side that every service shares: a gin engine with
// request ids, traces, metrics, access logs, limits and recovery, the probes,
// and a shutdown that loses no request.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/github.com/gin-gonic/gin/otelgin"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	// Longer than a proxy keeps an unused connection (Traefik: 90 s by default),
	// so that it is never the service that closes one just as a request is sent.
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 32 << 10
	// defaultBodyLimit in bytes is ample for the JSON documents of an API.
	defaultBodyLimit = 1 << 20
)

// Handler answers a request, or returns what went wrong: a *problem.Error is
// told to the client, any other error is logged and answered as internal.
// Work done for the request takes c.Request.Context().
type Handler func(c *gin.Context) error

// Options are what a service may set in code. The zero value suits an API.
type Options struct {
	// BodyLimit is the largest request body in bytes; 0 stands for 1 MiB.
	BodyLimit int64
	// ContentSecurityPolicy; "" stands for one that allows nothing.
	ContentSecurityPolicy string
	// Explain turns an error that is not a *problem.Error into one, where the
	// service knows better than that it is internal; nil leaves it as it is.
	Explain func(err error) *problem.Error
	// Health answers /health; nil stands for one that says ok.
	Health Handler
	// Document is the service's OpenAPI document in YAML, shown at /docs where the
	// settings allow it; nil serves no document.
	Document []byte
	// RenderError answers with an error; nil stands for problem details.
	RenderError func(c *gin.Context, e *problem.Error) error
}

// Server is one service's HTTP server.
type Server struct {
	settings Settings
	options  Options
	logger   *slog.Logger
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

	gin.SetMode(gin.ReleaseMode) // debug mode prints every route to stdout, between the log lines
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	// gin answers these redirects before any middleware sees the request.
	engine.RedirectTrailingSlash = false
	// No proxy is trusted to name the client's address.
	if err := engine.SetTrustedProxies(nil); err != nil {
		return nil, fmt.Errorf("trusting no proxy: %w", err)
	}

	s := &Server{
		settings: settings,
		options:  options,
		logger:   logger,
		engine:   engine,
		metrics:  newMetrics(settings.Identity.Service),
	}
	engine.Use(
		s.headers,
		otelgin.Middleware("",
			otelgin.WithTracerProvider(provider),
			otelgin.WithPropagators(telemetry.Propagator()),
			otelgin.WithFilter(func(r *http.Request) bool { return !isProbe(r.URL.Path) }),
			otelgin.WithSpanNameFormatter(spanName),
		),
		s.observe,
	)
	if inject := fault.Handler(); inject != nil {
		logger.Warn("this program injects faults: it was built for a drill")
		engine.Use(inject)
	}
	engine.NoRoute(s.answer("not found", func(*gin.Context) error {
		return problem.New(problem.NotFound, "There is nothing at this address.")
	}))
	engine.NoMethod(s.answer("method not allowed", func(c *gin.Context) error {
		return problem.New(problem.MethodNotAllowed, "This address does not take the method "+methodLabel(c.Request.Method)+".")
	}))
	s.addProbes()
	if settings.Docs && options.Document != nil {
		s.addDocs()
	}
	return s, nil
}

// Handle routes the methods of a path, a gin route template, to h; a path that
// takes GET also takes HEAD. The handler's span has the given name.
func (s *Server) Handle(name, path string, h Handler, methods ...string) {
	for _, method := range methods {
		s.engine.Handle(method, path, s.answer(name, h))
		if method == http.MethodGet {
			s.engine.Handle(http.MethodHead, path, s.answer(name, h))
		}
	}
}

// Router is where the servers generated from OpenAPI documents register their
// routes: a path that takes GET also takes HEAD, and errors that operations leave
// in the context are answered.
func (s *Server) Router() gin.IRouter {
	return headToo{s.engine.Group("", func(c *gin.Context) {
		c.Next()
		if last := c.Errors.Last(); last != nil {
			c.Errors = nil // or the request's span would fail for a client's mistake
			s.fail(c, last.Err)
		}
	})}
}

type headToo struct{ *gin.RouterGroup }

// GET routes HEAD likewise.
func (r headToo) GET(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	r.HEAD(path, handlers...)
	return r.RouterGroup.GET(path, handlers...)
}

// Metrics is where a service registers metrics of its own, to which it adds the
// label service.
func (s *Server) Metrics() prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"service": s.settings.Identity.Service}, s.metrics.registry)
}

// Handler is the whole service as an http.Handler.
func (s *Server) Handler() http.Handler {
	return http.MaxBytesHandler(s.engine, s.options.BodyLimit)
}

// answer runs h in a span of its own and renders the error that it returns.
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
		c.Request = request // the caller goes on in the request's span
	}
}

// fail logs err, if it is ours, and answers with it.
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

// respond answers with e. If part of an answer is already out, nothing can be
// taken back: the connection is cut, so that the client sees a failure.
func (s *Server) respond(c *gin.Context, e *problem.Error) {
	if c.Writer.Written() {
		panic(http.ErrAbortHandler)
	}
	if err := s.options.RenderError(c, e); err != nil {
		s.logger.WarnContext(c.Request.Context(), "an error could not be answered", "error", err.Error())
	}
}

// Run serves until ctx is done, then shuts down: it turns unready, keeps
// serving for the drain pause, closes the listener, and lets running requests
// end. It returns an error if it could not listen, or if requests outlived the
// shutdown timeout.
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
		// OPTIONS * is a request like any other, and net/http would answer it.
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

	// ctx is done already, so running requests get a context with their own timeout.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		err = fmt.Errorf("waiting SHUTDOWN_TIMEOUT (%s) for running requests: %w", s.settings.ShutdownTimeout, err)
		return errors.Join(err, server.Close())
	}
	s.logger.Info("stopped")
	return nil
}

package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

const requestIDHeader = "X-Request-Id"

// The request id of a client is written to logs and answers, so only this form is kept,
// which neither a card token nor an e-mail address has.
var requestID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// headers sets the headers that every response has.
func (s *Server) headers(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !requestID.MatchString(id) {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never returns an error
		id = hex.EncodeToString(random[:])
	}
	h := c.Writer.Header()
	h.Set(requestIDHeader, id)
	h.Set("Service-Version", s.settings.Identity.Version)
	h.Set("Service-Pod", s.settings.Identity.Pod)
	h.Set("Content-Security-Policy", s.options.ContentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	// What a handler says about caching stands; what it does not say it of may be a client's own.
	h.Set("Cache-Control", "no-store")
	if s.draining.Load() {
		// Proxies then close their pooled connections while the server still answers. The
		// server would otherwise close one just as a request is sent.
		h.Set("Connection", "close")
	}
}

// observe traces, measures and logs a request, and turns a panic into an error. Metrics and
// logs have the trace of the request's span, which begins the trace or continues the caller's.
func (s *Server) observe(c *gin.Context) {
	start := time.Now()
	a := answered{
		request: c.Request, method: methodLabel(c.Request.Method), route: routeLabel(c.FullPath()),
		path: telemetry.Clean(c.Request.URL.EscapedPath()), probe: isProbe(c.Request.URL.Path),
	}
	if !a.probe {
		ctx := telemetry.Propagator().Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
		ctx, span := s.tracer.Start(ctx, spanName(a.method, c.FullPath()), trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		c.Request = c.Request.WithContext(ctx)
	}
	ctx := c.Request.Context()

	aborted := s.contain(c)

	a.status, a.elapsed = c.Writer.Status(), time.Since(start)
	if aborted {
		a.status = http.StatusInternalServerError
	}
	a.describe(trace.SpanFromContext(ctx))
	s.metrics.record(ctx, a.method, a.route, a.status, a.probe, a.elapsed)
	s.logger.LogAttrs(ctx, a.level(), a.method+" "+a.path,
		slog.String("http.method", a.method),
		slog.String("http.url", a.path),
		slog.String("http.route", a.route),
		slog.Int("http.status_code", a.status),
		slog.Float64("http.duration_ms", float64(a.elapsed.Microseconds())/1000),
		slog.String("request_id", c.Writer.Header().Get(requestIDHeader)),
	)
	if aborted {
		panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
	}
}

// answered is a request with its answer, as spans, metrics and logs describe it.
type answered struct {
	request             *http.Request
	method, route, path string // the path without its query, which may hold a secret
	probe               bool
	status              int
	elapsed             time.Duration
}

func (a *answered) level() slog.Level {
	switch {
	case a.probe:
		return slog.LevelDebug
	case a.status >= http.StatusInternalServerError:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// describe sets the span's attributes by OpenTelemetry's conventions for HTTP servers:
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span
func (a *answered) describe(span trace.Span) {
	if !span.IsRecording() {
		return
	}
	r := a.request
	host := url.URL{Host: r.Host}
	attributes := append(make([]attribute.KeyValue, 0, 10),
		semconv.HTTPRequestMethodKey.String(a.method),
		semconv.URLScheme("http"), // a gateway terminates TLS
		semconv.URLPath(a.path),
		semconv.HTTPResponseStatusCode(a.status),
		semconv.ServerAddress(telemetry.Clean(host.Hostname())),
		semconv.UserAgentOriginal(telemetry.Clean(r.UserAgent())),
	)
	if a.method == otherMethod {
		attributes[0] = semconv.HTTPRequestMethodOther
	}
	if a.route != unmatchedRoute {
		attributes = append(attributes, semconv.HTTPRoute(a.route))
	}
	if port, err := strconv.Atoi(host.Port()); err == nil {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	if peer, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		attributes = append(attributes, semconv.ClientAddress(peer))
	}
	if a.status >= http.StatusInternalServerError {
		attributes = append(attributes, semconv.ErrorTypeKey.String(strconv.Itoa(a.status)))
		span.SetStatus(codes.Error, "")
	}
	span.SetAttributes(attributes...)
}

// contain runs the rest of the chain. If it panics before the answer begins, contain
// answers with an internal error. If it panics later, or with http.ErrAbortHandler,
// contain returns true: the caller must abort the connection.
func (s *Server) contain(c *gin.Context) (aborted bool) {
	request := c.Request
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		c.Abort()
		c.Request = request
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			aborted = true
			return
		}
		s.logger.ErrorContext(request.Context(), "request panicked", "error", fmt.Sprint(cause),
			"stack", string(debug.Stack()), "request_id", c.Writer.Header().Get(requestIDHeader))
		if c.Writer.Written() {
			aborted = true
			return
		}
		s.respond(c, problem.From(fmt.Errorf("panic: %v", cause)))
	}()
	c.Next()
	return false
}

// spanName returns the method and the route's template, or the method only if there is
// no route, by OpenTelemetry's conventions:
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#name
func spanName(method, path string) string {
	if method == otherMethod {
		method = "HTTP"
	}
	if path == "" {
		return method
	}
	return method + " " + path
}

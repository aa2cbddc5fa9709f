package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/problem"
)

const requestIDHeader = "X-Request-Id"

// The request id of a client is written to logs and answers, so only this form is kept.
var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

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
	if s.draining.Load() {
		// Proxies then close their pooled connections while the server still answers. The
		// server would otherwise close one just as a request is sent.
		h.Set("Connection", "close")
	}
}

// observe measures and logs a request, and turns a panic into an error. It runs inside
// the request's span, so that metrics and logs have the trace.
func (s *Server) observe(c *gin.Context) {
	start := time.Now()
	ctx := c.Request.Context()
	method, route := methodLabel(c.Request.Method), routeLabel(c.FullPath())
	if method == otherMethod {
		// otelgin reports GET. OpenTelemetry's convention for an unknown method is _OTHER.
		trace.SpanFromContext(ctx).SetAttributes(semconv.HTTPRequestMethodOther)
	}

	aborted := s.contain(c)

	status := c.Writer.Status()
	if aborted {
		status = http.StatusInternalServerError
	}
	elapsed := time.Since(start)
	probe := isProbe(c.Request.URL.Path)
	s.metrics.record(ctx, method, route, status, probe, elapsed)

	level := slog.LevelInfo
	switch {
	case probe:
		level = slog.LevelDebug
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	// Do not log the query: it may hold a secret.
	path := c.Request.URL.EscapedPath()
	s.logger.LogAttrs(ctx, level, c.Request.Method+" "+path,
		slog.String("http.method", c.Request.Method),
		slog.String("http.url", path),
		slog.String("http.route", route),
		slog.Int("http.status_code", status),
		slog.Float64("http.duration_ms", float64(elapsed.Microseconds())/1000),
		slog.String("request_id", c.Writer.Header().Get(requestIDHeader)),
	)
	if aborted {
		panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
	}
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
func spanName(c *gin.Context) string {
	method := methodLabel(c.Request.Method)
	if method == otherMethod {
		method = "HTTP"
	}
	if c.FullPath() == "" {
		return method
	}
	return method + " " + c.FullPath()
}

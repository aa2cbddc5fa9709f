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

// A caller's request id goes into logs and answers, so only a plain one is kept.
var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// headers sets what every response carries.
func (s *Server) headers(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !requestID.MatchString(id) {
		var random [16]byte
		_, _ = rand.Read(random[:]) // never fails, by its contract
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
		// Tell proxies to let go of pooled connections while they still work,
		// rather than close them under the next request.
		h.Set("Connection", "close")
	}
}

// observe measures and logs a request, and turns a panic into an error. It runs
// inside the request's span, so both find the trace.
func (s *Server) observe(c *gin.Context) {
	start := time.Now()
	ctx := c.Request.Context()
	method, route := methodLabel(c.Request.Method), routeLabel(c.FullPath())
	if method == otherMethod {
		// otelgin reports GET; the convention for an unknown method is _OTHER.
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
	// The query stays out of the logs: it may hold what its sender keeps secret.
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
		panic(http.ErrAbortHandler) // net/http cuts the connection, and logs nothing
	}
}

// contain runs the rest of the chain. A panic before the answer began becomes
// an internal error; one after that, or a deliberate http.ErrAbortHandler,
// leaves only cutting the connection, which is what true asks of the caller.
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

// spanName is the method and the route's template, by the HTTP conventions;
// without a route it is the method alone.
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

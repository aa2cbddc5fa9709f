// Package client provides the HTTP client with which services call each other. Its
// calls are traced and have a timeout. It ignores HTTP_PROXY.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// IdleTimeout is after how long a client closes an idle connection: before its peers do, so
// that none closes one just as a request is sent that must not be repeated. Services wait for
// 120 s, and Traefik for 180 s, but only 10 s on a connection without a first request
// (infra/gateway), such as one that was opened for a call that another connection served.
const IdleTimeout = 8 * time.Second

// New returns a client. Each call takes at most timeout, including the body.
func New(timeout time.Duration, provider trace.TracerProvider) *http.Client {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 128,
		IdleConnTimeout:     IdleTimeout,
	}
	return &http.Client{
		Transport: traced{transport, provider.Tracer(telemetry.Scope), timeout},
		// Services do not redirect, so return a redirect as the answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// traced sends each request in its own span, and the trace with it.
type traced struct {
	transport http.RoundTripper
	tracer    trace.Tracer
	// timeout is not http.Client's, which starts a goroutine and a second timer for each request if
	// the transport is not net/http's own.
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), t.timeout)
	span := trace.SpanFromContext(ctx)
	// A child of a span that is not recorded would not be recorded either.
	if span.IsRecording() || !span.SpanContext().IsValid() {
		ctx, span = t.tracer.Start(ctx, "HTTP "+r.Method, trace.WithSpanKind(trace.SpanKindClient))
		defer span.End()
	}
	r = r.WithContext(ctx)
	r.Header = maps.Clone(r.Header) // a RoundTripper must not change its request
	telemetry.Propagator().Inject(ctx, propagation.HeaderCarrier(r.Header))
	answer, err := t.transport.RoundTrip(r)
	if span.IsRecording() {
		describe(span, r, answer, err)
	}
	if err != nil {
		cancel()
		return nil, err //nolint:wrapcheck // net/http wraps it
	}
	answer.Body = timed{answer.Body, cancel}
	return answer, nil
}

// timed is the body of an answer. Its end ends the call's timeout.
type timed struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b timed) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close() //nolint:wrapcheck // as the body would
}

// describe sets the span's attributes by OpenTelemetry's conventions for HTTP clients:
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span
func describe(span trace.Span, r *http.Request, answer *http.Response, err error) {
	at := *r.URL
	at.Path = telemetry.Clean(at.Path)
	at.RawPath, at.RawQuery, at.User = at.Path, "", nil // otherwise * is escaped
	attributes := append(make([]attribute.KeyValue, 0, 6),
		semconv.HTTPRequestMethodKey.String(r.Method), semconv.URLFull(at.String()), semconv.ServerAddress(at.Hostname()))
	if port, err := strconv.Atoi(at.Port()); err == nil {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	switch {
	case err != nil:
		attributes = append(attributes, semconv.ErrorType(err))
		span.SetStatus(codes.Error, "")
	default:
		attributes = append(attributes, semconv.HTTPResponseStatusCode(answer.StatusCode))
		if answer.StatusCode >= http.StatusBadRequest {
			attributes = append(attributes, semconv.ErrorTypeKey.String(strconv.Itoa(answer.StatusCode)))
			span.SetStatus(codes.Error, "")
		}
	}
	span.SetAttributes(attributes...)
}

// RefusedError is a service's answer with a status that the caller does not expect.
type RefusedError struct {
	Service string
	Status  int
	// RetryAfter is how long the service asks to wait before a retry; 0 if it does not say.
	RetryAfter time.Duration
	// Problem is the answer's body; nil if it is not problem details.
	Problem *problem.Document
}

func (e *RefusedError) Error() string {
	if e.Problem == nil {
		return fmt.Sprintf("%s answered %d", e.Service, e.Status)
	}
	return fmt.Sprintf("%s answered %d %s: %s", e.Service, e.Status, e.Problem.Code, e.Problem.Detail)
}

// Refused returns a service's answer as an error. document is its body, if that is problem details.
func Refused(service string, answer *http.Response, document *problem.Document) error {
	e := &RefusedError{Service: service, Status: answer.StatusCode, Problem: document}
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, maxRetryAfter)) * time.Second
	}
	return e
}

// maxRetryAfter bounds, in seconds, what a service may ask for.
const maxRetryAfter = 60

// RetryAfter returns how long the service that refused asks to wait before a retry, at most a
// minute; 0 if err is no refusal or does not say.
func RetryAfter(err error) time.Duration {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.RetryAfter
	}
	return 0
}

// Is tells whether err is a RefusedError with the given code.
func Is(err error, code problem.Code) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Problem != nil && refused.Problem.Code == code
}

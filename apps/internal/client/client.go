// Package client is the HTTP client with which services call each other: traced,
// with bounded waits, and without the environment's proxies.
package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// New returns a client whose calls take at most timeout each, body included.
// Idle connections are kept for as long as the services' servers keep them, less
// a margin: it is never the server that closes one under a request.
func New(timeout time.Duration, provider trace.TracerProvider) *http.Client {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       60 * time.Second,
		ResponseHeaderTimeout: timeout,
	}
	return &http.Client{
		Timeout: timeout,
		Transport: otelhttp.NewTransport(transport,
			otelhttp.WithTracerProvider(provider),
			otelhttp.WithPropagators(telemetry.Propagator())),
		// A service answers itself; a redirect leads nowhere that is known.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RefusedError is an answer that is not what was hoped for.
type RefusedError struct {
	Service string
	Status  int
	// Problem is what the service said of it; nil if it was not problem details.
	Problem *problem.Document
}

func (e *RefusedError) Error() string {
	if e.Problem == nil {
		return fmt.Sprintf("%s answered %d", e.Service, e.Status)
	}
	return fmt.Sprintf("%s answered %d %s: %s", e.Service, e.Status, e.Problem.Code, e.Problem.Detail)
}

// Is tells whether err is a service's refusal with the given code.
func Is(err error, code problem.Code) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Problem != nil && refused.Problem.Code == code
}

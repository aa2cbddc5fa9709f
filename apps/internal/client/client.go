// Package client provides the HTTP client with which services call each other. Its
// calls are traced and have a timeout. It ignores HTTP_PROXY.
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

// New returns a client. Each call takes at most timeout, including the body. The
// client closes idle connections before the services' servers do, so that no server
// closes one just as a request is sent.
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
		// Services do not redirect, so return a redirect as the answer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// RefusedError is a service's answer with a status that the caller does not expect.
type RefusedError struct {
	Service string
	Status  int
	// Problem is the answer's body; nil if it is not problem details.
	Problem *problem.Document
}

func (e *RefusedError) Error() string {
	if e.Problem == nil {
		return fmt.Sprintf("%s answered %d", e.Service, e.Status)
	}
	return fmt.Sprintf("%s answered %d %s: %s", e.Service, e.Status, e.Problem.Code, e.Problem.Detail)
}

// Is tells whether err is a RefusedError with the given code.
func Is(err error, code problem.Code) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Problem != nil && refused.Problem.Code == code
}

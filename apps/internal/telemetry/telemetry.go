// Package telemetry sends a service's traces, and the metrics of a program that ends,
// over OTLP. It is configured by the standard OTEL_* variables and nothing else.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	// Service images hold no certificate bundle: a collector behind TLS is
	// verified with the roots compiled in, unless the system has its own.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

// scope is the instrumentation scope of the spans that services start.
const scope = "github.com/loja-veloz/platform/apps"

// flushTimeout bounds how long an unreachable collector can delay a shutdown.
const flushTimeout = 5 * time.Second

// Settings of the export of a signal.
type Settings struct {
	Identity config.Identity
	Export   bool
	Protocol string // http/protobuf or grpc
}

// ReadSettings decides whether and how traces leave the process. They do when
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set and
// neither OTEL_SDK_DISABLED=true nor OTEL_TRACES_EXPORTER=none says otherwise.
func ReadSettings(env *config.Reader, identity config.Identity) Settings {
	return readExport(env, identity, "TRACES")
}

// readExport reads the variables of a signal, and those of all signals.
func readExport(env *config.Reader, identity config.Identity, signal string) Settings {
	disabled := env.Choice("OTEL_SDK_DISABLED", "false", "true") == "true"
	exporter := env.Choice("OTEL_"+signal+"_EXPORTER", "otlp", "none")
	// The exporter would quietly fall back to localhost on a URL it cannot read.
	endpoint := env.HTTPURL("OTEL_EXPORTER_OTLP_ENDPOINT")
	if own := env.HTTPURL("OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT"); own != "" {
		endpoint = own
	}
	protocol := env.Choice("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc")
	if own := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"; env.Text(own, "") != "" {
		protocol = env.Choice(own, "http/protobuf", "grpc")
	}
	return Settings{
		Identity: identity,
		Export:   endpoint != "" && !disabled && exporter == "otlp",
		Protocol: protocol,
	}
}

// Propagator carries trace context by the W3C's traceparent, tracestate and
// baggage headers.
func Propagator() propagation.TextMapPropagator {
	return propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
}

// Tracing is the running trace pipeline of a process.
type Tracing struct {
	Provider *sdktrace.TracerProvider
	logger   *slog.Logger
}

// Start sets up the trace pipeline. The collector need not be up: export
// retries, and what is finally lost is logged. Endpoint, headers, certificates,
// compression, sampler and batching are read by the SDK itself from the
// process's OTEL_* variables.
//
// Without export no span is recorded, but each still has its ids, so that log
// lines of one request can be told from another's.
func Start(ctx context.Context, settings Settings, logger *slog.Logger) (*Tracing, error) {
	otel.SetLogger(logr.FromSlogHandler(logger.Handler()))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("telemetry", "error", err.Error())
	}))
	if !settings.Export {
		return &Tracing{
			Provider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())),
			logger:   logger,
		}, nil
	}

	res, err := describe(ctx, settings.Identity)
	if err != nil {
		return nil, err
	}
	exporter, err := newExporter(ctx, settings.Protocol)
	if err != nil {
		return nil, fmt.Errorf("creating the %s trace exporter: %w", settings.Protocol, err)
	}
	return &Tracing{
		Provider: sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter)),
		logger:   logger,
	}, nil
}

// describe says which process sends the telemetry.
func describe(ctx context.Context, identity config.Identity) (*resource.Resource, error) {
	// Later sources win, so the environment can override what the code knows.
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(
			semconv.ServiceName(identity.Service),
			semconv.ServiceVersion(identity.Version),
			semconv.ServiceInstanceID(identity.Pod),
		),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("describing the process for telemetry (OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	return res, nil
}

func newExporter(ctx context.Context, protocol string) (*otlptrace.Exporter, error) {
	if protocol == "grpc" {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

// Close sends what is still buffered, for at most five seconds. Traces that
// cannot be sent are no reason for a process to fail: they are logged.
func (t *Tracing) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.Provider.Shutdown(ctx); err != nil {
		t.logger.Warn("traces were lost at shutdown", "error", err.Error())
	}
}

// Span starts a child of the span in ctx, with that span's provider, so code
// below a handler needs no tracer of its own. The caller ends it.
func Span(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, name)
}

// Failed marks the span in ctx as failed, unless err is an answer to a client's
// mistake. Its text stays out of the span: it may quote what a client sent.
func Failed(ctx context.Context, err error) {
	if e := problem.From(err); e.Status() >= http.StatusInternalServerError {
		trace.SpanFromContext(ctx).SetStatus(codes.Error, string(e.Code))
	}
}

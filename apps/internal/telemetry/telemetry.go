// Package telemetry sends a service's traces, and the metrics of a program that ends,
// over OTLP. Its only settings are the standard OTEL_* variables.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
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

	// The services' images have no certificate bundle. The program verifies a collector
	// with these compiled-in roots if the system has none.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

// Scope is the instrumentation scope of the spans that services start.
const Scope = "github.com/loja-veloz/platform/apps"

// flushTimeout limits how long an unreachable collector delays a shutdown.
const flushTimeout = 5 * time.Second

// Settings of the export of one signal, traces or metrics.
type Settings struct {
	Identity config.Identity
	Export   bool
	Protocol string // http/protobuf or grpc
}

// ReadSettings reads whether and how the process sends traces. It sends them if
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is set, unless
// OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none.
func ReadSettings(env *config.Reader, identity config.Identity) Settings {
	return readExport(env, identity, "TRACES")
}

// readExport reads the variables of a signal, and those of all signals.
func readExport(env *config.Reader, identity config.Identity, signal string) Settings {
	disabled := env.Choice("OTEL_SDK_DISABLED", "false", "true") == "true"
	exporter := env.Choice("OTEL_"+signal+"_EXPORTER", "otlp", "none")
	// Check the URL here: for an invalid one the exporter silently uses localhost.
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

// Propagator reads and writes the header traceparent: https://www.w3.org/TR/trace-context/
// It drops tracestate and baggage, in which clients can send any text: exporters write a
// span's tracestate, and the shop uses neither.
func Propagator() propagation.TextMapPropagator { return propagator{} }

type propagator struct{ propagation.TraceContext }

func (p propagator) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	ctx = p.TraceContext.Extract(ctx, carrier)
	span := trace.SpanContextFromContext(ctx)
	if span.TraceState().Len() == 0 {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, span.WithTraceState(trace.TraceState{}))
}

// Tracing is the running trace pipeline of a process.
type Tracing struct {
	Provider *sdktrace.TracerProvider
	// Spans counts what happened to the spans; nil without export.
	Spans  prometheus.Collector
	logger *slog.Logger
}

// Start sets up the trace pipeline. The collector need not be up: the exporter retries,
// and errors that remain are logged. The SDK itself reads endpoint, headers,
// certificates, compression, sampler and batching from the process's OTEL_* variables, but
// not OTEL_BSP_MAX_QUEUE_SIZE.
//
// Without export no span is recorded. Each still has ids, so that the log lines of one
// request have the same trace_id.
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
	spans := newQueue(exporter)
	return &Tracing{
		Provider: sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithSpanProcessor(spans)),
		Spans:    spans.outcomes,
		logger:   logger,
	}, nil
}

// describe returns the resource, which identifies the process that sends telemetry.
func describe(ctx context.Context, identity config.Identity) (*resource.Resource, error) {
	// A later source overrides an earlier one, so OTEL_RESOURCE_ATTRIBUTES is last.
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

// Close sends the buffered spans within five seconds. If it cannot, it logs the error,
// since lost traces must not make a process fail.
func (t *Tracing) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.Provider.Shutdown(ctx); err != nil {
		t.logger.Warn("traces were lost at shutdown", "error", err.Error())
	}
}

// Span starts a child of the span in ctx with the same provider, so that code below a
// handler needs no tracer. The caller ends it. A span that is not recorded gets no child,
// which would not be recorded either.
func Span(ctx context.Context, name string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, parent
	}
	return parent.TracerProvider().Tracer(Scope).Start(ctx, name)
}

// Failed marks the span in ctx as failed if the status of err is 500 or above. The span
// gets only the error's code, since its text may quote what a client sent.
func Failed(ctx context.Context, err error) {
	if e := problem.From(err); e.Status() >= http.StatusInternalServerError {
		trace.SpanFromContext(ctx).SetStatus(codes.Error, string(e.Code))
	}
}

package postgres

import (
	"context"
	"errors"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

// tracer gives each statement, and each new connection, its own span if the context has one
// that is recorded. Attributes follow
// https://opentelemetry.io/docs/specs/semconv/db/postgresql/ and have no parameters.
type tracer struct {
	tracer trace.Tracer
	// server are the attributes of all spans.
	server []attribute.KeyValue
}

func newTracer(provider trace.TracerProvider, config *pgx.ConnConfig) tracer {
	return tracer{provider.Tracer(telemetry.Scope), []attribute.KeyValue{
		semconv.DBSystemNamePostgreSQL, semconv.DBNamespace(config.Database),
		semconv.ServerAddress(config.Host), semconv.ServerPort(int(config.Port)),
	}}
}

// TraceQueryStart implements pgx.QueryTracer.
func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	name := operation(data.SQL)
	return t.start(ctx, name, semconv.DBOperationName(name), semconv.DBQueryText(data.SQL))
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	end(ctx, data.Err)
}

// TraceConnectStart implements pgx.ConnectTracer.
func (t tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx
	}
	return t.start(ctx, "connect")
}

// TraceConnectEnd implements pgx.ConnectTracer.
func (t tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	end(ctx, data.Err)
}

// started is a span of this tracer. Without it, the end of a statement whose start found no
// recorded span would end the span of its caller.
type started struct{}

func (t tracer) start(ctx context.Context, name string, more ...attribute.KeyValue) context.Context {
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	span.SetAttributes(append(more, t.server...)...)
	return context.WithValue(ctx, started{}, span)
}

// end ends the span that start began. Of an error it has only the SQLSTATE, since the text may
// quote what a client sent.
func end(ctx context.Context, err error) {
	span, ok := ctx.Value(started{}).(trace.Span)
	if !ok {
		return
	}
	defer span.End()
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		return
	}
	kind := "_OTHER"
	if refused := new(pgconn.PgError); errors.As(err, &refused) {
		kind = refused.Code
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, kind)
}

// operation returns a statement's first word, or SQL. It reads only this far, since it runs
// for each span of a statement.
func operation(statement string) string {
	for t := range tokens(statement) {
		if t.kind == comment {
			continue
		}
		if t.kind == plain && unicode.IsLetter([]rune(t.text)[0]) {
			return strings.ToUpper(t.text)
		}
		break
	}
	return "SQL"
}

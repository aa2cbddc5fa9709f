// Package logging builds a service's logger, which writes slog records as JSON for
// machines or as lines of text for people.
//
// Both formats have the service's name. JSON also has the trace and span of the
// record's context, so that a log line leads to its trace.
package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// Settings of the logger.
type Settings struct {
	Service string
	Format  string     // LOG_FORMAT: json (default) or text
	Level   slog.Level // LOG_LEVEL: debug, info (default), warn, error
}

// ReadSettings reads LOG_FORMAT and LOG_LEVEL.
func ReadSettings(env *config.Reader, service string) Settings {
	levels := map[string]slog.Level{
		"info": slog.LevelInfo, "debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return Settings{
		Service: service,
		Format:  env.Choice("LOG_FORMAT", "json", "text"),
		Level:   levels[env.Choice("LOG_LEVEL", "info", "debug", "warn", "error")],
	}
}

// New returns a logger that writes one line per record to out.
func New(out io.Writer, settings Settings) *slog.Logger {
	if settings.Format == "text" {
		return slog.New(&textHandler{settings: settings, mu: &sync.Mutex{}, out: out})
	}
	handler := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: settings.Level, ReplaceAttr: rename})
	return slog.New(traceHandler{handler}).With("service", settings.Service)
}

// rename gives slog's built-in keys the names that the platform's log pipeline
// expects. It writes times in UTC, so that lines of different nodes sort.
func rename(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return attr
	}
	switch attr.Key {
	case slog.TimeKey:
		return slog.String("timestamp", attr.Value.Time().UTC().Format(time.RFC3339Nano))
	case slog.MessageKey:
		attr.Key = "message"
	}
	return attr
}

// traceHandler adds trace_id and span_id from the record's context.
type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record.AddAttrs(
			slog.String("trace_id", span.TraceID().String()),
			slog.String("span_id", span.SpanID().String()),
		)
	}
	return h.Handler.Handle(ctx, record)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

// textHandler writes `2024-01-01 12:00:00 | INFO | api-gateway | GET /health`, then the
// record's attributes as key=value. It leaves out the attributes for machines (http.*,
// request_id), which only the JSON format has.
type textHandler struct {
	settings Settings
	prefix   string // of keys, from WithGroup
	attrs    []byte // already rendered, from WithAttrs
	mu       *sync.Mutex
	out      io.Writer
}

func (h *textHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.settings.Level
}

func (h *textHandler) Handle(_ context.Context, record slog.Record) error {
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s | %s | %s | %s", record.Time.UTC().Format(time.DateTime), record.Level,
		h.settings.Service, oneLine(record.Message))
	line.Write(h.attrs)
	record.Attrs(func(attr slog.Attr) bool {
		appendText(&line, h.prefix, attr)
		return true
	})
	line.WriteByte('\n')

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.out.Write(line.Bytes())
	return err
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var rendered bytes.Buffer
	rendered.Write(h.attrs)
	for _, attr := range attrs {
		appendText(&rendered, h.prefix, attr)
	}
	child := *h
	child.attrs = rendered.Bytes()
	return &child
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	child := *h
	child.prefix += name + "."
	return &child
}

func appendText(line *bytes.Buffer, prefix string, attr slog.Attr) {
	value := attr.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		for _, member := range value.Group() {
			appendText(line, prefix+attr.Key+".", member)
		}
		return
	}
	key := prefix + attr.Key
	if strings.HasPrefix(key, "http.") || key == "request_id" || attr.Key == "" {
		return
	}
	text := oneLine(value.String())
	if text == "" || strings.ContainsAny(text, " =\"") && !strings.HasPrefix(text, `"`) {
		text = strconv.Quote(text)
	}
	fmt.Fprintf(line, " %s=%s", key, text)
}

// oneLine quotes text with control characters, which could forge a line or move a
// terminal's cursor.
func oneLine(text string) string {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return strconv.Quote(text)
	}
	return text
}

package logging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/logging"
)

var traced = trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
	TraceID: trace.TraceID{0xab, 1}, SpanID: trace.SpanID{0xcd, 2},
}))

func TestJSONHasServiceAndTrace(t *testing.T) {
	var out bytes.Buffer
	logger := logging.New(&out, logging.Settings{Service: "pedidos"})
	logger.With("order", 7).InfoContext(traced, "GET /health", slog.Int("http.status_code", 200))

	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("not one JSON object: %v\n%s", err, out.String())
	}
	for key, want := range map[string]any{
		"level": "INFO", "service": "pedidos", "message": "GET /health", "order": 7.0, "http.status_code": 200.0,
		"trace_id": "ab010000000000000000000000000000", "span_id": "cd02000000000000",
	} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
	stamp, _ := got["timestamp"].(string)
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || at.Location() != time.UTC {
		t.Errorf("timestamp = %q, want RFC 3339 in UTC", stamp)
	}
}

func TestJSONWithoutTraceHasNoTraceFields(t *testing.T) {
	var out bytes.Buffer
	logging.New(&out, logging.Settings{Service: "pedidos"}).Info("started")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("a record without a trace has a trace_id: %s", out.String())
	}
}

func TestTextIsOneLineForPeople(t *testing.T) {
	tests := map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"access": {
			func(l *slog.Logger) {
				l.InfoContext(traced, "GET /health", "http.status_code", 200, "request_id", "r1")
			},
			`INFO \| api-gateway \| GET /health`,
		},
		"attributes": {
			func(l *slog.Logger) { l.With("a", 1).WithGroup("g").Warn("slow", "why", "two words", "empty", "") },
			`WARN \| api-gateway \| slow a=1 g\.why="two words" g\.empty=""`,
		},
		"forged line": {
			func(l *slog.Logger) { l.Error("a\nb", "c", "d\x1b[2J") },
			`ERROR \| api-gateway \| "a\\nb" c="d\\x1b\[2J"`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			test.log(logging.New(&out, logging.Settings{Service: "api-gateway", Format: "text"}))
			line := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| ` + test.want + `\n$`)
			if !line.MatchString(out.String()) {
				t.Errorf("got  %q\nwant %s", out.String(), line)
			}
		})
	}
}

func TestTheLevelAppliesToBothFormats(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		logger := logging.New(&out, logging.Settings{Format: format, Level: slog.LevelWarn})
		logger.Info("quiet")
		if out.Len() > 0 {
			t.Errorf("%s: info was written at level warn: %s", format, out.String())
		}
		logger.Warn("loud")
		if out.Len() == 0 {
			t.Errorf("%s: warn was not written at level warn", format)
		}
	}
}

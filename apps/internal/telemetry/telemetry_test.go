package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
)

var identity = config.Identity{Service: "pedidos", Version: "0123456789ab", Pod: "pedidos-1"}

func read(env map[string]string) (telemetry.Settings, error) {
	r := config.NewReader(nil, func(name string) string { return env[name] })
	settings := telemetry.ReadSettings(r, identity)
	return settings, r.Err()
}

func TestExportIsOffUnlessAnEndpointIsSet(t *testing.T) {
	const endpoint = "http://collector:4318"
	tests := map[string]struct {
		env      map[string]string
		export   bool
		protocol string
	}{
		"nothing set":     {nil, false, "http/protobuf"},
		"endpoint":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true, "http/protobuf"},
		"traces endpoint": {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint}, true, "http/protobuf"},
		"disabled":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "true"}, false, "http/protobuf"},
		"no exporter":     {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}, false, "http/protobuf"},
		"grpc":            {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, "grpc"},
		"traces protocol": {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, true, "http/protobuf"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := read(test.env)
			if err != nil || got.Export != test.export || got.Protocol != test.protocol {
				t.Errorf("got export %t by %s, error %v; want %t by %s", got.Export, got.Protocol, err, test.export, test.protocol)
			}
		})
	}
}

func TestErrorsNameTheirVariables(t *testing.T) {
	env := map[string]string{
		"OTEL_SDK_DISABLED": "perhaps", "OTEL_TRACES_EXPORTER": "zipkin",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "/v1/traces",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "udp",
	}
	_, err := read(env)
	for name := range env {
		if err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("error does not name %s: %v", name, err)
		}
	}
}

func TestWithoutExportSpansHaveIDsButAreNotRecorded(t *testing.T) {
	tracing, err := telemetry.Start(t.Context(), telemetry.Settings{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer tracing.Close()
	_, span := tracing.Provider.Tracer("test").Start(t.Context(), "work")
	defer span.End()
	if !span.SpanContext().IsValid() || span.SpanContext().IsSampled() || span.IsRecording() {
		t.Errorf("span: valid %t, sampled %t, recording %t; want only valid",
			span.SpanContext().IsValid(), span.SpanContext().IsSampled(), span.IsRecording())
	}
}

// received is a collector for both protocols, and the requests that it received.
type received struct {
	collector.UnimplementedTraceServiceServer
	requests chan *collector.ExportTraceServiceRequest
}

func (r received) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.requests <- request
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r received) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.URL.Path != "/v1/traces" {
		http.NotFound(w, request)
		return
	}
	var body io.Reader = request.Body
	if request.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(request.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	content, err := io.ReadAll(body)
	message := &collector.ExportTraceServiceRequest{}
	if err != nil || proto.Unmarshal(content, message) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	r.requests <- message
}

func TestCloseSendsTheLastSpansToTheCollector(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			got := received{requests: make(chan *collector.ExportTraceServiceRequest, 1)}
			var endpoint string
			if protocol == "grpc" {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				server := grpc.NewServer()
				collector.RegisterTraceServiceServer(server, got)
				go func() { _ = server.Serve(listener) }()
				t.Cleanup(server.Stop)
				endpoint = "http://" + listener.Addr().String()
			} else {
				server := httptest.NewServer(got)
				t.Cleanup(server.Close)
				endpoint = server.URL
			}
			// The exporters read the process's environment.
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=local")

			tracing, err := telemetry.Start(t.Context(), telemetry.Settings{Identity: identity, Export: true, Protocol: protocol}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			_, span := tracing.Provider.Tracer("test").Start(t.Context(), "work")
			span.End()
			tracing.Close()

			select {
			case request := <-got.requests:
				spans := request.GetResourceSpans()[0]
				if name := spans.GetScopeSpans()[0].GetSpans()[0].GetName(); name != "work" {
					t.Errorf("span %q, want work", name)
				}
				attributes := map[string]string{}
				for _, attribute := range spans.GetResource().GetAttributes() {
					attributes[attribute.GetKey()] = attribute.GetValue().GetStringValue()
				}
				for key, want := range map[string]string{
					"service.name": "pedidos", "service.version": "0123456789ab", "service.instance.id": "pedidos-1",
					"deployment.environment.name": "local",
				} {
					if attributes[key] != want {
						t.Errorf("resource %s = %q, want %q", key, attributes[key], want)
					}
				}
			default:
				t.Fatal("Close returned before the span was sent")
			}
		})
	}
}

func TestLostTracesAreLogged(t *testing.T) {
	refused := httptest.NewServer(nil)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", refused.URL)
	refused.Close()
	var log bytes.Buffer
	tracing, err := telemetry.Start(t.Context(), telemetry.Settings{Identity: identity, Export: true, Protocol: "http/protobuf"},
		slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.Provider.Tracer("test").Start(t.Context(), "work")
	span.End()
	tracing.Close()
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the log has no warning about the lost span: %q", log.String())
	}
}

// stuck is a collector that takes a batch and does not answer before it is released.
type stuck struct {
	sdktrace.SpanExporter
	release chan struct{}
}

func (s stuck) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	<-s.release
	return nil
}

func (stuck) Shutdown(context.Context) error { return nil }

// TestEverySpanIsCounted ends more spans than fit into the queue while the collector does not
// answer: each is counted as exported or as dropped, and none is lost without a count.
func TestEverySpanIsCounted(t *testing.T) {
	const more = 100
	collector := stuck{release: make(chan struct{})}
	q := telemetry.NewQueue(collector)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(q))
	tracer := provider.Tracer("test")
	for range telemetry.MaxQueued + more {
		_, span := tracer.Start(t.Context(), "work")
		span.End()
	}
	close(collector.release)
	if err := provider.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for outcome, want := range map[string]float64{"exported": telemetry.MaxQueued, "dropped": more, "failed": 0} {
		if got := testutil.ToFloat64(q.Outcomes().WithLabelValues(outcome)); got != want {
			t.Errorf("%.0f spans are %s, want %.0f", got, outcome, want)
		}
	}
}

package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/logging"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
)

func TestOutcomesAreExportedFromTheStart(t *testing.T) {
	got := newService(t, slog.LevelInfo).do("GET", "/metrics").Body.String()
	for _, outcome := range []string{"ok", "client_error", "error"} {
		if want := fmt.Sprintf(`sli_request_duration_seconds_count{outcome=%q,service="test"} 0`, outcome); !strings.Contains(got, want) {
			t.Errorf("a new process does not export %s:\n%s", want, got)
		}
	}
}

func TestEveryLatencyObjectiveIsABucketsEdge(t *testing.T) {
	programs, err := catalogue.Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	got := newService(t, slog.LevelInfo).do("GET", "/metrics").Body.String()
	for _, p := range programs.Services() {
		for _, latency := range []time.Duration{p.Objectives.P50, p.Objectives.LatencyThreshold, p.Objectives.P99} {
			if edge := fmt.Sprintf(`,le="%v"}`, latency.Seconds()); !strings.Contains(got, edge) {
				t.Errorf("%s has the objective %s, which is not the edge of a bucket", p.Name, latency)
			}
		}
	}
}

// safeBuffer is the log of a server that answers in several goroutines.
type safeBuffer struct{ apitest.Log }

func (b *safeBuffer) records(t *testing.T) []map[string]any {
	t.Helper()
	var records []map[string]any
	for line := range strings.Lines(b.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("log line is not JSON: %s", line)
		}
		records = append(records, record)
	}
	return records
}

// service is a small service under test, with its log and its spans.
type service struct {
	*server.Server
	log   *safeBuffer
	spans *tracetest.InMemoryExporter
}

func newService(t *testing.T, level slog.Level) service {
	t.Helper()
	s := service{log: &safeBuffer{}, spans: tracetest.NewInMemoryExporter()}
	settings := server.Settings{Identity: config.Identity{Service: "test", Version: "0123456789ab", Pod: "test-1"}}
	logger := logging.New(s.log, logging.Settings{Service: "test", Level: level})
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans))
	var err error
	if s.Server, err = server.New(settings, logger, provider, server.Options{BodyLimit: 16}); err != nil {
		t.Fatal(err)
	}
	s.Handle("item", "/items/:id", func(c *gin.Context) error {
		c.String(http.StatusOK, "item %s", c.Param("id"))
		return nil
	}, http.MethodGet)
	s.Handle("body", "/body", func(c *gin.Context) error {
		if _, err := io.Copy(io.Discard, c.Request.Body); err != nil {
			return problem.FromBody(err)
		}
		c.Status(http.StatusNoContent)
		return nil
	}, http.MethodPost)
	s.Handle("broken", "/broken", func(*gin.Context) error { return errors.New("dial 10.0.0.1: secret") }, http.MethodGet)
	s.Handle("panic", "/panic", func(*gin.Context) error { panic("secret") }, http.MethodGet)
	s.Handle("half", "/half", func(c *gin.Context) error {
		c.String(http.StatusOK, strings.Repeat("x", 8192))
		c.Writer.Flush()
		panic("secret")
	}, http.MethodGet)
	return s
}

func (s service) do(method, path string, header ...string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	s.Handler().ServeHTTP(recorder, request)
	return recorder
}

func TestEveryResponseHasIdentityAndSecurityHeaders(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	for path, status := range map[string]int{"/items/1": 200, "/health": 200, "/ready": 200, "/metrics": 200, "/nowhere": 404, "/broken": 500, "/panic": 500} {
		response := s.do("GET", path)
		if response.Code != status {
			t.Errorf("GET %s = %d, want %d", path, response.Code, status)
		}
		for name, want := range map[string]string{
			"Service-Version": "0123456789ab", "Service-Pod": "test-1", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "strict-origin-when-cross-origin",
			"Cache-Control": "no-store",
		} {
			if got := response.Header().Get(name); got != want {
				t.Errorf("GET %s: %s = %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestHealthIdentifiesTheProcess(t *testing.T) {
	response := newService(t, slog.LevelInfo).do("GET", "/health")
	want := `{"status":"ok","service":"test","version":"0123456789ab","pod":"test-1"}`
	if got := response.Body.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRequestIDs(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	if got := s.do("GET", "/items/1", "X-Request-Id", "order-7.ab").Header().Get("X-Request-Id"); got != "order-7.ab" {
		t.Errorf("a plain id was replaced by %q", got)
	}
	seen := map[string]bool{}
	for _, bad := range []string{"", "two words", "<script>", "tok_approved", strings.Repeat("a", 65)} {
		got := s.do("GET", "/items/1", "X-Request-Id", bad).Header().Get("X-Request-Id")
		if len(got) != 32 || seen[got] {
			t.Errorf("for %q got id %q, want a new one of 32 hex digits", bad, got)
		}
		seen[got] = true
	}
}

func TestErrorsAreProblemsThatHideTheirCause(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/nowhere", 404, "not_found"},
		{"GET", "/items/1/", 404, "not_found"},
		{"DELETE", "/items/1", 405, "method_not_allowed"},
		{"GET", "/broken", 500, "internal_error"},
		{"GET", "/panic", 500, "internal_error"},
	} {
		response := s.do(test.method, test.path)
		var got struct {
			Code      string
			Status    int
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal(response.Body.Bytes(), &got); err != nil {
			t.Errorf("%s %s: not JSON: %s", test.method, test.path, response.Body)
		}
		if response.Code != test.status || got.Status != test.status || got.Code != test.code || got.RequestID != response.Header().Get("X-Request-Id") {
			t.Errorf("%s %s = %d %+v, want %d %s", test.method, test.path, response.Code, got, test.status, test.code)
		}
		if strings.Contains(response.Body.String(), "secret") {
			t.Errorf("%s %s shows its cause: %s", test.method, test.path, response.Body)
		}
	}
	if got := s.do("DELETE", "/items/1").Header().Get("Allow"); !strings.Contains(got, "GET") || !strings.Contains(got, "HEAD") {
		t.Errorf("Allow = %q, want GET and HEAD", got)
	}
}

// A parser that skips what it cannot read would answer another question than the client asked.
func TestQueriesThatCannotBeParsedAreRefused(t *testing.T) {
	srv, err := server.New(server.Settings{}, slog.New(slog.DiscardHandler), noop.NewTracerProvider(), server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv.Router().GET("/list", func(c *gin.Context) { c.String(http.StatusOK, "%s", c.Query("limit")) })
	for query, status := range map[string]int{
		"": 200, "?limit=5": 200, "?limit=%35": 200, "?": 200, "?limit=5;cursor=x": 400, "?limit=5&cursor=%zz": 400, "?%": 400,
	} {
		recorder := httptest.NewRecorder()
		srv.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/list"+query, nil))
		if recorder.Code != status || status == 400 && !strings.Contains(recorder.Body.String(), `"code":"invalid_request"`) {
			t.Errorf("GET /list%s = %d %s, want %d", query, recorder.Code, recorder.Body, status)
		}
	}
}

func TestBodiesAreLimited(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	for size, want := range map[int]int{16: http.StatusNoContent, 17: http.StatusRequestEntityTooLarge} {
		recorder := httptest.NewRecorder()
		s.Handler().ServeHTTP(recorder, httptest.NewRequest("POST", "/body", strings.NewReader(strings.Repeat("x", size))))
		if recorder.Code != want {
			t.Errorf("%d bytes = %d, want %d", size, recorder.Code, want)
		}
	}
}

func TestAPanicAfterTheAnswerBeganAbortsTheConnection(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	live := httptest.NewServer(s.Handler())
	defer live.Close()
	response, err := http.Get(live.URL + "/half")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("half an answer looks complete to the client")
	}
	live.Close() // waits for the handler, and so for its metrics
	if got := s.do("GET", "/metrics").Body.String(); !strings.Contains(got, `http_requests_total{method="GET",route="/half",service="test",status="500"} 1`) {
		t.Error("the broken answer was not counted as 500")
	}
}

func TestMetricsLabelsAreBounded(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	for _, path := range []string{"/items/1", "/items/2", "/items/3", "/a", "/b", "/c?d=e"} {
		s.do("GET", path)
	}
	for _, method := range []string{"BREW", "PROPFIND", "get"} {
		s.do(method, "/items/1")
	}
	s.do("GET", "/broken")

	got := s.do("GET", "/metrics").Body.String()
	for _, want := range []string{
		`http_requests_total{method="GET",route="/items/:id",service="test",status="200"} 3`,
		`http_requests_total{method="GET",route="unmatched",service="test",status="404"} 3`,
		`http_requests_total{method="OTHER",route="unmatched",service="test",status="405"} 3`,
		`http_requests_total{method="GET",route="/broken",service="test",status="500"} 1`,
		`http_request_duration_seconds_count{method="GET",route="/items/:id",service="test",status="200"} 3`,
		`http_request_duration_seconds_bucket{method="GET",route="/items/:id",service="test",status="200",le="0.2"} 3`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	for _, want := range []string{
		`sli_request_duration_seconds_count{outcome="ok",service="test"} 3`,
		`sli_request_duration_seconds_count{outcome="client_error",service="test"} 6`,
		`sli_request_duration_seconds_count{outcome="error",service="test"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("/metrics lacks %s (probes do not count):\n%s", want, got)
		}
	}
	if n := strings.Count(got, "http_requests_total{"); n != 4 {
		t.Errorf("%d series of http_requests_total, want the 4 above:\n%s", n, got)
	}
}

func TestDurationsHaveTheTraceAsExemplar(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	s.do("GET", "/items/1", "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	got := s.do("GET", "/metrics", "Accept", "application/openmetrics-text; version=1.0.0").Body.String()
	if !strings.Contains(got, `# {trace_id="0af7651916cd43dd8448eb211c80319c"}`) {
		t.Errorf("no exemplar has the trace:\n%s", got)
	}
}

func TestSpansDescribeTheRequestAndItsHandler(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	s.do("GET", "http://shop.example/items/7?card=1234", "User-Agent", "tester/1",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

	spans := s.spans.GetSpans()
	if len(spans) != 2 || spans[0].Name != "item" || spans[1].Name != "GET /items/:id" {
		t.Fatalf("spans = %v, want item within GET /items/:id", spans.Snapshots())
	}
	handler, request := spans[0], spans[1]
	if handler.Parent.SpanID() != request.SpanContext.SpanID() {
		t.Error("the handler's span is not a child of the request's")
	}
	if got := request.SpanContext.TraceID().String(); got != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("trace %s does not continue the caller's", got)
	}
	attributes := map[attribute.Key]string{}
	for _, a := range request.Attributes {
		attributes[a.Key] = a.Value.String()
	}
	for key, want := range map[attribute.Key]string{
		"http.request.method": "GET", "url.path": "/items/7", "http.route": "/items/:id",
		"http.response.status_code": "200", "user_agent.original": "tester/1", "server.address": "shop.example",
	} {
		if attributes[key] != want {
			t.Errorf("%s = %q, want %q", key, attributes[key], want)
		}
	}
}

func TestSpansOfFailuresAndOddMethods(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	s.do("GET", "/broken")
	s.do("BREW", "/nowhere")
	spans := s.spans.GetSpans()
	if len(spans) != 4 {
		t.Fatalf("%d spans, want 4", len(spans))
	}
	for _, span := range spans[:2] {
		if span.Status.Code != codes.Error || strings.Contains(span.Status.Description, "secret") {
			t.Errorf("span %q of a failure has status %+v", span.Name, span.Status)
		}
	}
	odd := spans[3]
	if odd.Name != "HTTP" {
		t.Errorf("span of an unknown method is named %q, want HTTP", odd.Name)
	}
	if got := odd.Attributes; !contains(got, attribute.String("http.request.method", "_OTHER")) {
		t.Errorf("attributes of an unknown method: %v", got)
	}
}

func contains(attributes []attribute.KeyValue, want attribute.KeyValue) bool {
	for _, a := range attributes {
		if a == want {
			return true
		}
	}
	return false
}

func TestAccessLogFields(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	s.do("GET", "/items/7%0a?card=1234", "X-Request-Id", "r7")
	records := s.log.records(t)
	if len(records) != 1 {
		t.Fatalf("%d records, want 1: %v", len(records), records)
	}
	record := records[0]
	request := s.spans.GetSpans()[1].SpanContext
	for key, want := range map[string]any{
		"level": "INFO", "service": "test", "message": "GET /items/*", "request_id": "r7",
		"http.method": "GET", "http.url": "/items/*", "http.route": "/items/:id", "http.status_code": 200.0,
		"trace_id": request.TraceID().String(), "span_id": request.SpanID().String(),
	} {
		if record[key] != want {
			t.Errorf("%s = %v, want %v", key, record[key], want)
		}
	}
	if _, ok := record["http.duration_ms"].(float64); !ok {
		t.Errorf("http.duration_ms = %v, want a number", record["http.duration_ms"])
	}
}

// TestTelemetryHasNoSecretOfAClient plants a card token and an e-mail address in every part of
// a request that spans, logs or metrics describe. What people need of it stays.
func TestTelemetryHasNoSecretOfAClient(t *testing.T) {
	const token, address = "tok_planted", "planted@example.com"
	s := newService(t, slog.LevelInfo)
	for _, secret := range []string{token, address, "planted%40example.com"} {
		for _, path := range []string{"/items/", "/nowhere/", "/items/7?q=", "/broken?q="} {
			request := httptest.NewRequest("GET", path+secret, nil)
			request.Host = secret + ":8080"
			request.Header = http.Header{
				"User-Agent":   {"Mozilla/5.0 (X11; Linux) shop/1 (" + secret + "; +mailto:" + secret + ")"},
				"X-Request-Id": {secret}, "X-Forwarded-For": {secret}, "Forwarded": {"for=" + secret}, "Referer": {"/" + secret},
				"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
				"Tracestate":  {"shop=" + strings.ReplaceAll(secret, "@", "-")}, "Baggage": {"user=" + secret},
			}
			s.Handler().ServeHTTP(httptest.NewRecorder(), request)
		}
	}
	s.do(token, "/items/7")
	spans := fmt.Sprintf("%+v", s.spans.GetSpans())
	logs := fmt.Sprint(s.log.records(t))
	metrics := s.do("GET", "/metrics", "Accept", "application/openmetrics-text").Body.String()
	for where, text := range map[string]string{"spans": spans, "logs": logs, "metrics": metrics} {
		if at := strings.Index(text, "planted"); at >= 0 {
			t.Errorf("the %s have a client's secret: ...%s", where, text[max(0, at-100):min(len(text), at+40)])
		}
	}
	for _, kept := range []string{"Mozilla/5.0 (X11; Linux) shop/1 (*; +mailto:*)", "/items/*", "/nowhere/*"} {
		if !strings.Contains(spans, kept) {
			t.Errorf("the spans do not have %s", kept)
		}
	}
}

func TestFailuresAreLoggedWithTheirCause(t *testing.T) {
	s := newService(t, slog.LevelInfo)
	s.do("GET", "/broken")
	s.do("GET", "/panic")
	records := s.log.records(t)
	if len(records) != 4 {
		t.Fatalf("%d records, want two for each request, its cause and its access: %v", len(records), records)
	}
	for _, record := range records {
		if record["level"] != "ERROR" || record["trace_id"] == nil || record["request_id"] == nil {
			t.Errorf("record %v: want level ERROR, with trace and request", record)
		}
	}
	if got := records[0]["error"]; got != "dial 10.0.0.1: secret" {
		t.Errorf("error = %v", got)
	}
	if got, _ := records[2]["stack"].(string); !strings.Contains(got, "server_test.go") {
		t.Errorf("the panic's stack does not name this file: %v", records[2])
	}
}

func TestProbesAreNeitherTracedNorLoggedAboveDebug(t *testing.T) {
	quiet, debug := newService(t, slog.LevelInfo), newService(t, slog.LevelDebug)
	for _, path := range []string{"/health", "/ready", "/metrics"} {
		quiet.do("GET", path)
		debug.do("GET", path)
	}
	if records := quiet.log.records(t); len(records) > 0 {
		t.Errorf("probes were logged at level info: %v", records)
	}
	if records := debug.log.records(t); len(records) != 3 {
		t.Errorf("%d records of probes at level debug, want 3", len(records))
	}
	if spans := quiet.spans.GetSpans(); len(spans) > 0 {
		t.Errorf("probes were traced: %v", spans.Snapshots())
	}
}

func TestDocsAreShownOnlyIfTheSettingsAllowThem(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		settings := server.Settings{Identity: config.Identity{Service: "test", Version: "v", Pod: "p"}, Docs: allowed}
		s, err := server.New(settings, slog.New(slog.DiscardHandler), noop.NewTracerProvider(), server.Options{Document: []byte("openapi: 3.0.3\n")})
		if err != nil {
			t.Fatal(err)
		}
		for path, part := range map[string]string{
			"/docs/": "swagger-ui", "/docs/openapi.yaml": "openapi: 3.0.3", "/docs/swagger-ui-bundle.js": "SwaggerUIBundle", "/docs/swagger-ui.css": ".swagger-ui", "/docs/start.js": "openapi.yaml", "/docs/favicon-32x32.png": "PNG",
		} {
			recorder := httptest.NewRecorder()
			s.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", path, nil))
			if allowed && (recorder.Code != http.StatusOK || !strings.Contains(recorder.Body.String(), part)) {
				t.Errorf("%s = %d %.200s", path, recorder.Code, recorder.Body)
			}
			if !allowed && recorder.Code != http.StatusNotFound {
				t.Errorf("%s = %d although docs are not allowed", path, recorder.Code)
			}
		}
	}
}

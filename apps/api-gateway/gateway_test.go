package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/apitest"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

// seen is a request that an upstream received.
type seen struct {
	*http.Request
	body string
}

// backend is an upstream that records its requests.
type backend struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []seen
	answer atomic.Pointer[http.HandlerFunc]
}

func newBackend(t testing.TB) *backend {
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		b.seen = append(b.seen, seen{r, string(body)})
		b.mu.Unlock()
		(*b.answer.Load())(w, r)
	}))
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":[]}`)
	})
	t.Cleanup(b.Close)
	return b
}

func (b *backend) answers(handler http.HandlerFunc) { b.answer.Store(&handler) }

// requests returns those received since the last call.
func (b *backend) requests() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.seen
	b.seen = nil
	return all
}

// gate is the whole service, with one backend for all upstreams.
type gate struct {
	*httptest.Server
	backend *backend
	spans   *tracetest.InMemoryExporter
	log     *apitest.Log
}

// environment returns getenv of a minimal environment and of variables, as NAME=value.
func environment(upstream string, variables []string) func(string) string {
	values := map[string]string{
		"AUTH": "off", "ESTOQUE_URL": upstream, "PAGAMENTOS_URL": upstream, "PEDIDOS_URL": upstream,
		"RATE_PER_SECOND": "0", "POD_NAME": "api-gateway-1",
	}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	return func(name string) string { return values[name] }
}

func newGate(t testing.TB, variables ...string) *gate {
	t.Helper()
	b := newBackend(t)
	return newGateTo(t, b, b.URL, variables...)
}

func newGateTo(t testing.TB, b *backend, upstream string, variables ...string) *gate {
	t.Helper()
	env := config.NewReader(nil, environment(upstream, variables))
	settings := readSettings(env)
	if err := env.Err(); err != nil {
		t.Fatal(err)
	}
	spans := tracetest.NewInMemoryExporter()
	log := &apitest.Log{}
	frame := service.New(server.ReadSettings(env, name), slog.New(slog.NewJSONHandler(log, nil)),
		sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	srv, err := newServer(frame, settings)
	if err != nil {
		t.Fatal(err)
	}
	live := httptest.NewUnstartedServer(srv.Handler())
	live.Config.MaxHeaderBytes = 32 << 10 // as in server.Run
	live.Start()
	g := &gate{live, b, spans, log}
	t.Cleanup(g.Close)
	return g
}

// reply is an answer with its whole body.
type reply struct {
	*http.Response
	body string
}

func (r reply) code(t testing.TB) string {
	t.Helper()
	var problem struct{ Code, Type, Title string }
	if err := json.Unmarshal([]byte(r.body), &problem); err != nil {
		t.Fatalf("%d is not problem details: %q", r.StatusCode, r.body)
	}
	if r.Header.Get("Content-Type") != "application/problem+json" || problem.Type != "urn:loja-veloz:problem:"+problem.Code || problem.Title == "" {
		t.Errorf("not problem details: %s %s", r.Header.Get("Content-Type"), r.body)
	}
	return problem.Code
}

func (g *gate) do(t testing.TB, method, path, body string, headers ...string) reply {
	t.Helper()
	r, err := g.try(t.Context(), method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (g *gate) try(ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, g.URL, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	at, err := url.ParseRequestURI(path)
	if err != nil {
		return reply{}, err
	}
	at.Scheme, at.Host = request.URL.Scheme, request.URL.Host
	request.URL = at
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return reply{answer, string(content)}, err
}

func (g *gate) get(t testing.TB, path string, headers ...string) reply {
	t.Helper()
	return g.do(t, "GET", path, "", headers...)
}

func (g *gate) wantRefused(t *testing.T, r reply, status int, code string) {
	t.Helper()
	if got := r.code(t); r.StatusCode != status || got != code {
		t.Errorf("%s %s = %d %s, want %d %s", r.Request.Method, r.Request.URL, r.StatusCode, got, status, code)
	}
}

// metric returns the value of a series, by its exact name and labels.
func (g *gate) metric(t testing.TB, series string) string {
	t.Helper()
	for line := range strings.Lines(g.get(t, "/metrics").body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// eventually waits for a condition that another goroutine fulfils.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for this: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

const orderID = "0199a5d4-7f00-7000-8000-000000000001"

func TestTheAllowListIsForwarded(t *testing.T) {
	g := newGate(t)
	for _, test := range []struct{ method, path string }{
		{"GET", "/estoque"}, {"HEAD", "/estoque"}, {"GET", "/estoque?limit=5&cursor=YQ"},
		{"GET", "/estoque/SKU-1.a_b"}, {"HEAD", "/estoque/SKU-1"},
		{"POST", "/pedidos"}, {"GET", "/pedidos"}, {"GET", "/pedidos/" + orderID},
		{"POST", "/pedidos/" + orderID + "/cancel"}, {"POST", "/pedidos/" + orderID + "/payment"}, {"GET", "/pagamentos/" + orderID},
		{"GET", "/webhooks"}, {"POST", "/webhooks"}, {"GET", "/webhooks/" + orderID}, {"DELETE", "/webhooks/" + orderID},
		{"POST", "/webhooks/" + orderID + "/rotate"}, {"POST", "/webhooks/" + orderID + "/disable"}, {"POST", "/webhooks/" + orderID + "/enable"},
		{"GET", "/webhooks/" + orderID + "/deliveries"}, {"POST", "/webhooks/" + orderID + "/deliveries/" + orderID + "/redeliver"},
	} {
		body := ""
		if test.method == "POST" {
			body = `{"a":1}`
		}
		answer := g.do(t, test.method, test.path, body)
		got := g.backend.requests()
		if answer.StatusCode != http.StatusOK || len(got) != 1 {
			t.Errorf("%s %s = %d, %d requests upstream", test.method, test.path, answer.StatusCode, len(got))
			continue
		}
		if got[0].Method != test.method || got[0].RequestURI != test.path || got[0].body != body || "http://"+got[0].Host != g.backend.URL {
			t.Errorf("%s %s arrived as %s %s at %s with %q", test.method, test.path, got[0].Method, got[0].RequestURI, got[0].Host, got[0].body)
		}
		if test.method != "HEAD" && answer.body != `{"items":[]}` {
			t.Errorf("%s %s = %q", test.method, test.path, answer.body)
		}
	}
}

func TestOtherRequestsAreRefused(t *testing.T) {
	g := newGate(t)
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/", 404, "not_found"},
		{"GET", "/pagamentos", 404, "not_found"},
		{"PUT", "/pagamentos/" + orderID, 405, "method_not_allowed"},
		{"POST", "/pagamentos/" + orderID + "/refund", 404, "not_found"},
		{"POST", "/pagamentos/" + orderID + "/capture", 404, "not_found"},
		{"PUT", "/reservations/" + orderID, 404, "not_found"},
		{"POST", "/reservations/" + orderID + "/confirm", 404, "not_found"},
		{"POST", "/admin/estoque/SKU-1/top-ups", 404, "not_found"},
		{"POST", "/estoque", 405, "method_not_allowed"},
		{"DELETE", "/estoque/SKU-1", 405, "method_not_allowed"},
		{"DELETE", "/pedidos/" + orderID, 405, "method_not_allowed"},
		{"GET", "/pedidos/" + orderID + "/cancel", 405, "method_not_allowed"},
		{"GET", "/pedidos/" + orderID + "/payment", 405, "method_not_allowed"},
		{"POST", "/pedidos/" + orderID + "/ship", 404, "not_found"},
		{"POST", "/pedidos/" + orderID + "/refunds", 404, "not_found"},
		{"GET", "/pedidos/" + orderID + "/refunds/" + orderID, 404, "not_found"},
		{"PUT", "/pagamentos/" + orderID + "/refunds/" + orderID, 404, "not_found"},
		{"GET", "/pagamentos/" + orderID + "/refunds", 404, "not_found"},
		{"OPTIONS", "/pedidos", 405, "method_not_allowed"},
		{"TRACE", "/pedidos", 405, "method_not_allowed"},
		{"PROPFIND", "/pedidos", 405, "method_not_allowed"},
		{"get", "/pedidos", 405, "method_not_allowed"},
		{"GET", "/pedidos/", 404, "not_found"},
		{"GET", "/PEDIDOS", 404, "not_found"},
		{"GET", "/estoque/", 404, "not_found"},
		{"GET", "/docs", 404, "not_found"},
		{"GET", "/debug/pprof/", 404, "not_found"},
	} {
		answer := g.do(t, test.method, test.path, "")
		g.wantRefused(t, answer, test.status, test.code)
		if allow := answer.Header.Get("Allow"); (test.status == 405) != (allow != "") {
			t.Errorf("%s %s: Allow = %q", test.method, test.path, allow)
		}
	}
	if got := g.backend.requests(); len(got) > 0 {
		t.Errorf("%d requests were forwarded, the first %s %s", len(got), got[0].Method, got[0].RequestURI)
	}
}

func TestHeadersOfRequests(t *testing.T) {
	g := newGate(t)
	g.do(t, "POST", "/pedidos", `{}`,
		"Idempotency-Key", "k-1", "Content-Type", "application/json", "Accept", "application/json", "User-Agent", "tester/1",
		"X-Request-Id", "r-7",
		"Client-Id", "admin", "Server-Run", "1", "X-Forwarded-For", "10.0.0.1", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https",
		"X-Forwarded-Prefix", "/admin", "Forwarded", "for=10.0.0.1", "X-Real-Ip", "10.0.0.1", "X-Original-Url", "/admin",
		"X-Http-Method-Override", "DELETE", "Authorization", "Bearer x", "X-Api-Key", "x", "Cookie", "a=b",
		"Connection", "keep-alive, X-Secret, Accept", "X-Secret", "1", "Keep-Alive", "timeout=5", "Te", "trailers", "Upgrade", "h2c",
		"Proxy-Authorization", "Basic x", "Proxy-Connection", "close", "Baggage", "user=root", "Expect", "100-continue",
	)
	got := g.backend.requests()[0]
	want := map[string]string{
		"Idempotency-Key": "k-1", "Content-Type": "application/json", "User-Agent": "tester/1", "X-Request-Id": "r-7",
		"Client-Id": "anonymous", "Content-Length": "2", "Accept-Encoding": "gzip", "Traceparent": got.Header.Get("Traceparent"),
	}
	for name, values := range got.Header {
		if want[name] != values[0] || len(values) != 1 {
			t.Errorf("upstream got %s: %q, want %q", name, values, want[name])
		}
	}
	if len(got.Header) != len(want) {
		t.Errorf("upstream got %d headers, want %d: %v", len(got.Header), len(want), got.Header)
	}

	g.get(t, "/estoque", "X-Request-Id", "two words")
	if id := g.backend.requests()[0].Header.Get("X-Request-Id"); len(id) != 32 {
		t.Errorf("an invalid id was forwarded as %q", id)
	}
}

func TestHeadersOfAnswers(t *testing.T) {
	g := newGate(t, "PUBLIC_PATH=/api")
	g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{
			"X-Request-Id": "other", "Service-Pod": "pedidos-1", "Service-Version": "v9", "Server": "x", "X-Content-Type-Options": "no",
			"Access-Control-Allow-Origin": "*", "Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "1",
			"Location": "/pedidos/" + orderID, "Retry-After": "1", "Etag": `"1"`, "Content-Type": "application/json",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	answer := g.do(t, "POST", "/pedidos", `{}`, "X-Request-Id", "r-7")
	for name, want := range map[string]string{
		"X-Request-Id": "r-7", "Service-Pod": "api-gateway-1", "Service-Version": "dev", "Server": "", "X-Content-Type-Options": "nosniff",
		"Access-Control-Allow-Origin": "", "X-Hop": "", "Keep-Alive": "", "Location": "/api/pedidos/" + orderID, "Retry-After": "1", "Etag": `"1"`,
	} {
		if got := strings.Join(answer.Header.Values(name), ","); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if answer.StatusCode != http.StatusAccepted {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestProblemsOfUpstreamsPassAndOthersAreReplaced(t *testing.T) {
	g := newGate(t, "RETRIES=0", "BREAKER_MIN_REQUESTS=1000")
	g.backend.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"code":"order_state"}`)
	})
	if answer := g.do(t, "POST", "/pedidos/"+orderID+"/cancel", ""); answer.StatusCode != 409 || answer.body != `{"code":"order_state"}` {
		t.Errorf("got %d %s", answer.StatusCode, answer.body)
	}
	for status, want := range map[int]struct {
		status int
		code   string
	}{
		400: {502, "upstream_failed"}, 404: {502, "upstream_failed"}, 500: {502, "upstream_failed"}, 502: {502, "upstream_failed"},
		503: {503, "upstream_unavailable"}, 504: {504, "upstream_timeout"},
	} {
		g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no available server at 10.0.0.7", status)
		})
		answer := g.get(t, "/estoque")
		g.wantRefused(t, answer, want.status, want.code)
		if strings.Contains(answer.body, "10.0.0.7") {
			t.Errorf("%d shows the proxy's text: %s", status, answer.body)
		}
	}
}

func TestBodiesAreLimited(t *testing.T) {
	g := newGate(t, "BODY_LIMIT=1024")
	for _, test := range []struct {
		size    int
		chunked bool
		status  int
	}{{1024, false, 200}, {1025, false, 413}, {1024, true, 200}, {1025, true, 413}, {1 << 20, true, 413}} {
		var body io.Reader = strings.NewReader(strings.Repeat("x", test.size))
		if test.chunked {
			body = io.MultiReader(body) // of unknown length
		}
		request, err := http.NewRequest("POST", g.URL+"/pedidos", body)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		got := g.backend.requests()
		if answer.StatusCode != test.status || (test.status == 200) != (len(got) == 1) {
			t.Errorf("%d bytes (chunked %v) = %d, %d upstream", test.size, test.chunked, answer.StatusCode, len(got))
		}
		if test.status == 200 && len(got) == 1 && len(got[0].body) != test.size {
			t.Errorf("%d bytes arrived as %d", test.size, len(got[0].body))
		}
		if test.status == 413 && !bytes.Contains(content, []byte(`"code":"body_too_large"`)) {
			t.Errorf("413 without problem details: %s", content)
		}
	}
}

func TestAnswersAreStreamed(t *testing.T) {
	g := newGate(t)
	next := make(chan struct{})
	g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	answer, err := http.Get(g.URL + "/pedidos")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	part := make([]byte, 4)
	for range 3 {
		// Each part arrives before the upstream sends the next one.
		if _, err := io.ReadFull(answer.Body, part); err != nil || string(part) != "part" {
			t.Fatalf("read %q, %v", part, err)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(answer.Body); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v", rest, err)
	}
}

func TestABrokenAnswerLooksBroken(t *testing.T) {
	g := newGate(t)
	g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if answer, err := g.try(t.Context(), "GET", "/estoque", ""); err == nil {
		t.Errorf("half an answer looks complete: %d %q", answer.StatusCode, answer.body)
	}
	if got := len(g.backend.requests()); got != 1 {
		t.Errorf("%d requests: there must be no retry after the first byte of an answer", got)
	}
}

func TestInterimAnswersAreNotForwarded(t *testing.T) {
	g := newGate(t)
	g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</x>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusNoContent)
	})
	answer := g.get(t, "/estoque", "X-Request-Id", "r-7")
	if answer.StatusCode != 204 || answer.Header.Get("X-Request-Id") != "r-7" || answer.Header.Get("Link") != "" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
}

func TestASwitchOfProtocolsIsRefused(t *testing.T) {
	g := newGate(t, "RETRIES=0")
	g.backend.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	g.wantRefused(t, g.get(t, "/estoque", "Connection", "Upgrade", "Upgrade", "websocket"), 502, "upstream_failed")
	if got := g.backend.requests()[0].Header; got.Get("Upgrade")+got.Get("Connection") != "" {
		t.Errorf("the upstream received a request to switch: %v", got)
	}
}

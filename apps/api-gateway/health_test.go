package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

func TestOnlyDeepHealthChecksTheUpstreams(t *testing.T) {
	g := newGate(t)
	g.backend.Close()
	if answer := g.get(t, "/health"); answer.StatusCode != 200 {
		t.Errorf("/health = %d while the upstreams are down", answer.StatusCode)
	}
	if answer := g.get(t, "/health?deep=1"); answer.StatusCode != 503 {
		t.Errorf("/health?deep=1 = %d while the upstreams are down", answer.StatusCode)
	}
}

func TestDeepHealth(t *testing.T) {
	b := newBackend(t)
	env := config.NewReader(nil, environment(b.URL, []string{"PAGAMENTOS_URL=http://" + freeAddress(t)}))
	settings := readSettings(env)
	if err := env.Err(); err != nil {
		t.Fatal(err)
	}
	frame := service.New(server.ReadSettings(env, name), slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	gateway := newGateway(frame, settings)
	var moved atomic.Int64
	start := time.Now()
	gateway.health.now = func() time.Time { return start.Add(time.Duration(moved.Load())) }
	ask := func() (int, healthReport) {
		recorder := httptest.NewRecorder()
		c, _ := gin.CreateTestContext(recorder)
		c.Request = httptest.NewRequest("GET", "/health?deep=1", nil)
		if err := gateway.health.serve(c); err != nil {
			t.Fatal(err)
		}
		var report healthReport
		if err := json.Unmarshal(recorder.Body.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		return recorder.Code, report
	}
	want := func(code int, status, estoque, pagamentos string) {
		t.Helper()
		got, report := ask()
		if got != code || report.Status != status || len(report.Upstreams) != 3 || report.Service != name || report.Pod != "api-gateway-1" ||
			report.Upstreams["estoque"] != (upstreamHealth{estoque, "closed"}) || report.Upstreams["pagamentos"] != (upstreamHealth{pagamentos, "closed"}) {
			t.Errorf("%d %+v, want %d %s, estoque %s, pagamentos %s", got, report, code, status, estoque, pagamentos)
		}
	}

	want(503, "degraded", "ok", "unreachable")
	asked := b.requests()
	if len(asked) != 2 || asked[0].RequestURI != "/health" || asked[0].Method != "GET" {
		t.Errorf("requests %v, want GET /health of both upstreams that are up", asked)
	}
	gateway.upstreams["pagamentos"].base.Host = gateway.upstreams["estoque"].base.Host
	for range 100 {
		want(503, "degraded", "ok", "unreachable") // the cached report
	}
	if got := len(b.requests()); got > 0 {
		t.Errorf("100 requests within a second caused %d checks", got)
	}
	moved.Store(int64(time.Second))
	want(200, "ok", "ok", "ok")
	b.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	moved.Store(int64(2 * time.Second))
	want(503, "degraded", "failing", "failing")
}

package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"go.opentelemetry.io/otel/trace"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

// benchmark sends GETs one after the other over one connection. Client and upstream
// run in the same process, so only differences between benchmarks are meaningful.
func benchmark(b *testing.B, address string) {
	b.Helper()
	request, err := http.NewRequest("GET", address+"/estoque/SKU-1", nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("User-Agent", "bench/1")
	b.ReportAllocs()
	for b.Loop() {
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != 200 {
			b.Fatal(answer.Status, err)
		}
		answer.Body.Close()
	}
}

func benchmarkUpstream(b *testing.B) *httptest.Server {
	body := []byte(`{"sku":"SKU-1","name":"Tênis","price":{"amount":12990,"currency":"BRL"},"available":7}`)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	b.Cleanup(upstream.Close)
	return upstream
}

func BenchmarkUpstreamAlone(b *testing.B) { benchmark(b, benchmarkUpstream(b).URL) }

// BenchmarkPlainProxy measures net/http/httputil alone.
func BenchmarkPlainProxy(b *testing.B) {
	base, err := url.Parse(benchmarkUpstream(b).URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(base) }})
	defer proxy.Close()
	benchmark(b, proxy.URL)
}

func benchmarkServer(b *testing.B, upstream string, provider trace.TracerProvider, variables ...string) http.Handler {
	env := config.NewReader(nil, environment(upstream, variables))
	settings := readSettings(env)
	if err := env.Err(); err != nil {
		b.Fatal(err)
	}
	frame := service.New(server.ReadSettings(env, name), slog.New(slog.NewJSONHandler(io.Discard, nil)), provider)
	srv, err := newServer(frame, settings)
	if err != nil {
		b.Fatal(err)
	}
	return srv.Handler()
}

// BenchmarkGateway measures the gateway without a collector, and with a rate limit
// that the benchmark does not reach.
func BenchmarkGateway(b *testing.B) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	gateway := httptest.NewServer(benchmarkServer(b, benchmarkUpstream(b).URL, provider, "RATE_PER_SECOND=1000000"))
	defer gateway.Close()
	benchmark(b, gateway.URL)
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

// app is the whole service, and the spans that it exported.
type app struct {
	handler http.Handler
	spans   *tracetest.InMemoryExporter
}

// newApp returns the service with the shop closed.
func newApp(t testing.TB) app { return newAppAt(t, "") }

// newAppAt returns the service with the API at url.
func newAppAt(t testing.TB, url string) app {
	t.Helper()
	return newAppWith(t, settings{api: url})
}

func newAppWith(t testing.TB, settings settings) app {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	frame := service.New(
		server.Settings{Identity: config.Identity{Service: name, Version: "0123456789ab", Pod: "sample-web-app-1"}},
		slog.New(slog.DiscardHandler), sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	srv, err := newServer(frame, settings)
	if err != nil {
		t.Fatal(err)
	}
	return app{srv.Handler(), spans}
}

// secret is the cookie of the browser that sends the tests' requests.
const secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// send sends a request with the browser's cookie, unless it has another one.
func (a app) send(request *http.Request) *httptest.ResponseRecorder {
	if request.Header.Get("Cookie") == "" {
		request.Header.Set("Cookie", shopperCookie+"="+secret)
	}
	recorder := httptest.NewRecorder()
	a.handler.ServeHTTP(recorder, request)
	return recorder
}

func (a app) get(path string) *httptest.ResponseRecorder {
	return a.send(httptest.NewRequest("GET", path, nil))
}

func wantIn(t *testing.T, page string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q:\n%s", part, page)
		}
	}
}

func TestThePageShowsTheItemsAndThePodThatServedIt(t *testing.T) {
	response := newApp(t).get("/")
	if response.Code != http.StatusOK || response.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("GET / = %d %s", response.Code, response.Header().Get("Content-Type"))
	}
	wantIn(t, response.Body.String(), "Loja Veloz", "0123456789ab", "sample-web-app-1", "R$\u00a04.899,00", "closed at the moment",
		`<html lang="en">`, `<a class="skip" href="#content">`, `<main id="content"`, `aria-current="page"`)
	for _, product := range onDisplay {
		wantIn(t, response.Body.String(), product.Name)
	}
	if got := strings.Count(response.Body.String(), `<div class="art"><svg`); got != len(onDisplay) {
		t.Errorf("%d pictures for %d products", got, len(onDisplay))
	}
	if got := response.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control = %q: a cache would hide a canary", got)
	}
}

func TestEachVersionHasItsOwnColour(t *testing.T) {
	colour := regexp.MustCompile(`hsl\(\d+ `)
	seen := map[string]bool{}
	for _, version := range []string{"3fa9c1d07b2e", "9b1deb4d3b7d"} {
		frame := service.New(server.Settings{Identity: config.Identity{Service: name, Version: version, Pod: "p"}},
			slog.New(slog.DiscardHandler), sdktrace.NewTracerProvider())
		srv, err := newServer(frame, settings{})
		if err != nil {
			t.Fatal(err)
		}
		seen[colour.FindString(app{handler: srv.Handler()}.get("/").Body.String())] = true
	}
	if len(seen) != 2 || seen[""] {
		t.Errorf("colours of two versions: %v", seen)
	}
}

func TestHeadAnswersLikeGetWithoutABody(t *testing.T) {
	f := newFakeAPI(t)
	live := httptest.NewServer(newAppAt(t, f.url).handler)
	defer live.Close()
	for _, path := range []string{"/", "/checkout", "/orders/" + f.has(confirmed), "/echo", "/static/site.css", "/health", "/ready", "/metrics"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, live.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cookie", shopperCookie+"="+secret)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) != 0 {
			t.Errorf("HEAD %s = %d with %d bytes, error %v", path, response.StatusCode, len(body), err)
		}
	}
}

func TestPagesLoadNothingFromElsewhere(t *testing.T) {
	f := newFakeAPI(t)
	a := newAppAt(t, f.url)
	external := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]|\bdata:|<script>|<script src="[^/]|<script src="//|\bon[a-z]+=|style=`)
	for _, path := range []string{"/", "/orders/" + f.has(confirmed), "/orders/" + f.has(nil), "/echo", "/nowhere"} {
		response := a.get(path)
		// Browsers do not fetch the namespace of an SVG.
		page := strings.ReplaceAll(response.Body.String(), "http://www.w3.org/2000/svg", "")
		if found := external.FindString(page); found != "" {
			t.Errorf("%s contains %q, which the page's own policy forbids", path, found)
		}
		want := contentSecurityPolicy
		if strings.HasPrefix(path, "/orders/") {
			want += "; script-src 'self'; connect-src 'self'"
		}
		if got := response.Header().Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: Content-Security-Policy = %q, want %q", path, got, want)
		}
	}
	if css := a.get("/static/site.css").Body.String(); regexp.MustCompile(`url\(|@import`).MatchString(css) {
		t.Error("the style sheet loads something")
	}
}

func TestStaticFilesAreCachedByContent(t *testing.T) {
	a := newApp(t)
	links := regexp.MustCompile(`href="(/static/[^"]+)"`).FindAllStringSubmatch(a.get("/").Body.String(), -1)
	if len(links) != 2 {
		t.Fatalf("links to static files: %v, want the icon and the style sheet", links)
	}
	for _, link := range links {
		response := a.get(link[1])
		if got := response.Header().Get("Cache-Control"); response.Code != http.StatusOK || got != "public, max-age=31536000, immutable" {
			t.Errorf("%s = %d, Cache-Control %q", link[1], response.Code, got)
		}
	}

	// During a canary this is another version's link.
	other := a.get("/static/site.css?v=0000000000000000")
	if got := other.Header().Get("Cache-Control"); other.Code != http.StatusOK || got != "no-cache" {
		t.Errorf("another version's link = %d, Cache-Control %q; want 200, no-cache", other.Code, got)
	}
	if got := other.Header().Get("Content-Type"); !strings.HasPrefix(got, "text/css") {
		t.Errorf("Content-Type = %q", got)
	}
	again := httptest.NewRequest("GET", "/static/site.css", nil)
	again.Header.Set("If-None-Match", other.Header().Get("ETag"))
	if got := a.send(again); got.Code != http.StatusNotModified {
		t.Errorf("revalidation = %d, want 304", got.Code)
	}
	for _, path := range []string{"/static/none.css", "/static/", "/static/../main.go", "/static/..%2fmain.go"} {
		if got := a.get(path); got.Code != http.StatusNotFound {
			t.Errorf("%s = %d, want 404", path, got.Code)
		}
	}
}

func TestErrorsArePagesOrProblemDetailsByTheAcceptHeader(t *testing.T) {
	a := newApp(t)
	tests := []struct {
		method, path, accept string
		status               int
		json                 bool
	}{
		{"GET", "/nowhere", "", 404, false},
		{"GET", "/nowhere", "*/*", 404, false},
		{"GET", "/nowhere", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 404, false},
		{"GET", "/nowhere", "application/json", 404, true},
		{"GET", "/nowhere", "application/problem+json", 404, true},
		{"GET", "/nowhere", "application/json, text/plain, */*", 404, true},
		{"GET", "/nowhere", "text/html;q=0.5, application/json;q=0.9", 404, true},
		{"GET", "/nowhere", "application/json;q=0.1, text/html", 404, false},
		{"GET", "/nowhere", "application/json;q=x, ;;", 404, false},
		{"POST", "/", "text/html", 405, false},
		{"POST", "/", "application/json", 405, true},
		{"PROPFIND", "/echo", "text/html", 405, false},
	}
	for _, test := range tests {
		request := httptest.NewRequest(test.method, test.path, nil)
		request.Header.Set("Accept", test.accept)
		response := a.send(request)
		want := "text/html; charset=utf-8"
		if test.json {
			want = "application/problem+json"
		}
		if got := response.Header().Get("Content-Type"); response.Code != test.status || got != want {
			t.Errorf("%s %s, Accept %q = %d %s; want %d %s", test.method, test.path, test.accept, response.Code, got, test.status, want)
		}
		if response.Header().Get("Vary") != "Accept" {
			t.Errorf("%s %s: no Vary: Accept", test.method, test.path)
		}
		if id := response.Header().Get("X-Request-Id"); !strings.Contains(response.Body.String(), id) {
			t.Errorf("%s %s does not show its request id", test.method, test.path)
		}
		if test.status == 405 && !strings.Contains(response.Header().Get("Allow"), "GET") {
			t.Errorf("%s %s: Allow = %q", test.method, test.path, response.Header().Get("Allow"))
		}
	}
}

func TestSpansAreRequestThenHandlerThenTemplate(t *testing.T) {
	a := newApp(t)
	a.get("/echo")
	spans := a.spans.GetSpans() // in the order in which they ended
	if len(spans) != 3 {
		t.Fatalf("%d spans, want 3: %v", len(spans), spans.Snapshots())
	}
	for i, want := range []string{"render echo", "echo", "GET /echo"} {
		if spans[i].Name != want {
			t.Errorf("span %d is %q, want %q", i, spans[i].Name, want)
		}
		if i > 0 && spans[i-1].Parent.SpanID() != spans[i].SpanContext.SpanID() {
			t.Errorf("%q is not the parent of %q", spans[i].Name, spans[i-1].Name)
		}
	}
}

func TestPricesHaveTheBrazilianFormat(t *testing.T) {
	for amount, want := range map[reais]string{
		0: "R$ 0,00", 5: "R$ 0,05", 12990: "R$ 129,90", 99999: "R$ 999,99", 100000: "R$ 1.000,00",
		123456789: "R$ 1.234.567,89", -12990: "-R$ 129,90", -1 << 63: "-R$ 92.233.720.368.547.758,08",
	} {
		if got := strings.ReplaceAll(amount.String(), "\u00a0", " "); got != want {
			t.Errorf("reais(%d) = %s, want %s", int64(amount), got, want)
		}
	}
}

func TestRunReportsEveryWrongSettingAndDoesNotStart(t *testing.T) {
	env := map[string]string{"PORT": "http", "LOG_FORMAT": "xml", "DRAIN_PAUSE": "soon", "API_URL": "api-gateway:80"}
	err := run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard)
	for name := range env {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("run = %v, want an error that names %s", err, name)
		}
	}
}

func TestRunServesUntilItsContextEnds(t *testing.T) {
	env := map[string]string{
		"PORT": "0", "BIND_ADDRESS": "127.0.0.1", "DRAIN_PAUSE": "0s",
		"SERVICE_VERSION": "fedcba987654", "POD_NAME": "sample-web-app-9",
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, nil, func(name string) string { return env[name] }, log)
		_ = log.Close()
	}()

	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatalf("no log line; run = %v", <-done)
	}
	var started struct{ Message, Address string }
	if err := json.Unmarshal(lines.Bytes(), &started); err != nil || started.Message != "listening" {
		t.Fatalf("first log line %s, want listening", lines.Bytes())
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()

	response, err := http.Get("http://" + started.Address + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	wantIn(t, string(page), "fedcba987654", "sample-web-app-9")
	if got := response.Header.Get("Service-Version"); got != "fedcba987654" {
		t.Errorf("Service-Version = %q", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run = %v, want nil", err)
	}
}

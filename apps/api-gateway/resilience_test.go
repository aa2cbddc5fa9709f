package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// reset closes the connection of a request with a TCP reset.
func reset(w http.ResponseWriter, _ *http.Request) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = connection.(*net.TCPConn).SetLinger(0)
	connection.Close()
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"code":"unavailable"}`)
	}
}

func TestOnlyHarmlessRequestsAreRetried(t *testing.T) {
	busy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3")
		status(503)(w, r)
	}
	for _, test := range []struct {
		what, method, path string
		answer             http.HandlerFunc
		tries, status      int
	}{
		{"reset", "GET", "/estoque", reset, 3, 502},
		{"reset", "HEAD", "/estoque", reset, 3, 502},
		{"reset", "POST", "/pedidos", reset, 1, 502},
		{"reset", "POST", "/pedidos/" + orderID + "/cancel", reset, 1, 502},
		{"503", "GET", "/estoque", status(503), 3, 503},
		{"502", "GET", "/pagamentos/" + orderID, status(502), 3, 502},
		{"504", "GET", "/pedidos/" + orderID, status(504), 3, 504},
		{"503", "POST", "/pedidos", status(503), 1, 503},
		{"503 with Retry-After", "GET", "/estoque", busy, 1, 503},
		{"500", "GET", "/estoque", status(500), 1, 500},
		{"404", "GET", "/estoque", status(404), 1, 404},
	} {
		t.Run(fmt.Sprintf("%s %s %s", test.method, test.path, test.what), func(t *testing.T) {
			g := newGate(t, "RETRIES=2", "RETRY_BACKOFF=1ms")
			// Open a connection first: net/http retries on its own only on a reused one.
			g.get(t, "/estoque")
			g.get(t, "/pedidos")
			g.backend.requests()
			g.backend.answers(test.answer)
			answer := g.do(t, test.method, test.path, "", "Idempotency-Key", "k-1")
			// If a reused connection breaks before the first byte of an answer, net/http
			// assumes that it was idle and retries once.
			got := len(g.backend.requests())
			if extra := got - test.tries; answer.StatusCode != test.status || extra < 0 || extra > 1 || extra == 1 && (test.what != "reset" || test.method == "POST") {
				t.Errorf("%d after %d tries, want %d after %d", answer.StatusCode, got, test.status, test.tries)
			}
		})
	}
}

func TestTheClientSeesOnlyTheRetryThatSucceeds(t *testing.T) {
	g := newGate(t, "RETRY_BACKOFF=1ms")
	var asked atomic.Int32
	g.backend.answers(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 3 {
			status(503)(w, r)
			return
		}
		_, _ = io.WriteString(w, "here")
	})
	if answer := g.get(t, "/estoque"); answer.StatusCode != 200 || answer.body != "here" {
		t.Errorf("got %d %q", answer.StatusCode, answer.body)
	}
	if got := g.metric(t, `gateway_upstream_retries_total{service="api-gateway",upstream="estoque"}`); got != "2" {
		t.Errorf("retries = %s, want 2", got)
	}
	if got := g.metric(t, `gateway_upstream_requests_total{outcome="server_error",service="api-gateway",upstream="estoque"}`); got != "2" {
		t.Errorf("server errors = %s, want 2", got)
	}
}

// freeAddress returns an address at which nothing listens for now.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestAPostIsRetriedAfterARefusedConnection(t *testing.T) {
	g := newGateTo(t, nil, "http://"+freeAddress(t), "RETRIES=2", "RETRY_BACKOFF=1ms")
	answer := g.do(t, "POST", "/pedidos", `{}`)
	g.wantRefused(t, answer, 503, "upstream_unavailable")
	if answer.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q", answer.Header.Get("Retry-After"))
	}
	if got := g.metric(t, `gateway_upstream_requests_total{outcome="unreachable",service="api-gateway",upstream="pedidos"}`); got != "3" {
		t.Errorf("tries = %s, want 3: nothing was sent", got)
	}
}

// A retry of a POST sends the whole body.
func TestAPostIsSentWhenTheUpstreamComesUp(t *testing.T) {
	address := freeAddress(t)
	g := newGateTo(t, nil, "http://"+address, "RETRIES=5", "RETRY_BACKOFF=1s", "TIMEOUT_WRITE=20s")
	came := make(chan string, 1)
	answered := make(chan reply, 1)
	go func() {
		answer, err := g.try(t.Context(), "POST", "/pedidos", `{"a":1}`)
		if err != nil {
			t.Error(err)
		}
		answered <- answer
	}()
	eventually(t, "a first try that is refused", func() bool {
		return g.metric(t, `gateway_upstream_requests_total{outcome="unreachable",service="api-gateway",upstream="pedidos"}`) != "0"
	})
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("the address was taken meanwhile: ", err)
	}
	live := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		came <- string(body)
		w.WriteHeader(http.StatusCreated)
	})}
	go func() { _ = live.Serve(listener) }()
	t.Cleanup(func() { _ = live.Close() })
	if answer := <-answered; answer.StatusCode != http.StatusCreated {
		t.Fatalf("got %d %s", answer.StatusCode, answer.body)
	}
	if body := <-came; body != `{"a":1}` || len(came) > 0 {
		t.Errorf("arrived: %q and %d more", body, len(came))
	}
}

func TestRetriesAreLimitedByTheBudget(t *testing.T) {
	g := newGate(t, "RETRIES=5", "RETRY_BACKOFF=1ms", "BREAKER_MIN_REQUESTS=100000")
	g.backend.answers(status(503))
	const clients = 200
	for range clients {
		g.get(t, "/estoque")
	}
	// A tenth of the requests, plus the burst of ten.
	if got := len(g.backend.requests()); got > clients+clients/10+10 || got < clients+10 {
		t.Errorf("%d requests of clients became %d upstream, want at most a tenth and ten more", clients, got)
	}
}

func TestACircuitOpensProbesAndCloses(t *testing.T) {
	g := newGate(t, "RETRIES=0", "BREAKER_MIN_REQUESTS=10", "BREAKER_FAILURE_PERCENT=50", "BREAKER_WINDOW=1m", "BREAKER_OPEN=50ms", "BREAKER_PROBES=2")
	state := func() string {
		return g.metric(t, `gateway_circuit_state{operation="GET /estoque",service="api-gateway",upstream="estoque"}`)
	}
	for range 5 {
		g.get(t, "/estoque")
	}
	g.backend.answers(status(500))
	for range 4 {
		g.get(t, "/estoque")
	}
	if got := state(); got != "0" {
		t.Fatalf("state %s after 4 failures of 9, want closed", got)
	}
	g.get(t, "/estoque")
	if got := state(); got != "2" {
		t.Fatalf("state %s after 5 failures of 10, want open", got)
	}

	// An open circuit forwards nothing. Other upstreams are not affected.
	g.backend.requests()
	answer := g.get(t, "/estoque")
	g.wantRefused(t, answer, 503, "upstream_unavailable")
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After = %q", answer.Header.Get("Retry-After"))
	}
	if got := len(g.backend.requests()); got != 0 {
		t.Errorf("%d requests passed an open circuit", got)
	}
	g.backend.answers(func(http.ResponseWriter, *http.Request) {})
	if answer := g.get(t, "/pedidos"); answer.StatusCode != 200 {
		t.Errorf("another upstream = %d", answer.StatusCode)
	}

	// A probe that fails opens the circuit again.
	g.backend.answers(status(500))
	eventually(t, "a probe", func() bool {
		g.backend.requests()
		g.get(t, "/estoque")
		return len(g.backend.requests()) > 0
	})
	if got := state(); got != "2" {
		t.Errorf("state %s after a failed probe, want open", got)
	}

	// Two probes that succeed close the circuit.
	g.backend.answers(func(http.ResponseWriter, *http.Request) {})
	eventually(t, "a probe", func() bool { return g.get(t, "/estoque").StatusCode == 200 })
	if got := state(); got != "1" {
		t.Errorf("state %s after the first good probe, want half-open", got)
	}
	g.get(t, "/estoque")
	if got := state(); got != "0" {
		t.Errorf("state %s after both good probes, want closed", got)
	}
}

// Orders cannot be placed, perhaps because of a service that only they need. Those that exist
// can still be read and cancelled.
func TestAnOperationThatFailsDoesNotCloseTheOthers(t *testing.T) {
	g := newGate(t, "BREAKER_MIN_REQUESTS=5", "BREAKER_OPEN=1m")
	g.backend.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/pedidos" {
			status(503)(w, r)
		}
	})
	for range 10 {
		g.do(t, "POST", "/pedidos", `{}`)
	}
	g.wantRefused(t, g.do(t, "POST", "/pedidos", `{}`), 503, "upstream_unavailable") // the circuit is open
	for _, request := range [][2]string{{"GET", "/pedidos"}, {"GET", "/pedidos/" + orderID}, {"POST", "/pedidos/" + orderID + "/cancel"}} {
		if answer := g.do(t, request[0], request[1], ""); answer.StatusCode != 200 {
			t.Errorf("%s %s = %d %s", request[0], request[1], answer.StatusCode, answer.body)
		}
	}
}

// A request that was sent before the circuit opened says nothing about the upstream now.
func TestAResultFromBeforeTheCircuitOpenedIsNoProbe(t *testing.T) {
	g := newGate(t, "RETRIES=0", "BREAKER_MIN_REQUESTS=2", "BREAKER_OPEN=10ms", "BREAKER_PROBES=1")
	state := func() string {
		return g.metric(t, `gateway_circuit_state{operation="GET /estoque",service="api-gateway",upstream="estoque"}`)
	}
	hang := func() (arrived, proceed chan struct{}, answered chan reply) {
		arrived, proceed, answered = make(chan struct{}), make(chan struct{}), make(chan reply, 1)
		var once sync.Once
		g.backend.answers(func(http.ResponseWriter, *http.Request) { once.Do(func() { close(arrived) }); <-proceed })
		go func() {
			var answer reply
			for { // until the circuit lets it through
				answer, _ = g.try(t.Context(), "GET", "/estoque", "")
				if answer.Response == nil || answer.StatusCode != http.StatusServiceUnavailable {
					break
				}
			}
			answered <- answer
		}()
		<-arrived
		return arrived, proceed, answered
	}
	_, early, earlyAnswer := hang()
	g.backend.answers(status(500))
	for range 2 {
		g.get(t, "/estoque")
	}
	if got := state(); got != "2" {
		t.Fatalf("state %s after two failures, want open", got)
	}
	_, probe, probeAnswer := hang()
	close(early)
	if answer := <-earlyAnswer; answer.StatusCode != 200 {
		t.Fatalf("the early request = %d", answer.StatusCode)
	}
	if got := state(); got != "1" {
		t.Errorf("state %s after the early request succeeded, want half-open: the probe has not answered", got)
	}
	close(probe)
	<-probeAnswer
	if got := state(); got != "0" {
		t.Errorf("state %s after the probe succeeded, want closed", got)
	}
}

// The circuit would otherwise wait forever for the probe's result.
func TestAProbeContinuesAfterItsClientDisconnects(t *testing.T) {
	g := newGate(t, "RETRIES=0", "BREAKER_MIN_REQUESTS=1", "BREAKER_OPEN=10ms", "BREAKER_PROBES=1")
	g.backend.answers(status(500))
	g.get(t, "/estoque")

	arrived, proceed := make(chan struct{}, 1), make(chan struct{})
	g.backend.answers(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-proceed
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		for ctx.Err() == nil {
			_, _ = g.try(ctx, "GET", "/estoque", "")
		}
	}()
	<-arrived
	leave()
	<-left
	close(proceed)
	eventually(t, "the circuit closes", func() bool {
		return g.metric(t, `gateway_circuit_state{operation="GET /estoque",service="api-gateway",upstream="estoque"}`) == "0"
	})
}

func TestADisconnectedClientIsNoFailureOfTheUpstream(t *testing.T) {
	g := newGate(t, "BREAKER_MIN_REQUESTS=1", "BREAKER_FAILURE_PERCENT=1")
	arrived, gone := make(chan struct{}), make(chan error, 1)
	g.backend.answers(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		gone <- r.Context().Err()
	})
	ctx, leave := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := g.try(ctx, "GET", "/estoque", "")
		failed <- err
	}()
	<-arrived
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the client saw %v", err)
	}
	if err := <-gone; !errors.Is(err, context.Canceled) { // so that the upstream can stop
		t.Errorf("the upstream saw %v", err)
	}
	eventually(t, "the request is counted as client_gone and 499", func() bool {
		return g.metric(t, `gateway_upstream_requests_total{outcome="client_gone",service="api-gateway",upstream="estoque"}`) == "1" &&
			g.metric(t, `http_requests_total{method="GET",route="/estoque",service="api-gateway",status="499"}`) == "1"
	})
	if got := g.metric(t, `gateway_circuit_state{operation="GET /estoque",service="api-gateway",upstream="estoque"}`); got != "0" {
		t.Errorf("the circuit's state is %s, want 0, closed", got)
	}
	if got := len(g.backend.requests()); got != 1 {
		t.Errorf("%d requests upstream, want 1", got)
	}
}

func TestASlowUpstreamTimesOut(t *testing.T) {
	g := newGate(t, "TIMEOUT_READ=30ms", "TIMEOUT_WRITE=40ms", "BREAKER_MIN_REQUESTS=2")
	g.backend.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	g.wantRefused(t, g.get(t, "/estoque"), 504, "upstream_timeout")
	if got := len(g.backend.requests()); got != 1 {
		t.Errorf("%d requests upstream within one timeout, want 1", got)
	}
	g.wantRefused(t, g.do(t, "POST", "/pedidos", `{}`), 504, "upstream_timeout")
	g.wantRefused(t, g.get(t, "/estoque"), 504, "upstream_timeout")
	g.wantRefused(t, g.get(t, "/estoque"), 503, "upstream_unavailable") // timeouts have opened the circuit
}

func TestAFullBulkheadRefusesFurtherRequests(t *testing.T) {
	g := newGate(t, "BULKHEAD_SIZE=2", "BULKHEAD_WAIT=5ms")
	arrived, proceed := make(chan struct{}), make(chan struct{})
	g.backend.answers(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/estoque" {
			arrived <- struct{}{}
			<-proceed
		}
	})
	var inside sync.WaitGroup
	for range 2 {
		inside.Go(func() {
			if answer, err := g.try(t.Context(), "GET", "/estoque", ""); err != nil || answer.StatusCode != 200 {
				t.Errorf("%v %v", answer, err)
			}
		})
		<-arrived
	}
	if got := g.metric(t, `gateway_bulkhead_in_use{operation="GET /estoque",service="api-gateway",upstream="estoque"}`); got != "2" {
		t.Errorf("gateway_bulkhead_in_use = %s, want 2", got)
	}
	answer := g.get(t, "/estoque")
	g.wantRefused(t, answer, 503, "overloaded")
	if answer.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q", answer.Header.Get("Retry-After"))
	}
	if answer := g.get(t, "/pedidos"); answer.StatusCode != 200 {
		t.Errorf("another upstream = %d", answer.StatusCode)
	}
	close(proceed)
	inside.Wait()
	eventually(t, "the slots are free", func() bool {
		return g.metric(t, `gateway_bulkhead_in_use{operation="GET /estoque",service="api-gateway",upstream="estoque"}`) == "0"
	})
}

func TestConnectionsAreReused(t *testing.T) {
	g := newGate(t)
	remote := map[string]bool{}
	for range 20 {
		g.get(t, "/estoque")
	}
	for _, r := range g.backend.requests() {
		remote[r.RemoteAddr] = true
	}
	if len(remote) != 1 {
		t.Errorf("20 requests one after the other took %d connections", len(remote))
	}
}

func TestTheTraceIsForwarded(t *testing.T) {
	g := newGate(t, "RETRIES=1", "RETRY_BACKOFF=1ms")
	var asked atomic.Int32
	g.backend.answers(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			status(503)(w, r)
		}
	})
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	g.get(t, "/estoque/SKU-1?cursor=secret", "Traceparent", "00-"+traceID+"-b7ad6b7169203331-01", "Tracestate", "a=b")

	var spans []trace.SpanContext
	for _, span := range g.spans.GetSpans() {
		if span.SpanKind != trace.SpanKindClient {
			continue
		}
		spans = append(spans, span.SpanContext)
		attributes := map[attribute.Key]string{}
		for _, a := range span.Attributes {
			attributes[a.Key] = a.Value.String()
		}
		want := map[attribute.Key]string{
			"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": attributes["server.port"],
			"url.template": "/estoque/:sku", "url.full": g.backend.URL + "/estoque/SKU-1",
		}
		if len(spans) == 1 {
			want["http.response.status_code"], want["error.type"] = "503", "503"
		} else {
			want["http.response.status_code"], want["http.request.resend_count"] = "200", "1"
		}
		if span.Name != "GET /estoque/:sku" || (span.Status.Code == codes.Error) != (len(spans) == 1) {
			t.Errorf("span %q, status %v", span.Name, span.Status)
		}
		if fmt.Sprint(attributes) != fmt.Sprint(want) {
			t.Errorf("attributes %v, want %v", attributes, want)
		}
	}
	requests := g.backend.requests()
	if len(spans) != 2 || len(requests) != 2 {
		t.Fatalf("%d client spans for %d requests, want 2", len(spans), len(requests))
	}
	for i, r := range requests {
		want := "00-" + traceID + "-" + spans[i].SpanID().String() + "-01"
		if got := r.Header["Traceparent"]; len(got) != 1 || got[0] != want || r.Header.Get("Tracestate") != "" {
			t.Errorf("try %d has Traceparent %v and Tracestate %v, want %s and none", i, got, r.Header["Tracestate"], want)
		}
	}
}

func TestASlowBodyOccupiesNoSlotOfTheBulkhead(t *testing.T) {
	g := newGate(t)
	reader, writer := io.Pipe()
	request, err := http.NewRequest("POST", g.URL+"/pedidos", reader)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		answer.Body.Close()
	}()
	_, _ = io.WriteString(writer, `{"a"`)
	// The gateway waits for the rest of the body before it calls the upstream.
	if got := g.metric(t, `gateway_bulkhead_in_use{operation="POST /pedidos",service="api-gateway",upstream="pedidos"}`); got != "0" || len(g.backend.requests()) != 0 {
		t.Errorf("a request with half its body occupies %s slots, want none", got)
	}
	_, _ = io.WriteString(writer, `:1}`)
	_ = writer.Close()
	<-done
	if got := g.backend.requests(); len(got) != 1 || got[0].body != `{"a":1}` || got[0].ContentLength != 7 {
		t.Errorf("arrived: %+v", got)
	}
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/loja-veloz/platform/apps/internal/client"
)

// TestCallsAreTraced: the callee continues the trace of the call's span, which has no secret of
// the address.
func TestCallsAreTraced(t *testing.T) {
	var traceparent string
	callee := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		traceparent = r.Header.Get("Traceparent")
		if r.URL.Query().Get("card") != "tok_1" {
			t.Error("the query is not sent")
		}
		w.WriteHeader(http.StatusConflict)
	}))
	spans := tracetest.NewInMemoryExporter()
	doer := client.New(time.Minute, sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	call := func() error {
		response, err := doer.Get(callee.URL + "/reservations/maria@example.com?card=tok_1")
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	if err := call(); err != nil {
		t.Fatal(err)
	}
	callee.Close()
	if err := call(); err == nil {
		t.Fatal("a call of a server that is gone succeeds")
	}
	found := spans.GetSpans()
	if len(found) != 2 {
		t.Fatalf("%d spans, want 2", len(found))
	}
	if id := found[0].SpanContext; traceparent != fmt.Sprintf("00-%s-%s-01", id.TraceID(), id.SpanID()) {
		t.Errorf("Traceparent is %q, and the span %s of the trace %s", traceparent, id.SpanID(), id.TraceID())
	}
	for i, want := range []string{"http.response.status_code 409", "error.type *"} {
		text := ""
		for _, a := range found[i].Attributes {
			text += fmt.Sprintf("%s %s\n", a.Key, a.Value.String())
		}
		if !strings.Contains(text, want) || !strings.Contains(text, "/reservations/*\n") || strings.Contains(text+fmt.Sprint(found[i].Status), "maria") {
			t.Errorf("span %d has the status %v and the attributes\n%s", i, found[i].Status, text)
		}
		if found[i].Status.Code.String() != "Error" {
			t.Errorf("span %d has the status %v", i, found[i].Status)
		}
	}
}

// TestACallOfATraceThatIsNotRecorded sends the ids of its caller's span, so that the logs of both have one trace.
func TestACallOfATraceThatIsNotRecorded(t *testing.T) {
	var traceparent string
	callee := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		traceparent = r.Header.Get("Traceparent")
	}))
	defer callee.Close()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, span := provider.Tracer("test").Start(t.Context(), "caller")
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, callee.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.New(time.Minute, provider).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if id := span.SpanContext(); traceparent != fmt.Sprintf("00-%s-%s-00", id.TraceID(), id.SpanID()) {
		t.Errorf("Traceparent is %q, and the span %s of the trace %s", traceparent, id.SpanID(), id.TraceID())
	}
	if request.Header.Get("Traceparent") != "" {
		t.Error("the caller's request was changed")
	}
}

// TestTheTimeoutOfACallIncludesTheBody: the callee sends the headers, and a part of the body or nothing of it.
func TestTheTimeoutOfACallIncludesTheBody(t *testing.T) {
	callee := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done() // the client has gone
	}))
	defer callee.Close()
	doer := client.New(100*time.Millisecond, sdktrace.NewTracerProvider())
	if response, err := doer.Get(callee.URL + "/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without an answer the call returns %v, %v", response, err)
	}
	response, err := doer.Get(callee.URL + "/body")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading a body that does not come returns %v", err)
	}
}

// TestRetryAfter reads the header as RFC 9110 (10.2.3) has it, in seconds, and no longer than a minute.
func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "1": time.Second, "7": 7 * time.Second, "3600": time.Minute, "-1": 0, "soon": 0, "1.5": 0,
	} {
		answer := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {header}}}
		err := fmt.Errorf("paying: %w", client.Refused("pagamentos", answer, nil))
		if got := client.RetryAfter(err); got != want {
			t.Errorf("Retry-After: %s is a wait of %s, want %s", header, got, want)
		}
	}
	if got := client.RetryAfter(http.ErrServerClosed); got != 0 {
		t.Errorf("an error without an answer asks to wait %s", got)
	}
}

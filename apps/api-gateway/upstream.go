package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.39.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/telemetry"
	"github.com/loja-veloz/platform/apps/internal/value"
)

const (
	dialTimeout         = time.Second
	tlsTimeout          = 2 * time.Second
	keepAlive           = 15 * time.Second
	answerHeaderLimit   = 64 << 10
	statusClientGone    = 499 // for logs and metrics: the client is gone and does not read it
	retryAfterSaturated = time.Second

	unavailable = "A service of the shop is unavailable. Please try again in a moment."
)

// upstream is a service behind the gateway, with its own retry budget.
type upstream struct {
	name      string
	base      *url.URL
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	tracer    trace.Tracer
	settings  settings
	logger    *slog.Logger
	guards    []*guard // of its operations
	budget    *budget
	counters  *upstreamCounters
}

// guard is the bulkhead and the circuit of one operation of an upstream, such as "POST
// /pedidos". So an operation that fails or is slow, perhaps because of a service that only it
// needs, affects no other: orders that cannot be placed do not hide those that exist.
type guard struct {
	operation string
	breaker   circuitbreaker.CircuitBreaker[any]
	changes   atomic.Int64 // of the circuit's state
	slots     bulkhead.Bulkhead[any]
	inUse     atomic.Int64
}

func newUpstream(name string, base *url.URL, settings settings, tracer trace.Tracer, logger *slog.Logger, m *metrics) *upstream {
	u := &upstream{
		name:     name,
		base:     base,
		tracer:   tracer,
		settings: settings,
		logger:   logger,
		budget:   newBudget(),
		counters: m.of(name),
		transport: &http.Transport{
			Proxy:                  nil, // ignores HTTP_PROXY: call the configured address directly
			DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
			TLSHandshakeTimeout:    tlsTimeout,
			ResponseHeaderTimeout:  0, // the timeout of each call covers it without a second timer
			MaxIdleConnsPerHost:    settings.bulkhead.size,
			IdleConnTimeout:        client.IdleTimeout,
			MaxResponseHeaderBytes: answerHeaderLimit,
			DisableCompression:     true, // forward the answer as the upstream encoded it
		},
	}
	u.proxy = &httputil.ReverseProxy{
		Rewrite:        u.rewrite,
		Transport:      u,
		BufferPool:     &copyBuffers,
		ModifyResponse: u.checkAnswer,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			exchangeOf(r.Context()).err = err
		},
		// ReverseProxy logs errors of copying the body. They also abort the connection,
		// which the access log shows.
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return u
}

// guard returns a guard for an operation of the upstream.
func (u *upstream) guard(operation string) *guard {
	g := &guard{operation: operation, slots: bulkhead.New[any](uint(u.settings.bulkhead.size))}
	settings, probes := u.settings.breaker, uint(u.settings.breaker.probes)
	g.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(float64(settings.failing)/100, uint(settings.minimum), settings.window).
		WithDelay(settings.open).
		WithJitterFactor(0.1). // so that replicas do not all probe at once
		WithSuccessThresholdRatio(probes, probes).
		OnStateChanged(func(event circuitbreaker.StateChangedEvent) {
			g.changes.Add(1)
			u.logger.Warn("circuit changed state", "upstream", u.name, "operation", operation,
				"from", event.OldState.String(), "to", event.NewState.String())
		}).
		Build()
	u.guards = append(u.guards, g)
	return g
}

// call is one method of one route, with the values that all its requests share.
type call struct {
	up             *upstream
	guard          *guard
	method         string
	timeout        time.Duration
	spanName       string
	spanAttributes []attribute.KeyValue
}

var clientSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}

// call returns the calls of a method of a route. GET and HEAD share a guard.
func (u *upstream) call(guard *guard, method, path string, timeout time.Duration) *call {
	port := 80
	if u.base.Scheme == "https" {
		port = 443
	}
	if explicit, err := strconv.Atoi(u.base.Port()); err == nil {
		port = explicit
	}
	return &call{u, guard, method, timeout, method + " " + path, []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(method),
		semconv.ServerAddress(u.base.Hostname()),
		semconv.ServerPort(port),
		semconv.URLTemplate(path),
	}}
}

// exchange is one request and its tries at the upstream.
type exchange struct {
	*call
	ctx       context.Context // done when the client disconnects or the call's timeout is over
	client    value.ClientID
	requestID string
	body      []byte
	err       error              // why there is no answer
	release   context.CancelFunc // of a probe's context; nil if no try was a probe
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve forwards a request and writes the upstream's answer, or returns a problem.
func (c *call) serve(w http.ResponseWriter, r *http.Request, client value.ClientID, body []byte) error {
	u := c.up
	if err := c.guard.slots.AcquirePermitWithMaxWait(r.Context(), u.settings.bulkhead.wait); err != nil {
		if !errors.Is(err, bulkhead.ErrFull) {
			return u.clientGone(w)
		}
		u.counters.overloaded.Inc()
		e := problem.Wrap(problem.Overloaded, "Too many requests are in progress. Please try again in a moment.",
			fmt.Errorf("%s: %w", u.name, err))
		e.RetryAfter = retryAfterSaturated
		return e
	}
	c.guard.inUse.Add(1)
	defer func() {
		c.guard.inUse.Add(-1)
		c.guard.slots.ReleasePermit()
	}()

	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel()
	x := &exchange{call: c, client: client, requestID: w.Header().Get("X-Request-Id"), body: body}
	x.ctx = context.WithValue(ctx, exchangeKey{}, x)
	defer func() {
		if x.release != nil {
			x.release()
		}
	}()
	in := r.WithContext(x.ctx)
	in.Header = forwardedHeaders(r.Header)
	setBody(in, nil) // readBody has read it already
	u.proxy.ServeHTTP(w, in)
	return c.explain(w, x.err)
}

// explain maps an error of the upstream to a problem.
func (c *call) explain(w http.ResponseWriter, err error) error {
	u := c.up
	var foreign *foreignAnswerError
	var e *problem.Error
	cause := fmt.Errorf("%s: %w", u.name, err)
	switch kind := kindOf(err); {
	case err == nil:
		return nil
	case kind == clientGone:
		return u.clientGone(w)
	case errors.Is(err, circuitbreaker.ErrOpen):
		e = problem.Wrap(problem.UpstreamUnavailable, unavailable, cause)
		e.RetryAfter = max(c.guard.breaker.RemainingDelay(), time.Second)
	case kind == timedOut || errors.As(err, &foreign) && foreign.status == http.StatusGatewayTimeout:
		e = problem.Wrap(problem.UpstreamTimeout, "A service of the shop did not answer in time.", cause)
	case kind == unreachable || errors.As(err, &foreign) && foreign.status == http.StatusServiceUnavailable:
		e = problem.Wrap(problem.UpstreamUnavailable, unavailable, cause)
		e.RetryAfter = retryAfterSaturated
	default:
		e = problem.Wrap(problem.UpstreamFailed, "A service of the shop closed the connection or gave no valid answer.", cause)
	}
	return e
}

// clientGone ends a request whose client has disconnected.
func (u *upstream) clientGone(w http.ResponseWriter) error {
	w.WriteHeader(statusClientGone)
	return nil
}

// forwarded are the headers of a client's request that an upstream gets, in addition
// to those that the gateway sets. The gateway drops all others, so that a client
// cannot claim an identity or an address with them.
var forwarded = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Content-Type",
	"If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "Shopper-Id", "User-Agent",
	"Connection", // ReverseProxy removes it, and the headers that it names
}

func forwardedHeaders(all http.Header) http.Header {
	header := make(http.Header, 8)
	for _, name := range forwarded {
		if values := all[name]; len(values) > 0 {
			header[name] = values
		}
	}
	if values := all["Idempotency-Key"]; len(values) > 0 {
		// http.Transport retries a request that has this header on its own. It looks
		// for the canonical spelling only, so this spelling prevents that.
		header["idempotency-key"] = values
	}
	return header
}

// rewrite prepares the request to the upstream. It keeps the path, which admit has
// checked, the query and the forwarded headers.
func (u *upstream) rewrite(r *httputil.ProxyRequest) {
	x := exchangeOf(r.In.Context())
	out := r.Out
	out.URL.Scheme, out.URL.Host, out.URL.User = u.base.Scheme, u.base.Host, nil
	out.Host = ""
	own := [...]string{string(x.client), x.requestID}
	out.Header["Client-Id"] = own[0:1:1]
	out.Header["X-Request-Id"] = own[1:2:2]
	setBody(out, x.body)
}

func setBody(r *http.Request, body []byte) {
	r.TransferEncoding, r.Trailer = nil, nil
	r.ContentLength = int64(len(body))
	r.Body = nil
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
}

// ownHeaders are removed from an upstream's answer: the gateway sets them itself or
// not at all.
var ownHeaders = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
	"Content-Security-Policy", "Referrer-Policy", "Server", "Service-Pod", "Service-Version",
	"Www-Authenticate", "X-Content-Type-Options", "X-Request-Id",
}

// foreignAnswerError is an answer that no service sends: an error without problem
// details, or a switch of protocols. A proxy in between sent it.
type foreignAnswerError struct{ status int }

func (e *foreignAnswerError) Error() string {
	return fmt.Sprintf("the answer with status %d has no problem details", e.status)
}

// checkAnswer refuses an answer that no service sends. It removes ownHeaders, and adds
// the public path to Location.
func (u *upstream) checkAnswer(answer *http.Response) error {
	if answer.StatusCode < 200 || answer.StatusCode >= 400 && !isProblem(answer.Header) {
		return &foreignAnswerError{answer.StatusCode}
	}
	for _, name := range ownHeaders {
		delete(answer.Header, name)
	}
	if at := answer.Header["Location"]; u.settings.publicPath != "" && len(at) == 1 && len(at[0]) > 0 && at[0][0] == '/' {
		at[0] = u.settings.publicPath + at[0]
	}
	return nil
}

func isProblem(header http.Header) bool {
	const plain = "application/problem+json"
	value := header.Get("Content-Type")
	if value == plain {
		return true
	}
	kind, _, err := mime.ParseMediaType(value)
	return err == nil && kind == plain
}

// RoundTrip sends a request to the upstream, and retries it as shouldRetry decides.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	u.budget.deposit()
	for try := 0; ; try++ {
		answer, err := u.try(x, r, try)
		if !u.shouldRetry(x, answer, err, try) {
			return answer, err
		}
		if answer != nil {
			_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection can be reused
			answer.Body.Close()
		}
		if err := pause(x.ctx, u.settings.retries.backoff<<try); err != nil {
			u.counters.count(nil, err)
			return nil, err
		}
		u.counters.retries.Inc()
	}
}

// shouldRetry tells whether to send a request again. It allows a GET or HEAD that
// failed, unless the upstream sent Retry-After, and any request for which no
// connection was established. Each retry is taken from the budget.
func (u *upstream) shouldRetry(x *exchange, answer *http.Response, err error, try int) bool {
	if try >= u.settings.retries.max || errors.Is(err, circuitbreaker.ErrOpen) {
		return false
	}
	idempotent := x.method == http.MethodGet || x.method == http.MethodHead
	if err != nil {
		switch kindOf(err) {
		case unreachable:
		case broken:
			if !idempotent {
				return false
			}
		default:
			return false
		}
		return u.budget.withdraw()
	}
	switch answer.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return idempotent && answer.Header.Get("Retry-After") == "" && u.budget.withdraw()
	}
	return false
}

// pause waits for a random time up to limit, or returns ctx's error.
func pause(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(rand.N(limit) + 1)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try sends a request to the upstream once, in its own span.
func (u *upstream) try(x *exchange, r *http.Request, try int) (*http.Response, error) {
	guard := x.guard
	if !guard.breaker.TryAcquirePermit() {
		u.counters.open.Inc()
		return nil, circuitbreaker.ErrOpen
	}
	changes := guard.changes.Load()
	ctx := x.ctx
	if guard.breaker.IsHalfOpen() {
		// This request is a probe. It continues if the client disconnects, since the
		// circuit waits for its result.
		deadline, _ := ctx.Deadline()
		if x.release != nil {
			x.release() // of the previous try, whose answer is closed
		}
		ctx, x.release = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	}
	// The sampler decides once for the whole trace, so a child of a span that is not
	// recorded would not be recorded either.
	span := trace.SpanFromContext(ctx)
	recording := span.IsRecording()
	if recording {
		ctx, span = u.tracer.Start(ctx, x.spanName, clientSpan...)
		defer span.End()
	}
	// Replace the context of r: with it, ReverseProxy forwards interim (1xx) answers,
	// which must not reach clients.
	out := r.WithContext(ctx)
	if try > 0 {
		out.Header = r.Header.Clone()
		setBody(out, x.body)
	}
	telemetry.Propagator().Inject(ctx, propagation.HeaderCarrier(out.Header))

	answer, err := u.transport.RoundTrip(out)

	failed := u.counters.count(answer, err)
	switch {
	case guard.changes.Load() != changes: // the circuit has changed since: this result is no probe of it
	case failed:
		guard.breaker.RecordFailure()
	case kindOf(err) != clientGone:
		guard.breaker.RecordSuccess()
	}
	if recording {
		x.describe(span, out, answer, err, try)
	}
	return answer, err
}

// describe sets the span's attributes by OpenTelemetry's conventions for HTTP clients:
// https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client-span
func (x *exchange) describe(span trace.Span, r *http.Request, answer *http.Response, err error, try int) {
	at := *r.URL
	at.Path = telemetry.Clean(at.Path)
	at.RawPath, at.RawQuery = at.Path, "" // the query may hold a secret
	attributes := append(slices.Clip(x.spanAttributes), semconv.URLFull(at.String()))
	if try > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(try))
	}
	switch {
	case err != nil:
		kind := kindOf(err).String()
		attributes = append(attributes, semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, kind)
	default:
		attributes = append(attributes, semconv.HTTPResponseStatusCode(answer.StatusCode))
		if answer.StatusCode >= 400 {
			attributes = append(attributes, semconv.ErrorTypeKey.String(strconv.Itoa(answer.StatusCode)))
			span.SetStatus(codes.Error, "")
		}
	}
	span.SetAttributes(attributes...)
}

// kind classifies the errors of a try.
type kind int

const (
	broken      kind = iota // the connection broke; the upstream may have processed the request
	unreachable             // no connection was established, so nothing was sent
	timedOut
	clientGone
)

func (k kind) String() string {
	return [...]string{"connection_broken", "unreachable", "timeout", "client_gone"}[k]
}

func kindOf(err error) kind {
	var operation *net.OpError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return clientGone
	case errors.Is(err, context.DeadlineExceeded):
		return timedOut
	case errors.As(err, &operation) && operation.Op == "dial":
		return unreachable
	case errors.As(err, &network) && network.Timeout():
		return timedOut
	}
	return broken
}

// budget limits retries to a tenth of the requests, plus a burst of ten, so that
// retries do not overload an upstream that fails.
type budget struct{ tenths atomic.Int64 }

const (
	budgetFull  = 100 // tenths of a retry
	retryCosts  = 10
	requestAdds = 1
)

func newBudget() *budget {
	b := &budget{}
	b.tenths.Store(budgetFull)
	return b
}

func (b *budget) deposit() {
	for {
		now := b.tenths.Load()
		if now >= budgetFull || b.tenths.CompareAndSwap(now, now+requestAdds) {
			return
		}
	}
}

func (b *budget) withdraw() bool {
	for {
		now := b.tenths.Load()
		if now < retryCosts {
			return false
		}
		if b.tenths.CompareAndSwap(now, now-retryCosts) {
			return true
		}
	}
}

// copyBuffers are the buffers for copying answers.
var copyBuffers bufferPool

const copyBufferSize = 16 << 10

type bufferPool struct{ free sync.Pool }

func (p *bufferPool) Get() []byte {
	if buffer, ok := p.free.Get().(*[copyBufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, copyBufferSize)
}

func (p *bufferPool) Put(buffer []byte) { p.free.Put((*[copyBufferSize]byte)(buffer)) }

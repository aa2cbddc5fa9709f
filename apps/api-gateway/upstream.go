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

	"github.com/loja-veloz/platform/apps/internal/problem"
)

const (
	dialTimeout = time.Second
	tlsTimeout  = 2 * time.Second
	keepAlive   = 15 * time.Second
	// idleTimeout is shorter than the server's at the other end (services: 120 s,
	// Traefik: 180 s), so that the server closes no connection under a request
	// that must not be sent twice.
	idleTimeout         = 60 * time.Second
	answerHeaderLimit   = 64 << 10
	statusClientGone    = 499 // nobody hears it; logs and metrics tell it from a failure
	retryAfterSaturated = time.Second
)

// upstream is a service behind the gateway, with what keeps its failures from
// spreading.
type upstream struct {
	name      string
	base      *url.URL
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	tracer    trace.Tracer
	breaker   circuitbreaker.CircuitBreaker[any]
	slots     bulkhead.Bulkhead[any]
	wait      time.Duration // for a slot
	retries   retrySettings
	budget    *budget
	counters  *upstreamCounters
	inUse     atomic.Int64

	publicPath string
}

func newUpstream(name string, base *url.URL, settings settings, tracer trace.Tracer, logger *slog.Logger, m *metrics) *upstream {
	u := &upstream{
		name:       name,
		base:       base,
		tracer:     tracer,
		slots:      bulkhead.New[any](uint(settings.bulkhead.size)),
		wait:       settings.bulkhead.wait,
		retries:    settings.retries,
		budget:     newBudget(),
		counters:   m.of(name),
		publicPath: settings.publicPath,
		transport: &http.Transport{
			Proxy:                  nil, // an upstream is where its setting says, whatever HTTP_PROXY may
			DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
			TLSHandshakeTimeout:    tlsTimeout,
			ResponseHeaderTimeout:  0, // each route's timeout covers that, at no second timer
			MaxIdleConnsPerHost:    settings.bulkhead.size,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: answerHeaderLimit,
			DisableCompression:     true, // the answer goes on as it comes
		},
	}
	probes := uint(settings.breaker.probes)
	u.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(float64(settings.breaker.failing)/100, uint(settings.breaker.minimum), settings.breaker.window).
		WithDelay(settings.breaker.open).
		WithJitterFactor(0.1). // replicas do not all probe at once
		WithSuccessThresholdRatio(probes, probes).
		OnStateChanged(func(event circuitbreaker.StateChangedEvent) {
			logger.Warn("circuit changed", "upstream", name, "from", event.OldState.String(), "to", event.NewState.String())
		}).
		Build()
	u.proxy = &httputil.ReverseProxy{
		Rewrite:        u.rewrite,
		Transport:      u,
		BufferPool:     &copyBuffers,
		ModifyResponse: u.checkAnswer,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			exchangeOf(r.Context()).err = err
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug), // of copying, which ends in a cut connection anyway
	}
	return u
}

// call is one method of one route, with everything that its requests share.
type call struct {
	up      *upstream
	method  string
	timeout time.Duration
	span    string
	about   []attribute.KeyValue // its spans
}

var clientSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}

func (u *upstream) call(method, path string, timeout time.Duration) *call {
	port := 80
	if u.base.Scheme == "https" {
		port = 443
	}
	if explicit, err := strconv.Atoi(u.base.Port()); err == nil {
		port = explicit
	}
	return &call{u, method, timeout, method + " " + path, []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(method),
		semconv.ServerAddress(u.base.Hostname()),
		semconv.ServerPort(port),
		semconv.URLTemplate(path),
	}}
}

// exchange is a request on its way through the proxy.
type exchange struct {
	*call
	ctx       context.Context // ends with the client's patience, or ours
	client    string
	requestID string
	body      []byte
	err       error // instead of an answer
	release   context.CancelFunc
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// serve answers a request with what the upstream answers, or returns what went
// wrong.
func (c *call) serve(w http.ResponseWriter, r *http.Request, client string, body []byte) error {
	u := c.up
	if err := u.slots.AcquirePermitWithMaxWait(r.Context(), u.wait); err != nil {
		if !errors.Is(err, bulkhead.ErrFull) {
			return u.clientGone(w)
		}
		u.counters.overloaded.Inc()
		e := problem.Wrap(problem.Overloaded, "Too many requests are under way. Please try again in a moment.",
			fmt.Errorf("%s: %w", u.name, err))
		e.RetryAfter = retryAfterSaturated
		return e
	}
	u.inUse.Add(1)
	defer func() {
		u.inUse.Add(-1)
		u.slots.ReleasePermit()
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
	in.Header = chosen(r.Header)
	setBody(in, nil) // it has arrived already
	u.proxy.ServeHTTP(w, in)
	return u.explain(w, x.err)
}

// explain tells the client why there is no answer from the upstream.
func (u *upstream) explain(w http.ResponseWriter, err error) error {
	var foreign *foreignAnswerError
	var e *problem.Error
	cause := fmt.Errorf("%s: %w", u.name, err)
	switch kind := kindOf(err); {
	case err == nil:
		return nil
	case kind == clientGone:
		return u.clientGone(w)
	case errors.Is(err, circuitbreaker.ErrOpen):
		e = problem.Wrap(problem.UpstreamUnavailable, "A part of the shop is not available. Please try again in a moment.", cause)
		e.RetryAfter = max(u.breaker.RemainingDelay(), time.Second)
	case kind == timedOut || errors.As(err, &foreign) && foreign.status == http.StatusGatewayTimeout:
		e = problem.Wrap(problem.UpstreamTimeout, "A part of the shop did not answer in time.", cause)
	case kind == unreachable || errors.As(err, &foreign) && foreign.status == http.StatusServiceUnavailable:
		e = problem.Wrap(problem.UpstreamUnavailable, "A part of the shop is not available. Please try again in a moment.", cause)
		e.RetryAfter = retryAfterSaturated
	default:
		e = problem.Wrap(problem.UpstreamFailed, "A part of the shop gave no usable answer.", cause)
	}
	return e
}

// clientGone ends a request that nobody waits for.
func (u *upstream) clientGone(w http.ResponseWriter) error {
	w.WriteHeader(statusClientGone)
	return nil
}

// forwarded are the headers that the gateway passes on from a client, in addition to its
// own. It drops all others, so that no client can forge what services trust.
var forwarded = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Content-Type",
	"If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "User-Agent",
	"Connection", // names headers that are to go no further, as it does itself; ReverseProxy sees to it
}

func chosen(all http.Header) http.Header {
	header := make(http.Header, 8)
	for _, name := range forwarded {
		if values := all[name]; len(values) > 0 {
			header[name] = values
		}
	}
	if values := all["Idempotency-Key"]; len(values) > 0 {
		// net/http takes this header for leave to send a request a second time by
		// itself, unless it is spelled as it never looks for it.
		header["idempotency-key"] = values
	}
	return header
}

// rewrite builds the request for the upstream: the client's path and query, which are
// normalised by now, and the forwarded headers.
func (u *upstream) rewrite(r *httputil.ProxyRequest) {
	x := exchangeOf(r.In.Context())
	out := r.Out
	out.URL.Scheme, out.URL.Host, out.URL.User = u.base.Scheme, u.base.Host, nil
	out.Host = ""
	own := [...]string{x.client, x.requestID}
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

// ownHeaders of an answer are the gateway's to set, or nobody's.
var ownHeaders = []string{
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
	"Content-Security-Policy", "Referrer-Policy", "Server", "Service-Pod", "Service-Version",
	"Www-Authenticate", "X-Content-Type-Options", "X-Request-Id",
}

// foreignAnswerError is an answer that no service of ours gives: whatever stands
// between had nothing better to say.
type foreignAnswerError struct{ status int }

func (e *foreignAnswerError) Error() string {
	return fmt.Sprintf("answered %d without problem details", e.status)
}

// checkAnswer looks at an answer before the client does.
func (u *upstream) checkAnswer(answer *http.Response) error {
	if answer.StatusCode < 200 || answer.StatusCode >= 400 && !isProblem(answer.Header) {
		return &foreignAnswerError{answer.StatusCode}
	}
	for _, name := range ownHeaders {
		delete(answer.Header, name)
	}
	if at := answer.Header["Location"]; u.publicPath != "" && len(at) == 1 && len(at[0]) > 0 && at[0][0] == '/' {
		at[0] = u.publicPath + at[0]
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

// RoundTrip asks the upstream, again where that is harmless.
func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchangeOf(r.Context())
	u.budget.deposit()
	for try := 0; ; try++ {
		answer, err := u.try(x, r, try)
		if !u.again(x, answer, err, try) {
			return answer, err
		}
		if answer != nil {
			_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection can be used again
			answer.Body.Close()
		}
		if err := pause(x.ctx, u.retries.backoff<<try); err != nil {
			u.counters.count(nil, err)
			return nil, err
		}
		u.counters.retries.Inc()
	}
}

// again tells whether to ask once more: a GET or HEAD that failed, or anything
// for which there was not even a connection; within the budget, and not when the
// upstream says itself when to come back.
func (u *upstream) again(x *exchange, answer *http.Response, err error, try int) bool {
	if try >= u.retries.max || errors.Is(err, circuitbreaker.ErrOpen) {
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

// pause waits for a random time up to max, or returns ctx's error.
func pause(ctx context.Context, max time.Duration) error {
	timer := time.NewTimer(rand.N(max) + 1)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// propagator carries the trace on. Baggage ends here: it would be strangers'.
var propagator propagation.TraceContext

// try asks the upstream once, in a span of its own.
func (u *upstream) try(x *exchange, r *http.Request, try int) (*http.Response, error) {
	if !u.breaker.TryAcquirePermit() {
		u.counters.open.Inc()
		return nil, circuitbreaker.ErrOpen
	}
	ctx := x.ctx
	if u.breaker.IsHalfOpen() {
		// This request is a probe, and has to come to a result: a client that goes
		// away must not leave the circuit waiting for one.
		deadline, _ := ctx.Deadline()
		if x.release != nil {
			x.release() // of a try before, whose answer nobody reads any more
		}
		ctx, x.release = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	}
	// Where the request's span is not recorded, neither would this one be: the
	// same sampler has spoken for the whole trace.
	span := trace.SpanFromContext(ctx)
	recording := span.IsRecording()
	if recording {
		ctx, span = u.tracer.Start(ctx, x.span, clientSpan...)
		defer span.End()
	}
	// Not the context that ReverseProxy gave r: interim answers, which it would
	// pass on, are not for clients.
	out := r.WithContext(ctx)
	if try > 0 {
		out.Header = r.Header.Clone()
		setBody(out, x.body)
	}
	propagator.Inject(ctx, propagation.HeaderCarrier(out.Header))

	answer, err := u.transport.RoundTrip(out)

	if u.counters.count(answer, err) {
		u.breaker.RecordFailure()
	} else if kindOf(err) != clientGone {
		u.breaker.RecordSuccess()
	}
	if recording {
		x.describe(span, out, answer, err, try)
	}
	return answer, err
}

// describe says what came of a request, by the HTTP conventions for clients.
func (x *exchange) describe(span trace.Span, r *http.Request, answer *http.Response, err error, try int) {
	at := *r.URL
	at.RawQuery = "" // may hold what its sender keeps secret
	attributes := append(slices.Clip(x.about), semconv.URLFull(at.String()))
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

// kind of a failure to get an answer.
type kind int

const (
	broken      kind = iota // the connection, in the midst of it; whether the upstream acted is unknown
	unreachable             // no connection, so nothing was sent
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

// budget holds retries to a tenth of the requests, and ten more at once: when
// everything fails, retries must not be what keeps it down.
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

// copyBuffers are what answers are copied through.
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

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/httpapi"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

func TestAPaymentFromChargeToRefund(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	first := a.pay(order, simulator.Approved)
	a.want("PUT", first, 201, contract.Captured)
	if p := first.payment; p.OrderID != order || p.Amount != money.BRL(price) || p.Refunded != money.BRL(0) ||
		p.Acquirer != contract.Simulator || p.AcquirerReference == nil || p.DeclineReason != nil || p.CreatedAt.IsZero() {
		t.Errorf("the payment is %+v", p)
	}
	again := a.pay(order, simulator.Approved)
	a.want("the repeated PUT", again, 200, contract.Captured)
	if again.body != first.body {
		t.Errorf("the repeated PUT answered %s, the first %s", again.body, first.body)
	}
	a.want("capture of a capture", a.capture(order), 200, contract.Captured)
	a.want("GET", a.show(order), 200, contract.Captured)
	if got := a.books(order); got != (books{charges: 1, captured: price}) {
		t.Errorf("the acquirer has %+v", got)
	}

	for range 2 {
		undone := a.refund(order)
		a.want("refund", undone, 200, contract.Refunded)
		if undone.payment.Refunded != money.BRL(price) {
			t.Errorf("refunded %s", undone.payment.Refunded)
		}
	}
	a.wantProblem("PUT after the refund", a.pay(order, simulator.Approved), 409, problem.PaymentVoided)
	a.wantProblem("capture after the refund", a.capture(order), 409, problem.PaymentVoided)
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
	if got, want := a.history(order), "authorising authorising>captured captured>refunding refunding>refunded"; got != want {
		t.Errorf("the history is %q, want %q", got, want)
	}
	var tokens int
	if err := a.database.Pool.QueryRow(t.Context(), `SELECT count(card_token) FROM pagamentos`).Scan(&tokens); err != nil || tokens != 0 {
		t.Errorf("%d tokens are still stored, %v", tokens, err)
	}
}

func TestAnAuthorisationIsCapturedOrReleased(t *testing.T) {
	a, kept, gone := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.hold(kept, simulator.Approved), 201, contract.Authorised)
	a.wantProblem("PUT with capture", a.pay(kept, simulator.Approved), 409, problem.PaymentMismatch)
	for range 2 {
		a.want("capture", a.capture(kept), 200, contract.Captured)
	}
	a.want("the first PUT again", a.hold(kept, simulator.Approved), 200, contract.Captured)
	if got := a.books(kept); got != (books{charges: 1, captured: price}) {
		t.Errorf("the acquirer has %+v", got)
	}

	a.want("PUT", a.hold(gone, simulator.Approved), 201, contract.Authorised)
	for range 2 {
		a.want("refund", a.refund(gone), 200, contract.Voided)
	}
	a.wantProblem("capture", a.capture(gone), 409, problem.PaymentVoided)
	a.wantProblem("PUT", a.hold(gone, simulator.Approved), 409, problem.PaymentVoided)
	if got := a.books(gone); got != (books{charges: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestADeclineIsAResult(t *testing.T) {
	a := newApp(t)
	for token, reason := range map[string]string{
		simulator.DeclinedFunds: "insufficient_funds", simulator.LostCard: "lost_card", "tok_unknown": "invalid_token",
	} {
		order := newOrder(t)
		for _, status := range []int{201, 200} {
			got := a.pay(order, token)
			a.want("PUT", got, status, contract.Declined)
			if got.payment.DeclineReason == nil || *got.payment.DeclineReason != reason {
				t.Errorf("%s: %s", token, got.body)
			}
		}
		a.wantProblem("capture", a.capture(order), 409, problem.PaymentState)
		a.want("refund", a.refund(order), 200, contract.Declined)
		if got := a.books(order); got != (books{}) {
			t.Errorf("the acquirer has %+v", got)
		}
	}
}

func TestAnotherPaymentForTheSameOrderIsRefused(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	for _, body := range []string{
		strings.Replace(payBody(simulator.Approved, true), "12990", "12991", 1),
		payBody(simulator.LostCard, true), payBody(simulator.Approved, false),
	} {
		a.wantProblem("PUT "+body, a.send("PUT", "/pagamentos/"+order.String(), body), 409, problem.PaymentMismatch)
	}
	if got := a.books(order); got != (books{charges: 1, captured: price}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestARefundOfAnUnknownOrderPreventsItsCharge(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	for range 2 {
		got := a.refund(order)
		a.want("refund", got, 200, contract.Voided)
		if got.payment.Amount != (money.Money{Amount: 0, Currency: "XXX"}) {
			t.Errorf("the tombstone has %s", got.payment.Amount)
		}
	}
	a.wantProblem("a late PUT", a.pay(order, simulator.Approved), 409, problem.PaymentVoided)
	a.wantProblem("a late capture", a.capture(order), 409, problem.PaymentVoided)
	if got := a.books(order); got != (books{}) {
		t.Errorf("the acquirer has %+v", got)
	}
	a.wantProblem("capture without a payment", a.capture(newOrder(t)), 404, problem.NotFound)
	a.wantProblem("GET without a payment", a.show(newOrder(t)), 404, problem.NotFound)
}

func TestRepeatingTheRequestFindsTheOutcome(t *testing.T) {
	a := newApp(t)
	for token, want := range map[string]contract.PaymentState{
		simulator.Timeout: contract.Captured, simulator.TimeoutDeclined: contract.Declined, simulator.Slow: contract.Captured,
	} {
		order := newOrder(t)
		got := a.pay(order, token)
		a.wantProblem("PUT "+token, got, 503, problem.AcquirerUnavailable)
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
		}
		a.want("GET "+token, a.show(order), 200, contract.Authorising)
		a.want("PUT again", a.pay(order, token), 200, want)
		if got := a.books(order); got.charges > 1 || got.captured > price {
			t.Errorf("%s: the acquirer has %+v", token, got)
		}
	}
	order := newOrder(t)
	for range 2 {
		a.wantProblem("PUT", a.pay(order, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	}
	a.want("the third PUT", a.pay(order, simulator.Unavailable), 200, contract.Captured)
	if strings.Contains(a.log.String(), "tok_") {
		t.Errorf("a token was logged: %s", a.log)
	}
}

func TestARefundBeforeTheOutcomeIsKnown(t *testing.T) {
	a, charged, away := newApp(t), newOrder(t), newOrder(t)
	a.wantProblem("PUT", a.pay(charged, simulator.Timeout), 503, problem.AcquirerUnavailable)
	a.want("refund", a.refund(charged), 200, contract.Refunded)
	if got := a.books(charged); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}

	// The intention to refund remains after its request has failed.
	a.wantProblem("PUT", a.pay(away, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	a.wantProblem("refund", a.refund(away), 503, problem.AcquirerUnavailable)
	a.wantProblem("PUT again", a.pay(away, simulator.Unavailable), 409, problem.PaymentVoided)
	a.want("GET", a.show(away), 200, contract.Refunded)
	if got := a.books(away); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestARefundThatFailsIsRepeated(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundFailsOnce), 201, contract.Captured)
	a.wantProblem("refund", a.refund(order), 503, problem.AcquirerUnavailable)
	a.want("GET", a.show(order), 200, contract.Refunding)
	a.want("refund again", a.refund(order), 200, contract.Refunded)
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestTheResolverFinishesAbandonedPayments(t *testing.T) {
	a := newApp(t)
	lost, refunding, undone, settled := newOrder(t), newOrder(t), newOrder(t), newOrder(t)
	a.wantProblem("PUT", a.pay(lost, simulator.Timeout), 503, problem.AcquirerUnavailable)
	a.want("PUT", a.pay(refunding, simulator.RefundFailsOnce), 201, contract.Captured)
	a.wantProblem("refund", a.refund(refunding), 503, problem.AcquirerUnavailable)
	a.wantProblem("PUT", a.pay(undone, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	a.wantProblem("refund", a.refund(undone), 503, problem.AcquirerUnavailable)
	a.want("PUT", a.pay(settled, simulator.Approved), 201, contract.Captured)

	if n, err := a.payments.ResolveDue(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d were taken up within the minute, %v", n, err)
	}
	a.exec(`UPDATE pagamentos SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL`)
	if n, err := a.payments.ResolveDue(t.Context()); n != 3 || err != nil {
		t.Fatalf("%d were taken up, %v; want 3", n, err)
	}
	a.want("GET", a.show(lost), 200, contract.Captured)
	a.want("GET", a.show(refunding), 200, contract.Refunded)
	a.want("GET", a.show(undone), 200, contract.Refunded)
	a.want("GET", a.show(settled), 200, contract.Captured)
	if n, err := a.payments.ResolveDue(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d were taken up again, %v", n, err)
	}

	// A payment that cannot be resolved is postponed, longer each time.
	stubborn := newOrder(t)
	a.wantProblem("PUT", a.pay(stubborn, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	a.exec(`UPDATE pagamentos SET due_at = now() - interval '1 second', attempts = 3 WHERE order_id = $1`, stubborn)
	if n, err := a.payments.ResolveDue(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were taken up, %v", n, err)
	}
	var minutes float64
	err := a.database.Pool.QueryRow(t.Context(), `SELECT extract(epoch FROM due_at - now()) / 60 FROM pagamentos WHERE order_id = $1`,
		stubborn).Scan(&minutes)
	if err != nil || minutes < 7 || minutes > 8 {
		t.Errorf("postponed by %.1f minutes after 4 tries, %v; want 8", minutes, err)
	}
	metrics := a.get("/metrics")
	for _, line := range []string{
		`payments_total{outcome="captured",service="pagamentos"} 4`, `payments_total{outcome="refunded",service="pagamentos"} 2`,
		`payments_total{outcome="declined",service="pagamentos"} 0`, `payments_overdue{service="pagamentos"} 1`,
		`acquirer_call_duration_seconds_count{operation="refund",outcome="unknown",service="pagamentos"} 1`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestTheResolverRunsUntilItIsStopped(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.wantProblem("PUT", a.pay(order, simulator.Timeout), 503, problem.AcquirerUnavailable)
	a.exec(`UPDATE pagamentos SET due_at = now()`)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	resolve := newResolver(a.frame, a.payments, 10*time.Millisecond)
	go func() {
		if err := resolve(ctx); err != nil {
			t.Error(err)
		}
		close(done)
	}()
	for end := time.Now().Add(time.Minute); a.show(order).payment.State != contract.Captured; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not resolved")
		}
	}
	stop()
	<-done
}

// blocking is an acquirer whose Authorise blocks until the test closes release.
type blocking struct {
	acquirer.Acquirer
	entered, release chan struct{}
}

func (b *blocking) Authorise(ctx context.Context, c acquirer.Charge) (acquirer.Result, error) {
	b.entered <- struct{}{}
	<-b.release
	return b.Acquirer.Authorise(context.WithoutCancel(ctx), c)
}

func TestNoTransactionIsOpenWhileTheAcquirerIsCalled(t *testing.T) {
	hold := &blocking{entered: make(chan struct{}, 9), release: make(chan struct{})}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { hold.Acquirer = next; return hold })
	order := newOrder(t)
	done := make(chan answer)
	go func() { done <- a.pay(order, simulator.Approved) }()
	<-hold.entered
	if busy := a.database.Pool.Stat().AcquiredConns(); busy != 0 {
		t.Errorf("%d connections are in use", busy)
	}
	a.want("GET", a.show(order), 200, contract.Authorising)
	close(hold.release)
	a.want("PUT", <-done, 201, contract.Captured)
}

func TestAChargeContinuesAfterItsClientDisconnects(t *testing.T) {
	hold := &blocking{entered: make(chan struct{}, 9), release: make(chan struct{})}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { hold.Acquirer = next; return hold })
	order := newOrder(t)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := a.payments.Pay(ctx, charging.Request{
			OrderID: order, Amount: money.BRL(price), CardToken: simulator.Approved, Capture: true,
		})
		done <- err
	}()
	<-hold.entered
	leave()
	if e := httpapi.Explain(<-done); e == nil || e.Code != problem.AcquirerUnavailable {
		t.Errorf("the disconnected client got %v", e)
	}
	close(hold.release)
	for end := time.Now().Add(time.Minute); a.show(order).payment.State != contract.Captured; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the outcome was not stored")
		}
	}
}

func TestFiftyConcurrentRequestsChargeOnce(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	other := newAppOn(t, a.database) // another process
	answers := make(chan answer, 50)
	for i := range cap(answers) {
		go func() {
			got := []*app{a, other}[i%2].pay(order, simulator.Approved)
			for end := time.Now().Add(time.Minute); got.status == 503 && time.Now().Before(end); {
				got = a.pay(order, simulator.Approved) // the outcome may be unknown on a busy machine
			}
			answers <- got
		}()
	}
	created := 0
	for range cap(answers) {
		got := <-answers
		if got.status == 201 {
			created++
		}
		if got.status > 201 || got.payment.State != contract.Captured {
			t.Errorf("PUT = %d %s", got.status, got.body)
		}
	}
	if got := a.books(order); created > 1 || got != (books{charges: 1, captured: price}) {
		t.Errorf("answered 201 %d times, and the acquirer has %+v", created, got)
	}
}

func TestConcurrentChargesAndRefundsEndUndone(t *testing.T) {
	a := newApp(t)
	other := newAppOn(t, a.database)
	for range 8 {
		order := newOrder(t)
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				which := []*app{a, other}[i%2]
				if i%4 == 3 {
					which.refund(order)
					return
				}
				which.pay(order, simulator.Approved)
			})
		}
		all.Wait()
		end := a.refund(order)
		if end.status != 200 || end.payment.State != contract.Refunded && end.payment.State != contract.Voided {
			t.Errorf("refund = %d %s", end.status, end.body)
		}
		if got := a.books(order); got.captured != got.refunded || got.held != 0 || got.charges > 1 {
			t.Errorf("%s: the acquirer has %+v", end.payment.State, got)
		}
	}
}

// lossy is an acquirer that loses calls and answers, each with probability rate.
type lossy struct {
	acquirer.Acquirer
	rate float64
}

var errLost = errors.New("connection lost")

func lose[T any](l *lossy, call func() (T, error)) (T, error) {
	var none T
	if rand.Float64() < l.rate {
		return none, errLost
	}
	result, err := call()
	if rand.Float64() < l.rate {
		return none, errLost
	}
	return result, err
}

func (l *lossy) Authorise(ctx context.Context, c acquirer.Charge) (acquirer.Result, error) {
	return lose(l, func() (acquirer.Result, error) { return l.Acquirer.Authorise(ctx, c) })
}

func (l *lossy) Capture(ctx context.Context, key, reference string) error {
	_, err := lose(l, func() (any, error) { return nil, l.Acquirer.Capture(ctx, key, reference) })
	return err
}

func (l *lossy) Void(ctx context.Context, key, reference string) error {
	_, err := lose(l, func() (any, error) { return nil, l.Acquirer.Void(ctx, key, reference) })
	return err
}

func (l *lossy) Refund(ctx context.Context, key, reference string, amount money.Money) error {
	_, err := lose(l, func() (any, error) { return nil, l.Acquirer.Refund(ctx, key, reference, amount) })
	return err
}

func TestTheBooksAgreeAfterLostCallsAndAnswers(t *testing.T) {
	line := &lossy{rate: 0.4}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { line.Acquirer = next; return line })
	rapid.Check(t, func(t *rapid.T) {
		order := newOrder(a.t)
		capture := rapid.Bool().Draw(t, "capture")
		token := rapid.SampledFrom([]string{
			simulator.Approved, simulator.DeclinedFunds, simulator.Unavailable, simulator.RefundFailsOnce,
		}).Draw(t, "token")
		undo := false
		do := func(what string) answer {
			switch what {
			case "pay":
				return a.send("PUT", "/pagamentos/"+order.String(), payBody(token, capture))
			case "capture":
				return a.capture(order)
			case "refund":
				undo = true
				return a.refund(order)
			}
			a.exec(`UPDATE pagamentos SET due_at = now() WHERE order_id = $1 AND due_at IS NOT NULL`, order)
			if _, err := a.payments.ResolveDue(context.Background()); err != nil {
				t.Fatal(err)
			}
			return a.show(order)
		}
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"pay", "capture", "refund", "resolve"}), 1, 8).Draw(t, "steps")
		line.rate = 0.4
		for i, step := range steps {
			// A concurrent request for the same order.
			var both sync.WaitGroup
			if i+1 < len(steps) && i%3 == 2 {
				both.Go(func() { a.send("PUT", "/pagamentos/"+order.String(), payBody(token, capture)) })
			}
			if got := do(step); got.status == 500 {
				t.Fatalf("%s = %s", step, got.body)
			}
			both.Wait()
		}
		line.rate = 0
		var now contract.Payment
		for range 6 {
			got := do("resolve")
			if got.status == 404 {
				return // no step has stored a payment
			}
			now = got.payment
		}
		got := a.books(order)
		want := books{charges: got.charges, refunds: got.refunds}
		switch now.State {
		case contract.Captured:
			want.captured = price
		case contract.Authorised:
			want.held = price
		case contract.Refunded:
			want.captured, want.refunded = price, price
		case contract.Declined, contract.Voided:
		default:
			t.Fatalf("the payment is not resolved: %s", now.State)
		}
		if got != want || got.charges > 1 || got.refunds > 1 {
			t.Fatalf("%s, and the acquirer has %+v", now.State, got)
		}
		if undo && (now.State == contract.Captured || now.State == contract.Authorised) {
			t.Fatalf("%s, although a refund was requested", now.State)
		}
	})
}

func TestAPaymentOfAnotherAcquirerIsLeftAlone(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	a.exec(`UPDATE pagamentos SET acquirer = 'stripe'`)
	a.wantProblem("refund", a.refund(order), 503, problem.AcquirerUnavailable)
	a.exec(`UPDATE pagamentos SET due_at = now()`)
	if n, err := a.payments.ResolveDue(t.Context()); n != 0 || err != nil {
		t.Errorf("%d were taken up, %v", n, err)
	}
}

func TestSpans(t *testing.T) {
	a := newApp(t)
	a.pay(newOrder(t), simulator.Approved)
	kinds := map[string]trace.SpanKind{}
	for _, span := range a.spans.GetSpans() {
		kinds[span.Name] = span.SpanKind
		if text := fmt.Sprint(span.Attributes); strings.Contains(text, simulator.Approved) {
			t.Errorf("the span %s contains the token: %s", span.Name, text)
		}
	}
	for name, kind := range map[string]trace.SpanKind{
		"PUT /pagamentos/:order_id": trace.SpanKindServer, "Pay": trace.SpanKindInternal, "acquirer authorise": trace.SpanKindClient,
	} {
		if kinds[name] != kind {
			t.Errorf("span %q is a %s span, want %s; there are %v", name, kinds[name], kind, kinds)
		}
	}
}

// BenchmarkPay captures one payment per iteration through the whole service.
func BenchmarkPay(b *testing.B) {
	database := postgrestest.New(b, migrations.Files)
	frame := service.New(server.Settings{}, slog.New(slog.DiscardHandler), noTraces)
	srv, _ := newTestServer(b, frame, database.Pool)
	a := &app{t: b, database: database, handler: srv.Handler()}
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := a.pay(newOrder(b), simulator.Approved); got.status != 201 {
				b.Errorf("PUT = %d %s", got.status, got.body)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
}

func TestARefusedCallIsLoggedAndLeftForAnOperator(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	// The order's idempotency key was used for another charge.
	_, err := simulator.New(a.database.Pool).Authorise(t.Context(), acquirer.Charge{
		Key: order.String() + ":authorise", OrderID: order, Amount: money.BRL(1), CardToken: simulator.Approved, Capture: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	a.wantProblem("PUT", a.pay(order, simulator.Approved), 500, problem.Internal)
	a.want("GET", a.show(order), 200, contract.Authorising)
	if got := a.books(order); got != (books{charges: 1, captured: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
	if log := a.log.String(); !strings.Contains(log, order.String()) || !strings.Contains(log, "refused") {
		t.Errorf("the log lacks the order or the refusal: %s", log)
	}
}

func TestAnExpiredAuthorisationIsVoided(t *testing.T) {
	a, order, taken := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.hold(order, simulator.Approved), 201, contract.Authorised)
	a.exec(`UPDATE simulator_charges SET state = 'voided' WHERE order_id = $1`, order)
	a.wantProblem("capture", a.capture(order), 409, problem.PaymentVoided)
	a.want("GET", a.show(order), 200, contract.Voided)

	// An authorisation that was captured elsewhere is refunded, not released.
	a.want("PUT", a.hold(taken, simulator.Approved), 201, contract.Authorised)
	a.exec(`UPDATE simulator_charges SET state = 'captured' WHERE order_id = $1`, taken)
	a.want("refund", a.refund(taken), 200, contract.Refunded)
	if got := a.books(taken); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

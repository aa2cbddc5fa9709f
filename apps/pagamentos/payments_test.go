package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
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
	acquirer := func() (name string) { // as the version before sees it, which would charge in a single call
		if err := a.database.Pool.QueryRow(t.Context(), `SELECT acquirer FROM pagamentos WHERE order_id = $1`, order).Scan(&name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for range 2 {
		a.wantProblem("PUT", a.pay(order, simulator.Unavailable), 503, problem.AcquirerUnavailable)
		if got := acquirer(); got != "simulator/3" {
			t.Errorf("while the payment is authorising, its row has the acquirer %s", got)
		}
	}
	a.want("the third PUT", a.pay(order, simulator.Unavailable), 200, contract.Captured)
	if got := acquirer(); got != "simulator" {
		t.Errorf("then its row has the acquirer %s", got)
	}
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

	// Nothing is charged after the refund was requested: the acquirer's refusals charged nothing.
	a.wantProblem("PUT", a.pay(away, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	for range 2 {
		a.want("refund", a.refund(away), 200, contract.Voided)
	}
	a.wantProblem("PUT again", a.pay(away, simulator.Unavailable), 409, problem.PaymentVoided)
	if got := a.books(away); got != (books{}) {
		t.Errorf("the acquirer has %+v", got)
	}
	if got, want := a.history(away), "authorising authorising>voided"; got != want {
		t.Errorf("the history is %q, want %q", got, want)
	}
}

// An acquirer with its own references, which charges nothing before a charge is prepared.
type chooses struct {
	acquirer.Acquirer
	down atomic.Bool
}

func (c *chooses) Reference(uuid.UUID) string { return "" }

func (c *chooses) Prepare(ctx context.Context, key string, charge acquirer.Charge) (acquirer.Result, error) {
	if c.down.Load() {
		return acquirer.Result{}, acquirer.ErrUnknown
	}
	return c.Acquirer.Prepare(ctx, key, charge)
}

func TestACancelBeforeTheChargeIsPreparedVoidsIt(t *testing.T) {
	bank := &chooses{}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { bank.Acquirer = next; return bank })
	order, other := newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	if got := a.books(order); got != (books{charges: 1, captured: price}) {
		t.Errorf("the acquirer has %+v", got)
	}
	bank.down.Store(true)
	a.wantProblem("PUT", a.pay(other, simulator.Approved), 503, problem.AcquirerUnavailable)
	a.want("refund", a.refund(other), 200, contract.Voided) // although the acquirer is down
	bank.down.Store(false)
	a.wantProblem("PUT", a.pay(other, simulator.Approved), 409, problem.PaymentVoided)
	if got := a.books(other); got != (books{}) {
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
	// The process died after it had stored the intention to undo the payment.
	a.exec(`UPDATE pagamentos SET undo = true WHERE order_id = $1`, undone)
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
	a.want("GET", a.show(undone), 200, contract.Voided)
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
		`payments_total{outcome="captured",service="pagamentos"} 3`, `payments_total{outcome="refunded",service="pagamentos"} 1`,
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

func (b *blocking) Authorise(ctx context.Context, key string, c acquirer.Charge) (acquirer.Result, error) {
	b.entered <- struct{}{}
	<-b.release
	return b.Acquirer.Authorise(context.WithoutCancel(ctx), key, c)
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

func (l *lossy) Authorise(ctx context.Context, key string, c acquirer.Charge) (acquirer.Result, error) {
	return lose(l, func() (acquirer.Result, error) { return l.Acquirer.Authorise(ctx, key, c) })
}

func (l *lossy) Capture(ctx context.Context, key, reference string) error {
	_, err := lose(l, func() (any, error) { return nil, l.Acquirer.Capture(ctx, key, reference) })
	return err
}

func (l *lossy) Void(ctx context.Context, key string, c acquirer.Charge) error {
	_, err := lose(l, func() (any, error) { return nil, l.Acquirer.Void(ctx, key, c) })
	return err
}

func (l *lossy) Refund(ctx context.Context, key, reference string, amount money.Money) (acquirer.Refund, error) {
	return lose(l, func() (acquirer.Refund, error) { return l.Acquirer.Refund(ctx, key, reference, amount) })
}

func (l *lossy) FindRefund(ctx context.Context, reference string) (acquirer.Refund, error) {
	return lose(l, func() (acquirer.Refund, error) { return l.Acquirer.FindRefund(ctx, reference) })
}

func TestTheBooksAgreeAfterLostCallsAndAnswers(t *testing.T) {
	line := &lossy{rate: 0.4}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { line.Acquirer = next; return line })
	rapid.Check(t, func(t *rapid.T) {
		order := newOrder(a.t)
		capture := rapid.Bool().Draw(t, "capture")
		token := rapid.SampledFrom([]string{
			simulator.Approved, simulator.DeclinedFunds, simulator.Unavailable, simulator.RefundFailsOnce,
			simulator.RefundRefused, simulator.RefundPending,
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

// makeDue lets the resolver take up all payments that have a step left, and runs it.
func (a *app) makeDue() {
	a.t.Helper()
	a.exec(`UPDATE pagamentos SET due_at = now() WHERE due_at IS NOT NULL`)
	if _, err := a.payments.ResolveDue(context.Background()); err != nil {
		a.t.Fatal(err)
	}
}

func TestARefusedStepIsRepeatedLaterWithAnotherKey(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundRefused), 201, contract.Captured)
	for range 2 { // the second request does not call the acquirer
		got := a.refund(order)
		a.wantProblem("refund", got, 503, problem.AcquirerUnavailable)
		if wait, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || wait < 50 || wait > 60 {
			t.Errorf("Retry-After: %q, want a minute", got.header.Get("Retry-After"))
		}
	}
	shown := a.show(order)
	a.want("GET", shown, 200, contract.Refunding)
	if p := shown.payment; p.Problem == nil || !strings.Contains(*p.Problem, "charge_disputed") || p.Refusals == nil || *p.Refusals != 1 {
		t.Errorf("the payment does not say why: %s", shown.body)
	}
	if log := a.log.String(); !strings.Contains(log, order.String()) || !strings.Contains(log, "charge_disputed") {
		t.Errorf("the log lacks the order or the refusal: %s", log)
	}
	if line := `acquirer_call_duration_seconds_count{operation="refund",outcome="refused",service="pagamentos"} 1`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}
	a.makeDue()
	shown = a.show(order)
	a.want("GET", shown, 200, contract.Refunded)
	if shown.payment.Problem != nil || shown.payment.Refusals != nil {
		t.Errorf("the problem is still shown: %s", shown.body)
	}
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestAPendingRefundIsNotYetRefunded(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundPending), 201, contract.Captured)
	for range 2 {
		got := a.refund(order)
		a.want("refund", got, 202, contract.Refunding)
		if got.payment.RefundReference == nil || got.header.Get("Retry-After") == "" || got.payment.Refunded.Amount != 0 {
			t.Errorf("refund = %v %s", got.header, got.body)
		}
	}
	if got := a.books(order); got.refunded != 0 {
		t.Errorf("the acquirer has %+v", got)
	}
	a.makeDue()
	a.want("GET", a.show(order), 200, contract.Refunded)
	if line := `payments_overdue{service="pagamentos"} 0`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}
}

// command runs one of the service's commands on the app's database.
func (a *app) command(args ...string) (string, error) {
	var out strings.Builder
	err := run(a.t.Context(), args, func(name string) string {
		return map[string]string{"DATABASE_URL": a.database.URL, "ACQUIRER": "simulator"}[name]
	}, &out)
	return out.String(), err
}

func TestAPersonIsToldOfPaymentsThatDoNotFinish(t *testing.T) {
	a, refused, stuck, fine := newApp(t), newOrder(t), newOrder(t), newOrder(t)
	for _, order := range []uuid.UUID{refused, stuck, fine} {
		a.want("PUT", a.pay(order, simulator.RefundRefused), 201, contract.Captured)
	}
	for _, order := range []uuid.UUID{refused, stuck} {
		a.wantProblem("refund", a.refund(order), 503, problem.AcquirerUnavailable)
	}
	if out, err := a.command("needing-person"); err != nil || out != "No payment needs a person.\n" {
		t.Errorf("needing-person = %q, %v", out, err)
	}
	// Five refusals of one; a day without a change of the other.
	a.exec(`UPDATE pagamentos SET refusals = 5 WHERE order_id = $1`, refused)
	a.exec(`UPDATE pagamentos SET updated_at = now() - interval '25 hours' WHERE order_id = $1`, stuck)
	out, err := a.command("needing-person")
	if err != nil || !strings.Contains(out, refused.String()) || !strings.Contains(out, stuck.String()) ||
		strings.Contains(out, fine.String()) || !strings.Contains(out, "charge_disputed") {
		t.Errorf("needing-person = %s, %v", out, err)
	}
	listed := a.send("GET", "/pagamentos?needing_person=true", "")
	if listed.status != 200 || strings.Count(listed.body, `"order_id"`) != 2 || strings.Contains(listed.body, fine.String()) {
		t.Errorf("the list = %d %s", listed.status, listed.body)
	}
	if _, err := a.payments.ResolveDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if line := `payments_needing_person{service="pagamentos"} 2`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}

	if out, err := a.command("retry", refused.String()); err != nil || !strings.Contains(out, refused.String()) {
		t.Errorf("retry = %q, %v", out, err)
	}
	if n, err := a.payments.ResolveDue(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were taken up, %v", n, err)
	}
	a.want("GET", a.show(refused), 200, contract.Refunded)

	if out, err := a.command("refunded", stuck.String(), "transfer-7"); err != nil || !strings.Contains(out, "transfer-7") {
		t.Errorf("refunded = %q, %v", out, err)
	}
	shown := a.show(stuck)
	a.want("GET", shown, 200, contract.Refunded)
	if got := shown.payment.RefundReference; got == nil || *got != "transfer-7" {
		t.Errorf("the payment is %s", shown.body)
	}
	if out, err := a.command("needing-person"); err != nil || out != "No payment needs a person.\n" {
		t.Errorf("needing-person = %q, %v", out, err)
	}

	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"retry"}, "ORDER_ID"},
		{[]string{"retry", "7"}, "ORDER_ID"},
		{[]string{"retry", newOrder(t).String()}, "no payment"},
		{[]string{"retry", fine.String()}, "no step"},
		{[]string{"refunded", fine.String()}, "REFERENCE"},
		{[]string{"refunded", fine.String(), "x"}, "captured"},
		{[]string{"refunded", fine.String(), "x", "y"}, `"y"`},
	} {
		if out, err := a.command(test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v = %q, %v; want an error with %q", test.args, out, err, test.want)
		}
	}
}

func TestAPaymentBelongsToItsClient(t *testing.T) {
	a, order, gone := newApp(t), newOrder(t), newOrder(t)
	as := func(client, method, path, body string) answer {
		return a.send(method, path, body, "Client-Id", client)
	}
	a.want("PUT", as("alice", "PUT", "/pagamentos/"+order.String(), payBody(simulator.Approved, true)), 201, contract.Captured)
	a.want("refund", as("alice", "POST", "/pagamentos/"+gone.String()+"/refund", ""), 200, contract.Voided)
	for _, one := range []uuid.UUID{order, gone} {
		if got := as("alice", "GET", "/pagamentos/"+one.String(), ""); got.status != 200 {
			t.Errorf("alice = %d %s", got.status, got.body)
		}
		a.wantProblem("bob", as("bob", "GET", "/pagamentos/"+one.String(), ""), 404, problem.NotFound)
		if got := a.show(one); got.status != 200 { // a service inside the cluster
			t.Errorf("without a client = %d %s", got.status, got.body)
		}
	}
	// The row of a version that did not store the client.
	a.exec(`UPDATE pagamentos SET client_id = NULL WHERE order_id = $1`, order)
	a.wantProblem("alice", as("alice", "GET", "/pagamentos/"+order.String(), ""), 404, problem.NotFound)
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

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
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
	a.want("the same PUT", again, 200, contract.Captured)
	if again.body != first.body {
		t.Errorf("the same PUT answered %s, and %s at first", again.body, first.body)
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
		t.Errorf("%d tokens are kept, %v", tokens, err)
	}
}

func TestAnAuthorisationIsCapturedOrLetGo(t *testing.T) {
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
		simulator.DeclinedFunds: "insufficient_funds", simulator.LostCard: "lost_card", "tok_made_up": "invalid_token",
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

func TestARefundOfWhatNeverWasKeepsItFromHappening(t *testing.T) {
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
	a.wantProblem("capture of nothing", a.capture(newOrder(t)), 404, problem.NotFound)
	a.wantProblem("GET of nothing", a.show(newOrder(t)), 404, problem.NotFound)
}

func TestAnUnknownOutcomeIsFoundOut(t *testing.T) {
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

	// The wish outlasts the request that made it.
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

func TestTheResolverFinishesWhatNobodyAsksAbout(t *testing.T) {
	a := newApp(t)
	lost, refunding, undone, settled := newOrder(t), newOrder(t), newOrder(t), newOrder(t)
	a.wantProblem("PUT", a.pay(lost, simulator.Timeout), 503, problem.AcquirerUnavailable)
	a.want("PUT", a.pay(refunding, simulator.RefundFailsOnce), 201, contract.Captured)
	a.wantProblem("refund", a.refund(refunding), 503, problem.AcquirerUnavailable)
	a.wantProblem("PUT", a.pay(undone, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	a.wantProblem("refund", a.refund(undone), 503, problem.AcquirerUnavailable)
	a.want("PUT", a.pay(settled, simulator.Approved), 201, contract.Captured)

	if n, err := a.payments.resolveDue(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d were taken up within the minute, %v", n, err)
	}
	a.exec(`UPDATE pagamentos SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL`)
	if n, err := a.payments.resolveDue(t.Context()); n != 3 || err != nil {
		t.Fatalf("%d were taken up, %v; want 3", n, err)
	}
	a.want("GET", a.show(lost), 200, contract.Captured)
	a.want("GET", a.show(refunding), 200, contract.Refunded)
	a.want("GET", a.show(undone), 200, contract.Refunded)
	a.want("GET", a.show(settled), 200, contract.Captured)
	if n, err := a.payments.resolveDue(t.Context()); n != 0 || err != nil {
		t.Fatalf("%d were taken up again, %v", n, err)
	}

	// One that cannot be resolved is put off, by more each time.
	stubborn := newOrder(t)
	a.wantProblem("PUT", a.pay(stubborn, simulator.Unavailable), 503, problem.AcquirerUnavailable)
	a.exec(`UPDATE pagamentos SET due_at = now() - interval '1 second', attempts = 3 WHERE order_id = $1`, stubborn)
	if n, err := a.payments.resolveDue(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were taken up, %v", n, err)
	}
	var minutes float64
	if err := a.database.Pool.QueryRow(t.Context(), `SELECT extract(epoch FROM due_at - now()) / 60 FROM pagamentos WHERE order_id = $1`, stubborn).Scan(&minutes); err != nil || minutes < 7 || minutes > 8 {
		t.Errorf("put off by %.1f minutes after 4 tries, %v; want 8", minutes, err)
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

// stage is an acquirer that holds its calls until it is told otherwise.
type stage struct {
	acquirer.Acquirer
	entered, release chan struct{}
	calls            atomic.Int32
}

func (s *stage) Authorise(ctx context.Context, c acquirer.Charge) (acquirer.Result, error) {
	s.calls.Add(1)
	s.entered <- struct{}{}
	<-s.release
	return s.Acquirer.Authorise(context.WithoutCancel(ctx), c)
}

func TestNoTransactionIsOpenWhileTheAcquirerIsCalled(t *testing.T) {
	hold := &stage{entered: make(chan struct{}, 9), release: make(chan struct{})}
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

func TestAChargeIsFollowedAfterItsClientHasGone(t *testing.T) {
	hold := &stage{entered: make(chan struct{}, 9), release: make(chan struct{})}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { hold.Acquirer = next; return hold })
	order := newOrder(t)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := a.payments.pay(ctx, wish{order, money.BRL(price), simulator.Approved, true})
		done <- err
	}()
	<-hold.entered
	leave()
	if e := problem.From(<-done); e.Code != problem.AcquirerUnavailable {
		t.Errorf("the client that has gone got %v", e)
	}
	close(hold.release)
	for end := time.Now().Add(time.Minute); a.show(order).payment.State != contract.Captured; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the outcome was not stored")
		}
	}
}

func TestFiftyAtOnceChargeOnce(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	other := newAppOn(t, a.database) // another process
	answers := make(chan answer, 50)
	for i := range cap(answers) {
		go func() {
			got := []*app{a, other}[i%2].pay(order, simulator.Approved)
			for end := time.Now().Add(time.Minute); got.status == 503 && time.Now().Before(end); {
				got = a.pay(order, simulator.Approved) // on a busy machine: not known yet
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
		t.Errorf("%d times created, and the acquirer has %+v", created, got)
	}
}

func TestChargesAndRefundsAtOnceEndUndone(t *testing.T) {
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

// lossy is an acquirer on a bad line: some calls do not arrive, and some answers.
type lossy struct {
	acquirer.Acquirer
	rate float64
}

var errLine = errors.New("the line is bad")

func lose[T any](l *lossy, call func() (T, error)) (T, error) {
	var none T
	if rand.Float64() < l.rate {
		return none, errLine
	}
	result, err := call()
	if rand.Float64() < l.rate {
		return none, errLine
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

func TestWhateverIsLostTheBooksAgree(t *testing.T) {
	line := &lossy{rate: 0.4}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { line.Acquirer = next; return line })
	rapid.Check(t, func(t *rapid.T) {
		order := newOrder(a.t)
		capture := rapid.Bool().Draw(t, "capture")
		token := rapid.SampledFrom([]string{simulator.Approved, simulator.DeclinedFunds, simulator.Unavailable, simulator.RefundFailsOnce}).Draw(t, "token")
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
			if _, err := a.payments.resolveDue(context.Background()); err != nil {
				t.Fatal(err)
			}
			return a.show(order)
		}
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"pay", "capture", "refund", "resolve"}), 1, 8).Draw(t, "steps")
		line.rate = 0.4
		for i, step := range steps {
			// What may well be going on at the same time.
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
				return // nobody has asked for anything that leaves a trace
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
			t.Fatalf("never comes to an end: %s", now.State)
		}
		if got != want || got.charges > 1 || got.refunds > 1 {
			t.Fatalf("%s, and the acquirer has %+v", now.State, got)
		}
		if undo && (now.State == contract.Captured || now.State == contract.Authorised) {
			t.Fatalf("%s, though a refund was asked for", now.State)
		}
	})
}

// What the statements do to a payment is what the state machine says.
func TestTheStoreAgreesWithTheStateMachine(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	queries := store.New(database.Pool)
	put := func(s payment.Standing) uuid.UUID {
		order := newOrder(t)
		_, err := database.Pool.Exec(t.Context(), `
			INSERT INTO pagamentos (order_id, state, amount, currency, refunded_amount, capture, undo, card_token, fingerprint, acquirer, acquirer_reference, decline_reason, due_at)
			VALUES ($1, $2, 100, 'BRL', CASE $2 WHEN 'refunded' THEN 100 ELSE 0 END, $3, $4, CASE $2 WHEN 'authorising' THEN 'tok' END, '\x00', 'simulator', 'r',
				CASE $2 WHEN 'declined' THEN 'd' END, CASE WHEN $5 THEN now() END)`,
			order, string(s.State), s.Capture, s.Undo, s.Next() != payment.Nothing)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		return order
	}
	check := func(what string, before payment.Standing, order uuid.UUID, want payment.Standing) {
		t.Helper()
		got, err := queries.Payment(t.Context(), order)
		if err != nil || standing(got) != want {
			t.Errorf("%s of %+v: %+v, %v; want %+v", what, before, standing(got), err, want)
		}
		if (got.DueAt != nil) != (want.Next() != payment.Nothing) {
			t.Errorf("%s of %+v: due at %v, though %q is next", what, before, got.DueAt, want.Next())
		}
	}
	for _, state := range payment.States {
		for _, flags := range [][2]bool{{false, false}, {true, false}, {false, true}, {true, true}} {
			before := payment.Standing{State: state, Capture: flags[0], Undo: flags[1]}

			order := put(before)
			_, _ = queries.IntendUndo(t.Context(), store.IntendUndoParams{OrderID: order, Acquirer: simulator.Name}) // no row: no change
			check("undo", before, order, before.AskUndo())

			order = put(before)
			_, _ = queries.IntendCapture(t.Context(), order) // likewise
			after, err := before.AskCapture()
			if err != nil {
				after = before
			}
			check("capture", before, order, after)

			for _, to := range payment.States {
				after, err := before.Settle(to)
				if err != nil {
					continue
				}
				reason := ""
				if to == payment.Declined {
					reason = "d"
				}
				order := put(before)
				_, err = queries.Settle(t.Context(), store.SettleParams{OrderID: order, FromState: string(state), ToState: string(to), DeclineReason: optional(reason)})
				if err != nil {
					t.Errorf("%+v to %s: %v", before, to, err)
				}
				check(fmt.Sprintf("settling to %s", to), before, order, after)
			}
		}
	}
}

func TestAPaymentOfAnotherAcquirerIsLeftAlone(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	a.exec(`UPDATE pagamentos SET acquirer = 'stripe'`)
	a.wantProblem("refund", a.refund(order), 503, problem.AcquirerUnavailable)
	a.exec(`UPDATE pagamentos SET due_at = now()`)
	if n, err := a.payments.resolveDue(t.Context()); n != 0 || err != nil {
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
			t.Errorf("the span %s has the token: %s", span.Name, text)
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

// BenchmarkPay is a captured payment each, through the whole service.
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

func TestACallThatTheAcquirerRefusesIsLeftForAPerson(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	// Somebody has used the order's key for something else.
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
		t.Errorf("the log does not say so: %s", log)
	}
}

func TestAnAuthorisationThatHasRunOutIsVoided(t *testing.T) {
	a, order, taken := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.hold(order, simulator.Approved), 201, contract.Authorised)
	a.exec(`UPDATE simulator_charges SET state = 'voided' WHERE order_id = $1`, order)
	a.wantProblem("capture", a.capture(order), 409, problem.PaymentVoided)
	a.want("GET", a.show(order), 200, contract.Voided)

	// And one that somebody captured elsewhere is refunded, not let go.
	a.want("PUT", a.hold(taken, simulator.Approved), 201, contract.Authorised)
	a.exec(`UPDATE simulator_charges SET state = 'captured' WHERE order_id = $1`, taken)
	a.want("refund", a.refund(taken), 200, contract.Refunded)
	if got := a.books(taken); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

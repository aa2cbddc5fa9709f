package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/stripe/stripetest"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

// partAnswer is an answer with a partial refund.
type partAnswer struct {
	answer
	refund contract.PartialRefund
}

func partBody(amount int64) string {
	return fmt.Sprintf(`{"amount":{"amount":%d,"currency":"BRL"},"reason":"damaged"}`, amount)
}

func (a *app) part(order, id uuid.UUID, body string) (got partAnswer) {
	a.t.Helper()
	got.answer = a.send("PUT", "/pagamentos/"+order.String()+"/refunds/"+id.String(), body)
	_ = json.Unmarshal([]byte(got.body), &got.refund)
	return got
}

func (a *app) parts(order uuid.UUID) []contract.PartialRefund {
	a.t.Helper()
	var list contract.RefundList
	got := a.send("GET", "/pagamentos/"+order.String()+"/refunds", "")
	if err := json.Unmarshal([]byte(got.body), &list); err != nil || got.status != 200 {
		a.t.Fatalf("the refunds = %d %s", got.status, got.body)
	}
	return list.Items
}

func (a *app) wantPart(what string, got partAnswer, status int, state contract.PartialRefundState) {
	a.t.Helper()
	if got.status != status || got.refund.State != state {
		a.t.Fatalf("%s = %d %s; want %d %s", what, got.status, got.body, status, state)
	}
}

// partsDue lets the resolver take up all partial refunds that are pending, and runs it.
func (a *app) partsDue() {
	a.t.Helper()
	a.exec(`UPDATE pagamento_refunds SET due_at = now() WHERE due_at IS NOT NULL`)
	if _, err := a.payments.ResolveDue(context.Background()); err != nil {
		a.t.Fatal(err)
	}
}

func TestPartsAreRefundedAndACancelRefundsTheRest(t *testing.T) {
	a, order, first, second := newApp(t), newOrder(t), newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	made := a.part(order, first, partBody(5000))
	a.wantPart("the first part", made, 201, contract.Succeeded)
	if r := made.refund; r.ID != first || r.OrderID != order || r.Amount != money.BRL(5000) || r.Reason != "damaged" || r.RefundReference == nil {
		t.Errorf("the refund is %s", made.body)
	}
	again := a.part(order, first, partBody(5000))
	a.wantPart("the first part again", again, 200, contract.Succeeded)
	if again.body != made.body {
		t.Errorf("again %s, before %s", again.body, made.body)
	}
	a.wantPart("the second part", a.part(order, second, partBody(5000)), 201, contract.Succeeded) // of the same amount
	shown := a.show(order)
	a.want("GET", shown, 200, contract.Captured)
	if shown.payment.Refunded != money.BRL(10000) {
		t.Errorf("refunded %s", shown.payment.Refunded)
	}
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: 10000, refunds: 2}) {
		t.Errorf("the acquirer has %+v", got)
	}
	for range 2 {
		undone := a.refund(order)
		a.want("the rest", undone, 200, contract.Refunded)
		if undone.payment.Refunded != money.BRL(price) {
			t.Errorf("refunded %s", undone.payment.Refunded)
		}
	}
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 3}) {
		t.Errorf("the acquirer has %+v", got)
	}
	if parts := a.parts(order); len(parts) != 3 || parts[2].Amount != money.BRL(price-10000) || parts[2].State != contract.Succeeded {
		t.Errorf("the refunds are %+v", parts)
	}
	if got, want := a.history(order), "authorising authorising>captured captured>refunded"; got != want {
		t.Errorf("the history is %q, want %q", got, want)
	}
	a.wantProblem("a part after the cancel", a.part(order, newOrder(t), partBody(1)).answer, 409, problem.PaymentVoided)
	a.wantProblem("PUT", a.pay(order, simulator.Approved), 409, problem.PaymentVoided)
	for _, line := range []string{
		`partial_refunds_total{outcome="succeeded",service="pagamentos"} 3`, `payments_total{outcome="refunded",service="pagamentos"} 1`,
	} {
		if !strings.Contains(a.get("/metrics"), line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

func TestPartsThatAreTheWholeLeaveNothingToCancel(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	a.wantPart("the whole", a.part(order, newOrder(t), partBody(price)), 201, contract.Succeeded)
	a.want("GET", a.show(order), 200, contract.Captured)
	a.want("cancel", a.refund(order), 200, contract.Refunded)
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestPartsThatAreRefused(t *testing.T) {
	a, order, known := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	a.wantPart("a part", a.part(order, known, partBody(12000)), 201, contract.Succeeded)
	held, gone, declined := newOrder(t), newOrder(t), newOrder(t)
	a.want("PUT", a.hold(held, simulator.Approved), 201, contract.Authorised)
	a.want("PUT", a.pay(gone, simulator.Approved), 201, contract.Captured)
	a.want("refund", a.refund(gone), 200, contract.Refunded)
	a.want("PUT", a.pay(declined, simulator.LostCard), 201, contract.Declined)
	for _, test := range []struct {
		name      string
		order, id uuid.UUID
		body      string
		status    int
		code      problem.Code
		field     string
	}{
		{"more than the rest", order, newOrder(t), partBody(price - 12000 + 1), 409, problem.RefundExceeds, ""},
		{"nothing", order, newOrder(t), partBody(0), 422, problem.InvalidValue, "amount.amount"},
		{"less than nothing", order, newOrder(t), partBody(-1), 422, problem.InvalidValue, "amount.amount"},
		{"another currency", order, newOrder(t), strings.Replace(partBody(1), "BRL", "USD", 1), 409, problem.PaymentMismatch, ""},
		{"no currency", order, newOrder(t), strings.Replace(partBody(1), "BRL", "reais", 1), 422, problem.InvalidValue, "amount.currency"},
		{"no reason", order, newOrder(t), strings.Replace(partBody(1), "damaged", "", 1), 422, problem.InvalidValue, "reason"},
		{"a control character", order, newOrder(t), strings.Replace(partBody(1), "damaged", `\u0000`, 1), 422, problem.InvalidValue, "reason"},
		{"a card number", order, newOrder(t), strings.Replace(partBody(1), "damaged", "4111 1111 1111 1111", 1), 422, problem.InvalidValue, "reason"},
		{"a known id with another amount", order, known, partBody(11999), 409, problem.PaymentMismatch, ""},
		{"a known id of another order", gone, known, partBody(12000), 409, problem.PaymentMismatch, ""},
		{"of an order without a payment", newOrder(t), newOrder(t), partBody(1), 404, problem.NotFound, ""},
		{"of an authorised payment", held, newOrder(t), partBody(1), 409, problem.PaymentState, ""},
		{"of a declined payment", declined, newOrder(t), partBody(1), 409, problem.PaymentState, ""},
		{"of a refunded payment", gone, newOrder(t), partBody(1), 409, problem.PaymentVoided, ""},
	} {
		got := a.part(test.order, test.id, test.body)
		a.wantProblem(test.name, got.answer, test.status, test.code)
		if test.code == problem.PaymentMismatch && strings.Contains(got.body, "card token") ||
			test.code == problem.PaymentVoided && !strings.Contains(got.body, "refunded in part") {
			t.Errorf("%s is explained as a refused charge: %s", test.name, got.body)
		}
		if test.field != "" && (len(got.problem.Errors) != 1 || got.problem.Errors[0].Name != test.field) {
			t.Errorf("%s: %s does not name %s", test.name, got.body, test.field)
		}
	}
	if parts := a.parts(order); len(parts) != 1 {
		t.Errorf("a refused part is stored: %+v", parts)
	}
}

// The sum of concurrent refunds is as much as fits, and a cancel among them refunds exactly the rest.
func TestFiftyConcurrentPartsRefundWhatWasCharged(t *testing.T) {
	const amount = price / 10 // ten parts fit
	for _, cancel := range []bool{false, true} {
		a, order := newApp(t), newOrder(t)
		other := newAppOn(t, a.database) // another process
		a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
		var done atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			id := newOrder(t)
			all.Go(func() {
				which := []*app{a, other}[i%2]
				for range 2 { // each twice
					switch got := which.part(order, id, partBody(amount)); {
					case got.status == 201:
						done.Add(1)
					case got.status == 409 && (got.problem.Code == problem.RefundExceeds || cancel && got.problem.Code == problem.PaymentVoided):
					case got.status != 200:
						t.Errorf("a part = %d %s", got.status, got.body)
					}
				}
				if cancel && i == 25 {
					which.refund(order)
				}
			})
		}
		all.Wait()
		a.partsDue()
		if cancel {
			a.want("cancel", a.refund(order), 200, contract.Refunded)
		} else if done.Load() != 10 {
			t.Errorf("%d parts were refunded, want 10", done.Load())
		}
		if got := a.books(order); got.captured != price || got.refunded != price {
			t.Errorf("the acquirer has %+v, want %d refunded", got, price)
		}
	}
}

// waitsForALock returns when a statement waits for a row that another transaction holds.
func (a *app) waitsForALock() {
	a.t.Helper()
	for end, waiting := time.Now().Add(time.Minute), false; !waiting; time.Sleep(5 * time.Millisecond) {
		err := a.database.Pool.QueryRow(a.t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waiting)
		if err != nil || time.Now().After(end) {
			a.t.Fatalf("no statement waits: %v", err)
		}
	}
}

// The second request reads that there is no refund, waits for the first, and then finds too little left, or
// also the payment undone. It is the same refund, and must not be refused.
func TestTheSamePartAskedForTwiceAtOnceIsOneRefund(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		a, order, id := newApp(t), newOrder(t), newOrder(t)
		const amount = price/2 + 1
		a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
		tx, err := a.database.Pool.Begin(t.Context()) // the first request's statements, and those of a cancel
		if err != nil {
			t.Fatal(err)
		}
		q := store.New(tx)
		if n, err := q.IntendRefund(t.Context(), store.IntendRefundParams{
			ID: id, OrderID: order, Amount: amount, Currency: "BRL", Reason: "damaged",
		}); n != 1 || err != nil {
			t.Fatalf("%d refunds are stored, %v", n, err)
		}
		if cancelled {
			if n, err := q.IntendRest(t.Context(), store.IntendRestParams{OrderID: order, RestID: newOrder(t), Reason: "x"}); n != 1 || err != nil {
				t.Fatalf("%d payments are undone, %v", n, err)
			}
		}
		second := make(chan partAnswer)
		go func() { second <- a.part(order, id, partBody(amount)) }()
		a.waitsForALock()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.wantPart("the second request", <-second, 200, contract.Succeeded)
	}
}

// A cancel that waits for a part which is being stored refunds what is left after it.
func TestACancelWaitsForAPartThatIsBeingStored(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	a.wantPart("a part", a.part(order, newOrder(t), partBody(1000)), 201, contract.Succeeded)
	tx, err := a.database.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`UPDATE pagamentos SET refunds_amount = refunds_amount + 5000`,
		`INSERT INTO pagamento_refunds (id, order_id, amount, reason, due_at)
			SELECT '00000000-0000-7000-8000-00000000000a', order_id, 5000, 'x', now() FROM pagamentos`,
	} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, rest := make(chan error), newOrder(t)
	go func() { // the statement alone: the one before it in a cancel waits for the same row
		_, err := store.New(a.database.Pool).IntendRest(t.Context(), store.IntendRestParams{OrderID: order, RestID: rest, Reason: "x"})
		cancelled <- err
	}()
	a.waitsForALock()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	a.partsDue()
	a.want("cancel", a.refund(order), 200, contract.Refunded)
	if parts := a.parts(order); len(parts) != 3 || parts[2].Amount != money.BRL(price-6000) {
		t.Errorf("the refunds are %+v", parts)
	}
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 3}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestAPartOfWhichTheOutcomeIsNotKnownIsRepeatedWithItsKey(t *testing.T) {
	a, order, id := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundFailsOnce), 201, contract.Captured)
	a.wantPart("a part", a.part(order, id, partBody(5000)), 201, contract.Pending)
	if shown := a.show(order); shown.payment.Refunded.Amount != 0 {
		t.Errorf("a part of which the outcome is not known counts: %s", shown.body)
	}
	a.partsDue()
	a.wantPart("the part again", a.part(order, id, partBody(5000)), 200, contract.Succeeded)
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: 5000, refunds: 1}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestAPartThatIsPendingIsFollowed(t *testing.T) {
	a, order, id := newApp(t), newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundPending), 201, contract.Captured)
	a.wantPart("a part", a.part(order, id, partBody(5000)), 201, contract.Pending)
	waiting := a.refund(order) // the rest, which is pending too
	a.want("cancel", waiting, 202, contract.Refunding)
	if waiting.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	a.partsDue()
	a.want("cancel again", a.refund(order), 200, contract.Refunded)
	if got := a.books(order); got != (books{charges: 1, captured: price, refunded: price, refunds: 2}) {
		t.Errorf("the acquirer has %+v", got)
	}
}

func TestAPersonGoesOnWithPartsThatDoNotFinish(t *testing.T) {
	a := newApp(t)
	refuse := func() (order, id uuid.UUID) {
		order, id = newOrder(t), newOrder(t)
		a.want("PUT", a.pay(order, simulator.RefundRefused), 201, contract.Captured)
		refused := a.part(order, id, partBody(5000))
		a.wantPart("a part", refused, 201, contract.Pending)
		if refused.refund.Problem == nil || !strings.Contains(*refused.refund.Problem, "charge_disputed") {
			t.Errorf("the refund does not say why: %s", refused.body)
		}
		return order, id
	}
	order, id := refuse()
	elsewhere, noted := refuse()
	given, up := refuse()
	if out, err := a.command("needing-person"); err != nil || out != "No payment needs a person.\n" {
		t.Errorf("needing-person = %q, %v", out, err)
	}
	a.exec(`UPDATE pagamento_refunds SET refusals = 5`)
	out, err := a.command("needing-person")
	listed := a.send("GET", "/pagamentos?needing_person=true", "")
	for _, one := range []uuid.UUID{order, elsewhere, given} {
		if err != nil || !strings.Contains(out, "refund of order "+one.String()) || !strings.Contains(listed.body, one.String()) {
			t.Errorf("needing-person lacks %s: %s, %v, %s", one, out, err, listed.body)
		}
	}
	if got := a.part(order, id, partBody(5000)); got.refund.State != contract.NeedsPerson {
		t.Errorf("the refund is %s", got.body)
	}
	if _, err := a.payments.ResolveDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if line := `payments_needing_person{service="pagamentos"} 3`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}

	if out, err := a.command("retry", id.String()); err != nil {
		t.Errorf("retry = %q, %v", out, err)
	}
	if n, err := a.payments.ResolveDue(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d were taken up, %v", n, err)
	}
	a.wantPart("after the retry", a.part(order, id, partBody(5000)), 200, contract.Succeeded)

	if out, err := a.command("refunded", elsewhere.String(), "transfer-7"); err == nil {
		t.Errorf("refunded with the id of the order = %q", out)
	}
	if out, err := a.command("refunded", noted.String(), "transfer-7"); err != nil {
		t.Errorf("refunded = %q, %v", out, err)
	}
	if got := a.part(elsewhere, noted, partBody(5000)); got.refund.State != contract.Succeeded || *got.refund.RefundReference != "transfer-7" {
		t.Errorf("the refund is %s", got.body)
	}

	a.wantProblem("more than the rest", a.part(given, newOrder(t), partBody(price-4999)).answer, 409, problem.RefundExceeds)
	if out, err := a.command("give-up", up.String()); err != nil {
		t.Errorf("give-up = %q, %v", out, err)
	}
	a.wantPart("after the give-up", a.part(given, up, partBody(5000)), 200, contract.Failed)
	a.wantPart("the whole", a.part(given, newOrder(t), partBody(price)), 201, contract.Succeeded)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"retry", up.String()}, "no step"},
		{[]string{"give-up", up.String()}, "failed"},
		{[]string{"give-up", id.String()}, "succeeded"},
		{[]string{"give-up", order.String()}, "no payment"},
		{[]string{"give-up", "7"}, "REFUND_ID"},
		{[]string{"refunded", id.String(), "x"}, "succeeded"},
	} {
		if out, err := a.command(test.args...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v = %q, %v; want an error with %q", test.args, out, err, test.want)
		}
	}
	if out, err := a.command("needing-person"); err != nil || out != "No payment needs a person.\n" {
		t.Errorf("needing-person = %q, %v", out, err)
	}
}

// The alarm, the list and the console count alike.
func TestAPaymentWithTwoRefundsThatNeedAPersonIsCountedOnce(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	for range 2 {
		a.wantPart("a part", a.part(order, newOrder(t), partBody(1000)), 201, contract.Succeeded)
	}
	a.exec(`UPDATE pagamentos SET refunds_done = 0`)
	a.exec(`UPDATE pagamento_refunds SET state = 'pending', refund_reference = NULL, refusals = 5, asked = false, problem = 'x',
		due_at = now() + interval '1 hour'`)
	if _, err := a.payments.ResolveDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if line := `payments_needing_person{service="pagamentos"} 1`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}
}

// While a call may still succeed, nobody may record that the money went another way: it would go twice.
func TestAPartIsNotRecordedWhileACallMaySucceed(t *testing.T) {
	var a *app
	var during func()
	a = newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { return &watched{next, func() { during() }} })
	record := func(id uuid.UUID) error {
		_, err := a.command("refunded", id.String(), "transfer-7")
		return err
	}
	order, id := newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.RefundFailsOnce), 201, contract.Captured)
	var inFlight error
	during = func() { inFlight = record(id) }
	a.wantPart("a part", a.part(order, id, partBody(5000)), 201, contract.Pending)
	if unknown := record(id); inFlight == nil || unknown == nil || !strings.Contains(unknown.Error(), "not known") {
		t.Errorf("recorded during a call: %v, while its outcome is not known: %v", inFlight, unknown)
	}
	during = func() {}
	a.partsDue()
	a.wantPart("the part again", a.part(order, id, partBody(5000)), 200, contract.Succeeded)

	// If the records differ nevertheless, the service says so.
	order, id = newOrder(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	during = func() {
		a.exec(`UPDATE pagamento_refunds SET state = 'succeeded', refund_reference = 'transfer-7', due_at = NULL WHERE state = 'pending'`)
	}
	a.wantPart("a part", a.part(order, id, partBody(5000)), 201, contract.Succeeded)
	if line := `partial_refunds_total{outcome="conflict",service="pagamentos"} 1`; !strings.Contains(a.get("/metrics"), line) {
		t.Errorf("/metrics lacks %s", line)
	}
}

// watched calls a function while the acquirer is asked for a partial refund.
type watched struct {
	acquirer.Acquirer
	during func()
}

func (w *watched) RefundPart(ctx context.Context, key, reference string, amount money.Money, old bool) (acquirer.Refund, error) {
	w.during()
	return w.Acquirer.RefundPart(ctx, key, reference, amount, old)
}

// The version before would ask the acquirer for the whole amount: the database does not let it.
func TestTheVersionBeforeDoesNotRefundTheWholeOfAPartlyRefundedPayment(t *testing.T) {
	a, order := newApp(t), newOrder(t)
	a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	undo := func() error { // its statement
		_, err := a.database.Pool.Exec(t.Context(), `UPDATE pagamentos SET undo = true, state = 'refunding',
			due_at = now() + interval '1 minute', attempts = 0, problem = NULL, refusals = 0, updated_at = now()
			WHERE order_id = $1 AND state = 'captured'`, order)
		return err
	}
	a.wantPart("a part", a.part(order, newOrder(t), partBody(5000)), 201, contract.Succeeded)
	if err := undo(); err == nil || !strings.Contains(err.Error(), "pagamentos_refunds_state") {
		t.Errorf("the version before began a refund: %v", err)
	}
	a.want("cancel", a.refund(order), 200, contract.Refunded)
	a.exec(`UPDATE pagamentos SET state = 'captured', refunded_amount = 0, refunds_done = 5000, due_at = now() + interval '1 day'
		WHERE order_id = '` + order.String() + `'`) // undone, and its rest is pending
	if err := undo(); err == nil || !strings.Contains(err.Error(), "pagamentos_refunds_state") {
		t.Errorf("the version before began a refund: %v", err)
	}
}

func (l *lossy) RefundPart(ctx context.Context, key, reference string, amount money.Money, old bool) (acquirer.Refund, error) {
	return lose(l, func() (acquirer.Refund, error) { return l.Acquirer.RefundPart(ctx, key, reference, amount, old) })
}

// Whatever parts, cancels, lost calls and answers, and rounds of the resolver come together, no more is
// refunded than was charged, and the sums are those of the acquirer.
func TestTheSumsOfPartsAgreeAfterLostCallsAndAnswers(t *testing.T) {
	line := &lossy{}
	a := newApp(t, func(next acquirer.Acquirer) acquirer.Acquirer { line.Acquirer = next; return line })
	rapid.Check(t, func(t *rapid.T) {
		order := newOrder(a.t)
		line.rate = 0
		if got := a.pay(order, rapid.SampledFrom([]string{
			simulator.Approved, simulator.RefundFailsOnce, simulator.RefundRefused, simulator.RefundPending,
		}).Draw(t, "token")); got.status != 201 {
			t.Fatalf("PUT = %s", got.body)
		}
		line.rate = 0.4
		var ids []uuid.UUID
		cancelled := false
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			status := 0
			switch rapid.SampledFrom([]string{"part", "part", "again", "cancel", "resolve", "give up"}).Draw(t, "what") {
			case "part":
				ids = append(ids, newOrder(a.t))
				status = a.part(order, ids[len(ids)-1], partBody(rapid.Int64Range(1, price).Draw(t, "amount"))).status
			case "again":
				for _, r := range a.parts(order) {
					status = a.part(order, r.ID, fmt.Sprintf(`{"amount":{"amount":%d,"currency":"BRL"},"reason":%q}`, r.Amount.Amount, r.Reason)).status
				}
			case "cancel":
				cancelled = true
				status = a.refund(order).status
			case "give up":
				for _, r := range a.parts(order) {
					_ = a.payments.GiveUpRefund(context.Background(), r.ID) // mostly not possible
				}
			default:
				a.partsDue()
				a.makeDueOf(order)
			}
			if status == 500 {
				t.Fatal("500")
			}
			if got := a.books(order); got.refunded > price {
				t.Fatalf("the acquirer has %+v", got)
			}
		}
		line.rate = 0
		for range 6 {
			a.partsDue()
			a.makeDueOf(order)
		}
		shown, got := a.show(order).payment, a.books(order)
		sum := int64(0)
		for _, r := range a.parts(order) {
			switch r.State {
			case contract.Succeeded:
				sum += r.Amount.Amount
			case contract.Failed:
			default:
				t.Fatalf("a refund is not resolved: %+v", r)
			}
		}
		whole := shown.State == contract.Refunded && len(a.parts(order)) == 0
		if cancelled != (shown.State == contract.Refunded) || cancelled && got.refunded != price ||
			shown.Refunded.Amount != got.refunded || !whole && sum != got.refunded && shown.State != contract.Refunded {
			t.Fatalf("%s, refunded %s, the parts are %d, and the acquirer has %+v", shown.State, shown.Refunded, sum, got)
		}
	})
}

// makeDueOf lets the resolver take up the payment of an order, if it has a step left, and runs it.
func (a *app) makeDueOf(order uuid.UUID) {
	a.t.Helper()
	a.exec(`UPDATE pagamentos SET due_at = now() WHERE order_id = $1 AND due_at IS NOT NULL AND refunds_amount = 0`, order)
	if _, err := a.payments.ResolveDue(context.Background()); err != nil {
		a.t.Fatal(err)
	}
}

// Stripe's webhooks go to the refund that they are about.
func TestAPartThatFailsLater(t *testing.T) {
	s, order := newStripeApp(t), newOrder(t)
	s.payWith(order, stripetest.Approved)
	first, second := newOrder(t), newOrder(t)
	s.wantPart("the first part", s.part(order, first, partBody(5000)), 201, contract.Succeeded)
	failing := s.part(order, second, partBody(5000))
	s.wantPart("the second part", failing, 201, contract.Succeeded)
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	s.delivered()
	if !s.FailRefund(*failing.refund.RefundReference, "lost_or_stolen_card") {
		t.Fatal("the refund cannot fail")
	}
	s.delivered()
	parts := s.parts(order)
	if parts[0].State != contract.Succeeded || parts[1].State != contract.NeedsPerson || !strings.Contains(*parts[1].Problem, "lost_or_stolen_card") {
		t.Errorf("the refunds are %+v", parts)
	}
	if shown := s.show(order); shown.payment.State != contract.Captured || shown.payment.Refunded != money.BRL(5000) {
		t.Errorf("the payment is %s", shown.body)
	}
	// Nothing happens by itself, a repeated event changes nothing, and the amount is still held.
	if n, err := s.payments.ResolveDue(t.Context()); n != 0 || err != nil {
		t.Errorf("the resolver took %d up, %v", n, err)
	}
	for n := range s.Events() {
		s.SendAgain(n + 1)
	}
	s.wantProblem("more than the rest", s.part(order, newOrder(t), partBody(price-10000+1)).answer, 409, problem.RefundExceeds)
	stands := s.refund(order) // cancelled: the rest is refunded, and that part waits for a person
	s.wantProblem("cancel", stands, 503, problem.AcquirerUnavailable)
	if err := s.payments.Retry(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := s.payments.ResolveDue(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.want("cancel again", s.refund(order), 200, contract.Refunded)
	rest := s.parts(order)[2]
	if !s.FailRefund(*rest.RefundReference, "lost_or_stolen_card") {
		t.Fatal("the rest cannot fail")
	}
	s.eventually(order, contract.Refunding)
	if err := s.payments.RefundedElsewhere(t.Context(), rest.ID, "bank transfer 7"); err != nil {
		t.Fatal(err)
	}
	s.want("GET", s.show(order), 200, contract.Refunded)
}

// A day later Stripe may have dropped the key of a call whose answer was lost.
func TestAPartIsNotRefundedAgainAfterItsKeyIsDropped(t *testing.T) {
	s, order, id := newStripeApp(t), newOrder(t), newOrder(t)
	s.payWith(order, stripetest.Approved)
	s.wantPart("a part", s.part(order, id, partBody(5000)), 201, contract.Succeeded)
	s.exec(`UPDATE pagamentos SET refunds_done = 0`) // the answer was lost
	s.exec(`UPDATE pagamento_refunds SET state = 'pending', refund_reference = NULL, due_at = now(), updated_at = now() - interval '24 hours'`)
	s.ForgetKeys()
	s.wantPart("the part again", s.part(order, id, partBody(5000)), 200, contract.Succeeded)
	made := 0
	for _, event := range s.Events() {
		if event.Type == "refund.created" {
			made++
		}
	}
	if made != 1 {
		t.Errorf("Stripe has refunded %d times", made)
	}
}

func TestAPartThatIsPendingAtStripe(t *testing.T) {
	s, order, id := newStripeApp(t), newOrder(t), newOrder(t)
	_, paid := s.payWith(order, stripetest.RefundPending)
	made := s.part(order, id, partBody(5000))
	s.wantPart("a part", made, 201, contract.Pending)
	notice := acquirer.Notice{OrderID: order, Reference: *paid.payment.AcquirerReference, Refund: "re_other"}
	if err := s.payments.Noticed(t.Context(), notice); err != nil {
		t.Errorf("a notice of another refund: %v", err)
	}
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if !s.SucceedRefund(*made.refund.RefundReference) {
		t.Fatal("the refund cannot succeed")
	}
	for end := time.Now().Add(time.Minute); s.parts(order)[0].State != contract.Succeeded; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the refunds are %+v", s.parts(order))
		}
	}
	for n := range s.Events() {
		if attempt, _ := s.SendAgain(n + 1); attempt.Status != http.StatusNoContent {
			t.Errorf("again: %+v", attempt)
		}
	}
	if got := s.show(order).payment.Refunded; got != money.BRL(5000) {
		t.Errorf("refunded %s", got)
	}
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/client"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// twoKinds is an order of two shoes and a bottle, for 82970.
const twoKinds = `{"lines":[{"sku":"SHOE-42","quantity":2},{"sku":"BOTTLE-750","quantity":1}],
	"total":{"amount":82970,"currency":"BRL"},"card_token":"tok_approved"}`

func (s *instance) refundPart(id uuid.UUID, key, body string) *httptest.ResponseRecorder {
	return s.send("POST", "/pedidos/"+id.String()+"/refunds", body, "Idempotency-Key", key)
}

func amountOf(amount int64) string {
	return fmt.Sprintf(`{"amount":{"amount":%d,"currency":"BRL"},"reason":"damaged"}`, amount)
}

func linesOf(sku string, quantity int) string {
	return fmt.Sprintf(`{"lines":[{"sku":%q,"quantity":%d}],"reason":"sent back"}`, sku, quantity)
}

func TestPartsOfAnOrderAreRefunded(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	if o.Refunded != nil || o.Refunds != nil {
		t.Errorf("a new order has refunds: %+v", o)
	}
	made := s.refundPart(o.ID, "r1", amountOf(1000))
	first := decoded[contract.Refund](t, made)
	if made.Code != http.StatusCreated || first.State != contract.RefundSucceeded || first.Amount != money.BRL(1000) || first.Reason != "damaged" ||
		made.Header().Get("Location") != "/pedidos/"+o.ID.String()+"/refunds/"+first.ID.String() {
		t.Fatalf("a refund = %d %s", made.Code, made.Body)
	}
	again := s.refundPart(o.ID, "r1", amountOf(1000))
	if again.Code != http.StatusOK || decoded[contract.Refund](t, again).ID != first.ID {
		t.Errorf("the refund again = %d %s", again.Code, again.Body)
	}
	if got := s.send("POST", "/pedidos/"+o.ID.String()+"/ship", `{"shipment":"BR1"}`); got.Code != http.StatusOK {
		t.Fatalf("ship = %d %s", got.Code, got.Body)
	}
	shoe := s.refundPart(o.ID, "r2", linesOf("SHOE-42", 1)) // of a shipped order
	if got := decoded[contract.Refund](t, shoe); shoe.Code != http.StatusCreated || got.Amount != money.BRL(34990) || len(got.Lines) != 1 {
		t.Errorf("a refund by lines = %d %s", shoe.Code, shoe.Body)
	}
	read := s.read(t, o.ID)
	if read.State != contract.Confirmed || read.Refunded == nil || *read.Refunded != money.BRL(35990) || len(*read.Refunds) != 2 {
		t.Errorf("the order is %+v", read)
	}
	list := decoded[contract.OrderPage](t, s.send("GET", "/pedidos", ""))
	if len(list.Items) != 1 || list.Items[0].Refunded == nil || *list.Items[0].Refunded != money.BRL(35990) {
		t.Errorf("the list is %+v", list)
	}
	shown := s.send("GET", "/pedidos/"+o.ID.String()+"/refunds/"+first.ID.String(), "")
	if shown.Code != http.StatusOK || decoded[contract.Refund](t, shown).Amount != money.BRL(1000) {
		t.Errorf("GET refund = %d %s", shown.Code, shown.Body)
	}
	if got := s.send("GET", "/pedidos/"+o.ID.String()+"/refunds/"+uuid.NewString(), ""); got.Code != http.StatusNotFound {
		t.Errorf("GET of another refund = %d %s", got.Code, got.Body)
	}
	s.ends(t, o.ID, "sold", "captured")
}

func TestRefundsThatAreRefusedStoreNothing(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	if got := s.refundPart(o.ID, "known", linesOf("SHOE-42", 1)); got.Code != http.StatusCreated {
		t.Fatalf("a refund = %d %s", got.Code, got.Body)
	}
	failed := placedOrder(t, s.place(strings.Replace(oneShoe, "tok_approved", "tok_declined", 1), "k2"), http.StatusCreated)
	cancelled := placedOrder(t, s.place(oneShoe, "k3"), http.StatusCreated)
	s.send("POST", "/pedidos/"+cancelled.ID.String()+"/cancel", "")
	waiting := placedOrder(t, s.place(strings.Replace(oneShoe, "tok_approved", "tok_authenticate", 1), "k4"), http.StatusAccepted)
	const both = `{"amount":{"amount":%d,"currency":"BRL"},"lines":[{"sku":"SHOE-42","quantity":1}],"reason":"x"}`
	for _, test := range []struct {
		name      string
		id        uuid.UUID
		key, body string
		status    int
		code      problem.Code
		field     string
	}{
		{"nothing", o.ID, "n", amountOf(0), 422, problem.InvalidValue, "amount.amount"},
		{"less than nothing", o.ID, "n", amountOf(-1), 422, problem.InvalidValue, "amount.amount"},
		{"more than the rest", o.ID, "n", amountOf(82970 - 34990 + 1), 409, problem.RefundExceeds, ""},
		{"more than the rest, with lines", o.ID, "n", fmt.Sprintf(both, 82970), 409, problem.RefundExceeds, ""},
		{"another currency", o.ID, "n", strings.Replace(amountOf(1), "BRL", "USD", 1), 422, problem.InvalidValue, "amount.currency"},
		{"no currency", o.ID, "n", strings.Replace(amountOf(1), "BRL", "reais", 1), 422, problem.InvalidValue, "amount.currency"},
		{"an unknown SKU", o.ID, "n", linesOf("SHOE-43", 1), 422, problem.UnknownSKU, "lines[0].sku"},
		{"more units than are left", o.ID, "n", linesOf("SHOE-42", 2), 422, problem.InvalidValue, "lines[0].quantity"},
		{"no units", o.ID, "n", linesOf("SHOE-42", 0), 422, problem.InvalidValue, "lines[0].quantity"},
		{"a SKU twice", o.ID, "n", `{"lines":[{"sku":"BOTTLE-750","quantity":1},{"sku":"BOTTLE-750","quantity":1}],"reason":"x"}`,
			422, problem.InvalidValue, "lines[1].sku"},
		{"neither amount nor lines", o.ID, "n", `{"reason":"x"}`, 422, problem.InvalidValue, "amount"},
		{"no reason", o.ID, "n", `{"amount":{"amount":1,"currency":"BRL"},"reason":" "}`, 422, problem.InvalidValue, "reason"},
		{"a NUL in the reason", o.ID, "n", `{"amount":{"amount":1,"currency":"BRL"},"reason":"\u0000"}`, 422, problem.InvalidValue, "reason"},
		{"a fraction", o.ID, "n", `{"amount":{"amount":1.5,"currency":"BRL"},"reason":"x"}`, 400, problem.Invalid, "amount.amount"},
		{"an unknown member", o.ID, "n", `{"restock":true,"reason":"x"}`, 400, problem.Invalid, "restock"},
		{"no key", o.ID, "", amountOf(1), 400, problem.Invalid, "Idempotency-Key"},
		{"a key with another body", o.ID, "known", linesOf("SHOE-42", 2), 422, problem.IdempotencyKeyReused, "Idempotency-Key"},
		{"an unknown order", uuid.New(), "n", amountOf(1), 404, problem.NotFound, ""},
		{"a failed order", failed.ID, "n", amountOf(1), 409, problem.OrderState, ""},
		{"a cancelled order", cancelled.ID, "n", amountOf(1), 409, problem.OrderState, ""},
		{"an unpaid order", waiting.ID, "n", amountOf(1), 409, problem.OrderState, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := s.refundPart(test.id, test.key, test.body)
			document := decoded[problem.Document](t, got)
			if got.Code != test.status || document.Code != test.code {
				t.Fatalf("= %d %s", got.Code, got.Body)
			}
			if test.field != "" && (len(document.Errors) != 1 || document.Errors[0].Name != test.field) {
				t.Errorf("errors = %+v, want %s", document.Errors, test.field)
			}
		})
	}
	if count := s.count(t, "pedido_refunds"); count != 1 {
		t.Errorf("%d refunds are stored", count)
	}
}

// Concurrent refunds, each twice and at two processes, refund as much as fits; so do those by lines.
func TestFiftyConcurrentRefundsRefundWhatFits(t *testing.T) {
	s := newInstance(t)
	other := instanceOn(t, s.shop, s.pool)
	for name, body := range map[string]string{"amounts": amountOf(3499), "lines": linesOf("SHOE-42", 1)} {
		ten := strings.NewReplacer(`"quantity":1`, `"quantity":10`, "34990", "349900").Replace(oneShoe)
		o := placedOrder(t, s.place(ten, name), http.StatusCreated)
		want := map[string]int64{"amounts": 100, "lines": 10}[name]
		if name == "amounts" { // all but ten of them
			if got := s.refundPart(o.ID, "most", amountOf(349900-10*3499)); got.Code != http.StatusCreated {
				t.Fatalf("a refund = %d %s", got.Code, got.Body)
			}
			want = 10
		}
		var mu sync.Mutex
		made := map[uuid.UUID]bool{}
		var all sync.WaitGroup
		for i := range 50 {
			for _, at := range []*instance{s, other} {
				all.Go(func() {
					got := at.refundPart(o.ID, fmt.Sprint("r", i), body)
					switch got.Code {
					case http.StatusCreated, http.StatusOK:
						var refund contract.Refund
						_ = json.Unmarshal(got.Body.Bytes(), &refund)
						mu.Lock()
						made[refund.ID] = true
						mu.Unlock()
					case http.StatusConflict, http.StatusUnprocessableEntity:
					default:
						t.Errorf("a refund = %d %s", got.Code, got.Body)
					}
				})
			}
		}
		all.Wait()
		if read := s.read(t, o.ID); int64(len(made)) != want || read.Refunded == nil || *read.Refunded != o.Total {
			t.Errorf("%s: %d refunds, and the order is %+v", name, len(made), read.Refunded)
		}
	}
}

func TestARefundThatIsPendingIsFollowed(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	s.mu.Lock()
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == partRefund {
			return errors.New("pagamentos is down")
		}
		return nil
	}
	s.mu.Unlock()
	got := s.refundPart(o.ID, "r", amountOf(1000))
	refund := decoded[contract.Refund](t, got)
	if got.Code != http.StatusCreated || refund.State != contract.RefundPending {
		t.Fatalf("a refund while pagamentos is down = %d %s", got.Code, got.Body)
	}
	if read := s.read(t, o.ID); read.Refunded != nil || len(*read.Refunds) != 1 {
		t.Errorf("a refund that is pending counts: %+v", read.Refunded)
	}
	s.mu.Lock()
	s.before = nil
	s.mu.Unlock()
	follow := func() { s.follow(t) }
	say := func(state order.RefundState) {
		s.mu.Lock()
		s.refunds[refund.ID] = state
		s.mu.Unlock()
	}
	is := func(state contract.RefundState, refunded int64) {
		t.Helper()
		read := s.read(t, o.ID)
		sum := money.BRL(0)
		if read.Refunded != nil {
			sum = *read.Refunded
		}
		if (*read.Refunds)[0].State != state || sum != money.BRL(refunded) {
			t.Errorf("the order is %+v, refunded %s", *read.Refunds, sum)
		}
	}
	say(order.RefundNeedsPerson)
	follow()
	is(contract.RefundNeedsPerson, 0)
	say(order.RefundSucceeded)
	follow()
	is(contract.RefundSucceeded, 1000)
	calls := s.calls[partRefund]
	follow() // nothing is left
	if s.calls[partRefund] != calls {
		t.Error("a refund that has succeeded is asked for again")
	}
	// The bank sends the money back; a client that looks at the refund finds out.
	say(order.RefundNeedsPerson)
	s.send("GET", "/pedidos/"+o.ID.String()+"/refunds/"+refund.ID.String(), "")
	is(contract.RefundNeedsPerson, 0)
	say(order.RefundFailed) // a person gives it up: its amount can be refunded again
	follow()
	is(contract.RefundFailed, 0)
	if got := s.refundPart(o.ID, "whole", amountOf(82970)); got.Code != http.StatusCreated {
		t.Errorf("a refund of the whole = %d %s", got.Code, got.Body)
	}
}

// follow lets a round take up the refunds that are not final.
func (s *instance) follow(t *testing.T) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), `UPDATE pedido_refunds SET attend_at = now() - interval '1 second' WHERE attend_at IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	if err := s.app.orders.FollowRefunds(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// says sets how pagamentos says that a refund stands.
func (s *instance) says(id uuid.UUID, state order.RefundState) {
	s.mu.Lock()
	s.refunds[id] = state
	s.mu.Unlock()
}

// The bank sends the money back, a person gives the refund up, and nobody reads it at pedidos meanwhile.
func TestARefundThatFailsAfterItSucceededIsFoundWithoutAReader(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	id := decoded[contract.Refund](t, s.refundPart(o.ID, "r", amountOf(1000))).ID
	s.says(id, order.RefundFailed)
	round := func(age string) (state string, checked bool) {
		t.Helper()
		if _, err := s.pool.Exec(t.Context(), `UPDATE pedido_refunds SET check_at = now() - interval '1 second',
			updated_at = now() - $1::interval`, age); err != nil {
			t.Fatal(err)
		}
		calls := s.calls[partRefund]
		s.follow(t)
		s.follow(t) // a check is a day after the one before
		if made := s.calls[partRefund] - calls; made > 1 {
			t.Errorf("pagamentos was asked %d times", made)
		}
		if err := s.pool.QueryRow(t.Context(), `SELECT state, check_at IS NOT NULL FROM pedido_refunds`).Scan(&state, &checked); err != nil {
			t.Fatal(err)
		}
		return state, checked
	}
	if state, _ := round("20 days"); state != "failed" {
		t.Fatalf("the refund is %s", state)
	}
	if got := s.refundPart(o.ID, "whole", amountOf(82970)); got.Code != http.StatusCreated {
		t.Errorf("a refund of the whole = %d %s", got.Code, got.Body)
	}

	other := newInstance(t)
	s, o = other, placedOrder(t, other.place(twoKinds, "k"), http.StatusCreated)
	s.refundPart(o.ID, "r", amountOf(1000))
	if state, checked := round("59 days"); state != "succeeded" || !checked {
		t.Errorf("after 59 days the refund is %s, and checked again: %v", state, checked)
	}
	if state, checked := round("61 days"); state != "succeeded" || checked {
		t.Errorf("after 61 days the refund is %s, and checked again: %v", state, checked)
	}
}

// Two processes ask at once, and the answer of one is stored: the refusal that the other gets changes nothing, and
// the client must not read it as a reason to refund again.
func TestARefusalDoesNotUndoASuccessThatIsStored(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	s.mu.Lock()
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step != partRefund {
			return nil
		}
		if _, err := s.pool.Exec(t.Context(), `UPDATE pedido_refunds SET state = 'succeeded', attend_at = NULL`); err != nil {
			t.Error(err)
		}
		return checkout.RefusalError{Reason: "refund_exceeds"}
	}
	s.mu.Unlock()
	got := s.refundPart(o.ID, "r", amountOf(1000))
	if refund := decoded[contract.Refund](t, got); refund.State != contract.RefundSucceeded {
		t.Errorf("the answer is %s", got.Body)
	}
	if read := s.read(t, o.ID); read.Refunded == nil || *read.Refunded != money.BRL(1000) {
		t.Errorf("the order has %+v", *read.Refunds)
	}
}

// A client that compares the order's time would read it at each question.
func TestAnOrdersTimeChangesOnlyWithTheStateOfItsRefund(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	s.mu.Lock()
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == partRefund {
			return errors.New("pagamentos is down")
		}
		return nil
	}
	s.mu.Unlock()
	id := decoded[contract.Refund](t, s.refundPart(o.ID, "r", amountOf(1000))).ID
	s.mu.Lock()
	s.before = nil
	s.mu.Unlock()
	s.says(id, order.RefundPending)
	placed := s.read(t, o.ID).UpdatedAt
	s.follow(t)
	if polled := s.read(t, o.ID).UpdatedAt; !polled.Equal(placed) {
		t.Errorf("the order changed at %s, and after a question at %s", placed, polled)
	}
	s.says(id, order.RefundSucceeded)
	s.follow(t)
	if ended := s.read(t, o.ID).UpdatedAt; !ended.After(placed) {
		t.Errorf("the refund has succeeded, and the order changed at %s", ended)
	}
}

// During a canary a pod of a version before partial refunds answers not_found: that is no failure.
func TestARefundThatPagamentosDoesNotFindIsAskedForAgain(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	s.mu.Lock()
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == partRefund {
			return &client.RefusedError{Problem: &problem.Document{Code: problem.NotFound}}
		}
		return nil
	}
	s.mu.Unlock()
	s.refundPart(o.ID, "r", amountOf(1000))
	s.follow(t) // fails the test if the round fails
	if read := s.read(t, o.ID); (*read.Refunds)[0].State != contract.RefundPending {
		t.Errorf("the refund is %+v", *read.Refunds)
	}
	s.mu.Lock()
	s.before = nil
	s.mu.Unlock()
	s.follow(t)
	if read := s.read(t, o.ID); (*read.Refunds)[0].State != contract.RefundSucceeded {
		t.Errorf("the refund is %+v", *read.Refunds)
	}
}

// A cancel refunds the rest; a refund that pagamentos learns of only afterwards has failed.
func TestACancelAfterARefund(t *testing.T) {
	s := newInstance(t)
	o := placedOrder(t, s.place(twoKinds, "k"), http.StatusCreated)
	if got := s.refundPart(o.ID, "r1", amountOf(1000)); got.Code != http.StatusCreated {
		t.Fatalf("a refund = %d %s", got.Code, got.Body)
	}
	s.mu.Lock()
	s.before = func(step order.Step, _ uuid.UUID) error {
		if step == partRefund {
			return errors.New("lost")
		}
		return nil
	}
	s.mu.Unlock()
	s.refundPart(o.ID, "r2", amountOf(2000))
	if got := s.send("POST", "/pedidos/"+o.ID.String()+"/cancel", ""); got.Code != http.StatusOK {
		t.Fatalf("cancel = %d %s", got.Code, got.Body)
	}
	s.mu.Lock()
	s.before = nil
	s.mu.Unlock()
	s.work(t)
	if _, err := s.pool.Exec(t.Context(), `UPDATE pedido_refunds SET attend_at = now() WHERE attend_at IS NOT NULL`); err != nil {
		t.Fatal(err)
	}
	var read contract.Order
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if read = s.read(t, o.ID); (*read.Refunds)[1].State == contract.RefundFailed {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the refunds are %+v", *read.Refunds)
		}
	}
	if read.State != contract.Refunded || *read.Refunded != o.Total || (*read.Refunds)[0].State != contract.RefundSucceeded {
		t.Errorf("the order is %+v", read)
	}
	s.ends(t, o.ID, "back", "refunded")
}

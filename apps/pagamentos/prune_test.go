package main

import (
	"testing"
	"time"

	"github.com/google/uuid"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
)

func TestOldTransitionsOfFinishedPaymentsLeave(t *testing.T) {
	a := newApp(t)
	const day = 24 * time.Hour
	placed := func(ago time.Duration, n byte) uuid.UUID {
		id := retention.FirstID(time.Now().Add(-ago))
		id[15] = n
		return id
	}
	old, unfinished, refundedLately, young := placed(30*day, 1), placed(30*day, 2), placed(30*day, 3), placed(9*day, 4)
	for _, order := range []uuid.UUID{old, unfinished, refundedLately, young} {
		a.want("PUT", a.pay(order, simulator.Approved), 201, contract.Captured)
	}
	a.exec(`UPDATE pagamento_transitions SET at = at - CASE WHEN order_id = $1 THEN interval '9 days' ELSE interval '30 days' END`, young)
	a.want("refund", a.refund(refundedLately), 200, contract.Refunded)
	a.exec(`UPDATE pagamentos SET state = 'refunding', undo = true, due_at = now() + interval '1 hour' WHERE order_id = $1`, unfinished)

	before := time.Now().Add(-10 * day)
	for _, want := range []int64{3, 1, 0} {
		if got, err := a.payments.PruneTransitions(t.Context(), before, 3); err != nil || got != want {
			t.Errorf("a batch of 3 deleted %d transitions, want %d; %v", got, want, err)
		}
	}
	for order, want := range map[uuid.UUID]string{
		unfinished: "authorising authorising>captured", young: "authorising authorising>captured",
		refundedLately: "captured>refunding refunding>refunded",
	} {
		if got := a.history(order); got != want {
			t.Errorf("the history of %s is %q, want %q", order, got, want)
		}
	}
	var left int
	if err := a.database.Pool.QueryRow(t.Context(), `SELECT count(*) FROM pagamento_transitions WHERE order_id = $1`, old).Scan(&left); err != nil ||
		left != 0 {
		t.Errorf("%d transitions of the old payment are left, %v", left, err)
	}
	a.want("GET of the old payment", a.show(old), 200, contract.Captured)
	a.want("refund of the old payment", a.refund(old), 200, contract.Refunded)
}

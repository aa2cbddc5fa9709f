package invariant

import (
	"bytes"
	"fmt"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// record is the content of the three databases about one order. A part that its database
// does not have is the zero value, with an empty state.
type record struct {
	id          uuid.UUID
	order       orderRow
	payment     paymentRow
	reservation reservationRow
	// settled says that the reservation may have left because of its age: Check counts these.
	settled bool
}

type orderRow struct {
	state    order.State
	total    int64
	currency string
	// overdue: its lease expired, or a refund should have been attended, longer ago than the constant overdue
	overdue bool
	parts
}

// parts are the sums of partial refunds.
type parts struct {
	held         int64 // what the order's or the payment's row says that they hold of the amount
	placed, done int64 // of those that have not failed, and of those that have succeeded
	open         int64 // of those that are not final
}

// paymentRow is a payment with the simulator's records of it. Other acquirers have no
// records in the database.
//
// charges counts the charges, and booked is what is charged and not refunded.
type paymentRow struct {
	state            payment.State
	amount, refunded int64
	currency         string
	charges, booked  int64
	// owed says that the acquirer has refused the refund: payments_needing_person counts the payment.
	owed bool
	undo bool // or is being undone: its refunds include that of the rest
	parts
	saidDone int64 // what the payment's row says of done
}

type reservationRow struct {
	state stock.State
	// high and low are halves of the units, which reservationsSQL explains.
	high, low int64
}

// sold are the units that a reservation has sold, as one number modulo 2^64.
func (r reservationRow) sold() uint64 {
	if r.state != stock.Confirmed {
		return 0
	}
	return uint64(r.high)<<32 + uint64(r.low)
}

// kept returns the amount that is captured and not refunded.
func (p paymentRow) kept() int64 {
	if p.state == payment.Captured || p.state == payment.Refunding {
		return p.amount - p.refunded
	}
	return 0
}

// kept is that of the payment, except for a refund that failed after the order was refunded: a person
// has to find another way to the shopper.
func (r *record) kept() int64 {
	if r.payment.owed && r.order.state == order.Refunded {
		return 0
	}
	return r.payment.kept()
}

// confirmed returns what is not refunded of the total of a confirmed order, otherwise 0.
func (o orderRow) confirmed() int64 {
	if o.state == order.Confirmed {
		return o.total - o.done
	}
	return 0
}

// mayBeSettled tells whether the reservation of a confirmed order may have left because of its age;
// newest is the newest order of which this is known.
func (r *record) mayBeSettled(newest uuid.UUID) bool {
	return r.order.state == order.Confirmed && r.reservation.state == "" && bytes.Compare(r.id[:], newest[:]) <= 0
}

// refunding tells whether a partial refund is under way, which changes the payment before the order.
func (r *record) refunding() bool { return r.order.open > 0 || r.payment.open > 0 }

func (r *record) inFlight() bool { return r.order.state != "" && !r.order.state.Final() }

// violated calls found for each rule about single orders that the record breaks.
func (r *record) violated(found func(rule Invariant, detail string)) {
	r.checkOrder(found)
	r.checkPayment(found)
	r.checkRefunds(found)
	r.checkReservation(found)
}

func (r *record) checkOrder(found func(Invariant, string)) {
	o, p := r.order, r.payment
	if o.overdue {
		found(OrdersEnd, fmt.Sprintf("the order is %s, and no process works on it or on its refunds", o.state))
	}
	charged := p.state == payment.Captured && !p.undo && p.amount == o.total && p.currency == o.currency
	if (o.state == order.Paid || o.state == order.Confirmed) && !charged {
		found(OrderIsCharged, fmt.Sprintf("the order is %s with total %d %s, its payment is %q with amount %d %s",
			o.state, o.total, o.currency, p.state, p.amount, p.currency))
	}
}

func (r *record) checkPayment(found func(Invariant, string)) {
	o, p := r.order, r.payment
	kept := r.kept()
	switch {
	case kept > 0 && o.state == "":
		found(CaptureHasOrder, fmt.Sprintf("%d %s captured without an order", kept, p.currency))
	case kept > 0 && o.state.Final() && o.state != order.Confirmed:
		found(CaptureHasOrder, fmt.Sprintf("%d %s captured for an order that is %s", kept, p.currency, o.state))
	}
	undoing := p.state == payment.Refunding || p.undo && p.open > 0
	settled := p.state != payment.Authorising && !undoing
	switch {
	case p.charges > 0 && p.state == "":
		found(ChargedOnce, "the acquirer has a charge without a payment")
	case p.charges > 1:
		found(ChargedOnce, fmt.Sprintf("the acquirer has charged the order %d times", p.charges))
	case p.charges > 0 && settled && (p.booked > kept || p.booked < kept-p.open):
		found(ChargedOnce, fmt.Sprintf("the acquirer holds %d, and the payment states %d, of which %d are being refunded",
			p.booked, kept, p.open))
	}
}

// checkRefunds compares the sums of partial refunds. While one is under way, the payment may be ahead of
// the order; and behind it if the bank has sent the money back.
func (r *record) checkRefunds(found func(Invariant, string)) {
	o, p := r.order, r.payment
	switch {
	case o.placed != o.held || o.placed > o.total:
		found(RefundsAddUp, fmt.Sprintf("the order's refunds are %d, and its row states %d of %d", o.placed, o.held, o.total))
	case p.placed != p.held || p.done != p.saidDone || p.placed > p.amount:
		found(RefundsAddUp, fmt.Sprintf("the payment's refunds are %d, %d of them done, and its row states %d and %d of %d",
			p.placed, p.done, p.held, p.saidDone, p.amount))
	case p.undo || o.state != order.Confirmed: // the refund of the rest is not the order's
	case !r.refunding() && o.done != p.done, o.done > p.done+p.open, p.placed > o.placed:
		found(RefundsAddUp, fmt.Sprintf("the order's refunds are %d, %d of them done, the payment's %d and %d",
			o.placed, o.done, p.placed, p.done))
	}
}

func (r *record) checkReservation(found func(Invariant, string)) {
	state := r.order.state
	holds := r.reservation.state == stock.Reserved || r.reservation.state == stock.Confirmed
	switch {
	case state == "" && holds:
		found(StockMatchesOrder, fmt.Sprintf("a reservation without an order is %s", r.reservation.state))
	case state == order.Confirmed && r.reservation.state != stock.Confirmed && !r.settled:
		found(StockMatchesOrder, fmt.Sprintf("the order is confirmed, and its reservation is %q", r.reservation.state))
	case state.Final() && state != order.Confirmed && holds:
		found(StockMatchesOrder, fmt.Sprintf("the order is %s, and its reservation is %s", state, r.reservation.state))
	}
}

// imbalance returns the difference between what the payment holds and the confirmed
// order's total, by currency. An order in flight has none.
func (r *record) imbalance() map[string]int64 {
	held, confirmed := r.kept(), r.order.confirmed()
	if r.inFlight() || r.refunding() || held == confirmed && (held == 0 || r.payment.currency == r.order.currency) {
		return nil
	}
	by := map[string]int64{}
	by[r.payment.currency] += held
	by[r.order.currency] -= confirmed
	return by
}

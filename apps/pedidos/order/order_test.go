package order_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

var start = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func placed() *order.Order {
	return &order.Order{
		CreatedAt: start,
		ID:        uuid.Must(uuid.NewV7()), State: order.Pending, Total: money.BRL(100), CardToken: "tok",
		Transitions: []order.Transition{{To: order.Pending, At: start, Reason: "placed"}},
	}
}

// world is a model of what the other services store for one order. The test compares the
// state machine with it.
type world struct {
	stock   string // "", reserved, sold, back
	payment string // "", captured, declined, refunded, void
	charges int
	asks    bool // the shopper has to authenticate, and has not yet
}

// Every order ends, and its stock and payment then agree with its state, for any answers
// of the services, any time of a cancellation, and any number of crashes, which lose what
// is not stored.
func TestEveryPathEndsWithStockAndMoneyInPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored := *placed()
		w := world{asks: rapid.Bool().Draw(t, "asks")}
		inStock := rapid.Bool().Draw(t, "in stock")
		approved := rapid.Bool().Draw(t, "approved")
		soldOut := rapid.Bool().Draw(t, "sold out after expiry")
		price := rapid.SampledFrom([]int64{100, 101}).Draw(t, "price")
		o, at := stored, start
		for i := 0; ; i++ {
			if i > 200 {
				t.Fatalf("the order does not end: %+v, %+v", o, w)
			}
			at = at.Add(time.Second)
			// After 100 rounds nothing fails, so that the order can end.
			trouble := ""
			if i < 100 {
				trouble = rapid.SampledFrom([]string{
					"", "", "", "", "lost before", "lost after", "crash", "store", "cancel", "expire", "authenticate",
				}).Draw(t, "trouble")
			}
			switch trouble {
			case "crash": // the process loses what is not stored
				o = resumed(stored)
				continue
			case "authenticate":
				w.asks = false
				continue
			case "expire":
				if w.stock == "reserved" {
					w.stock = "expired"
				}
				continue
			case "store":
				stored = clone(o)
				continue
			case "cancel": // another request stores the cancellation, and this process reads it
				o = resumed(stored)
				_ = o.Cancel(at, time.Hour)
				stored = clone(o)
				continue
			case "lost before": // the call never arrives
				continue
			}
			step := o.Step()
			if step == order.Done {
				stored = clone(o)
				break
			}
			if step == order.Undo || step == order.Release {
				stored = clone(o) // as checkout does before it acts on the decision
			}
			answer := w.carryOut(step, inStock, approved, soldOut)
			if trouble == "lost after" { // the call arrives, but its answer is lost
				o.Uncertain = o.Uncertain || step == order.Reserve
				continue
			}
			if err := report(&o, step, answer, money.BRL(price), at); err != nil {
				t.Fatal(err)
			}
		}
		agree(t, &stored, w)
		if stored.State == order.Confirmed && price != stored.Total.Amount {
			t.Fatalf("confirmed with the total %v, at a price of %d", stored.Total, price)
		}
	})
}

func clone(o order.Order) order.Order {
	o.Transitions = slices.Clone(o.Transitions)
	return o
}

// resumed returns an order as another process reads it.
func resumed(o order.Order) order.Order {
	o = clone(o)
	o.Uncertain = o.State == order.Pending || o.State == order.Reserved
	if !o.Uncertain {
		o.GiveUp = ""
	}
	return o
}

func (w *world) carryOut(step order.Step, inStock, approved, soldOut bool) string {
	switch step {
	case order.Reserve:
		switch {
		case w.stock == "back":
			return "refused"
		case w.stock == "" && !inStock, w.stock == "expired" && soldOut:
			return "refused"
		case w.stock == "", w.stock == "expired":
			w.stock = "reserved"
		}
		return "ok"
	case order.Pay:
		switch {
		case w.payment == "" && w.asks:
			return "asks"
		case w.payment == "" && approved:
			w.payment = "captured"
			w.charges++
		case w.payment == "":
			w.payment = "declined"
		}
		return w.payment
	case order.Confirm:
		if w.stock == "expired" && soldOut || w.stock == "back" {
			return "refused"
		}
		w.stock = "sold"
		return "ok"
	case order.Undo:
		switch w.payment {
		case "captured":
			w.payment = "refunded"
		case "":
			w.payment = "void"
		}
		w.stock = "back"
		return w.payment
	}
	w.stock = "back"
	return "ok"
}

func report(o *order.Order, step order.Step, answer string, price money.Money, at time.Time) error {
	switch {
	case step == order.Reserve && answer == "ok":
		return o.Reserved(price, at)
	case step == order.Reserve:
		return o.NotReserved("insufficient_stock", at)
	case step == order.Pay && answer == "captured":
		return o.Captured(at)
	case step == order.Pay && answer == "asks":
		o.NeedsAuthentication("secret", at, time.Minute)
		return nil
	case step == order.Pay:
		o.Declined("insufficient_funds")
		return nil
	case step == order.Confirm && answer == "ok":
		return o.Confirmed(at)
	case step == order.Confirm:
		return o.NotConfirmed("reservation_expired", at)
	case step == order.Release:
		return o.Released(at)
	}
	return o.Undone(answer == "refunded", at)
}

func agree(t *rapid.T, o *order.Order, w world) {
	if w.charges > 1 {
		t.Fatalf("charged %d times", w.charges)
	}
	want := map[order.State][2]string{
		order.Confirmed: {"sold", "captured"},
		order.Refunded:  {"back", "refunded"},
	}
	if both, fixed := want[o.State]; fixed {
		if w.stock != both[0] || w.payment != both[1] {
			t.Fatalf("%s, with stock %q and payment %q", o.State, w.stock, w.payment)
		}
	} else if w.stock == "reserved" || w.stock == "sold" || w.payment == "captured" {
		t.Fatalf("%s, with stock %q and payment %q", o.State, w.stock, w.payment)
	}
	for i, moved := range o.Transitions {
		if i > 0 && (moved.From != o.Transitions[i-1].To || moved.At.Before(o.Transitions[i-1].At)) {
			t.Fatalf("transitions do not follow each other: %+v", o.Transitions)
		}
		if moved.Reason == "" {
			t.Fatalf("a transition without a reason: %+v", moved)
		}
	}
	if o.Transitions[len(o.Transitions)-1].To != o.State {
		t.Fatalf("state %s, transitions %+v", o.State, o.Transitions)
	}
}

func TestAFinalStateNeverChanges(t *testing.T) {
	for _, state := range []order.State{order.Cancelled, order.Refunded, order.Failed} {
		for _, to := range order.States {
			o := placed()
			o.State = state
			if err := o.Move(to, "test", start); err == nil {
				t.Errorf("%s became %s", state, to)
			}
		}
	}
}

func TestOnlyAChargedOrderIsRefunded(t *testing.T) {
	o := placed()
	if err := o.Reserved(o.Total, start); err != nil {
		t.Fatal(err)
	}
	if err := o.Cancel(start, time.Hour); err != nil || o.Step() != order.Undo {
		t.Fatalf("cancelling: %v, next %s", err, o.Step())
	}
	if err := o.Undone(false, start); err != nil || o.State != order.Cancelled {
		t.Errorf("an order that was not charged ended as %s, %v", o.State, err)
	}
}

func TestAnOrderIsCancelledInTimeAndBeforeItIsShipped(t *testing.T) {
	const window = time.Hour
	for _, test := range []struct {
		what    string
		after   time.Duration
		shipped bool
		want    error
	}{
		{"in time", window, false, nil},
		{"late", window + time.Second, false, order.ErrTooLate},
		{"shipped", time.Minute, true, order.ErrShipped},
	} {
		o := placed()
		o.State = order.Confirmed
		if test.shipped {
			o.ShippedAt = start
		}
		at := start.Add(test.after)
		possible := !o.CancelUntil(window).IsZero() && !at.After(o.CancelUntil(window))
		if err := o.Cancel(at, window); !errors.Is(err, test.want) || possible != (test.want == nil) ||
			test.want != nil && (o.State != order.Confirmed || o.CancelRequested) {
			t.Errorf("%s: %v, possible %t, then %+v", test.what, err, possible, o)
		}
		// A cancel that is stored stays.
		if test.want == nil {
			if err := o.Cancel(at.Add(window), window); err != nil || o.State != order.Refunding {
				t.Errorf("cancelling again: %v, %s", err, o.State)
			}
		}
	}
}

func TestAFailedOrderIsNotCancelled(t *testing.T) {
	o := placed()
	if err := o.NotReserved("insufficient_stock", start); err != nil {
		t.Fatal(err)
	}
	if err := o.Cancel(start, time.Hour); err == nil || o.State != order.Failed || o.FailureReason != "insufficient_stock" {
		t.Errorf("cancelling a failed order: %v, %s %s", err, o.State, o.FailureReason)
	}
}

func TestAChangedPriceFailsTheOrderWithoutACharge(t *testing.T) {
	o := placed()
	if err := o.Reserved(money.BRL(101), start); err != nil {
		t.Fatal(err)
	}
	if o.Step() != order.Release {
		t.Fatalf("next is %s, want the release", o.Step())
	}
	if err := o.Released(start); err != nil || o.State != order.Failed || o.FailureReason != "price_changed" {
		t.Errorf("ended as %s, %s, %v", o.State, o.FailureReason, err)
	}
}

func TestAnOrderAsItWas(t *testing.T) {
	at := func(minutes int) time.Time { return time.Date(2026, 11, 29, 9, minutes, 0, 0, time.UTC) }
	o := order.Order{
		State: order.Refunded, FailureReason: "cancelled_by_client", UpdatedAt: at(9), ShippedAt: at(2), Shipment: "parcel",
		Transitions: []order.Transition{
			{To: order.Pending, At: at(0)}, {From: order.Pending, To: order.Confirmed, At: at(1)}, {From: order.Confirmed, To: order.Refunding, Reason: "cancelled_by_client", At: at(3)},
		},
	}
	if then := o.AsOf(1, at(1), nil); then.State != order.Confirmed || then.FailureReason != "" || then.Shipment != "" || len(then.Transitions) != 2 {
		t.Errorf("when it was confirmed, it was %+v", then)
	}
	if then := o.AsOf(1, at(2), nil); then.State != order.Confirmed || then.Shipment != "parcel" {
		t.Errorf("when it was shipped, it was %+v", then)
	}
	if then := o.AsOf(2, at(3), nil); then.State != order.Refunding || then.FailureReason != "cancelled_by_client" {
		t.Errorf("when it was cancelled, it was %+v", then)
	}
	o.Transitions = nil
	if then := o.AsOf(0, at(2), nil); then.State != order.Refunded {
		t.Errorf("without its transitions, it was %+v", then)
	}
}

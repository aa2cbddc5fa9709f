package order_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// Whatever refunds are asked for, and whichever of them fail, their sum is at most the total, and no
// unit is refunded twice.
func TestRefundsNeverExceedTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		skus := []value.SKU{"A", "B", "C"}
		o := order.Order{State: order.Confirmed, Total: money.BRL(0)}
		bought := map[value.SKU]int32{}
		for _, sku := range skus[:2] {
			line := order.Line{SKU: sku, Quantity: rapid.Int32Range(1, 4).Draw(t, "bought"), Price: money.BRL(rapid.Int64Range(1, 500).Draw(t, "price"))}
			bought[sku] = line.Quantity
			o.Total.Amount += int64(line.Quantity) * line.Price.Amount
			o.Lines = append(o.Lines, line)
		}
		for range rapid.IntRange(1, 12).Draw(t, "refunds") {
			if len(o.Refunds) > 0 && rapid.Bool().Draw(t, "one ends") {
				i := rapid.IntRange(0, len(o.Refunds)-1).Draw(t, "which")
				if o.Refunds[i].State != order.RefundFailed { // which is final
					o.Refunds[i].State = rapid.SampledFrom([]order.RefundState{order.RefundFailed, order.RefundSucceeded}).Draw(t, "how")
				}
				continue
			}
			var amount *money.Money
			var lines []order.RefundLine
			if rapid.Bool().Draw(t, "by amount") {
				amount = new(money.BRL(rapid.Int64Range(1, o.Total.Amount+1).Draw(t, "amount")))
			}
			if amount == nil || rapid.Bool().Draw(t, "with lines") {
				lines = append(lines, order.RefundLine{
					SKU: rapid.SampledFrom(skus).Draw(t, "sku"), Quantity: rapid.Int32Range(1, 5).Draw(t, "quantity"),
				})
			}
			planned, err := o.PlanRefund(amount, lines)
			if err == nil {
				o.Refunds = append(o.Refunds, order.Refund{Amount: planned, Lines: lines, State: order.RefundPending})
			}
			sum, units := int64(0), map[value.SKU]int32{}
			for _, refund := range o.Refunds {
				if refund.State != order.RefundFailed {
					sum += refund.Amount.Amount
					for _, line := range refund.Lines {
						units[line.SKU] += line.Quantity
					}
				}
			}
			if sum > o.Total.Amount || units["A"] > bought["A"] || units["B"] > bought["B"] || units["C"] > 0 {
				t.Fatalf("%d of %s and %v of %v are refunded", sum, o.Total, units, bought)
			}
			if amount != nil && len(lines) == 0 && err != nil && sum+amount.Amount <= o.Total.Amount {
				t.Fatalf("%s was refused, %v, although %d of %s are refunded", amount, err, sum, o.Total)
			}
		}
	})
}

func TestOnlyAConfirmedOrderIsRefundedInPart(t *testing.T) {
	for _, state := range order.States {
		for _, cancelled := range []bool{false, true} {
			o := order.Order{State: state, CancelRequested: cancelled, Total: money.BRL(100)}
			_, err := o.PlanRefund(new(money.BRL(1)), nil)
			if want := state == order.Confirmed && !cancelled; (err == nil) != want || err != nil && !errors.Is(err, order.ErrNotRefundable) {
				t.Errorf("%s, cancelled %t: %v", state, cancelled, err)
			}
		}
	}
	o := order.Order{State: order.Confirmed, Total: money.BRL(1000), Refunds: make([]order.Refund, order.MaxRefunds)}
	if _, err := o.PlanRefund(new(money.BRL(1)), nil); !errors.Is(err, order.ErrTooManyRefunds) {
		t.Errorf("one refund too many: %v", err)
	}
}

func TestTheRefundsOfAnOrderAsItWas(t *testing.T) {
	first, second := uuid.New(), uuid.New()
	o := order.Order{Total: money.BRL(100), Refunds: []order.Refund{
		{ID: first, Amount: money.BRL(10), State: order.RefundFailed, UpdatedAt: start.Add(time.Hour)},
		{ID: second, Amount: money.BRL(20), State: order.RefundSucceeded, UpdatedAt: start.Add(time.Hour)},
	}}
	for _, transitions := range [][]order.Transition{nil, {{To: order.Confirmed, At: start}}} { // they leave after a year
		o.Transitions = transitions
		if then := o.AsOf(0, start, nil); len(then.Refunds) != 0 {
			t.Errorf("before its refunds, it had %+v", then.Refunds)
		}
		then := o.AsOf(0, start, []order.RefundThen{{ID: first, State: order.RefundSucceeded, UpdatedAt: start}})
		if len(then.Refunds) != 1 || then.Refunded() != money.BRL(10) || then.Refunds[0].UpdatedAt != start {
			t.Errorf("when the first succeeded, it had %+v", then.Refunds)
		}
	}
	if o.Refunds[0].State != order.RefundFailed {
		t.Error("the order itself has changed")
	}
}

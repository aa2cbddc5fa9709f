// Package invariant checks the shop's invariants against its databases: no money, no
// unit of stock and no order is lost, after any failure.
package invariant

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Invariant is a rule that holds at any moment and after any failure.
type Invariant string

// The rules.
const (
	// StockAddsUp: no item has a negative quantity, its reserved quantity is the sum of its
	// reservations, and its units on hand are those that were added minus those sold.
	StockAddsUp Invariant = "stock_adds_up"
	// CaptureHasOrder: an amount that is captured and not refunded belongs to an order
	// that is confirmed or in flight, or a person has to refund it: the acquirer has refused
	// to, or its refund failed after it was done.
	CaptureHasOrder Invariant = "capture_has_order"
	// OrderIsCharged: an order that is paid or confirmed has its total captured.
	OrderIsCharged Invariant = "order_is_charged"
	// ChargedOnce: the acquirer has charged an order at most once, and holds exactly
	// the amount that the payment states.
	ChargedOnce Invariant = "charged_once"
	// StockMatchesOrder: the stock of a confirmed order is sold, and that of an order in
	// another final state is not held.
	StockMatchesOrder Invariant = "stock_matches_order"
	// BooksBalance: in each currency, captured minus refunded is the total of the
	// confirmed orders, without what is refunded of them. Orders in flight do not count.
	BooksBalance Invariant = "books_balance"
	// RefundsAddUp: the partial refunds of an order are not more than its total, those of a payment not more than
	// was charged, both rows state their sums, and the order and the payment agree.
	RefundsAddUp Invariant = "refunds_add_up"
	// OrdersEnd: no order in flight and no partial refund is overdue, so some process works on each.
	OrdersEnd Invariant = "orders_end"
)

// Invariants lists all rules, in the order of a report.
var Invariants = []Invariant{
	StockAddsUp, CaptureHasOrder, OrderIsCharged, ChargedOnce, StockMatchesOrder, BooksBalance, RefundsAddUp, OrdersEnd,
}

// MaxListed is how many violations of one invariant a report lists. It counts all of
// them.
const MaxListed = 20

// Violation is one breach of a rule.
type Violation struct {
	Subject string // an order's id, a SKU or a currency
	Detail  string // what the databases contain
}

// Violations are the violations of one rule.
type Violations struct {
	Total  int64
	Listed []Violation // at most MaxListed
}

// Report is the result of an audit.
type Report struct {
	Violations map[Invariant]Violations // a rule that holds has no entry
	// Orders counts all orders, and InFlight those that are not final.
	Orders, InFlight int64
	// Read counts the orders that this audit has read, and those of which only a payment or a reservation is there.
	Read int64
	// Whole says why the audit read everything. It is empty if it did not, and WholeAge is then the age of the last
	// one that did.
	Whole    string
	WholeAge time.Duration
	// Unsaved says why the next audit cannot go on from this one. The report is complete nevertheless.
	Unsaved error
	// Confirmed is the total of the confirmed orders, and Held what is captured and not
	// refunded. Both are in minor units, by currency.
	Confirmed, Held map[string]int64
}

// ErrViolated says that an invariant does not hold.
var ErrViolated = errors.New("an invariant is violated")

func newReport() *Report {
	return &Report{Violations: map[Invariant]Violations{}}
}

func (r *Report) add(invariant Invariant, subject, detail string) {
	v := r.Violations[invariant]
	v.Total++
	if len(v.Listed) < MaxListed {
		v.Listed = append(v.Listed, Violation{subject, detail})
	}
	r.Violations[invariant] = v
}

// Print writes the report as text. It returns ErrViolated if a rule is broken.
func (r *Report) Print(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d orders, %d of them in flight\n", r.Orders, r.InFlight)
	if r.Whole != "" {
		fmt.Fprintf(&text, "a whole audit (%s): all %d were read\n", r.Whole, r.Read)
	} else {
		fmt.Fprintf(&text, "an audit of what has changed: %d were read, all of them %s ago\n", r.Read, r.WholeAge.Round(time.Second))
	}
	currencies := slices.AppendSeq(slices.Collect(maps.Keys(r.Confirmed)), maps.Keys(r.Held))
	slices.Sort(currencies)
	for _, currency := range slices.Compact(currencies) {
		fmt.Fprintf(&text, "%s (minor units): confirmed orders %d, captured and not refunded %d\n",
			currency, r.Confirmed[currency], r.Held[currency])
	}
	for _, invariant := range Invariants {
		v, broken := r.Violations[invariant]
		if !broken {
			fmt.Fprintf(&text, "ok       %s\n", invariant)
			continue
		}
		fmt.Fprintf(&text, "VIOLATED %s (%d)\n", invariant, v.Total)
		for _, violation := range v.Listed {
			fmt.Fprintf(&text, "         %s: %s\n", violation.Subject, violation.Detail)
		}
		if more := v.Total - int64(len(v.Listed)); more > 0 {
			fmt.Fprintf(&text, "         and %d more\n", more)
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("printing the audit: %w", err)
	}
	if broken := len(r.Violations); broken > 0 {
		return fmt.Errorf("%w: %d of %d", ErrViolated, broken, len(Invariants))
	}
	return nil
}

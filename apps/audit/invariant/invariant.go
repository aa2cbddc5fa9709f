// Package invariant checks the shop's invariants against its databases: that no
// money, no unit of stock and no order is lost, whatever has failed.
package invariant

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Invariant is a rule that holds at any moment and after any failure.
type Invariant string

// The rules.
const (
	// StockAddsUp: no article has a negative quantity, and what it has reserved is
	// the sum of the reservations that hold it.
	StockAddsUp Invariant = "stock_adds_up"
	// CaptureHasOrder: what was captured and not refunded belongs to an order that
	// is paid, confirmed, being refunded, or in flight.
	CaptureHasOrder Invariant = "capture_has_order"
	// OrderIsCharged: an order that is paid or confirmed has its total captured.
	OrderIsCharged Invariant = "order_is_charged"
	// ChargedOnce: the acquirer has charged an order at most once, and holds exactly
	// the money that the payment says.
	ChargedOnce Invariant = "charged_once"
	// StockMatchesOrder: the stock of a confirmed order is sold, and that of an
	// order with any other end is back.
	StockMatchesOrder Invariant = "stock_matches_order"
	// BooksBalance: orders in flight apart, captured minus refunded is the sum of the
	// confirmed orders, by currency.
	BooksBalance Invariant = "books_balance"
	// OrdersEnd: some process works on every order in flight.
	OrdersEnd Invariant = "orders_end"
)

// Invariants are all rules, in the order of a report.
var Invariants = []Invariant{StockAddsUp, CaptureHasOrder, OrderIsCharged, ChargedOnce, StockMatchesOrder, BooksBalance, OrdersEnd}

// MaxListed is how many violations of one invariant a report describes. It counts
// all of them.
const MaxListed = 20

// Violation is one breach of a rule.
type Violation struct {
	Subject string // an order's id, an article's SKU or a currency
	Detail  string // what the databases say of it
}

// Violations are those of one rule.
type Violations struct {
	Total  int64
	Listed []Violation // at most MaxListed
}

// Report is the result of an audit.
type Report struct {
	Violations map[Invariant]Violations // without an entry for a rule that holds
	// Orders and InFlight count all orders and those that have not ended.
	Orders, InFlight int64
	// Confirmed and Held are the value of confirmed orders and what is captured
	// and not refunded, in minor units by currency.
	Confirmed, Held map[string]int64
}

// ErrViolated means that an invariant does not hold.
var ErrViolated = errors.New("an invariant is violated")

func newReport() *Report {
	return &Report{Violations: map[Invariant]Violations{}, Confirmed: map[string]int64{}, Held: map[string]int64{}}
}

func (r *Report) add(invariant Invariant, subject, detail string) {
	v := r.Violations[invariant]
	v.Total++
	if len(v.Listed) < MaxListed {
		v.Listed = append(v.Listed, Violation{subject, detail})
	}
	r.Violations[invariant] = v
}

// Print writes the report for people. It returns ErrViolated if a rule is broken.
func (r *Report) Print(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d orders, %d of them in flight\n", r.Orders, r.InFlight)
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

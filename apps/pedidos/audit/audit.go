// Package audit checks the shop's invariants against its databases: that no
// money, no unit of stock and no order is lost, whatever has failed.
//
// The databases are read one after another while the shop goes on, so one look
// finds contradictions that are none. What counts is what two looks find, some
// time apart. An order in flight is no violation, unless nobody has looked after
// it for long.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Invariant is a rule that holds at any moment and after any failure.
type Invariant string

// The rules.
const (
	// StockAddsUp: no item has less than nothing, and what an item has reserved is
	// what reservations hold.
	StockAddsUp Invariant = "stock_adds_up"
	// CaptureHasOrder: what was captured and not refunded belongs to an order that
	// is paid, confirmed, being refunded, or in flight.
	CaptureHasOrder Invariant = "capture_has_order"
	// OrderIsCharged: an order that is paid or confirmed has its total captured.
	OrderIsCharged Invariant = "order_is_charged"
	// ChargedOnce: the acquirer has charged an order once at most, and holds no
	// money that the payments do not know of.
	ChargedOnce Invariant = "charged_once"
	// StockMatchesOrder: the stock of a confirmed order is sold, and that of an
	// order which ended otherwise is back.
	StockMatchesOrder Invariant = "stock_matches_order"
	// BooksBalance: with nothing in flight, captured minus refunded is the sum of
	// the confirmed orders, by currency.
	BooksBalance Invariant = "books_balance"
	// OrdersEnd: an order in flight is looked after.
	OrdersEnd Invariant = "orders_end"
)

// Invariants are all of them.
var Invariants = []Invariant{StockAddsUp, CaptureHasOrder, OrderIsCharged, ChargedOnce, StockMatchesOrder, BooksBalance, OrdersEnd}

// overdue is how long after its lease an order may wait to be looked after.
const overdue = "5 minutes"

// between is how long after the first look the second is taken: longer than any
// request that both see a part of, retries apart.
const between = 3 * time.Second

// Databases are the three to be read.
type Databases struct{ Pedidos, Pagamentos, Estoque *pgxpool.Pool }

// Violation is what breaks a rule.
type Violation struct{ Subject, Detail string }

// Report is what an audit found.
type Report struct {
	Violations map[Invariant][]Violation
	// Orders and InFlight count all orders and those that are not at their end.
	Orders, InFlight int
	// Confirmed and Held are the value of confirmed orders and what is captured
	// and not refunded, in minor units by currency.
	Confirmed, Held map[string]int64
}

// ErrViolated says that an invariant does not hold.
var ErrViolated = errors.New("an invariant is violated")

// Print writes the report for people. It returns ErrViolated if a rule is broken.
func (r *Report) Print(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d orders, %d of them in flight\n", r.Orders, r.InFlight)
	for _, currency := range slices.Sorted(maps.Keys(merged(r.Confirmed, r.Held))) {
		fmt.Fprintf(&text, "%s (minor units): confirmed orders %d, captured and not refunded %d\n", currency, r.Confirmed[currency], r.Held[currency])
	}
	broken := 0
	for _, invariant := range Invariants {
		violations := r.Violations[invariant]
		if len(violations) == 0 {
			fmt.Fprintf(&text, "ok       %s\n", invariant)
			continue
		}
		broken++
		fmt.Fprintf(&text, "VIOLATED %s\n", invariant)
		for _, v := range violations {
			fmt.Fprintf(&text, "         %s: %s\n", v.Subject, v.Detail)
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("printing the audit: %w", err)
	}
	if broken > 0 {
		return fmt.Errorf("%w: %d of %d", ErrViolated, broken, len(Invariants))
	}
	return nil
}

// Run looks twice, and reports what both looks find.
func Run(ctx context.Context, databases Databases) (*Report, error) {
	first, err := look(ctx, databases)
	if err != nil || first.clean() {
		return first, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(between):
	}
	second, err := look(ctx, databases)
	if err != nil {
		return nil, err
	}
	for invariant, violations := range second.Violations {
		second.Violations[invariant] = slices.DeleteFunc(violations, func(v Violation) bool {
			return !slices.ContainsFunc(first.Violations[invariant], func(before Violation) bool { return before.Subject == v.Subject })
		})
	}
	return second, nil
}

func (r *Report) clean() bool {
	for _, violations := range r.Violations {
		if len(violations) > 0 {
			return false
		}
	}
	return true
}

type orderRow struct {
	State     string
	Total     int64
	Currency  string
	Neglected bool
}

func (o orderRow) final() bool {
	return slices.Contains([]string{"confirmed", "cancelled", "refunded", "failed"}, o.State)
}

type paymentRow struct {
	State                    string
	Amount, Refunded, Booked int64
	Currency                 string
	Charges                  int
}

// look reads the databases once. The orders are read last: an order is written
// before anything is done for it.
func look(ctx context.Context, databases Databases) (*Report, error) {
	r := &Report{Violations: map[Invariant][]Violation{}, Confirmed: map[string]int64{}, Held: map[string]int64{}}
	add := func(invariant Invariant, subject, format string, args ...any) {
		r.Violations[invariant] = append(r.Violations[invariant], Violation{subject, fmt.Sprintf(format, args...)})
	}
	if err := lookAtItems(ctx, databases.Estoque, add); err != nil {
		return nil, err
	}
	reservations, err := read(ctx, databases.Estoque, `SELECT order_id, state FROM estoque_reservations`, func(rows pgx.Rows) (id uuid.UUID, state string, err error) {
		return id, state, rows.Scan(&id, &state)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the reservations: %w", err)
	}
	// Booked is what the simulated acquirer holds by its own books; with another
	// acquirer, they are not here to be read.
	payments, err := read(ctx, databases.Pagamentos, `
		SELECT p.order_id, p.state, p.amount, p.refunded_amount, p.currency, coalesce(s.charges, 0), coalesce(s.booked, 0)
		FROM pagamentos AS p LEFT JOIN (
			SELECT order_id, count(*) AS charges, sum(amount - coalesce((
				SELECT sum(amount) FROM simulator_refunds WHERE reference = c.reference AND state = 'refunded'), 0))::bigint AS booked
			FROM simulator_charges AS c WHERE state = 'captured' GROUP BY order_id
		) AS s USING (order_id)`, func(rows pgx.Rows) (id uuid.UUID, p paymentRow, err error) {
		return id, p, rows.Scan(&id, &p.State, &p.Amount, &p.Refunded, &p.Currency, &p.Charges, &p.Booked)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the payments: %w", err)
	}
	strays, err := read(ctx, databases.Pagamentos, `
		SELECT order_id, count(*) FROM simulator_charges AS c
		WHERE state = 'captured' AND NOT EXISTS (SELECT FROM pagamentos AS p WHERE p.order_id = c.order_id)
		GROUP BY order_id`, func(rows pgx.Rows) (id uuid.UUID, charges int, err error) {
		return id, charges, rows.Scan(&id, &charges)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the acquirer's books: %w", err)
	}
	orders, err := read(ctx, databases.Pedidos, `
		SELECT id, state, total_amount, total_currency, coalesce(attend_at < now() - interval '`+overdue+`', false) FROM pedidos`,
		func(rows pgx.Rows) (id uuid.UUID, o orderRow, err error) {
			return id, o, rows.Scan(&id, &o.State, &o.Total, &o.Currency, &o.Neglected)
		})
	if err != nil {
		return nil, fmt.Errorf("reading the orders: %w", err)
	}

	for id := range strays {
		add(ChargedOnce, id.String(), "the acquirer has a charge of which no payment knows")
	}
	r.Orders = len(orders)
	for id, o := range orders {
		lookAtOrder(r, add, id, o, payments[id], reservations[id])
	}
	for id, p := range payments {
		held := p.held()
		r.Held[p.Currency] += held
		o, known := orders[id]
		switch {
		case held > 0 && !known:
			add(CaptureHasOrder, id.String(), "%d %s captured for no order", held, p.Currency)
		case held > 0 && o.final() && o.State != "confirmed":
			add(CaptureHasOrder, id.String(), "%d %s captured for an order that is %s", held, p.Currency, o.State)
		}
		if p.Charges > 1 {
			add(ChargedOnce, id.String(), "the acquirer has charged %d times", p.Charges)
		}
		if p.Charges > 0 && p.State != "authorising" && p.State != "refunding" && p.Booked != held {
			add(ChargedOnce, id.String(), "the acquirer holds %d, the payment says %d", p.Booked, held)
		}
	}
	for id := range reservations {
		if _, known := orders[id]; !known && reservations[id] != "released" && reservations[id] != "expired" {
			add(StockMatchesOrder, id.String(), "a reservation is %s for no order", reservations[id])
		}
	}
	if r.InFlight == 0 {
		for currency := range merged(r.Confirmed, r.Held) {
			if r.Confirmed[currency] != r.Held[currency] {
				add(BooksBalance, currency, "confirmed orders are worth %d, captured and not refunded is %d", r.Confirmed[currency], r.Held[currency])
			}
		}
	}
	return r, nil
}

// held is what was captured and not given back.
func (p paymentRow) held() int64 {
	if p.State == "captured" || p.State == "refunding" {
		return p.Amount - p.Refunded
	}
	return 0
}

func lookAtOrder(r *Report, add func(Invariant, string, string, ...any), id uuid.UUID, o orderRow, p paymentRow, reservation string) {
	if !o.final() {
		r.InFlight++
		if o.Neglected {
			add(OrdersEnd, id.String(), "%s, and nobody looks after it", o.State)
		}
	}
	if (o.State == "paid" || o.State == "confirmed") && (p.State != "captured" || p.Amount != o.Total || p.Currency != o.Currency) {
		add(OrderIsCharged, id.String(), "%s over %d %s, the payment is %q over %d %s", o.State, o.Total, o.Currency, p.State, p.Amount, p.Currency)
	}
	if o.State == "confirmed" {
		r.Confirmed[o.Currency] += o.Total
	}
	if o.State == "confirmed" && reservation != "confirmed" {
		add(StockMatchesOrder, id.String(), "confirmed, and its stock is %q", reservation)
	}
	if o.final() && o.State != "confirmed" && (reservation == "reserved" || reservation == "confirmed") {
		add(StockMatchesOrder, id.String(), "%s, and its stock is %s", o.State, reservation)
	}
}

// lookAtItems compares every item with the reservations that hold it, in one
// statement and so at one moment.
func lookAtItems(ctx context.Context, estoque *pgxpool.Pool, add func(Invariant, string, string, ...any)) error {
	type item struct{ onHand, reserved, held int64 }
	items, err := read(ctx, estoque, `
		SELECT e.sku, e.on_hand, e.reserved, coalesce(h.held, 0)::bigint
		FROM estoque AS e LEFT JOIN (
			SELECT l.sku, sum(l.quantity) AS held FROM estoque_reservation_lines AS l
			JOIN estoque_reservations AS r USING (order_id) WHERE r.state = 'reserved' GROUP BY l.sku
		) AS h USING (sku)`, func(rows pgx.Rows) (sku string, i item, err error) {
		return sku, i, rows.Scan(&sku, &i.onHand, &i.reserved, &i.held)
	})
	if err != nil {
		return fmt.Errorf("reading the stock: %w", err)
	}
	for sku, i := range items {
		if i.onHand < 0 || i.reserved < 0 || i.reserved > i.onHand || i.reserved != i.held {
			add(StockAddsUp, sku, "%d on hand, %d reserved, reservations hold %d", i.onHand, i.reserved, i.held)
		}
	}
	return nil
}

// read gives all rows of a statement by their key.
func read[K comparable, V any](ctx context.Context, pool *pgxpool.Pool, statement string, scan func(pgx.Rows) (K, V, error)) (map[K]V, error) {
	rows, err := pool.Query(ctx, statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[K]V{}
	for rows.Next() {
		key, value, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all[key] = value
	}
	return all, rows.Err()
}

func merged(maps ...map[string]int64) map[string]bool {
	all := map[string]bool{}
	for _, m := range maps {
		for key := range m {
			all[key] = true
		}
	}
	return all
}

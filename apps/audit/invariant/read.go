package invariant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
)

// overdue is how long after the end of its lease an order may wait for a process.
const overdue = 5 * time.Minute

// The statements return rows sorted by the order's id, so that records can merge them.
// %s are the tables, or what source returns for them.
const (
	ordersSQL = `
		WITH refunds AS (
			SELECT pedido_id AS id, sum(amount) FILTER (WHERE state <> 'failed') AS placed, sum(amount) FILTER (WHERE state = 'succeeded') AS done,
				sum(amount) FILTER (WHERE state NOT IN ('succeeded', 'failed')) AS open, bool_or(attend_at < now() - $1::interval) AS late
			FROM %[2]s GROUP BY pedido_id
		)
		SELECT id, state, total_amount, total_currency, coalesce(attend_at < now() - $1::interval, false) OR coalesce(late, false),
			refunds_amount, coalesce(placed, 0)::bigint, coalesce(done, 0)::bigint, coalesce(open, 0)::bigint
		FROM %[1]s LEFT JOIN refunds USING (id) ORDER BY id`
	// Payments, and the simulator's books with an entry for each charge and each refund.
	paymentsSQL = `
		WITH charge AS (
			SELECT reference, order_id, amount FROM %[3]s WHERE state = $1
		), entry AS (
			SELECT order_id, 1 AS charges, amount FROM charge
			UNION ALL
			SELECT order_id, 0, -r.amount FROM charge JOIN %[4]s USING (reference) WHERE r.state = $2
		), book AS (
			SELECT order_id, sum(charges)::bigint AS charges, sum(amount)::bigint AS booked FROM entry GROUP BY order_id
		), refunds AS (
			SELECT r.order_id, sum(r.amount) FILTER (WHERE r.state <> 'failed') AS placed,
				sum(r.amount) FILTER (WHERE r.state = 'succeeded') AS done, sum(r.amount) FILTER (WHERE r.state = 'pending') AS open,
				bool_or(r.state = 'pending' AND r.problem IS NOT NULL) AS refused
			FROM %[2]s GROUP BY r.order_id
		), payment AS (
			SELECT order_id, state, amount, greatest(refunded_amount, refunds_done) AS refunded, currency,
				problem IS NOT NULL AND state = 'refunding' OR undo AND coalesce(refused, false) AS owed,
				undo, refunds_amount, refunds_done, placed, done, open
			FROM %[1]s LEFT JOIN refunds USING (order_id)
		)
		SELECT order_id, coalesce(state, ''), coalesce(amount, 0), coalesce(refunded, 0), coalesce(currency, ''),
			coalesce(charges, 0), coalesce(booked, 0), coalesce(owed, false), coalesce(undo, false), coalesce(refunds_amount, 0),
			coalesce(refunds_done, 0), coalesce(placed, 0)::bigint, coalesce(done, 0)::bigint, coalesce(open, 0)::bigint
		FROM payment FULL JOIN book USING (order_id) ORDER BY order_id`
	// Reservations, and for each its units of each item times the 64 bits that stand for the item (stockSQL), in two
	// halves, so that no sum exceeds 64 bits: an order has at most 1000 units of an item.
	reservationsSQL = `
		SELECT r.order_id, r.state, coalesce(sum((hashtextextended(l.sku, 0) >> 32) * l.quantity), 0)::bigint,
			coalesce(sum((hashtextextended(l.sku, 0) & 4294967295) * l.quantity), 0)::bigint
		FROM %[1]s LEFT JOIN %[2]s USING (order_id) GROUP BY r.order_id, r.state ORDER BY r.order_id`
	// %s are the units sold by reservations that have left the table because of their age.
	itemsSQL = `
		SELECT sku, on_hand, reserved, coalesce(held, 0)::bigint, coalesce(added, 0)::bigint, coalesce(sold, 0)::bigint + coalesce(units, 0)
		FROM estoque LEFT JOIN (
			SELECT l.sku, sum(l.quantity) FILTER (WHERE r.state = $1) AS held, sum(l.quantity) FILTER (WHERE r.state = $2) AS sold
			FROM estoque_reservation_lines AS l JOIN estoque_reservations AS r USING (order_id) GROUP BY l.sku
		) AS h USING (sku) LEFT JOIN (
			SELECT sku, sum(quantity) AS added FROM estoque_top_ups GROUP BY sku
		) AS t USING (sku) LEFT JOIN %s AS s USING (sku)
		WHERE on_hand < 0 OR reserved < 0 OR reserved > on_hand OR reserved <> coalesce(held, 0)
			-- Before estoque's migration 2, the units of seeded items are recorded nowhere.
			OR on_hand <> coalesce(added, 0) - coalesce(sold, 0) - coalesce(units, 0)
				AND EXISTS (SELECT FROM goose_db_version WHERE version_id = 2 AND is_applied)
		ORDER BY sku`
	settledUnits = `estoque_settled_units`
	noUnits      = `(SELECT NULL::text AS sku, 0::bigint AS units WHERE false)`
)

// Before the migrations that create partial refunds there are none: the audit may be newer than the schema.
const (
	ordersBeforeRefunds   = `(SELECT *, 0::bigint AS refunds_amount FROM pedidos)`
	noOrderRefunds        = `(SELECT NULL::uuid AS pedido_id, 0 AS amount, '' AS state, now() AS attend_at WHERE false)`
	paymentsBeforeRefunds = `(SELECT *, 0::bigint AS refunds_amount, 0::bigint AS refunds_done FROM pagamentos)`
	noPaymentRefunds      = `(SELECT NULL::uuid AS order_id, 0 AS amount, '' AS state, '' AS problem WHERE false)`
)

func exists(ctx context.Context, tx pgx.Tx, table string) (there bool, err error) {
	if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there); err != nil {
		return false, fmt.Errorf("looking for the table %s: %w", table, err)
	}
	return there, nil
}

// ranges are ranges of ids that do not overlap. nil is every id.
type ranges struct{ low, high []uuid.UUID }

// source returns a table's rows in the ranges, as a part of FROM, with the columns given; column is that with the ids.
// The statement has before arguments, and gets those of args after them. OFFSET 0 keeps PostgreSQL from reading the
// whole table in the order of the ids, and looking for the range of each row.
func (r *ranges) source(table, alias, column, columns string, before int) string {
	if r == nil {
		return table + " AS " + alias
	}
	return fmt.Sprintf(`(unnest($%d::uuid[], $%d::uuid[]) AS range_%s (low, high) CROSS JOIN LATERAL (
		SELECT %s, %s FROM %s AS t WHERE t.%s BETWEEN range_%s.low AND range_%s.high OFFSET 0) AS %s)`,
		before+1, before+2, alias, column, columns, table, column, alias, alias, alias)
}

func (r *ranges) args(before ...any) []any {
	if r == nil {
		return before
	}
	return append(before, r.low, r.high)
}

// Databases are the three databases, each as a role that can read all tables.
type Databases struct{ Pedidos, Pagamentos, Estoque *pgxpool.Pool }

// snapshots has one transaction per database, which sees one snapshot.
type snapshots struct{ pedidos, pagamentos, estoque pgx.Tx }

func (s snapshots) byName() map[string]pgx.Tx {
	return map[string]pgx.Tx{"pedidos": s.pedidos, "pagamentos": s.pagamentos, "estoque": s.estoque}
}

// begin takes the snapshots directly after each other, that of pedidos last: an order is
// stored before its reservation and its payment.
//
// narrow is for statements that read few rows of large tables: PostgreSQL does not know how few.
func (d Databases) begin(ctx context.Context, narrow bool) (s snapshots, err error) {
	settings := `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;`
	if narrow {
		settings += `SET LOCAL enable_seqscan = off; SET LOCAL jit = off;`
	}
	for _, database := range []struct {
		pool *pgxpool.Pool
		tx   *pgx.Tx
		name string
	}{{d.Estoque, &s.estoque, "estoque"}, {d.Pagamentos, &s.pagamentos, "pagamentos"}, {d.Pedidos, &s.pedidos, "pedidos"}} {
		tx, err := database.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err == nil {
			*database.tx = tx
			// Only ctx limits the transaction. The limits of the service's sessions would cancel
			// a statement that reads a large table, or a transaction that waits for the other
			// databases.
			_, err = tx.Exec(ctx, settings+`SELECT pg_current_snapshot()`)
		}
		if err != nil {
			s.end(ctx)
			return snapshots{}, fmt.Errorf("reading the database %s: %w", database.name, err)
		}
	}
	return s, nil
}

// end ends the transactions. There is nothing to commit.
func (s snapshots) end(ctx context.Context) {
	for _, tx := range []pgx.Tx{s.estoque, s.pagamentos, s.pedidos} {
		if tx != nil {
			_ = tx.Rollback(ctx)
		}
	}
}

// records calls visit for each order in any of the databases whose id is in the ranges, sorted by id. It keeps one row
// of each database in memory. The record is valid only during the call.
func (s snapshots) records(ctx context.Context, within *ranges, visit func(*record) error) error {
	var orders stream[orderRow]
	var payments stream[paymentRow]
	var reservations stream[reservationRow]
	defer func() { orders.close(); payments.close(); reservations.close() }()
	if err := errors.Join(
		s.openOrders(ctx, within, &orders), s.openPayments(ctx, within, &payments), s.openReservations(ctx, within, &reservations),
	); err != nil {
		return err
	}
	var r record
	for {
		id, more := first(orders.head(), payments.head(), reservations.head())
		if !more {
			return nil
		}
		r = record{id: id}
		if err := errors.Join(orders.take(id, &r.order), payments.take(id, &r.payment), reservations.take(id, &r.reservation)); err != nil {
			return err
		}
		if err := visit(&r); err != nil {
			return err
		}
	}
}

func (s snapshots) openOrders(ctx context.Context, within *ranges, orders *stream[orderRow]) error {
	table, refunds := "pedidos", "pedido_refunds"
	there, err := exists(ctx, s.pedidos, refunds)
	if err != nil {
		return err
	}
	if !there {
		table, refunds = ordersBeforeRefunds, noOrderRefunds
	}
	statement := fmt.Sprintf(ordersSQL,
		within.source(table, "o", "id", "state, total_amount, total_currency, attend_at, refunds_amount", 1),
		within.source(refunds, "r", "pedido_id", "amount, state, attend_at", 1))
	return orders.open(ctx, s.pedidos, "orders", statement, within.args(overdue), func(o *orderRow) []any {
		return []any{&o.state, &o.total, &o.currency, &o.overdue, &o.held, &o.placed, &o.done, &o.open}
	})
}

func (s snapshots) openPayments(ctx context.Context, within *ranges, payments *stream[paymentRow]) error {
	table, refunds := "pagamentos", "pagamento_refunds"
	there, err := exists(ctx, s.pagamentos, refunds)
	if err != nil {
		return err
	}
	if !there {
		table, refunds = paymentsBeforeRefunds, noPaymentRefunds
	}
	charges, books := within.source("simulator_charges", "c", "order_id", "reference, amount, state", 2), "simulator_refunds AS r"
	if within != nil {
		const of = "(SELECT reference, amount, state FROM simulator_refunds WHERE reference = ANY (ARRAY(SELECT reference FROM %s))) AS r"
		books = fmt.Sprintf(of, charges)
	}
	statement := fmt.Sprintf(paymentsSQL,
		within.source(table, "p", "order_id", "state, amount, refunded_amount, currency, problem, undo, refunds_amount, refunds_done", 2),
		within.source(refunds, "r", "order_id", "amount, state, problem", 2), charges, books)
	args := within.args(acquirer.Captured, simulator.StateRefunded)
	return payments.open(ctx, s.pagamentos, "payments", statement, args, func(p *paymentRow) []any {
		return []any{
			&p.state, &p.amount, &p.refunded, &p.currency, &p.charges, &p.booked, &p.owed, &p.undo, &p.held, &p.saidDone,
			&p.placed, &p.done, &p.open,
		}
	})
}

func (s snapshots) openReservations(ctx context.Context, within *ranges, reservations *stream[reservationRow]) error {
	statement := fmt.Sprintf(reservationsSQL, within.source("estoque_reservations", "r", "order_id", "state", 0),
		within.source("estoque_reservation_lines", "l", "order_id", "sku, quantity", 0))
	return reservations.open(ctx, s.estoque, "reservations", statement, within.args(), func(r *reservationRow) []any {
		return []any{&r.state, &r.high, &r.low}
	})
}

// settled says how many reservations of sold units have left estoque because of their age.
type settled struct {
	orders int64
	newest uuid.UUID // of their orders
}

// settled also returns the units that they have sold, in SQL.
func (s snapshots) settled(ctx context.Context) (found settled, units string, err error) {
	var there bool // false before estoque's migration 3: the audit may be newer than the schema
	err = s.estoque.QueryRow(ctx, `SELECT to_regclass('estoque_settled_orders') IS NOT NULL`).Scan(&there)
	if err == nil && !there {
		return found, noUnits, nil
	}
	if err == nil {
		err = s.estoque.QueryRow(ctx, `SELECT orders, newest FROM estoque_settled_orders`).Scan(&found.orders, &found.newest)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return found, "", fmt.Errorf("reading what old reservations have sold: %w", err)
	}
	return found, settledUnits, nil
}

// items reports each item whose quantities contradict its reservations. A single
// statement reads all of them, so no recheck is needed.
func (s snapshots) items(ctx context.Context, units string, report *Report) error {
	rows, err := s.estoque.Query(ctx, fmt.Sprintf(itemsSQL, units), stock.Reserved, stock.Confirmed)
	if err != nil {
		return fmt.Errorf("reading the stock: %w", err)
	}
	var sku string
	var onHand, reserved, held, added, sold int64
	if _, err = pgx.ForEachRow(rows, []any{&sku, &onHand, &reserved, &held, &added, &sold}, func() error {
		report.add(StockAddsUp, sku, fmt.Sprintf("%d on hand, of %d added and %d sold; %d reserved, reservations hold %d",
			onHand, added, sold, reserved, held))
		return nil
	}); err != nil {
		return fmt.Errorf("reading the stock: %w", err)
	}
	return nil
}

// stream reads the rows of a statement one by one, each with the id of an order. It keeps
// only the next row in memory.
type stream[T any] struct {
	what   string // for errors
	rows   pgx.Rows
	id     uuid.UUID
	row    T
	fields []any // of id and row
	ended  bool
}

func (s *stream[T]) open(ctx context.Context, tx pgx.Tx, what, statement string, args []any, fields func(*T) []any) error {
	rows, err := tx.Query(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("reading the %s: %w", what, err)
	}
	s.what, s.rows, s.fields = what, rows, append([]any{&s.id}, fields(&s.row)...)
	return s.next()
}

func (s *stream[T]) next() error {
	if s.rows.Next() {
		if err := s.rows.Scan(s.fields...); err != nil {
			return fmt.Errorf("reading the %s: %w", s.what, err)
		}
		return nil
	}
	s.ended = true
	if err := s.rows.Err(); err != nil {
		return fmt.Errorf("reading the %s: %w", s.what, err)
	}
	return nil
}

// head returns the id of the next row, or nil after the last one.
func (s *stream[T]) head() *uuid.UUID {
	if s.ended {
		return nil
	}
	return &s.id
}

// take moves the next row to into if it belongs to the order id.
func (s *stream[T]) take(id uuid.UUID, into *T) error {
	if s.ended || s.id != id {
		return nil
	}
	*into = s.row
	return s.next()
}

func (s *stream[T]) close() {
	if s.rows != nil {
		s.rows.Close()
	}
}

// first returns the smallest of the ids, in PostgreSQL's order.
func first(ids ...*uuid.UUID) (smallest uuid.UUID, found bool) {
	for _, id := range ids {
		if id != nil && (!found || bytes.Compare(id[:], smallest[:]) < 0) {
			smallest, found = *id, true
		}
	}
	return smallest, found
}

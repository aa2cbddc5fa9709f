package invariant

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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
// %s is a condition on the id.
const (
	ordersSQL = `
		WITH refunds AS (
			SELECT pedido_id AS id, sum(amount) FILTER (WHERE state <> 'failed') AS placed, sum(amount) FILTER (WHERE state = 'succeeded') AS done,
				sum(amount) FILTER (WHERE attend_at IS NOT NULL) AS open, bool_or(attend_at < now() - $1::interval) AS late
			FROM pedido_refunds AS r GROUP BY pedido_id
		)
		SELECT id, state, total_amount, total_currency, coalesce(attend_at < now() - $1::interval, false) OR coalesce(late, false),
			refunds_amount, coalesce(placed, 0)::bigint, coalesce(done, 0)::bigint, coalesce(open, 0)::bigint
		FROM pedidos LEFT JOIN refunds USING (id) WHERE %s ORDER BY id`
	// Payments, and the simulator's books with an entry for each charge and each refund.
	paymentsSQL = `
		WITH charge AS (
			SELECT reference, order_id, amount FROM simulator_charges AS c WHERE state = $1 AND %[1]s
		), entry AS (
			SELECT order_id, 1 AS charges, amount FROM charge
			UNION ALL
			SELECT order_id, 0, -r.amount FROM charge JOIN simulator_refunds AS r USING (reference) WHERE r.state = $2
		), book AS (
			SELECT order_id, sum(charges)::bigint AS charges, sum(amount)::bigint AS booked FROM entry GROUP BY order_id
		), refunds AS (
			SELECT r.order_id, sum(r.amount) FILTER (WHERE r.state <> 'failed') AS placed,
				sum(r.amount) FILTER (WHERE r.state = 'succeeded') AS done, sum(r.amount) FILTER (WHERE r.state = 'pending') AS open,
				bool_or(r.state = 'pending' AND r.problem IS NOT NULL) AS refused
			FROM pagamento_refunds AS r GROUP BY r.order_id
		), payment AS (
			SELECT order_id, state, amount, greatest(refunded_amount, refunds_done) AS refunded, currency,
				problem IS NOT NULL AND state = 'refunding' OR undo AND coalesce(refused, false) AS owed,
				undo, refunds_amount, refunds_done, placed, done, open
			FROM pagamentos LEFT JOIN refunds USING (order_id) WHERE %[1]s
		)
		SELECT order_id, coalesce(state, ''), coalesce(amount, 0), coalesce(refunded, 0), coalesce(currency, ''),
			coalesce(charges, 0), coalesce(booked, 0), coalesce(owed, false), coalesce(undo, false), coalesce(refunds_amount, 0),
			coalesce(refunds_done, 0), coalesce(placed, 0)::bigint, coalesce(done, 0)::bigint, coalesce(open, 0)::bigint
		FROM payment FULL JOIN book USING (order_id) ORDER BY order_id`
	reservationsSQL = `SELECT order_id, state FROM estoque_reservations WHERE %s ORDER BY order_id`
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
var (
	withoutRefundsOfOrders = strings.NewReplacer(
		"FROM pedidos", "FROM (SELECT *, 0::bigint AS refunds_amount FROM pedidos) AS pedidos",
		"FROM pedido_refunds", "FROM (SELECT NULL::uuid AS pedido_id, 0 AS amount, '' AS state, now() AS attend_at WHERE false)")
	withoutRefundsOfPayments = strings.NewReplacer(
		"FROM pagamentos", "FROM (SELECT *, 0::bigint AS refunds_amount, 0::bigint AS refunds_done FROM pagamentos) AS pagamentos",
		"FROM pagamento_refunds", "FROM (SELECT NULL::uuid AS order_id, 0 AS amount, '' AS state, '' AS problem WHERE false)")
)

// atSchema returns a statement for the schema that a database has: unless it has the table, without partial refunds.
func atSchema(ctx context.Context, tx pgx.Tx, table, statement string, without *strings.Replacer) (string, error) {
	var there bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there); err != nil {
		return "", fmt.Errorf("looking for the table %s: %w", table, err)
	}
	if there {
		return statement, nil
	}
	return without.Replace(statement), nil
}

// Databases are the three databases, each as a role that can read all tables.
type Databases struct{ Pedidos, Pagamentos, Estoque *pgxpool.Pool }

// snapshots has one transaction per database, which sees one snapshot.
type snapshots struct{ pedidos, pagamentos, estoque pgx.Tx }

// begin takes the snapshots directly after each other, that of pedidos last: an order is
// stored before its reservation and its payment.
func (d Databases) begin(ctx context.Context) (s snapshots, err error) {
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
			_, err = tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
				SELECT pg_current_snapshot()`)
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

// records calls visit for each order in any of the databases, sorted by id, or only for
// ids unless that is nil. It keeps one row of each database in memory. The record is valid
// only during the call.
func (s snapshots) records(ctx context.Context, ids []uuid.UUID, visit func(*record) error) error {
	// where adds the condition on ids to a statement, and ids to its arguments.
	where := func(statement, column string, args ...any) (string, []any) {
		if ids == nil {
			return fmt.Sprintf(statement, "true"), args
		}
		return fmt.Sprintf(statement, fmt.Sprintf("%s = ANY($%d)", column, len(args)+1)), append(args, ids)
	}
	var orders stream[orderRow]
	var payments stream[paymentRow]
	var reservations stream[stock.State]
	defer func() { orders.close(); payments.close(); reservations.close() }()
	ofOrders, err := atSchema(ctx, s.pedidos, "pedido_refunds", ordersSQL, withoutRefundsOfOrders)
	if err != nil {
		return err
	}
	ofPayments, err := atSchema(ctx, s.pagamentos, "pagamento_refunds", paymentsSQL, withoutRefundsOfPayments)
	if err != nil {
		return err
	}
	statement, args := where(ofOrders, "id", overdue)
	if err := orders.open(ctx, s.pedidos, "orders", statement, args, func(o *orderRow) []any {
		return []any{&o.state, &o.total, &o.currency, &o.overdue, &o.held, &o.placed, &o.done, &o.open}
	}); err != nil {
		return err
	}
	statement, args = where(ofPayments, "order_id", acquirer.Captured, simulator.StateRefunded)
	if err := payments.open(ctx, s.pagamentos, "payments", statement, args, func(p *paymentRow) []any {
		return []any{
			&p.state, &p.amount, &p.refunded, &p.currency, &p.charges, &p.booked, &p.owed, &p.undo, &p.held, &p.saidDone,
			&p.placed, &p.done, &p.open,
		}
	}); err != nil {
		return err
	}
	statement, args = where(reservationsSQL, "order_id")
	if err := reservations.open(ctx, s.estoque, "reservations", statement, args,
		func(state *stock.State) []any { return []any{state} }); err != nil {
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

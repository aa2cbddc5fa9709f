package invariant_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

var benchmarkOrders = flag.Int("orders", 100_000, "orders of BenchmarkData, at least 10,000")

// years is a shop of 800 days, in which old data has left by the default ages: half of the orders have
// their transitions and reservations, those of the last 30 days their answers. What has become too old
// since the last round is left: backlog orders of each kind.
type years struct {
	shop
	orders, backlog int64
	admins          map[string]*pgx.Conn // as the superuser, by database: without limits of time
}

// names are SQL functions of the number of an order, the same in each database. They are stable so that
// PostgreSQL inlines them.
const names = `
	CREATE FUNCTION ms(i bigint) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT %[2]d - %[3]d * (%[1]d - i) / %[1]d $$;
	CREATE FUNCTION placed(i bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT to_timestamp(ms(i) / 1000.0::float8) $$;
	CREATE FUNCTION id(i bigint) RETURNS uuid LANGUAGE sql STABLE AS
		$$ SELECT (lpad(to_hex(ms(i)), 12, '0') || '7' || lpad(to_hex(i %% 4096), 3, '0') || '8' || lpad(to_hex(i), 15, '0'))::uuid $$;
	CREATE FUNCTION state(i bigint) RETURNS text LANGUAGE sql STABLE AS
		$$ SELECT CASE WHEN i > %[1]d - 100 THEN 'refunding' WHEN i > %[1]d - 300 THEN 'reserved'
			WHEN i %% 19 = 0 THEN 'refunded' WHEN i %% 23 = 0 THEN 'failed' ELSE 'confirmed' END $$;
	CREATE FUNCTION part(i bigint) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT state(i) = 'confirmed' AND i %% 100 = 1 $$;
	CREATE FUNCTION pending(i bigint) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT part(i) AND i > %[1]d - least(20000, %[1]d / 10) $$;
	CREATE FUNCTION event(i bigint) RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT md5(i::text)::uuid $$;
	CREATE FUNCTION endpoint(k bigint) RETURNS uuid LANGUAGE sql STABLE AS
		$$ SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(k), 12, '0'))::uuid $$;
	SET random_page_cost = 1.1; -- as in the services' sessions
	SET session_replication_role = replica; -- the rows are right: check no foreign key`

// fills are the statements of each database. In them, ORDERS stands for the number of orders,
// KEPT for the first one with a reservation and transitions, ANSWERED for the first with an answer and an
// event. A part of 1 % of the orders is refunded. The clients 0 to 999 have ten endpoints each, the most that
// a client may have; the storefront has number 0, and the operator number 10001. What the last 300 orders have
// for clients is due, and the operator's endpoint has failed for three days.
var fills = map[string][]string{
	"pedidos": {`INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, version, lines, total_amount, total_currency,
			failure_reason, answer_status, answer_body, attend_at, created_at, updated_at, refunds, refunds_amount, events)
		SELECT id(i), CASE WHEN i % 10 = 0 THEN 'client-' || i % 1000 ELSE 'storefront' END, 'key-' || i, sha256(int8send(i)), state(i), 1,
			('[{"sku": "SKU-' || i % 1000 || '", "price": {"amount": 14990, "currency": "BRL"}, "quantity": 1}]')::jsonb, 14990, 'BRL',
			CASE state(i) WHEN 'failed' THEN 'insufficient_funds' WHEN 'refunded' THEN 'cancelled_by_client' END,
			CASE WHEN i >= ANSWERED THEN 201 END,
			CASE WHEN i >= ANSWERED THEN jsonb_build_object('id', id(i), 'state', state(i), 'created_at', placed(i), 'transitions', repeat('t', 500)) END,
			CASE WHEN state(i) IN ('reserved', 'refunding') THEN now() + interval '1 day' END, placed(i), placed(i),
			part(i)::integer, 1000 * part(i)::integer, (i >= ANSWERED)::integer
		FROM generate_series(1::bigint, ORDERS) AS i`,
		`INSERT INTO pedido_refunds (id, pedido_id, idempotency_key, request_hash, amount, lines, reason, state, attend_at, attempts,
			created_at, updated_at)
		SELECT id(i), id(i), 'key-' || i, sha256(int8send(i)), 1000, '[]', 'damaged', CASE WHEN pending(i) THEN 'pending' ELSE 'succeeded' END,
			CASE WHEN pending(i) THEN now() + interval '1 day' END, 0, placed(i), placed(i)
		FROM generate_series(1::bigint, ORDERS) AS i WHERE part(i)`,
		`INSERT INTO pedido_webhooks (id, client_id, url, secret)
		SELECT endpoint(k), CASE k WHEN 0 THEN 'storefront' WHEN 10001 THEN '*' ELSE 'client-' || k % 1000 END, 'https://example.com/' || k, '\x00'
		FROM generate_series(0::bigint, 10001) AS k`,
		`INSERT INTO pedido_events (id, pedido_id, sequence, type, at, position, body, recorded_at)
		SELECT event(i), id(i), 1, 'order.confirmed', placed(i), 3, repeat('b', 900), placed(i)
		FROM generate_series(ANSWERED::bigint, ORDERS) AS i`,
		`INSERT INTO pedido_deliveries (webhook_id, event_id, pedido_id, sequence, state, next_at, sending, attempts, last_at, last_status, created_at)
		SELECT endpoint(k), event(i), id(i), 1, CASE WHEN waits THEN 'waiting' ELSE 'delivered' END,
			CASE WHEN waits THEN now() + CASE k WHEN 10001 THEN interval '1 day' ELSE interval '0' END END,
			k = 10001 AND i = ORDERS - 20, 1, placed(i), 200, placed(i)
		FROM generate_series(ANSWERED::bigint, ORDERS) AS i
		CROSS JOIN LATERAL (SELECT CASE WHEN i % 10 > 0 THEN 0 ELSE i % 1000 + 1000 * n END AS k
			FROM generate_series(CASE WHEN i % 1000 = 0 THEN 1 ELSE 0 END, CASE WHEN i % 10 > 0 THEN 0 WHEN i % 1000 = 0 THEN 10 ELSE 9 END) AS n
			UNION ALL SELECT 10001) AS wants
		CROSS JOIN LATERAL (SELECT i > ORDERS - CASE k WHEN 10001 THEN ORDERS * 3 / 800 ELSE 300 END AS waits) AS still`,
		`INSERT INTO pedido_transitions
		SELECT id(i), p, CASE WHEN p > 0 THEN (ARRAY['pending', 'reserved', 'paid'])[p] END,
			(ARRAY['pending', 'reserved', 'paid', 'confirmed'])[p + 1], placed(i), 'stock reserved'
		FROM generate_series(KEPT::bigint, ORDERS) AS i CROSS JOIN generate_series(0, 3) AS p`},
	"pagamentos": {`INSERT INTO pagamentos (order_id, client_id, state, amount, currency, refunded_amount, capture, undo, card_token, fingerprint,
			acquirer, acquirer_reference, decline_reason, due_at, prepares, problem, refusals, created_at, updated_at,
			refunds_amount, refunds_done)
		SELECT id(i), CASE WHEN i % 10 = 0 THEN 'client-' || i % 1000 ELSE 'storefront' END, s, 14990, 'BRL',
			CASE s WHEN 'refunded' THEN 14990 ELSE 0 END, true, s IN ('refunding', 'refunded'), CASE s WHEN 'authorising' THEN 'tok_approved' END,
			sha256(int8send(i)), CASE s WHEN 'authorising' THEN 'simulator/3' ELSE 'simulator' END, 'sim_' || id(i),
			CASE s WHEN 'declined' THEN 'insufficient_funds' END,
			CASE WHEN s IN ('authorising', 'refunding') THEN now() + interval '1 day' END, true,
			CASE s WHEN 'refunding' THEN 'charge_disputed' END, CASE s WHEN 'refunding' THEN 5 ELSE 0 END, placed(i), placed(i),
			1000 * part(i)::integer, 1000 * (part(i) AND NOT pending(i))::integer
		FROM (SELECT i, CASE state(i) WHEN 'confirmed' THEN 'captured' WHEN 'failed' THEN 'declined' WHEN 'reserved' THEN 'authorising'
			ELSE state(i) END AS s FROM generate_series(1::bigint, ORDERS) AS i) AS o`,
		`INSERT INTO pagamento_transitions SELECT id(i), CASE p WHEN 1 THEN 'authorising' END, (ARRAY['authorising', 'captured'])[p + 1], placed(i)
		FROM generate_series(KEPT::bigint, ORDERS) AS i CROSS JOIN generate_series(0, 1) AS p`,
		`INSERT INTO pagamento_refunds (id, order_id, amount, reason, state, refund_reference, asked, due_at, created_at, updated_at)
		SELECT id(i), id(i), 1000, 'damaged', CASE WHEN pending(i) THEN 'pending' ELSE 'succeeded' END,
			CASE WHEN NOT pending(i) THEN 're_' || i END, NOT pending(i), CASE WHEN pending(i) THEN now() + interval '1 day' END, placed(i), placed(i)
		FROM generate_series(1::bigint, ORDERS) AS i WHERE part(i)`,
		// The books of the simulator for the last quarter: an acquirer keeps its own elsewhere.
		`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state, created_at)
		SELECT id(i) || ':authorise', 'sim_' || id(i), id(i), 14990, 'BRL', 'tok_approved', true, 'captured', placed(i)
		FROM generate_series((ORDERS * 0.75)::bigint, ORDERS) AS i WHERE state(i) IN ('confirmed', 'refunded', 'refunding')`,
		`INSERT INTO simulator_refunds (key, reference, amount, state, created_at) SELECT id(i) || ':refund', 'sim_' || id(i),
			CASE WHEN part(i) THEN 1000 ELSE 14990 END, 'refunded', placed(i)
		FROM generate_series((ORDERS * 0.75)::bigint, ORDERS) AS i WHERE state(i) = 'refunded' OR part(i) AND NOT pending(i)`},
	"estoque": {`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand)
		SELECT 'SKU-' || k, 'Item', 'An item', 14990, 'BRL', 1000000 FROM generate_series(0, 999) AS k`,
		`INSERT INTO estoque_top_ups (key, sku, quantity, reason) SELECT 'opening:' || sku, sku, on_hand, 'opening' FROM estoque`,
		`INSERT INTO estoque_reservations
		SELECT id(i), CASE state(i) WHEN 'reserved' THEN 'reserved' WHEN 'confirmed' THEN 'confirmed' WHEN 'refunding' THEN 'confirmed' ELSE 'released' END,
			CASE state(i) WHEN 'reserved' THEN now() + interval '1 day' ELSE placed(i) END, placed(i), placed(i)
		FROM generate_series(KEPT::bigint, ORDERS) AS i`,
		`INSERT INTO estoque_reservation_lines SELECT id(i), 'SKU-' || i % 1000, 1, 14990, 'BRL' FROM generate_series(KEPT::bigint, ORDERS) AS i`,
		`INSERT INTO estoque_settled_units SELECT 'SKU-' || i % 1000, count(*)
		FROM generate_series(1::bigint, KEPT - 1) AS i WHERE state(i) = 'confirmed' GROUP BY 1`,
		`INSERT INTO estoque_settled_orders (orders, newest) SELECT count(*), id(max(i))
		FROM generate_series(1::bigint, KEPT - 1) AS i WHERE state(i) = 'confirmed'`,
		`UPDATE estoque SET on_hand = on_hand - u.sold, reserved = u.held FROM (
			SELECT 'SKU-' || i % 1000 AS sku, count(*) FILTER (WHERE state(i) IN ('confirmed', 'refunding')) AS sold,
				count(*) FILTER (WHERE state(i) = 'reserved') AS held
			FROM generate_series(1::bigint, ORDERS) AS i GROUP BY 1) AS u WHERE u.sku = estoque.sku`},
}

func newYears(b *testing.B, orders int64) *years {
	b.Helper()
	y := &years{shop: newShop(b), orders: orders, backlog: min(20_000, orders/50), admins: map[string]*pgx.Conn{}}
	kept, answered := orders/2-y.backlog, orders-orders*30/800-y.backlog
	functions := fmt.Sprintf(names, orders, time.Now().UnixMilli(), (800 * 24 * time.Hour).Milliseconds())
	numbers := strings.NewReplacer("ORDERS", fmt.Sprint(orders), "KEPT", fmt.Sprint(kept), "ANSWERED", fmt.Sprint(answered))
	var filling errgroup.Group
	for name, d := range map[string]postgrestest.Database{"pedidos": y.pedidos, "pagamentos": y.pagamentos, "estoque": y.estoque} {
		admin, err := pgx.Connect(b.Context(), d.AdminURL)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = admin.Close(context.Background()) })
		y.admins[name] = admin
		filling.Go(func() error {
			statements := []string{functions}
			for _, fill := range fills[name] {
				statements = append(statements, numbers.Replace(fill))
			}
			for _, statement := range append(statements, "SET session_replication_role = origin", "VACUUM ANALYZE") {
				began := time.Now()
				if _, err := admin.Exec(b.Context(), statement); err != nil {
					return fmt.Errorf("%s: %w", statement, err)
				}
				if took := time.Since(began); took > time.Minute {
					fmt.Printf("%s: %s: %s\n", name, took.Round(time.Second), strings.SplitN(statement, "(", 2)[0])
				}
			}
			return nil
		})
	}
	if err := filling.Wait(); err != nil {
		b.Fatal(err)
	}
	return y
}

// ask returns the value of an expression about the order of a number.
func (y *years) ask(b *testing.B, database, expression string, order int64) string {
	b.Helper()
	var value string
	if err := y.admins[database].QueryRow(b.Context(), "SELECT ("+expression+")::text FROM (VALUES ($1::bigint)) AS o (i)", order).
		Scan(&value); err != nil {
		b.Fatal(err)
	}
	return value
}

// explain executes a query as often as makes PostgreSQL choose between a plan for these arguments and
// one for all, and prints the time, the pages and the plan of the last time. Nothing stays changed.
func (y *years) explain(b *testing.B, database, name, sql, label string, args ...string) {
	b.Helper()
	var plan postgrestest.Plan
	for range 7 {
		tx, err := y.admins[database].Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		plan, err = postgrestest.Explain(b.Context(), tx.Conn(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)", name, sql, args...)
		if err := errors.Join(err, tx.Rollback(b.Context())); err != nil {
			b.Fatal(err)
		}
	}
	row(database, name, label, fmt.Sprintf("%.2f ms", plan.Time), plan)
}

func row(database, name, label, took string, plan postgrestest.Plan) {
	fmt.Printf("| %s | %s | %s | %s | %.0f | %d | %s |\n", database, name, label, took, plan.Rows, plan.Hit+plan.Read,
		strings.Join(plan.Reads(), ", "))
}

// resident returns the highest resident memory of this process so far, in MiB.
func resident(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	kib, err := strconv.ParseFloat(string(regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// BenchmarkData prints what the statements of the services and an audit cost in a shop with many orders.
// make bench-data runs it.
func BenchmarkData(b *testing.B) {
	began := time.Now()
	y := newYears(b, int64(*benchmarkOrders))
	fmt.Printf("\n%d orders, filled in %s\n", y.orders, time.Since(began).Round(time.Second))
	for _, name := range []string{"pedidos", "pagamentos", "estoque"} {
		var size string
		if err := y.admins[name].QueryRow(b.Context(), `SELECT pg_size_pretty(pg_database_size(current_database()))`).Scan(&size); err != nil {
			b.Fatal(err)
		}
		fmt.Printf("%s: %s\n", name, size)
	}
	y.audit(b)
	fmt.Print("\n| service | query | of | time | rows | pages | reads by |\n|---|---|---|---|---|---|---|\n")
	y.statements(b)
	y.queries(b)
	y.prune(b)
}

// audit measures a whole audit, and audits of what has changed: orders of any age, and the newest.
func (y *years) audit(b *testing.B) {
	b.Helper()
	before := resident(b)
	fmt.Printf("\n| audit of | changed | read | time | resident at most (%.0f MiB before) |\n|---|---|---|---|---|\n", before)
	measure := func(of string, changed int64, options invariant.Options) float64 {
		began := time.Now()
		report, err := invariant.Check(b.Context(), y.databases, options)
		if err != nil || report.Orders != y.orders || len(report.Violations) > 0 || report.Unsaved != nil ||
			(report.Whole == "") != (options.WholeEvery > 0) {
			b.Fatalf("%+v, %v", report, err)
		}
		took := time.Since(began)
		fmt.Printf("| %s | %d | %d | %.2f s | %.0f MiB |\n", of, changed, report.Read, took.Seconds(), resident(b))
		return took.Seconds()
	}
	b.ReportMetric(measure("all", 0, invariant.Options{}), "whole-s")
	b.ReportMetric(measure("what has changed", 0, changesOnly), "unchanged-s")
	for _, number := range []int64{100, min(10_000, y.orders/20)} {
		for of, first := range map[string]string{
			"orders of any age": fmt.Sprintf("1 + (random() * %d)::bigint", y.orders-301), "the newest orders": fmt.Sprintf("%d - i", y.orders-300),
		} {
			for database, statement := range map[string]string{
				"pedidos":    `UPDATE pedidos SET state = state WHERE id IN `,
				"pagamentos": `UPDATE pagamentos SET state = state WHERE order_id IN `,
				"estoque":    `UPDATE estoque_reservations SET state = state WHERE order_id IN `,
			} {
				ids := fmt.Sprintf("(SELECT id(%s) FROM generate_series(1, %d) AS i)", first, number)
				if _, err := y.admins[database].Exec(b.Context(), "SELECT setseed(0.5)"); err != nil {
					b.Fatal(err)
				}
				if _, err := y.admins[database].Exec(b.Context(), statement+ids); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(measure(of, number, changesOnly), fmt.Sprintf("%d-%s-s", number, strings.Fields(of)[1]))
		}
	}
	b.ReportMetric(resident(b), "resident-MiB")
}

// statements prints the plans of the audit's statements.
func (y *years) statements(b *testing.B) {
	b.Helper()
	for name, statement := range invariant.Statements() {
		conn := y.admins[statement.Database]
		plan, err := postgrestest.Explain(b.Context(), conn, "EXPLAIN (FORMAT JSON)", "audit "+name, statement.SQL, statement.Args...)
		if err != nil {
			b.Fatal(err)
		}
		row(statement.Database, "audit: "+name, statement.Of, "", plan)
	}
}

// measured are the statements of the services, with what they are about and their arguments in SQL.
type measured struct {
	query, label string
	args         []string
}

// cases returns the statements of each service. Every query in its queries.sql has one, except Seed.
func (y *years) cases(b *testing.B) map[string][]measured {
	b.Helper()
	id := func(order int64) string { return "'" + y.ask(b, "pedidos", "id(i)", order) + "'" }
	confirmed := y.orders * 3 / 4 // of the storefront, neither refunded, also not in part, nor failed
	for confirmed%10 == 0 || confirmed%100 == 1 || confirmed%19 == 0 || confirmed%23 == 0 {
		confirmed++
	}
	young, oldest, reserved, refunding := id(confirmed), id(1), id(y.orders-200), id(y.orders-50)
	key := fmt.Sprintf("'key-%d'", confirmed)
	unaged, unanswered := id(y.orders/2), id(y.orders-y.orders*30/800)
	deep, last := fmt.Sprint(y.orders/10), "'ffffffff-ffff-ffff-ffff-ffffffffffff'"
	var page []string
	for i := range int64(20) {
		page = append(page, strings.Trim(id(confirmed+i), "'"))
	}
	place := func(key string) []string {
		return []string{"gen_random_uuid()", "'storefront'", key, `'\x00'`, "'[]'", "14990", "'BRL'", "'tok'", "NULL", "'30 s'"}
	}
	intend := func(id string) []string {
		return []string{id, "'storefront'", "14990", "'BRL'", "true", "'tok'", `'\x00'`, "'simulator'", "'sim_new'"}
	}
	cases := map[string][]measured{
		"pedidos": {
			{"OrdersOfClient", "the storefront's first page", []string{"'storefront'", "9223372036854775807", "21"}},
			{"OrdersOfClient", "its page after nine tenths of the orders", []string{"'storefront'", deep, "21"}},
			{"OrdersOfClient", "a small client's first page", []string{"'client-500'", "9223372036854775807", "21"}},
			{"TransitionsOf", "a page of 20 orders", []string{"'{" + strings.Join(page, ",") + "}'"}},
			{"OrderByID", "one order", []string{young}},
			{"TransitionsOf", "one order", []string{"ARRAY[" + young + "]::uuid[]"}},
			{"TransitionsOf", "an order whose transitions have left", []string{"ARRAY[" + oldest + "]::uuid[]"}},
			{"OrderByKey", "a known key", []string{"'storefront'", key}},
			{"OrderByKey", "an unknown key", []string{"'storefront'", "'key-0'"}},
			{"Place", "a new key", place("'key-new'")},
			{"Place", "a known key", place(key)},
			{"Save", "a cancel", []string{"'refunding'", "'cancelled_by_client'", "true", "false", "NULL", "'30 s'", "NULL", "NULL", "now()", young, "1", "server_run()",
				"'{4}'", "'{confirmed}'", "'{refunding}'", "ARRAY[now()]", "'{cancel}'"}},
			{"Answer", "one order", []string{"201", "'{}'", young}},
			{"Ship", "one order", []string{"'parcel'", young}},
			{"TakeOverdue", "200 of 300 overdue orders", []string{"'60 s'", "200"}},
			{"PruneAnswers", "a batch", []string{unanswered, "500"}},
			{"PruneTransitions", "a batch", []string{unaged, "500"}},
		},
		"pagamentos": {
			{"Payment", "one payment", []string{young}},
			{"DurablePayment", "one payment", []string{young}},
			{"Payments", "the first page", []string{last, "21"}},
			{"Payments", "the page after nine tenths of the payments", []string{id(y.orders / 10), "21"}},
			{"NeedingPerson", "the first page of 100", []string{last, "21"}},
			{"Intend", "a new payment", intend("gen_random_uuid()")},
			{"Intend", "a known payment", intend(young)},
			{"IntendCapture", "a captured payment", []string{young}},
			{"IntendUndo", "a refund", []string{young, "'storefront'", "'simulator'"}},
			{"Settle", "a charge", []string{"server_run()", "'captured'", "NULL", "'sim_x'", "NULL", "NULL", reserved, "'authorising'",
				"'sim_" + strings.Trim(reserved, "'") + "'"}},
			{"AwaitRefund", "a refund", []string{"'re'", refunding}},
			{"Refuse", "a refund", []string{"'charge_disputed'", refunding, "'refunding'", "5"}},
			{"Reopen", "a refund that did not fail", []string{"'failed'", young, "'re'"}},
			{"RetryNow", "a refund", []string{refunding}},
			{"Claim", "32 of 300 due payments", []string{"'simulator'", "32"}},
			{"Unfinished", "all 300", nil},
			{"PruneTransitions", "a batch", []string{unaged, "now() - interval '400 days'", "500"}},
		},
		"estoque": {
			{"Reserve", "a new order of two items", []string{"'{SKU-1,SKU-2}'", "'{1,1}'", "gen_random_uuid()", "900"}},
			{"Reserve", "a known order", []string{"'{SKU-1,SKU-2}'", "'{1,1}'", young, "900"}},
			{"Move", "confirm", []string{"server_run()", reserved, "'{reserved,expired}'", "'confirmed'", "0"}},
			{"Move", "release of a sold reservation", []string{"''", young, "'{reserved,confirmed,expired}'", "'released'", "0"}},
			{"ReservationByOrder", "one order", []string{young}},
			{"ReservationByOrder", "an order whose reservation has left", []string{oldest}},
			{"LockReservation", "a sold reservation", []string{young, "'confirmed'"}},
			{"RefuseReservation", "a known order", []string{young}},
			{"ItemBySKU", "one item", []string{"'SKU-1'"}},
			{"ItemsBySKU", "two items", []string{"'{SKU-1,SKU-2}'"}},
			{"ItemsAfter", "a page", []string{"'SKU-500'", "21"}},
			{"Units", "all 1000 items", []string{"1000"}},
			{"PutItem", "a known item", []string{"'SKU-1'", "'n'", "'d'", "1", "'BRL'"}},
			{"TopUp", "a new key", []string{"'new'", "1", "'r'", "'SKU-1'"}},
			{"TopUpByKey", "a known key", []string{"'opening:SKU-1'"}},
			{"Expire", "100 of 200 due reservations", []string{"100"}},
			{"PruneReservations", "a batch", []string{unaged, "now() - interval '400 days'", "500"}},
		},
	}
	cases["pedidos"] = append(cases["pedidos"], y.casesOfEvents(b)...)
	y.addCasesOfParts(b, cases)
	return cases
}

// casesOfEvents returns the statements of webhooks.
func (y *years) casesOfEvents(b *testing.B) []measured {
	b.Helper()
	in := func(function string, i int64) string { return "'" + y.ask(b, "pedidos", function+"(i)", i) + "'" }
	storefront, small, operator := in("endpoint", 0), in("endpoint", 500), in("endpoint", 10_001)
	sent, recent, sending, end := in("event", y.orders-999), in("event", y.orders-199), in("event", y.orders-20), "9223372036854775807"
	return []measured{
		{"LockClient", "one client", []string{"'storefront'"}},
		{"AddWebhook", "the first endpoint", []string{"gen_random_uuid()", "'new'", "'https://example.com'", `'\x00'`, "10"}},
		{"AddWebhook", "one too many", []string{"gen_random_uuid()", "'client-500'", "'https://example.com'", `'\x00'`, "10"}},
		{"WebhooksOfClient", "ten endpoints", []string{"'client-500'"}},
		{"WebhookOfClient", "one endpoint", []string{small, "'client-500'"}},
		{"RemoveWebhook", "one endpoint", []string{small, "'client-500'"}},
		{"RotateSecret", "one endpoint", []string{"'24 h'", `'\x01'`, small, "'client-500'"}},
		{"EnableWebhook", "one endpoint", []string{small, "'client-500'"}},
		{"SendWaiting", "a page of the events of the three days in which an endpoint has failed", []string{operator, "now()", "500"}},
		{"EndResume", "all events of the three days are left", []string{operator}},
		{"DisableWebhook", "one endpoint", []string{"'gone'", small}},
		{"DeliveriesOfWebhook", "the operator's first page", []string{operator, end, "21"}},
		{"Redeliver", "a delivered event", []string{storefront, sent}},
		{"DeliveryOfWebhook", "one delivery", []string{storefront, sent}},
		{"DueWebhooks", "those of 10,002 endpoints", nil},
		{"LockWebhook", "one endpoint", []string{storefront}},
		{"Sending", "of the endpoint that has failed", []string{operator}},
		{"TakeDeliveries", "8 of some 270 due ones", []string{"'60 s'", storefront, "8"}},
		{"TakeDeliveries", "none of the endpoint that has failed", []string{"'60 s'", operator, "8"}},
		{"StoreBody", "one event", []string{"'{}'", recent}},
		{"StoreAttempt", "one delivery", []string{"'delivered'", "'0 s'", "200", "NULL", operator, sending, "1"}},
		{"SendNext", "one order", []string{in("id", y.orders-20), operator}},
		{"WebhookSucceeded", "one endpoint", []string{storefront}},
		{"WebhookFailed", "one endpoint", []string{"'30 h'", storefront}},
		{"OldestWaiting", "of 10,002 endpoints", nil},
		{"OldEvents", "a batch", []string{"now() - interval '30 days'", "500"}},
		{"HoldWaiting", "one order", []string{"ARRAY[" + in("id", y.orders-20) + "]::uuid[]"}},
		{"PruneEvents", "one event", []string{"ARRAY[" + recent + "]::uuid[]"}},
		{"SendFirsts", "one order", []string{"ARRAY[" + in("id", y.orders-20) + "]::uuid[]"}},
	}
}

// addCasesOfParts adds the statements of lists with filters and of partial refunds.
func (y *years) addCasesOfParts(b *testing.B, cases map[string][]measured) {
	b.Helper()
	id := func(condition string, order int64) string {
		for y.ask(b, "pedidos", condition, order) != "true" {
			order--
		}
		return "'" + y.ask(b, "pedidos", "id(i)", order) + "'"
	}
	whole, part, pending := id("state(i) = 'confirmed' AND NOT part(i)", y.orders*3/4), id("part(i)", y.orders*3/4), id("pending(i)", y.orders)
	end := "9223372036854775807"
	deep := "placed(" + fmt.Sprint(y.orders/10) + ")"
	states, shipped := "'{confirmed,confirmed,refunded,failed}'", "'{true,false,false,false}'"
	cases["pedidos"] = append(cases["pedidos"], []measured{
		{"FilteredOrdersOfClient", "the storefront's first page of refunded orders",
			[]string{"'{refunded}'", "'{false}'", "'storefront'", "'-infinity'", "'infinity'", "'infinity'", end, "21"}},
		{"FilteredOrdersOfClient", "its page of final orders after nine tenths of the orders",
			[]string{states, shipped, "'storefront'", "'-infinity'", "'infinity'", deep, end, "21"}},
		{"FilteredOrdersOfClient", "a small client's first page",
			[]string{states, shipped, "'client-500'", "'-infinity'", "'infinity'", "'infinity'", end, "21"}},
		{"LockOrder", "one order", []string{whole}},
		{"RefundsOf", "one order", []string{"ARRAY[" + part + "]::uuid[]"}},
		{"PlaceRefund", "one order", []string{"gen_random_uuid()", whole, "'new'", `'\x00'`, "1000", "'[]'", "'damaged'"}},
		{"StoreRefund", "success", []string{"'succeeded'", pending, "false"}},
		{"TakeRefunds", "50 of some 200 due refunds", []string{"50"}},
		{"TakeChecks", "none is due", []string{"50"}},
	}...)
	cases["pagamentos"] = append(cases["pagamentos"], []measured{
		{"IntendRefund", "one payment", []string{"gen_random_uuid()", "1000", "'damaged'", whole, "'BRL'"}},
		{"IntendRest", "a payment of which a part is refunded", []string{part, "gen_random_uuid()", "'cancelled'"}},
		{"RefundsOf", "one payment", []string{part}},
		{"OrderOfRefund", "one refund", []string{part}},
		{"ClaimRefunds", "32 of some 200 due refunds", []string{"'simulator'", "32"}},
		{"SettleRefund", "one refund", []string{"'re'", pending, "false"}},
		{"AwaitPartRefund", "one refund", []string{"'re'", pending}},
		{"RefuseRefund", "one refund", []string{"'charge_disputed'", pending, "0"}},
		{"AskRefund", "one refund", []string{pending, "0"}},
		{"ReopenRefund", "a refund with another reference", []string{"'failed'", part, "'re'"}},
		{"GiveUpRefund", "one refund", []string{pending}},
		{"RetryRefundNow", "one refund", []string{pending}},
	}...)
}

func (y *years) queries(b *testing.B) {
	b.Helper()
	for database, due := range map[string]string{
		"pedidos": `UPDATE pedidos SET attend_at = now() - interval '1 second' WHERE attend_at IS NOT NULL;
			UPDATE pedido_refunds SET attend_at = now() - interval '1 second' WHERE attend_at IS NOT NULL`,
		"pagamentos": `UPDATE pagamentos SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL;
			UPDATE pagamento_refunds SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL`,
		"estoque": `UPDATE estoque_reservations SET expires_at = now() - interval '1 second' WHERE state = 'reserved'`,
	} {
		if _, err := y.admins[database].Exec(b.Context(), due); err != nil {
			b.Fatal(err)
		}
	}
	cases := y.cases(b)
	for _, database := range []string{"pedidos", "pagamentos", "estoque"} {
		queries := postgrestest.Queries(b, "../../"+database+"/store/queries.sql.go")
		measured := map[string]bool{"Seed": true}
		for _, one := range cases[database] {
			measured[one.query] = true
			y.explain(b, database, one.query, queries[one.query], one.label, one.args...)
		}
		for name := range queries {
			if !measured[name] {
				b.Errorf("the query %s of %s is not measured", name, database)
			}
		}
	}
}

// prune prints how long a round takes, whose batches are committed, with the statements that explain has prepared.
func (y *years) prune(b *testing.B) {
	b.Helper()
	for database, cases := range y.cases(b) {
		for _, one := range cases {
			if !strings.HasPrefix(one.query, "Prune") {
				continue
			}
			began := time.Now()
			const batches = 20 // as in one round of a process
			for range batches {
				if _, err := y.admins[database].Exec(b.Context(), fmt.Sprintf("EXECUTE %q(%s)", one.query, strings.Join(one.args, ", "))); err != nil {
					b.Fatal(err)
				}
			}
			fmt.Printf("%s: %s: %.1f ms for each of %d batches of 500\n", database, one.query,
				time.Since(began).Seconds()*1000/batches, batches)
		}
	}
}

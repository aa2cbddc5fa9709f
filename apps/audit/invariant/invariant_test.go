package invariant_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// shop has the three databases, with the services' schemas.
type shop struct {
	pedidos, pagamentos, estoque postgrestest.Database
	databases                    invariant.Databases
}

func newShop(t testing.TB) shop {
	t.Helper()
	database := func(service string) (postgrestest.Database, *pgxpool.Pool) {
		d := postgrestest.New(t, os.DirFS("../../"+service+"/migrations"))
		pool, err := postgres.Open(t.Context(), postgres.Settings{URL: d.AuditorURL, MaxConnections: 2}, // as the audit does
			slog.New(slog.DiscardHandler), noop.NewTracerProvider())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return d, pool
	}
	var s shop
	s.pedidos, s.databases.Pedidos = database("pedidos")
	s.pagamentos, s.databases.Pagamentos = database("pagamentos")
	s.estoque, s.databases.Estoque = database("estoque")
	return s
}

func exec(t *testing.T, d postgrestest.Database, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := d.Pool.Exec(context.Background(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// waitIdle returns when the audit has read all orders and waits for its recheck.
func waitIdle(t *testing.T, pedidos postgrestest.Database, ended <-chan struct{}) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), pedidos.AdminURL) // sees the statements of all roles
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	for waiting := false; !waiting; {
		select {
		case <-ended:
			t.Fatal("the audit ended without a recheck")
		case <-time.After(10 * time.Millisecond):
		}
		if err := admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND state = 'idle in transaction' AND query LIKE '%total_amount%')`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	firstID  = "00000000-0000-7000-8000-000000000001"
	secondID = "00000000-0000-7000-8000-000000000002"
)

// sell stores a confirmed order and a refunded one, without violations.
func (s shop) sell(t *testing.T) {
	t.Helper()
	exec(t, s.estoque,
		`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand)
			VALUES ('SHOE', 'Shoe', '', 100, 'BRL', 9)`,
		`INSERT INTO estoque_top_ups (key, sku, quantity, reason) VALUES ('k', 'SHOE', 10, 'r')`,
		`INSERT INTO estoque_reservations (order_id, state, expires_at) VALUES
			('`+firstID+`', 'confirmed', now()), ('`+secondID+`', 'released', now())`,
		`INSERT INTO estoque_reservation_lines VALUES ('`+firstID+`', 'SHOE', 1, 100, 'BRL')`)
	exec(t, s.pagamentos,
		`INSERT INTO pagamentos
			(order_id, state, amount, currency, refunded_amount, capture, fingerprint, acquirer, acquirer_reference) VALUES
			('`+firstID+`', 'captured', 100, 'BRL', 0, true, '\x00', 'simulator', 'r1'),
			('`+secondID+`', 'refunded', 100, 'BRL', 100, true, '\x00', 'simulator', 'r2')`,
		`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state) VALUES
			('k1', 'r1', '`+firstID+`', 100, 'BRL', 'tok', true, 'captured'), ('k2', 'r2', '`+secondID+`', 100, 'BRL', 'tok', true, 'captured')`,
		`INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('k2', 'r2', 100, 'refunded')`)
	exec(t, s.pedidos,
		`INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency) VALUES
			('`+firstID+`', 'c', '1', '', 'confirmed', '[]', 100, 'BRL'), ('`+secondID+`', 'c', '2', '', 'refunded', '[]', 100, 'BRL')`)
}

func TestAConsistentShopHasNoViolations(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := report.Print(&text); err != nil || strings.Contains(text.String(), "VIOLATED") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if report.Orders != 2 || report.Confirmed["BRL"] != 100 || report.Held["BRL"] != 100 {
		t.Errorf("report = %+v", report)
	}
}

// Each case breaks one rule, and the report names that rule.
func TestEveryBrokenRuleIsReported(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		violate func(t *testing.T, s shop)
		want    invariant.Invariant
		// unmarked says that no row tells of the change: only a whole audit finds it.
		unmarked bool
	}{
		{"an item has more reserved than its reservations hold", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque SET reserved = 1`)
		}, invariant.StockAddsUp, false},
		{"units are gone that were not sold", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque SET on_hand = on_hand - 1`)
		}, invariant.StockAddsUp, false},
		{"units were sold that are still on hand", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque_reservation_lines SET quantity = 2`)
		}, invariant.StockAddsUp, true},
		{"a capture without an order", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference)
				VALUES ('00000000-0000-7000-8000-000000000003', 'captured', 1, 'BRL', true, '\x00', 'stripe', 'r3')`)
		}, invariant.CaptureHasOrder, false},
		{"a capture for a failed order", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed' WHERE id = '`+firstID+`'`)
		}, invariant.CaptureHasOrder, false},
		{"a confirmed order is not charged", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `DELETE FROM pagamentos WHERE order_id = '`+firstID+`'`,
				`DELETE FROM simulator_charges WHERE order_id = '`+firstID+`'`)
		}, invariant.OrderIsCharged, true},
		{"charged twice", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
				VALUES ('k3', 'r3', '`+firstID+`', 100, 'BRL', 'tok', true, 'captured')`)
		}, invariant.ChargedOnce, false},
		{"a charge without a payment", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
				VALUES ('k3', 'r3', '00000000-0000-7000-8000-000000000003', 100, 'BRL', 'tok', true, 'captured')`)
		}, invariant.ChargedOnce, false},
		{"a refund that the acquirer does not have", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `DELETE FROM simulator_refunds`)
		}, invariant.ChargedOnce, true},
		{"a confirmed order whose stock is released", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque_reservations SET state = 'released'`)
		}, invariant.StockMatchesOrder, false},
		{"a refunded order whose stock is sold", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque_reservations SET state = 'confirmed'`)
		}, invariant.StockMatchesOrder, false},
		{"the books do not balance", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `UPDATE pedidos SET total_amount = 99 WHERE id = '`+firstID+`'`)
		}, invariant.BooksBalance, false},
		{"a refund that is not in the sum", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pagamentos, `UPDATE pagamentos SET refunds_amount = 40 WHERE refunds_amount = 30`)
		}, invariant.RefundsAddUp, false},
		{"a refund that is lost", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pagamentos, `DELETE FROM pagamento_refunds`)
		}, invariant.RefundsAddUp, false},
		{"a wrong sum of what is refunded", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pagamentos, `UPDATE pagamentos SET refunds_done = 20 WHERE refunds_done = 30`)
		}, invariant.RefundsAddUp, false},
		{"a refund of which the payment does not know", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pedidos, `UPDATE pedido_refunds SET amount = 31`, `UPDATE pedidos SET refunds_amount = 31 WHERE refunds_amount = 30`)
		}, invariant.RefundsAddUp, false},
		{"a refund of which the order does not know", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pedidos, `DELETE FROM pedido_refunds`, `UPDATE pedidos SET refunds_amount = 0`)
		}, invariant.RefundsAddUp, false},
		{"a wrong sum of an order", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pedidos, `UPDATE pedidos SET refunds_amount = 29 WHERE refunds_amount = 30`)
		}, invariant.RefundsAddUp, false},
		{"a part that the acquirer does not have", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pagamentos, `DELETE FROM simulator_refunds WHERE reference = 'r1'`)
		}, invariant.ChargedOnce, false},
		{"a part that the acquirer has twice", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pagamentos, `INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('k4', 'r1', 30, 'refunded')`)
		}, invariant.ChargedOnce, false},
		{"a refund that nobody follows", func(t *testing.T, s shop) {
			s.refund(t)
			exec(t, s.pedidos, `UPDATE pedido_refunds SET state = 'pending', attend_at = now() - interval '1 hour'`)
		}, invariant.OrdersEnd, false},
		{"an overdue order", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `INSERT INTO pedidos
				(id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency, attend_at)
				VALUES ('00000000-0000-7000-8000-000000000003', 'c', '3', '', 'pending', '[]', 100, 'BRL', now() - interval '1 hour')`)
		}, invariant.OrdersEnd, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.sell(t)
			s.audit(t, invariant.Options{}) // from which the next one goes on
			test.violate(t, s)
			if found := s.audit(t, changesOnly).Violations[test.want].Total > 0; found == test.unmarked {
				t.Errorf("an audit of what has changed finds it: %t", found)
			}
			report := s.audit(t, invariant.Options{})
			if report.Violations[test.want].Total == 0 {
				t.Errorf("%s is not reported: %+v", test.want, report.Violations)
			}
			var text strings.Builder
			err := report.Print(&text)
			if !errors.Is(err, invariant.ErrViolated) || !strings.Contains(text.String(), "VIOLATED "+string(test.want)) {
				t.Errorf("printed, with %v:\n%s", err, text.String())
			}
		})
	}
}

// refund stores a refund of 30 of the confirmed order, without violations.
func (s shop) refund(t *testing.T) {
	t.Helper()
	const id = "00000000-0000-7000-8000-00000000000a"
	exec(t, s.pagamentos,
		`UPDATE pagamentos SET refunds_amount = 30, refunds_done = 30 WHERE order_id = '`+firstID+`'`,
		`INSERT INTO pagamento_refunds (id, order_id, amount, reason, state, refund_reference) VALUES
			('`+id+`', '`+firstID+`', 30, 'x', 'succeeded', 'k3')`,
		`INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('k3', 'r1', 30, 'refunded')`)
	exec(t, s.pedidos,
		`UPDATE pedidos SET refunds = 1, refunds_amount = 30 WHERE id = '`+firstID+`'`,
		`INSERT INTO pedido_refunds (id, pedido_id, idempotency_key, request_hash, amount, lines, reason, state) VALUES
			('`+id+`', '`+firstID+`', 'k', '', 30, '[]', 'x', 'succeeded')`)
}

// A part that is refunded, being refunded, or sent back by the bank is no violation, nor is the rest of an order
// that is cancelled after that.
func TestPartialRefundsAreNoViolation(t *testing.T) {
	t.Parallel()
	for name, statements := range map[string]struct{ pagamentos, pedidos []string }{
		"done": {},
		"done at the acquirer alone": {
			[]string{`UPDATE pagamento_refunds SET state = 'pending', due_at = now()`, `UPDATE pagamentos SET refunds_done = 0`},
			[]string{`UPDATE pedido_refunds SET state = 'pending', attend_at = now()`},
		},
		"done in pagamentos": {nil, []string{`UPDATE pedido_refunds SET state = 'pending', attend_at = now()`}},
		"sent back": {
			[]string{
				`UPDATE pagamento_refunds SET state = 'pending', due_at = now(), problem = 'x'`, `UPDATE pagamentos SET refunds_done = 0`,
				`DELETE FROM simulator_refunds WHERE key = 'k3'`,
			}, nil,
		},
		"cancelled": {
			[]string{
				`INSERT INTO pagamento_refunds (id, order_id, amount, reason, state, refund_reference) VALUES
					('00000000-0000-7000-8000-00000000000b', '` + firstID + `', 70, 'x', 'succeeded', 'k4')`,
				`INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('k4', 'r1', 70, 'refunded')`,
				`UPDATE pagamentos SET state = 'refunded', undo = true, refunded_amount = 100, refunds_amount = 100, refunds_done = 100
					WHERE order_id = '` + firstID + `'`,
			},
			[]string{`UPDATE pedidos SET state = 'refunded'`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.sell(t)
			s.refund(t)
			exec(t, s.pagamentos, statements.pagamentos...)
			exec(t, s.pedidos, statements.pedidos...)
			want := int64(70)
			if name == "cancelled" {
				want = 0
				exec(t, s.estoque, `UPDATE estoque_reservations SET state = 'released'`, `UPDATE estoque SET on_hand = 10`)
			}
			report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
			if err != nil || len(report.Violations) > 0 {
				t.Fatalf("%v: %+v", err, report)
			}
			if !strings.Contains(name, "at the acquirer") && name != "sent back" && report.Held["BRL"] != want {
				t.Errorf("the payments hold %d, want %d", report.Held["BRL"], want)
			}
		})
	}
}

// The audit may be newer than the schemas.
func TestTheAuditReadsTheSchemasBeforePartialRefunds(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	for database, statements := range map[*postgrestest.Database][]string{
		&s.pedidos: {
			`DROP TABLE pedido_refunds`, `DROP TRIGGER pedidos_audit_mark ON pedidos`,
			`ALTER TABLE pedidos DROP COLUMN refunds, DROP COLUMN refunds_amount`, `DELETE FROM goose_db_version WHERE version_id > 4`,
		},
		&s.pagamentos: {
			`DROP TABLE pagamento_refunds`, `DROP TRIGGER pagamentos_audit_mark ON pagamentos`,
			`ALTER TABLE pagamentos DROP COLUMN refunds_amount, DROP COLUMN refunds_done`, `DELETE FROM goose_db_version WHERE version_id > 3`,
		},
	} {
		owner, err := pgx.Connect(t.Context(), database.OwnerURL)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range statements {
			if _, err := owner.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		_ = owner.Close(context.Background())
	}
	for _, options := range []invariant.Options{{}, {WholeEvery: time.Hour}} {
		report, err := invariant.Check(t.Context(), s.databases, options)
		if err != nil || len(report.Violations) > 0 || report.Held["BRL"] != 100 || report.Whole == "" || report.Unsaved != nil {
			t.Errorf("%v: %+v", err, report)
		}
	}
}

func TestAnOrderInFlightIsNoViolation(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'pending', attend_at = now() + interval '30 seconds' WHERE id = '`+firstID+`'`)
	report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Print(&strings.Builder{}); err != nil || report.InFlight != 1 {
		t.Errorf("%v: %+v", err, report)
	}
}

// A violation that the recheck does not find again is not reported: an order that changed
// between the snapshots of two databases seems to break a rule only once.
func TestAViolationThatTheRecheckDoesNotFindIsNotReported(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed', total_amount = 99 WHERE id = '`+firstID+`'`)
	done := make(chan struct{})
	var report *invariant.Report
	var err error
	go func() {
		defer close(done)
		report, err = invariant.Check(t.Context(), s.databases, invariant.Options{})
	}()
	waitIdle(t, s.pedidos, done)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'confirmed', total_amount = 100 WHERE id = '`+firstID+`'`)
	<-done
	if err != nil || len(report.Violations) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
}

// The books of a busy shop are checked too: an order in flight counts on neither side.
func TestTheBooksAreCheckedWhileOrdersAreInFlight(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	exec(t, s.pedidos, `INSERT INTO pedidos
				(id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency, attend_at)
		VALUES ('00000000-0000-7000-8000-000000000003', 'c', '3', '', 'reserved', '[]', 70, 'BRL', now() + interval '30 seconds')`)
	exec(t, s.pagamentos, `INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference)
		VALUES ('00000000-0000-7000-8000-000000000003', 'captured', 70, 'BRL', true, '\x00', 'stripe', 'r3')`)
	report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
	if err != nil || len(report.Violations) > 0 || report.Held["BRL"] != 170 {
		t.Fatalf("an order in flight counts in the books: %v, %+v", err, report)
	}
	exec(t, s.pedidos, `UPDATE pedidos SET total_amount = 99 WHERE id = '`+firstID+`'`)
	report, err = invariant.Check(t.Context(), s.databases, invariant.Options{})
	want := invariant.Violation{Subject: "BRL", Detail: "captured minus refunded differs from the confirmed orders by 1"}
	if v := report.Violations[invariant.BooksBalance]; err != nil || v.Total != 1 || v.Listed[0] != want {
		t.Errorf("%v: %+v", err, report.Violations)
	}
}

// A refund that failed after it was done needs a person, who is told by payments_needing_person. The
// audit goes on with everything else.
func TestARefundThatAPersonOwesIsNoViolation(t *testing.T) {
	for problem, violations := range map[string]int64{"": 1, "the refund re_1 has failed: lost_or_stolen_card": 0} {
		s := newShop(t)
		s.sell(t)
		exec(t, s.pagamentos, `DELETE FROM simulator_refunds`,
			`UPDATE pagamentos SET state = 'refunding', refunded_amount = 0, undo = true, due_at = now(), problem = nullif('`+problem+`', '')
				WHERE order_id = '`+secondID+`'`)
		report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := report.Violations[invariant.CaptureHasOrder].Total; got != violations || violations == 0 && len(report.Violations) > 0 {
			t.Errorf("with the problem %q: %+v", problem, report)
		}
	}
}

package audit_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/pedidos/audit"
)

// shop is the three databases with the services' own schemas.
type shop struct {
	pedidos, pagamentos, estoque postgrestest.Database
	databases                    audit.Databases
}

func newShop(t *testing.T) shop {
	t.Helper()
	database := func(service string) (postgrestest.Database, *pgxpool.Pool) {
		d := postgrestest.New(t, os.DirFS("../../"+service+"/migrations"))
		pool, err := pgxpool.New(t.Context(), d.AuditorURL) // what the audit may do is what this role may
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

const (
	first  = "00000000-0000-7000-8000-000000000001"
	second = "00000000-0000-7000-8000-000000000002"
)

// sell writes two orders as they are when all went well: one confirmed, one
// refunded.
func (s shop) sell(t *testing.T) {
	t.Helper()
	exec(t, s.estoque,
		`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand) VALUES ('SHOE', 'Shoe', '', 100, 'BRL', 9)`,
		`INSERT INTO estoque_reservations (order_id, state, expires_at) VALUES ('`+first+`', 'confirmed', now()), ('`+second+`', 'released', now())`,
		`INSERT INTO estoque_reservation_lines VALUES ('`+first+`', 'SHOE', 1, 100, 'BRL')`)
	exec(t, s.pagamentos,
		`INSERT INTO pagamentos (order_id, state, amount, currency, refunded_amount, capture, fingerprint, acquirer, acquirer_reference) VALUES
			('`+first+`', 'captured', 100, 'BRL', 0, true, '\x00', 'simulator', 'r1'), ('`+second+`', 'refunded', 100, 'BRL', 100, true, '\x00', 'simulator', 'r2')`,
		`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state) VALUES
			('k1', 'r1', '`+first+`', 100, 'BRL', 'tok', true, 'captured'), ('k2', 'r2', '`+second+`', 100, 'BRL', 'tok', true, 'captured')`,
		`INSERT INTO simulator_refunds (key, reference, amount, state) VALUES ('k2', 'r2', 100, 'refunded')`)
	exec(t, s.pedidos,
		`INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency) VALUES
			('`+first+`', 'c', '1', '', 'confirmed', '[]', 100, 'BRL'), ('`+second+`', 'c', '2', '', 'refunded', '[]', 100, 'BRL')`)
}

func TestASoundShopHasNoViolations(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	report, err := audit.Run(t.Context(), s.databases)
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

// Each rule is broken once, and it is that rule which is said to be.
func TestEveryRuleIsSeenToBeBroken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		breakIt func(t *testing.T, s shop)
		want    audit.Invariant
	}{
		{"an item has reserved what no reservation holds", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque SET reserved = 1`)
		}, audit.StockAddsUp},
		{"a capture without an order", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference)
				VALUES ('00000000-0000-7000-8000-000000000003', 'captured', 1, 'BRL', true, '\x00', 'stripe', 'r3')`)
		}, audit.CaptureHasOrder},
		{"a capture for a failed order", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed' WHERE id = '`+first+`'`)
		}, audit.CaptureHasOrder},
		{"a confirmed order is not charged", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `DELETE FROM pagamentos WHERE order_id = '`+first+`'`, `DELETE FROM simulator_charges WHERE order_id = '`+first+`'`)
		}, audit.OrderIsCharged},
		{"charged twice", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
				VALUES ('k3', 'r3', '`+first+`', 100, 'BRL', 'tok', true, 'captured')`)
		}, audit.ChargedOnce},
		{"a charge that no payment knows", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
				VALUES ('k3', 'r3', '00000000-0000-7000-8000-000000000003', 100, 'BRL', 'tok', true, 'captured')`)
		}, audit.ChargedOnce},
		{"a refund that the acquirer has not made", func(t *testing.T, s shop) {
			exec(t, s.pagamentos, `DELETE FROM simulator_refunds`)
		}, audit.ChargedOnce},
		{"stock of a confirmed order given back", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque_reservations SET state = 'released'`)
		}, audit.StockMatchesOrder},
		{"stock of a refunded order not given back", func(t *testing.T, s shop) {
			exec(t, s.estoque, `UPDATE estoque_reservations SET state = 'confirmed'`)
		}, audit.StockMatchesOrder},
		{"the books do not balance", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `UPDATE pedidos SET total_amount = 99 WHERE id = '`+first+`'`)
		}, audit.BooksBalance},
		{"an order is forgotten", func(t *testing.T, s shop) {
			exec(t, s.pedidos, `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency, attend_at)
				VALUES ('00000000-0000-7000-8000-000000000003', 'c', '3', '', 'pending', '[]', 100, 'BRL', now() - interval '1 hour')`)
		}, audit.OrdersEnd},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.sell(t)
			test.breakIt(t, s)
			report, err := audit.Run(t.Context(), s.databases)
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Violations[test.want]) == 0 {
				t.Errorf("%s is not reported: %+v", test.want, report.Violations)
			}
			var text strings.Builder
			if err := report.Print(&text); !errors.Is(err, audit.ErrViolated) || !strings.Contains(text.String(), "VIOLATED "+string(test.want)) {
				t.Errorf("printed, with %v:\n%s", err, text.String())
			}
		})
	}
}

func TestAnOrderInFlightIsNoViolation(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'pending', attend_at = now() + interval '30 seconds' WHERE id = '`+first+`'`)
	report, err := audit.Run(t.Context(), s.databases)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Print(&strings.Builder{}); err != nil || report.InFlight != 1 {
		t.Errorf("%v: %+v", err, report)
	}
}

package invariant_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/estoque/stock"
)

// settle sells two more units of SHOE, long ago, and lets the reservations leave.
func (s shop) settle(t *testing.T) {
	t.Helper()
	s.sell(t)
	exec(t, s.estoque, `UPDATE estoque_reservations SET updated_at = now() - interval '11 days'`)
	if pruned, err := stock.New(s.estoque.Pool).Prune(t.Context(), time.Now().Add(-10*24*time.Hour), 100); err != nil || pruned != 2 {
		t.Fatalf("%d reservations left, %v", pruned, err)
	}
}

func TestReservationsThatLeftAreNoViolation(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.settle(t)
	report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
	if err != nil || len(report.Violations) > 0 || report.Orders != 2 {
		t.Errorf("%v: %+v", err, report)
	}
}

// The audit of old reservations is as complete as that of young ones.
func TestALossIsFoundAfterReservationsLeft(t *testing.T) {
	t.Parallel()
	const thirdID = "00000000-0000-7000-8000-000000000003"
	tests := []struct {
		name, violate string
		pedidos       bool // else estoque
		want          invariant.Invariant
		detail        string
	}{
		{"a unit is gone", `UPDATE estoque SET on_hand = on_hand - 1`, false, invariant.StockAddsUp,
			"8 on hand, of 10 added and 1 sold; 0 reserved, reservations hold 0"},
		{"a unit appeared", `UPDATE estoque SET on_hand = on_hand + 1`, false, invariant.StockAddsUp, "10 on hand"},
		{"the settled units are lost", `DELETE FROM estoque_settled_units`, false, invariant.StockAddsUp, "9 on hand, of 10 added and 0 sold"},
		{"an old reservation is lost", `UPDATE estoque_settled_orders SET orders = 2`, false, invariant.StockMatchesOrder,
			"1 confirmed orders have no reservation, and 2 reservations of sold units have left"},
		{"an old order is confirmed that sold nothing", `UPDATE pedidos SET state = 'confirmed'`, true, invariant.OrderIsCharged, "is confirmed"},
		{"a young order has no reservation", `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount,
			total_currency) VALUES ('` + thirdID + `', 'c', '3', '', 'confirmed', '[]', 100, 'BRL')`, true, invariant.StockMatchesOrder,
			`the order is confirmed, and its reservation is ""`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.settle(t)
			database := s.estoque
			if test.pedidos {
				database = s.pedidos
			}
			exec(t, database, test.violate)
			report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Violations[test.want].Listed, func(v invariant.Violation) bool {
				return strings.Contains(v.Detail, test.detail)
			}) {
				t.Errorf("no violation of %s says %q: %+v", test.want, test.detail, report.Violations)
			}
		})
	}
}

// The audit may be newer than the schema: it runs before estoque's migration 3.
func TestTheAuditReadsTheSchemaBeforeReservationsLeft(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.sell(t)
	owner, err := pgx.Connect(t.Context(), s.estoque.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close(context.Background())
	if _, err := owner.Exec(t.Context(), `DROP TABLE estoque_settled_orders, estoque_settled_units`); err != nil {
		t.Fatal(err)
	}
	report, err := invariant.Check(t.Context(), s.databases, invariant.Options{})
	if err != nil || len(report.Violations) > 0 {
		t.Errorf("%v: %+v", err, report)
	}
}

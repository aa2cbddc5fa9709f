package stock_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/retention"
)

var began = time.Now()

// placed returns the id of an order that was placed some time before the test. Its last byte is n.
func placed(ago time.Duration, n byte) uuid.UUID {
	id := retention.FirstID(began.Add(-ago))
	id[15] = n
	return id
}

// hold stores a reservation of 2 units of SHOE that last changed when its order was placed, and which
// the item's row counts.
func (s warehouse) hold(t testing.TB, order uuid.UUID, state stock.State, ago time.Duration) {
	t.Helper()
	s.exec(t, `INSERT INTO estoque_reservations VALUES ($1, $2, now() + interval '1 hour', now() - $3::interval, now() - $3::interval)`,
		order, state, ago)
	s.exec(t, `INSERT INTO estoque_reservation_lines VALUES ($1, 'SHOE', 2, 100, 'BRL')`, order)
	switch state {
	case stock.Confirmed:
		s.exec(t, `UPDATE estoque SET on_hand = on_hand - 2`)
	case stock.Reserved:
		s.exec(t, `UPDATE estoque SET reserved = reserved + 2`)
	}
}

// settled returns what the reservations that left have sold.
func (s warehouse) settled(t testing.TB) (units, orders int64, newest uuid.UUID) {
	t.Helper()
	err := s.db.Pool.QueryRow(t.Context(), `SELECT coalesce((SELECT sum(units)::bigint FROM estoque_settled_units), 0),
		coalesce(max(orders), 0), coalesce(max(newest::text), '00000000-0000-0000-0000-000000000000')::uuid
		FROM estoque_settled_orders`).Scan(&units, &orders, &newest)
	if err != nil {
		t.Fatal(err)
	}
	return units, orders, newest
}

func (s warehouse) kept(t testing.TB, order uuid.UUID) bool {
	t.Helper()
	var rows, lines int
	if err := s.db.Pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM estoque_reservations WHERE order_id = $1),
		(SELECT count(*) FROM estoque_reservation_lines WHERE order_id = $1)`, order).Scan(&rows, &lines); err != nil {
		t.Fatal(err)
	}
	if rows != lines {
		t.Errorf("%s has %d reservations and %d lines", order, rows, lines)
	}
	return rows > 0
}

const day = 24 * time.Hour

func TestOldReservationsLeaveAndWhatTheySoldStaysOnRecord(t *testing.T) {
	s := open(t)
	s.add(t, "SHOE", 100, 100)
	type row struct {
		state   stock.State
		ago     time.Duration
		n       byte
		changed bool // since then
		leaves  bool
	}
	rows := []row{
		{state: stock.Confirmed, ago: 12 * day, n: 1, leaves: true},
		{state: stock.Released, ago: 11 * day, n: 2, leaves: true},
		{state: stock.Expired, ago: 11 * day, n: 3, leaves: true},
		{state: stock.Confirmed, ago: 11 * day, n: 4, leaves: true},
		{state: stock.Reserved, ago: 11 * day, n: 5},
		{state: stock.Released, ago: 11 * day, n: 6, changed: true},
		{state: stock.Confirmed, ago: 9 * day, n: 7},
		{state: stock.Released, ago: 9 * day, n: 8},
	}
	for _, r := range rows {
		s.hold(t, placed(r.ago, r.n), r.state, r.ago)
		if r.changed {
			s.exec(t, `UPDATE estoque_reservations SET updated_at = now() WHERE order_id = $1`, placed(r.ago, r.n))
		}
	}
	onHand, reserved := s.units(t, "SHOE")
	before := time.Now().Add(-10 * day)
	var pruned []int64
	for range 4 { // a batch is bounded
		n, err := s.Prune(t.Context(), before, 2)
		if err != nil {
			t.Fatal(err)
		}
		pruned = append(pruned, n)
	}
	if pruned[0] != 2 || pruned[1] != 2 || pruned[2] != 0 || pruned[3] != 0 {
		t.Errorf("batches of 2 pruned %v, want 2, 2, 0, 0", pruned)
	}
	for _, r := range rows {
		if s.kept(t, placed(r.ago, r.n)) == r.leaves {
			t.Errorf("row %d, %s for %s: leaves = %t", r.n, r.state, r.ago, !r.leaves)
		}
	}
	if units, orders, newest := s.settled(t); units != 4 || orders != 2 || newest[15] != 4 {
		t.Errorf("%d units of %d orders up to %s are on record, want 4 of 2 up to number 4", units, orders, newest)
	}
	s.want(t, "SHOE", onHand, reserved)
}

// All replicas prune at the same time: no reservation is counted twice.
func TestReplicasPruneTogether(t *testing.T) {
	s := open(t)
	s.add(t, "SHOE", 100, 1000)
	const orders = 200
	for n := range byte(orders) {
		s.hold(t, placed(11*day, n), stock.Confirmed, 11*day)
	}
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			for {
				n, err := s.Prune(t.Context(), time.Now().Add(-10*day), 7)
				if err != nil || n == 0 {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	// A batch that finds all rows locked is empty: the last ones may be left.
	for {
		n, err := s.Prune(t.Context(), time.Now().Add(-10*day), 100)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if units, orders, _ := s.settled(t); units != 400 || orders != 200 {
		t.Errorf("%d units of %d orders are on record, want 400 of 200", units, orders)
	}
}

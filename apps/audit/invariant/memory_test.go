package invariant_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// fill writes n confirmed orders into the three databases.
func (s shop) fill(t testing.TB, n int) {
	t.Helper()
	const id = `('10000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid`
	from := fmt.Sprintf(` FROM generate_series(1, %d) AS i`, n)
	fill := func(d postgrestest.Database, statements ...string) {
		t.Helper()
		admin, err := pgx.Connect(t.Context(), d.AdminURL) // has no statement_timeout
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close(context.Background())
		for _, statement := range append(statements, "ANALYZE") {
			if _, err := admin.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
	}
	fill(s.pedidos, `INSERT INTO pedidos (id, client_id, idempotency_key, request_hash, state, lines, total_amount, total_currency)
		SELECT `+id+`, 'c', i::text, '', 'confirmed', '[]', 100, 'BRL'`+from)
	fill(s.pagamentos, `INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference)
		SELECT `+id+`, 'captured', 100, 'BRL', true, '\x00', 'simulator', 'r' || i`+from,
		`INSERT INTO simulator_charges (key, reference, order_id, amount, currency, card_token, capture, state)
		SELECT 'k' || i, 'r' || i, `+id+`, 100, 'BRL', 'tok', true, 'captured'`+from)
	fill(s.estoque, `INSERT INTO estoque_reservations (order_id, state, expires_at) SELECT `+id+`, 'confirmed', now()`+from)
}

// peak runs work and returns the maximum growth of the live heap meanwhile, in bytes. What is allocated between a
// collection and its measurement is not live: what counts is the smallest of five measurements in a row.
func peak(work func()) int64 {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	highest := before
	var last []int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	for {
		select {
		case <-done:
			return highest - before
		case <-time.After(time.Millisecond):
			last = append(last, live())
			if len(last) == 5 {
				highest = max(highest, slices.Min(last))
				last = last[1:]
			}
		}
	}
}

// Keeping 50 bytes per order would exceed the limit. The test does not run in parallel,
// because all tests share the heap.
func TestMemoryDoesNotGrowWithTheOrders(t *testing.T) {
	const orders, limit = 80_000, 4_000_000
	s := newShop(t)
	s.fill(t, orders)
	check := func(want string, violations int64) {
		t.Helper()
		var report *invariant.Report
		var err error
		grown := peak(func() { report, err = invariant.Check(t.Context(), s.databases, invariant.Options{}) })
		if err != nil {
			t.Fatal(err)
		}
		v := report.Violations[invariant.CaptureHasOrder]
		if report.Orders != orders || v.Total != violations || int64(len(v.Listed)) != min(violations, invariant.MaxListed) {
			t.Errorf("%s: %d orders, %d violations of which %d are listed", want, report.Orders, v.Total, len(v.Listed))
		}
		t.Logf("%s: the heap grew by %d KiB", want, grown>>10)
		if grown > limit {
			t.Errorf("%s: the heap grew by %d bytes, more than %d", want, grown, limit)
		}
	}
	check("no violations", 0)
	exec(t, s.pedidos, `UPDATE pedidos SET state = 'failed'`)
	check("every order violates a rule", orders)
}

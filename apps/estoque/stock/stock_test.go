package stock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/value"
)

const keep = 15 * time.Minute

// warehouse is a stock and its database, which the tests read and change directly.
type warehouse struct {
	*stock.Stock
	db postgrestest.Database
}

func open(t testing.TB) warehouse {
	t.Helper()
	db := postgrestest.New(t, migrations.Files)
	return warehouse{stock.New(db.Pool), db}
}

func (s warehouse) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := s.db.Pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (s warehouse) add(t testing.TB, sku value.SKU, price, units int64) {
	t.Helper()
	s.exec(t, `INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand)
		VALUES ($1, $1, '', $2, 'BRL', $3)`, sku, price, units)
}

// overdue moves the expiry of the order's reservation into the past.
func (s warehouse) overdue(t testing.TB, order uuid.UUID) {
	t.Helper()
	s.exec(t, `UPDATE estoque_reservations SET expires_at = now() - interval '1 second' WHERE order_id = $1`, order)
}

func (s warehouse) units(t testing.TB, sku value.SKU) (onHand, reserved int64) {
	t.Helper()
	err := s.db.Pool.QueryRow(context.Background(), `SELECT on_hand, reserved FROM estoque WHERE sku = $1`, sku).Scan(&onHand, &reserved)
	if err != nil {
		t.Fatalf("reading the units of %s: %v", sku, err)
	}
	return onHand, reserved
}

func (s warehouse) want(t testing.TB, sku value.SKU, onHand, reserved int64) {
	t.Helper()
	if h, r := s.units(t, sku); h != onHand || r != reserved {
		t.Errorf("%s has %d on hand and %d reserved, want %d and %d", sku, h, r, onHand, reserved)
	}
}

func must[T any](t testing.TB) func(value T, changed bool, err error) T {
	return func(value T, _ bool, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func id() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func TestMigrationsFollowTheRules(t *testing.T) {
	if err := postgres.Lint(migrations.Files); err != nil {
		t.Error(err)
	}
}

func TestAnOrderFromReservationToTheEnd(t *testing.T) {
	s, ctx, order := open(t), t.Context(), id()
	s.add(t, "A", 1000, 5)
	s.add(t, "B", 250, 5)

	r, created, err := s.Reserve(ctx, order, []stock.Line{{"B", 2}, {"A", 1}}, keep)
	if err != nil || !created || r.State != stock.Reserved || len(r.Lines) != 2 ||
		r.Lines[0].SKU != "A" || r.Lines[1].Price != money.BRL(250) {
		t.Fatalf("reserved %+v, %t, %v", r, created, err)
	}
	if total, err := r.Total(); err != nil || *total != money.BRL(1500) {
		t.Errorf("total %v, %v, want 1500 BRL", total, err)
	}
	if left := time.Until(r.ExpiresAt); left < keep-time.Minute || left > keep+time.Minute {
		t.Errorf("expires in %s, want %s", left, keep)
	}
	s.want(t, "A", 5, 1)
	s.want(t, "B", 5, 2)

	again, created, err := s.Reserve(ctx, order, []stock.Line{{"A", 1}, {"B", 2}}, time.Hour)
	if err != nil || created || !again.ExpiresAt.Equal(r.ExpiresAt) || !slices.Equal(again.Lines, r.Lines) {
		t.Errorf("repeating the reservation gave %+v, %t, %v", again, created, err)
	}
	for _, other := range [][]stock.Line{{{"A", 1}}, {{"A", 1}, {"B", 3}}, {{"A", 1}, {"B", 2}, {"C", 1}}, {{"A", 1000}, {"B", 2}}} {
		if _, _, err := s.Reserve(ctx, order, other, keep); !errors.Is(err, stock.ErrMismatch) {
			t.Errorf("reserving %v for the same order: %v, want a mismatch", other, err)
		}
	}
	s.want(t, "A", 5, 1)

	for round, moved := range []bool{true, false} {
		r, did, err := s.Confirm(ctx, order, "")
		if err != nil || r.State != stock.Confirmed || did != moved || len(r.Lines) != 2 {
			t.Fatalf("confirming, round %d: %+v, %t, %v", round, r, did, err)
		}
		s.want(t, "A", 4, 0)
		s.want(t, "B", 3, 0)
	}
	if r := must[stock.Reservation](t)(s.Reserve(ctx, order, []stock.Line{{"A", 1}, {"B", 2}}, keep)); r.State != stock.Confirmed {
		t.Errorf("reserving a confirmed order gave state %s", r.State)
	}
	for round, moved := range []bool{true, false} {
		r, did, err := s.Release(ctx, order)
		if err != nil || r.State != stock.Released || did != moved {
			t.Fatalf("releasing, round %d: %+v, %t, %v", round, r, did, err)
		}
		s.want(t, "A", 5, 0)
		s.want(t, "B", 5, 0)
	}
	if _, _, err := s.Confirm(ctx, order, ""); !errors.Is(err, stock.ErrReleased) {
		t.Errorf("confirming a released order: %v", err)
	}
	if _, _, err := s.Reserve(ctx, order, []stock.Line{{"A", 1}, {"B", 2}}, keep); !errors.Is(err, stock.ErrReleased) {
		t.Errorf("reserving for a released order: %v", err)
	}
}

func TestARefusalStoresNothing(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 5)
	s.add(t, "B", 250, 0)
	s.exec(t, `INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand) VALUES ('U', '', '', 1, 'USD', 9)`)

	var short *stock.ShortError
	if _, _, err := s.Reserve(ctx, id(), []stock.Line{{"A", 6}, {"B", 1}, {"U", 1}}, keep); !errors.Is(err, stock.ErrCurrencies) {
		t.Errorf("two currencies: %v", err)
	}
	_, _, err := s.Reserve(ctx, id(), []stock.Line{{"B", 1}, {"A", 6}}, keep)
	if !errors.As(err, &short) || !maps.Equal(short.Available, map[value.SKU]int64{"A": 5, "B": 0}) {
		t.Errorf("both lines short: %v", err)
	}
	_, _, err = s.Reserve(ctx, id(), []stock.Line{{"A", 5}, {"B", 1}}, keep)
	if !errors.As(err, &short) || !maps.Equal(short.Available, map[value.SKU]int64{"B": 0}) {
		t.Errorf("one line short: %v", err)
	}
	var unknown *stock.UnknownError
	_, _, err = s.Reserve(ctx, id(), []stock.Line{{"A", 1}, {"C", 1}, {"'; DROP TABLE estoque; --", 1}}, keep)
	if !errors.As(err, &unknown) || !slices.Equal(unknown.SKUs, []value.SKU{"'; DROP TABLE estoque; --", "C"}) {
		t.Errorf("unknown items: %v", err)
	}
	if _, _, err := s.Confirm(ctx, id(), ""); !errors.Is(err, stock.ErrNotFound) {
		t.Errorf("confirming an order without a reservation: %v", err)
	}
	var rows int
	err = s.db.Pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM estoque_reservations)
		+ (SELECT count(*) FROM estoque_reservation_lines)`).Scan(&rows)
	if err != nil || rows != 0 {
		t.Errorf("%d rows (%v) were stored", rows, err)
	}
	s.want(t, "A", 5, 0)
}

func TestReleasingAnUnknownOrderRefusesItForGood(t *testing.T) {
	s, ctx, order := open(t), t.Context(), id()
	s.add(t, "A", 1000, 5)
	for round, moved := range []bool{true, false} {
		r, did, err := s.Release(ctx, order)
		if err != nil || r.State != stock.Released || did != moved || len(r.Lines) != 0 {
			t.Fatalf("releasing, round %d: %+v, %t, %v", round, r, did, err)
		}
	}
	if _, _, err := s.Reserve(ctx, order, []stock.Line{{"A", 1}}, keep); !errors.Is(err, stock.ErrReleased) {
		t.Errorf("the late reservation: %v", err)
	}
	s.want(t, "A", 5, 0)
}

func TestExpiry(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 5)
	s.add(t, "B", 250, 100)
	lines := []stock.Line{{"A", 3}, {"B", 1}}
	order := id()
	reserve := func(order uuid.UUID, lines []stock.Line) (stock.Reservation, bool, error) {
		return s.Reserve(ctx, order, lines, keep)
	}
	must[stock.Reservation](t)(reserve(order, lines))
	expire := func(want int64) {
		t.Helper()
		if n, err := s.Expire(ctx, 100); err != nil || n != want {
			t.Fatalf("%d expired (%v), want %d", n, err, want)
		}
	}
	expire(0)

	// Overdue, but not swept: the order still holds the units, and its time is extended.
	s.overdue(t, order)
	if r, created, err := reserve(order, lines); err != nil || !created || time.Until(r.ExpiresAt) < keep-time.Minute {
		t.Errorf("reserving an overdue reservation again: %+v, %t, %v", r, created, err)
	}
	s.want(t, "A", 5, 3)
	expire(0)

	s.overdue(t, order)
	expire(1)
	s.want(t, "A", 5, 0)
	s.want(t, "B", 100, 0)
	if _, _, err := reserve(order, lines[:1]); !errors.Is(err, stock.ErrMismatch) {
		t.Errorf("other lines after the expiry: %v", err)
	}
	s.want(t, "A", 5, 0)

	// The prices of the first reservation apply, although the item's price has changed.
	s.exec(t, `UPDATE estoque SET price_amount = 9999 WHERE sku = 'A'`)
	if r, created, err := reserve(order, lines); err != nil || !created || r.Lines[0].Price != money.BRL(1000) {
		t.Errorf("reserving an expired reservation again: %+v, %t, %v", r, created, err)
	}
	s.want(t, "A", 5, 3)

	s.overdue(t, order)
	expire(1)
	rival := id()
	must[stock.Reservation](t)(reserve(rival, []stock.Line{{"A", 3}}))
	var short *stock.ShortError
	if _, _, err := s.Confirm(ctx, order, ""); !errors.As(err, &short) || !maps.Equal(short.Available, map[value.SKU]int64{"A": 2}) {
		t.Errorf("confirming when the units are gone: %v", err)
	}
	if _, _, err := reserve(order, lines); !errors.As(err, &short) {
		t.Errorf("reserving when the units are gone: %v", err)
	}
	s.want(t, "A", 5, 3)
	s.want(t, "B", 100, 0)
	must[stock.Reservation](t)(s.Release(ctx, rival))
	if r, moved, err := s.Confirm(ctx, order, ""); err != nil || !moved || r.State != stock.Confirmed {
		t.Errorf("confirming when the units are back: %+v, %t, %v", r, moved, err)
	}
	s.want(t, "A", 2, 0)
	s.want(t, "B", 99, 0)

	expired := id()
	must[stock.Reservation](t)(reserve(expired, []stock.Line{{"A", 1}}))
	s.overdue(t, expired)
	expire(1)
	must[stock.Reservation](t)(s.Release(ctx, expired))
	s.want(t, "A", 2, 0)
}

func TestSweepsShareTheWork(t *testing.T) {
	s, ctx := open(t), t.Context()
	const orders = 300
	s.add(t, "A", 1, orders)
	s.add(t, "B", 1, orders)
	for range orders {
		must[stock.Reservation](t)(s.Reserve(ctx, id(), []stock.Line{{"A", 1}, {"B", 1}}, keep))
	}
	s.exec(t, `UPDATE estoque_reservations SET expires_at = now()`)
	var group sync.WaitGroup
	var total atomic.Int64
	for range 4 {
		group.Go(func() {
			for {
				n, err := s.Expire(ctx, 10)
				if err != nil {
					t.Error(err)
				}
				if total.Add(n); n == 0 {
					return
				}
			}
		})
	}
	group.Wait()
	if total.Load() != orders {
		t.Errorf("%d expired, want %d", total.Load(), orders)
	}
	s.want(t, "A", orders, 0)
	s.want(t, "B", orders, 0)
}

func TestTopUps(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 5)
	s.add(t, "B", 1000, 5)
	for _, created := range []bool{true, false} {
		item, did, err := s.TopUp(ctx, "key", stock.Line{SKU: "A", Quantity: 7}, "delivery")
		if err != nil || did != created || item.Available != 12 {
			t.Fatalf("%+v, %t, %v", item, did, err)
		}
	}
	for _, line := range []stock.Line{{"A", 8}, {"B", 7}, {"C", 7}} {
		if _, _, err := s.TopUp(ctx, "key", line, "delivery"); !errors.Is(err, stock.ErrKeyReused) {
			t.Errorf("the key for %v: %v", line, err)
		}
	}
	if _, _, err := s.TopUp(ctx, "key", stock.Line{SKU: "A", Quantity: 7}, "found"); !errors.Is(err, stock.ErrKeyReused) {
		t.Errorf("the key for another reason: %v", err)
	}
	if _, _, err := s.TopUp(ctx, "other", stock.Line{SKU: "C", Quantity: 7}, "delivery"); !errors.Is(err, stock.ErrNotFound) {
		t.Errorf("an unknown item: %v", err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, _, err := s.TopUp(ctx, "together", stock.Line{SKU: "B", Quantity: 1}, "delivery"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	s.want(t, "A", 12, 0)
	s.want(t, "B", 6, 0)
}

func TestTheCatalogueIsSeededOnce(t *testing.T) {
	s, ctx := open(t), t.Context()
	var added atomic.Int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			n, err := s.Seed(ctx)
			if err != nil {
				t.Error(err)
			}
			added.Add(n)
		})
	}
	group.Wait()
	items, err := s.Items(ctx, "", 100)
	if err != nil || len(items) < 12 || added.Load() != int64(len(items)) {
		t.Errorf("%d items (%v), %d added", len(items), err, added.Load())
	}
	var scarce int
	for _, item := range items {
		if item.Available == 10 {
			scarce++
		}
		if item.Price.Amount <= 0 || item.Price.Currency != "BRL" || item.Name == "" || item.Description == "" {
			t.Errorf("odd item %+v", item)
		}
	}
	if scarce != 1 {
		t.Errorf("%d items with 10 units, want one", scarce)
	}
	s.exec(t, `DELETE FROM estoque_top_ups WHERE sku <> 'SHOE-VENTO'`)
	s.exec(t, `DELETE FROM estoque WHERE sku <> 'SHOE-VENTO'`)
	if n, err := s.Seed(ctx); err != nil || n != 0 {
		t.Errorf("%d added (%v) to a catalogue that is not empty", n, err)
	}
}

// Earlier versions seeded units that no top-up records.
func TestTheOpeningBalanceIsRecorded(t *testing.T) {
	first, err := migrations.Files.ReadFile("00001_stock.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := postgrestest.New(t, fstest.MapFS{"00001_stock.sql": {Data: first}})
	for _, statement := range []string{
		`INSERT INTO estoque (sku, name, description, price_amount, price_currency, on_hand) VALUES
			('A', '', '', 1, 'BRL', 9), ('B', '', '', 1, 'BRL', 5), ('C', '', '', 1, 'BRL', 0)`,
		`INSERT INTO estoque_top_ups (key, sku, quantity, reason) VALUES ('k', 'A', 4, ''), ('l', 'B', 5, '')`,
		`INSERT INTO estoque_reservations (order_id, state, expires_at) VALUES
			('00000000-0000-7000-8000-000000000001', 'confirmed', now()), ('00000000-0000-7000-8000-000000000002', 'expired', now())`,
		`INSERT INTO estoque_reservation_lines VALUES
			('00000000-0000-7000-8000-000000000001', 'A', 3, 1, 'BRL'), ('00000000-0000-7000-8000-000000000002', 'A', 7, 1, 'BRL')`,
	} {
		if _, err := db.Pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, migrations.Files, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var opened string
	err = db.Pool.QueryRow(t.Context(), `SELECT string_agg(sku || ' ' || quantity, ', ') FROM estoque_top_ups WHERE key LIKE 'opening:%'`).Scan(&opened)
	if err != nil || opened != "A 8" { // 9 on hand and 3 sold, of which 4 were topped up
		t.Errorf("the opening balances are %q, %v; want A 8", opened, err)
	}
}

// The database refuses to sell more than the stock, even if the code has an error.
func TestTheDatabaseRefusesToOversell(t *testing.T) {
	s := open(t)
	s.add(t, "A", 1000, 5)
	for statement, constraint := range map[string]string{
		`UPDATE estoque SET reserved = 6`:                                            "estoque_not_oversold",
		`UPDATE estoque SET reserved = -1`:                                           "estoque_not_oversold",
		`UPDATE estoque SET on_hand = -1`:                                            "estoque_not_oversold",
		`UPDATE estoque SET price_amount = -1`:                                       "estoque_price_amount_check",
		`INSERT INTO estoque_reservations VALUES (gen_random_uuid(), 'sold', now())`: "estoque_reservations_state_check",
	} {
		_, err := s.db.Pool.Exec(t.Context(), statement)
		const checkViolation = "23514"
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != checkViolation || refused.ConstraintName != constraint {
			t.Errorf("%s: %v, want it refused by %s", statement, err, constraint)
		}
	}
}

func TestConcurrentOrdersShareTheLastUnits(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "LAST", 1000, 10)
	var sold, refused atomic.Int64
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			order := id()
			_, _, err := s.Reserve(ctx, order, []stock.Line{{"LAST", 1}}, keep)
			var short *stock.ShortError
			switch {
			case errors.As(err, &short):
				refused.Add(1)
			case err != nil:
				t.Error(err)
			default:
				must[stock.Reservation](t)(s.Confirm(ctx, order, ""))
				sold.Add(1)
			}
		})
	}
	group.Wait()
	if sold.Load() != 10 || refused.Load() != 190 {
		t.Errorf("%d sold and %d refused, want 10 and 190", sold.Load(), refused.Load())
	}
	s.want(t, "LAST", 0, 0)
}

func TestOppositeOrdersOfLinesDoNotDeadlock(t *testing.T) {
	s, ctx := open(t), t.Context()
	skus := []value.SKU{"A", "B", "C", "D"}
	for _, sku := range skus {
		s.add(t, sku, 1, 1_000_000)
	}
	stop := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := s.Expire(ctx, 20); err != nil {
					t.Error(err)
				}
			}
		}
	})
	var group sync.WaitGroup
	for worker := range 16 {
		group.Go(func() {
			for round := range 40 {
				order := id()
				var lines []stock.Line
				for i := range skus {
					lines = append(lines, stock.Line{SKU: skus[(i*(1+2*(worker%2))+worker)%len(skus)], Quantity: 1})
				}
				must[stock.Reservation](t)(s.Reserve(ctx, order, lines, keep))
				switch round % 4 {
				case 0:
					must[stock.Reservation](t)(s.Confirm(ctx, order, ""))
				case 1:
					must[stock.Reservation](t)(s.Release(ctx, order))
				case 2:
					s.overdue(t, order)
				case 3:
					s.overdue(t, order)
					must[stock.Reservation](t)(s.Confirm(ctx, order, ""))
				}
			}
		})
	}
	group.Wait()
	close(stop)
	sweeper.Wait()
	s.exec(t, `UPDATE estoque_reservations SET expires_at = now() WHERE state = 'reserved'`)
	if _, err := s.Expire(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	for _, sku := range skus {
		s.want(t, sku, 1_000_000-16*20, 0)
	}
}

// Several requests reserve, confirm and release the same order concurrently, as a client
// does that lost the answers. The units move once, and end up in the stock again.
func TestConcurrentRequestsForTheSameOrder(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 50)
	for range 30 {
		order := id()
		var created, confirmed, released atomic.Int64
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				_, did, err := s.Reserve(ctx, order, []stock.Line{{"A", 2}}, keep)
				if did {
					created.Add(1)
				}
				if err != nil && !errors.Is(err, stock.ErrReleased) {
					t.Error(err)
				}
			})
			group.Go(func() {
				_, did, err := s.Confirm(ctx, order, "")
				if did {
					confirmed.Add(1)
				}
				if err != nil && !errors.Is(err, stock.ErrReleased) && !errors.Is(err, stock.ErrNotFound) {
					t.Error(err)
				}
			})
			group.Go(func() {
				_, did, err := s.Release(ctx, order)
				if did {
					released.Add(1)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if created.Load() > 1 || confirmed.Load() > 1 || released.Load() != 1 {
			t.Errorf("reserved %d, confirmed %d, released %d times", created.Load(), confirmed.Load(), released.Load())
		}
		s.want(t, "A", 50, 0)
	}
}

// A reservation expires while a request confirms it. One statement waits for the other,
// the order ends confirmed, and its units are counted once.
func TestExpiryDuringConfirmation(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 1000)
	for range 50 {
		order := id()
		must[stock.Reservation](t)(s.Reserve(ctx, order, []stock.Line{{"A", 1}}, keep))
		s.overdue(t, order)
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := s.Expire(ctx, 10); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			if r, _, err := s.Confirm(ctx, order, ""); err != nil || r.State != stock.Confirmed {
				t.Errorf("%+v, %v", r, err)
			}
		})
		group.Wait()
	}
	s.want(t, "A", 950, 0)
}

// The sweep has expired the reservation but not committed, so confirming waits for it.
// If a rival has reserved the unit, confirming then finds too little stock.
func TestConfirmationWaitsForTheSweep(t *testing.T) {
	for _, rival := range []bool{false, true} {
		t.Run(fmt.Sprintf("rival %t", rival), func(t *testing.T) {
			s, ctx, order := open(t), t.Context(), id()
			s.add(t, "A", 1000, 1)
			must[stock.Reservation](t)(s.Reserve(ctx, order, []stock.Line{{"A", 1}}, keep))
			s.overdue(t, order)

			conn, err := pgx.Connect(ctx, s.db.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			tx, err := conn.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			held := stock.New(tx)
			if n, err := held.Expire(ctx, 10); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			if rival {
				must[stock.Reservation](t)(held.Reserve(ctx, id(), []stock.Line{{"A", 1}}, keep))
			}
			result := make(chan error, 1)
			go func() {
				_, _, err := s.Confirm(ctx, order, "")
				result <- err
			}()
			waiting := func() (n int) {
				err := s.db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
					WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			for end := time.Now().Add(time.Minute); waiting() == 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("confirming did not wait for the sweep")
				}
			}
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			var short *stock.ShortError
			switch err := <-result; {
			case rival && !errors.As(err, &short):
				t.Errorf("got %v, want the stock short", err)
			case !rival && err != nil:
				t.Error(err)
			}
			if rival {
				s.want(t, "A", 1, 1)
			} else {
				s.want(t, "A", 0, 0)
			}
		})
	}
}

// model is a simple model of the stock, in memory.
type model struct {
	onHand map[value.SKU]int64
	orders map[uuid.UUID]*modelOrder
}

type modelOrder struct {
	state stock.State
	lines []stock.Line
	due   bool
}

// held returns how many units of an item the orders in a state hold.
func (m model) held(sku value.SKU, state stock.State) (sum int64) {
	for _, order := range m.orders {
		for _, line := range order.lines {
			if line.SKU == sku && order.state == state {
				sum += line.Quantity
			}
		}
	}
	return sum
}

func (m model) fits(lines []stock.Line) bool {
	for _, line := range lines {
		if m.onHand[line.SKU]-m.held(line.SKU, stock.Reserved)-m.held(line.SKU, stock.Confirmed) < line.Quantity {
			return false
		}
	}
	return true
}

// After any random sequence of operations, the items and reservations equal the model.
func TestStockAgainstAModel(t *testing.T) {
	s, ctx := open(t), t.Context()
	var round int
	rapid.Check(t, func(rt *rapid.T) {
		round++
		m := model{map[value.SKU]int64{}, map[uuid.UUID]*modelOrder{}}
		var skus []value.SKU
		for i := range 3 {
			sku := value.SKU(fmt.Sprintf("R%d-%d", round, i))
			units := rapid.Int64Range(0, 8).Draw(rt, "units")
			s.add(t, sku, 100, units)
			m.onHand[sku] = units
			skus = append(skus, sku)
		}
		var orders []uuid.UUID
		for range 4 {
			orders = append(orders, id())
		}
		anOrder := rapid.SampledFrom(orders)
		var short *stock.ShortError
		actions := map[string]func(*rapid.T){
			"reserve": func(rt *rapid.T) {
				order := anOrder.Draw(rt, "order")
				var lines []stock.Line
				for _, sku := range rapid.SliceOfNDistinct(rapid.SampledFrom(skus), 1, 3, rapid.ID).Draw(rt, "skus") {
					lines = append(lines, stock.Line{SKU: sku, Quantity: rapid.Int64Range(1, 4).Draw(rt, "quantity")})
				}
				sorted := slices.SortedFunc(slices.Values(lines), func(a, b stock.Line) int {
					return int(a.SKU[len(a.SKU)-1]) - int(b.SKU[len(b.SKU)-1])
				})
				known := m.orders[order]
				if known != nil && rapid.Bool().Draw(rt, "same lines") {
					lines, sorted = known.lines, known.lines
				}
				if len(lines) == 0 {
					return // a tombstone has no lines
				}
				r, created, err := s.Reserve(ctx, order, lines, keep)
				switch {
				case known == nil && m.fits(lines):
					if err != nil || !created || r.State != stock.Reserved {
						rt.Fatalf("new: %+v, %t, %v", r, created, err)
					}
					m.orders[order] = &modelOrder{stock.Reserved, sorted, false}
				case known == nil:
					if !errors.As(err, &short) {
						rt.Fatalf("short: %v", err)
					}
				case known.state == stock.Released:
					if !errors.Is(err, stock.ErrReleased) {
						rt.Fatalf("released: %v", err)
					}
				case !slices.Equal(sorted, known.lines):
					if !errors.Is(err, stock.ErrMismatch) {
						rt.Fatalf("mismatch: %v", err)
					}
				case known.state == stock.Expired && !m.fits(lines):
					if !errors.As(err, &short) {
						rt.Fatalf("expired and short: %v", err)
					}
				case known.state == stock.Expired, known.state == stock.Reserved:
					if err != nil || created != (known.state == stock.Expired || known.due) || r.State != stock.Reserved {
						rt.Fatalf("again from %s: %+v, %t, %v", known.state, r, created, err)
					}
					known.state, known.due = stock.Reserved, false
				default:
					if err != nil || created || r.State != stock.Confirmed {
						rt.Fatalf("confirmed: %+v, %t, %v", r, created, err)
					}
				}
			},
			"confirm": func(rt *rapid.T) {
				order := anOrder.Draw(rt, "order")
				known := m.orders[order]
				_, moved, err := s.Confirm(ctx, order, "")
				switch {
				case known == nil:
					if !errors.Is(err, stock.ErrNotFound) {
						rt.Fatalf("unknown: %v", err)
					}
				case known.state == stock.Released:
					if !errors.Is(err, stock.ErrReleased) {
						rt.Fatalf("released: %v", err)
					}
				case known.state == stock.Expired && !m.fits(known.lines):
					if !errors.As(err, &short) {
						rt.Fatalf("expired and short: %v", err)
					}
				default:
					if err != nil || moved != (known.state != stock.Confirmed) {
						rt.Fatalf("from %s: %t, %v", known.state, moved, err)
					}
					known.state = stock.Confirmed
				}
			},
			"release": func(rt *rapid.T) {
				order := anOrder.Draw(rt, "order")
				known := m.orders[order]
				_, moved, err := s.Release(ctx, order)
				if err != nil || moved != (known == nil || known.state != stock.Released) {
					rt.Fatalf("%t, %v", moved, err)
				}
				if known == nil {
					known = &modelOrder{}
					m.orders[order] = known
				}
				known.state = stock.Released
			},
			"time passes": func(rt *rapid.T) {
				order := anOrder.Draw(rt, "order")
				if known := m.orders[order]; known != nil {
					s.overdue(t, order)
					known.due = true
				}
			},
			"sweep": func(rt *rapid.T) {
				var want int64
				for _, order := range m.orders {
					if order.state == stock.Reserved && order.due {
						order.state = stock.Expired
						want++
					}
				}
				if n, err := s.Expire(ctx, 100); err != nil || n != want {
					rt.Fatalf("%d expired, %v, want %d", n, err, want)
				}
			},
			"top up": func(rt *rapid.T) {
				line := stock.Line{SKU: rapid.SampledFrom(skus).Draw(rt, "sku"), Quantity: rapid.Int64Range(1, 3).Draw(rt, "quantity")}
				key := uuid.NewString()
				for range rapid.IntRange(1, 2).Draw(rt, "times") {
					if _, _, err := s.TopUp(ctx, value.IdempotencyKey(key), line, "more"); err != nil {
						rt.Fatal(err)
					}
				}
				m.onHand[line.SKU] += line.Quantity
			},
			"": func(rt *rapid.T) {
				for _, sku := range skus {
					wantReserved := m.held(sku, stock.Reserved)
					wantOnHand := m.onHand[sku] - m.held(sku, stock.Confirmed)
					if onHand, reserved := s.units(t, sku); onHand != wantOnHand || reserved != wantReserved {
						rt.Fatalf("%s has %d on hand and %d reserved, want %d and %d", sku, onHand, reserved, wantOnHand, wantReserved)
					}
				}
			},
		}
		rt.Repeat(actions)
		// The next round's sweeps must not find reservations of this one.
		for _, order := range orders {
			must[stock.Reservation](t)(s.Release(ctx, order))
		}
	})
}

// The commit of a sale does not wait for the disk in the run that the caller names, and only then.
func TestOnlyTheSameRunDoesNotWait(t *testing.T) {
	s := open(t)
	s.add(t, "A", 100, 10)
	var run string
	if err := s.db.Pool.QueryRow(t.Context(), "SELECT server_run()").Scan(&run); err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{run: "off", "": "on", "another": "on"} {
		order := id()
		must[stock.Reservation](t)(s.Reserve(t.Context(), order, []stock.Line{{SKU: "A", Quantity: 1}}, keep))
		err := pgx.BeginFunc(t.Context(), s.db.Pool, func(tx pgx.Tx) error {
			if _, moved, err := stock.New(tx).Confirm(t.Context(), order, named); err != nil || !moved {
				t.Errorf("with the run %q: moved %t, %v", named, moved, err)
			}
			var waits string
			err := tx.QueryRow(t.Context(), "SELECT current_setting('synchronous_commit')").Scan(&waits)
			if waits != want {
				t.Errorf("with the run %q synchronous_commit is %s, want %s", named, waits, want)
			}
			return err
		})
		if err != nil {
			t.Errorf("with the run %q: %v", named, err)
		}
	}
}

// What another request has confirmed, perhaps without waiting, is on disk when it is answered: the answer comes with a
// commit of its own.
func TestARepeatedConfirmLeavesACommit(t *testing.T) {
	s := open(t)
	s.add(t, "A", 100, 10)
	order := id()
	must[stock.Reservation](t)(s.Reserve(t.Context(), order, []stock.Line{{SKU: "A", Quantity: 1}}, keep))
	if _, _, err := s.Confirm(t.Context(), order, ""); err != nil {
		t.Fatal(err)
	}
	err := pgx.BeginFunc(t.Context(), s.db.Pool, func(tx pgx.Tx) error {
		if _, moved, err := stock.New(tx).Confirm(t.Context(), order, ""); err != nil || moved {
			t.Errorf("moved %t, %v", moved, err)
		}
		var commits bool
		err := tx.QueryRow(t.Context(), "SELECT pg_current_xact_id_if_assigned() IS NOT NULL").Scan(&commits)
		if !commits {
			t.Error("nothing is written, so that no commit waits")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

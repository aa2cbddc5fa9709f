package stock_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// roundTrips counts a client's writes: it waits for an answer after each.
type roundTrips struct {
	net.Conn
	count *atomic.Int64
}

func (r roundTrips) Write(p []byte) (int, error) {
	r.count.Add(1)
	return r.Conn.Write(p)
}

// The number of round trips is also the number of commits, because every statement is
// its own transaction.
func TestRoundTrips(t *testing.T) {
	s, ctx := open(t), t.Context()
	s.add(t, "A", 1000, 100)
	s.add(t, "B", 1000, 100)
	config, err := pgxpool.ParseConfig(s.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int64
	config.MaxConns = 1
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return roundTrips{conn, &count}, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	goods := stock.New(pool)
	lines := []stock.Line{{SKU: "B", Quantity: 1}, {SKU: "A", Quantity: 2}}
	for round := range 2 { // the first round also prepares the statements
		order, unknown := id(), id()
		for _, step := range []struct {
			name string
			do   func() error
			want int64
		}{
			{"reserve", func() error { _, _, err := goods.Reserve(ctx, order, lines, keep); return err }, 1},
			{"reserve, again", func() error { _, _, err := goods.Reserve(ctx, order, lines, keep); return err }, 2},
			{"confirm", func() error { _, _, err := goods.Confirm(ctx, order, ""); return err }, 1},
			{"confirm, again", func() error { _, _, err := goods.Confirm(ctx, order, ""); return err }, 3},
			{"release", func() error { _, _, err := goods.Release(ctx, order); return err }, 1},
			{"release, again", func() error { _, _, err := goods.Release(ctx, order); return err }, 2},
			{"release, unknown", func() error { _, _, err := goods.Release(ctx, unknown); return err }, 3},
			{"expire", func() error { _, err := goods.Expire(ctx, 100); return err }, 1},
		} {
			count.Store(0)
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := count.Load(); round > 0 && got != step.want {
				t.Errorf("%s took %d round trips, want %d", step.name, got, step.want)
			}
		}
	}
}

// BenchmarkCheckout reserves and confirms orders of one or two lines.
func BenchmarkCheckout(b *testing.B) {
	for _, items := range []struct {
		name  string
		count int
	}{{"twelve items", 12}, {"one item", 1}} {
		b.Run(items.name, func(b *testing.B) {
			s, ctx := open(b), b.Context()
			var skus []value.SKU
			for i := range items.count {
				skus = append(skus, value.SKU(rune('A'+i)))
				s.add(b, skus[i], 1000, 1_000_000_000)
			}
			var next atomic.Int64
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n, order := int(next.Add(1)), id()
					lines := []stock.Line{{SKU: skus[n%len(skus)], Quantity: 1}}
					if len(skus) > 1 {
						lines = append(lines, stock.Line{SKU: skus[(n*7+5)%len(skus)], Quantity: 2})
						if lines[1].SKU == lines[0].SKU {
							lines = lines[:1]
						}
					}
					if _, _, err := s.Reserve(ctx, order, lines, keep); err != nil {
						b.Fatal(err)
					}
					if _, _, err := s.Confirm(ctx, order, ""); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checkouts/s")
		})
	}
}

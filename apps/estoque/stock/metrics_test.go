package stock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestTheMetricsCacheTheStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, down := 0, false
		u := newUnits(func(ctx context.Context) ([]Units, error) {
			reads++
			if down {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []Units{{SKU: "A", Available: int64(reads), Reserved: 1}}, nil
		})
		want := func(moment string, wantReads, items int) {
			t.Helper()
			series := make(chan prometheus.Metric, 10)
			u.Collect(series)
			if got := len(series); got != 2*items || reads != wantReads {
				t.Errorf("%s: %d series after %d reads, want %d after %d", moment, got, reads, 2*items, wantReads)
			}
		}
		want("at first", 1, 1)
		want("immediately after", 1, 1)
		time.Sleep(6 * time.Second)
		want("later", 2, 1)
		down = true
		time.Sleep(6 * time.Second)
		start := time.Now()
		want("down", 3, 1)
		if took := time.Since(start); took > unitsTimeout {
			t.Errorf("a scrape waited %s", took)
		}
		want("down, immediately after", 3, 1)
		time.Sleep(time.Minute)
		want("down for more than a minute", 4, 0)
		down = false
		time.Sleep(6 * time.Second)
		want("up again", 5, 1)
	})
}

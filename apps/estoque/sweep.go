package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/loja-veloz/platform/apps/estoque/stock"
)

const (
	sweepPause = 2 * time.Second
	sweepBatch = 100
)

// sweep gives back what expired reservations hold, until ctx is done. Replicas
// may all do so: none waits for another, and their pauses differ.
func sweep(ctx context.Context, goods *stock.Stock, counts *stock.Counts, logger *slog.Logger, pause time.Duration) {
	failing := false
	for {
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		for expired := int64(sweepBatch); expired == sweepBatch; {
			var err error
			expired, err = goods.Expire(ctx, sweepBatch)
			counts.Expired(expired)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil && !failing: // once, not every two seconds of an outage
				logger.ErrorContext(ctx, "reservations do not expire", "error", err.Error())
			case err == nil && failing:
				logger.InfoContext(ctx, "reservations expire again")
			}
			failing = err != nil
		}
	}
}

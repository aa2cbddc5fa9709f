package main

import (
	"context"
	"time"

	"github.com/loja-veloz/platform/apps/estoque/stock"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const (
	sweepInterval = 2 * time.Second
	sweepBatch    = 100
)

// newSweep returns the loop that expires overdue reservations and returns their stock,
// in batches until none is left. All replicas run it: they do not wait for each other.
func newSweep(frame *service.Frame, goods *stock.Stock, counts *stock.Counts, interval time.Duration) service.Worker {
	return frame.Loop("expire-reservations", interval, func(ctx context.Context) error {
		for {
			expired, err := goods.Expire(ctx, sweepBatch)
			counts.Expired(expired)
			if err != nil || expired < sweepBatch {
				return err
			}
		}
	})
}

// Package retention lets old rows leave a service's tables: in small batches, in the background,
// and by every replica, because batches skip the rows that another transaction has locked.
package retention

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const (
	// Default is longer than a year, the longest time that an order can be cancelled for, and the weeks
	// that a bank may take to refund it.
	Default = 400 * 24 * time.Hour
	// Max is the highest age that is accepted.
	Max = 10 * 365 * 24 * time.Hour

	// Interval is the mean pause between two rounds of a process.
	Interval = time.Minute
	// A round prunes at most maxBatches batches of a table, each in a transaction of its own, which
	// has at most batch orders. So a process prunes up to 10,000 orders a minute, 160 per second,
	// and a backlog does not take the disk from the requests.
	batch      = 500
	maxBatches = 20
)

// Rows are what leaves one table.
type Rows struct {
	Table string        // label of the metric
	Age   time.Duration // rows of younger orders stay
	// Prune lets rows of at most max orders leave that were placed before a time, and returns the
	// number of rows: less than max only if no further ones can leave.
	Prune func(ctx context.Context, before time.Time, max int32) (int64, error)
}

// FirstID returns the smallest id that an order placed at a time can have. Ids of orders are UUIDv7,
// which begin with the time in milliseconds (RFC 9562, section 5.7). So a table's primary key finds
// the rows of old orders, and no further index has to be written with each row.
func FirstID(at time.Time) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(max(at.UnixMilli(), 0))<<16)
	return id
}

// AtLeast refuses an age that is shorter than min, and says why. An age of 0 is one that could not be read.
func AtLeast(env *config.Reader, variable string, age, min time.Duration, why string) {
	if 0 < age && age < min {
		env.Reject(variable, "%s is shorter than %s: %s", age, min, why)
	}
}

// Loop returns a worker that prunes tables, and counts in pruned_rows_total what left them. A table
// that cannot be pruned does not keep the others from it.
func Loop(frame *service.Frame, registry prometheus.Registerer, interval time.Duration, tables ...Rows) service.Worker {
	pruned := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pruned_rows_total", Help: "Rows that left a table because of their age.",
	}, []string{"table"})
	registry.MustRegister(pruned)
	for _, rows := range tables {
		pruned.WithLabelValues(rows.Table)
	}
	return frame.Loop("prune", interval, func(ctx context.Context) error {
		var failed []error
		for _, rows := range tables {
			if err := rows.round(ctx, pruned.WithLabelValues(rows.Table)); err != nil {
				failed = append(failed, fmt.Errorf("pruning %s: %w", rows.Table, err))
			}
		}
		return errors.Join(failed...)
	})
}

// round prunes batches until one is not full, at most maxBatches.
func (r Rows) round(ctx context.Context, pruned prometheus.Counter) error {
	before := time.Now().Add(-r.Age)
	for range maxBatches {
		rows, err := r.Prune(ctx, before, batch)
		pruned.Add(float64(rows))
		if err != nil || rows < batch {
			return err
		}
	}
	return nil
}

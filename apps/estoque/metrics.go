package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/estoque/stock"
)

// counts are what became of reservations.
type counts struct{ reservations *prometheus.CounterVec }

// The outcomes of reservations_total.
const (
	outcomeReserved  = "reserved"
	outcomeConfirmed = "confirmed"
	outcomeReleased  = "released"
	outcomeExpired   = "expired"
	outcomeRepeated  = "repeated" // a request of before, answered as before
	outcomeShort     = "short"
	outcomeRefused   = "refused" // for any other reason
	outcomeFailed    = "failed"
)

func newCounts() *counts {
	c := &counts{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reservations_total",
		Help: "What became of reservations: of asking for one, confirming, releasing and expiring.",
	}, []string{"outcome"})}
	for _, outcome := range []string{
		outcomeReserved, outcomeConfirmed, outcomeReleased, outcomeExpired,
		outcomeRepeated, outcomeShort, outcomeRefused, outcomeFailed,
	} {
		c.reservations.WithLabelValues(outcome)
	}
	return c
}

func (c *counts) expired(n int64) {
	c.reservations.WithLabelValues(outcomeExpired).Add(float64(n))
}

// changed counts one request that has moved a reservation to outcome, or has not.
func (c *counts) changed(outcome string, moved bool, err error) {
	var short *stock.ShortError
	var unknown *stock.UnknownError
	switch {
	case errors.As(err, &short):
		outcome = outcomeShort
	case errors.As(err, &unknown), errors.Is(err, stock.ErrCurrencies), errors.Is(err, stock.ErrMismatch),
		errors.Is(err, stock.ErrReleased), errors.Is(err, stock.ErrNotFound):
		outcome = outcomeRefused
	case err != nil:
		outcome = outcomeFailed
	case !moved:
		outcome = outcomeRepeated
	}
	c.reservations.WithLabelValues(outcome).Inc()
}

const (
	unitsAge     = 5 * time.Second        // how old what is shown may be while the database is up
	unitsKept    = time.Minute            // and while it is down
	unitsTimeout = 500 * time.Millisecond // what a scrape waits for the database at most
	unitsItems   = 1000                   // time series are bounded, whatever the catalogue
)

// units shows the stock by item. Every replica shows the same: the database's.
type units struct {
	count func(context.Context) ([]stock.Units, error)
	desc  *prometheus.Desc

	mu    sync.Mutex // of what follows
	last  []stock.Units
	tried time.Time
	read  time.Time
}

func newUnits(goods *stock.Stock) *units {
	return &units{
		count: func(ctx context.Context) ([]stock.Units, error) { return goods.Units(ctx, unitsItems) },
		desc: prometheus.NewDesc("stock_units",
			"Units of an item that are available, and that are reserved for orders; the same from every replica.",
			[]string{"sku", "kind"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (u *units) Describe(out chan<- *prometheus.Desc) { out <- u.desc }

// Collect implements prometheus.Collector.
func (u *units) Collect(out chan<- prometheus.Metric) {
	for _, item := range u.current() {
		out <- prometheus.MustNewConstMetric(u.desc, prometheus.GaugeValue, float64(item.Available), item.SKU, "available")
		out <- prometheus.MustNewConstMetric(u.desc, prometheus.GaugeValue, float64(item.Reserved), item.SKU, "reserved")
	}
}

// current reads the units if those of before are old. A database that is down
// is asked no more often, and after a while nothing is shown.
func (u *units) current() []stock.Units {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.tried) > unitsAge {
		ctx, cancel := context.WithTimeout(context.Background(), unitsTimeout)
		defer cancel()
		fresh, err := u.count(ctx)
		u.tried = time.Now()
		if err == nil {
			u.last, u.read = fresh, u.tried
		}
	}
	if time.Since(u.read) > unitsKept {
		u.last = nil
	}
	return u.last
}

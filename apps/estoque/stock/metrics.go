package stock

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Counts is the metric reservations_total, by outcome.
type Counts struct{ *prometheus.CounterVec }

// The outcomes of reservations_total in addition to the states.
const (
	outcomeRepeated = "repeated" // an earlier request has had this effect
	outcomeShort    = "short"    // there is too little stock
	outcomeRefused  = "refused"  // the request is not acceptable for another reason
	outcomeFailed   = "failed"   // such as a database outage
)

// NewCounts returns the metric with a series for each outcome.
func NewCounts() *Counts {
	c := &Counts{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "reservations_total",
		Help: "Outcomes of reserving, confirming, releasing and expiring.",
	}, []string{"outcome"})}
	for _, outcome := range []string{
		string(Reserved), string(Confirmed), string(Released), string(Expired),
		outcomeRepeated, outcomeShort, outcomeRefused, outcomeFailed,
	} {
		c.WithLabelValues(outcome)
	}
	return c
}

// Expired counts n reservations that have expired.
func (c *Counts) Expired(n int64) { c.WithLabelValues(string(Expired)).Add(float64(n)) }

// Refused counts a request that did not reach the stock.
func (c *Counts) Refused() { c.WithLabelValues(outcomeRefused).Inc() }

// Moved counts a request to move a reservation to the state to, by its outcome.
func (c *Counts) Moved(to State, moved bool, err error) {
	outcome := string(to)
	var short *ShortError
	var unknown *UnknownError
	switch {
	case errors.As(err, &short):
		outcome = outcomeShort
	case errors.As(err, &unknown), errors.Is(err, ErrCurrencies), errors.Is(err, ErrMismatch),
		errors.Is(err, ErrReleased), errors.Is(err, ErrNotFound):
		outcome = outcomeRefused
	case err != nil:
		outcome = outcomeFailed
	case !moved:
		outcome = outcomeRepeated
	}
	c.WithLabelValues(outcome).Inc()
}

const (
	unitsAge     = 5 * time.Second        // how old the units may be before a scrape reads them again
	unitsKept    = time.Minute            // how long to show the last units while the database is down
	unitsTimeout = 500 * time.Millisecond // how long a scrape waits for the database
	unitsItems   = 1000                   // limits the number of time series
)

// unitsCollector exports the stock by item. It reads the database, so every replica
// exports the same figures.
type unitsCollector struct {
	count func(context.Context) ([]Units, error)
	desc  *prometheus.Desc

	mu    sync.Mutex // guards the fields below
	last  []Units
	tried time.Time // end of the last attempt to read
	read  time.Time // end of the last attempt that succeeded
}

// NewUnits returns the metric stock_units.
func NewUnits(goods *Stock) prometheus.Collector {
	return newUnits(func(ctx context.Context) ([]Units, error) { return goods.Units(ctx, unitsItems) })
}

func newUnits(count func(context.Context) ([]Units, error)) *unitsCollector {
	return &unitsCollector{
		count: count,
		desc: prometheus.NewDesc("stock_units",
			"Units of an item that are available, and that are reserved for orders; the same from every replica.",
			[]string{"sku", "kind"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (u *unitsCollector) Describe(out chan<- *prometheus.Desc) { out <- u.desc }

// Collect implements prometheus.Collector.
func (u *unitsCollector) Collect(out chan<- prometheus.Metric) {
	for _, item := range u.current() {
		out <- prometheus.MustNewConstMetric(u.desc, prometheus.GaugeValue, float64(item.Available), item.SKU, "available")
		out <- prometheus.MustNewConstMetric(u.desc, prometheus.GaugeValue, float64(item.Reserved), item.SKU, "reserved")
	}
}

// current returns the units, and reads them again if the last attempt is older than
// unitsAge, whether it succeeded or not. It returns none if they are older than unitsKept.
func (u *unitsCollector) current() []Units {
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

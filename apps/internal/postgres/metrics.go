package postgres

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// poolMetrics reads the pool's own counts at each scrape.
type poolMetrics struct {
	pool                                     *pgxpool.Pool
	connections, limit, waits, waited, opens *prometheus.Desc
}

// NewMetrics returns a collector of the pool's connections and of the time that callers
// waited for them. The caller registers it once.
func NewMetrics(pool *pgxpool.Pool) prometheus.Collector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("database_pool_"+name, help, labels, nil)
	}
	return &poolMetrics{
		pool:        pool,
		connections: describe("connections", "Connections to the database, by state.", "state"),
		limit:       describe("connections_max", "Maximum number of connections of the pool."),
		waits:       describe("waits_total", "Times that a caller had to wait for a free connection."),
		waited:      describe("wait_seconds_total", "Time that callers waited for a free connection."),
		opens:       describe("connections_opened_total", "Connections opened."),
	}
}

// Describe implements prometheus.Collector.
func (m *poolMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{m.connections, m.limit, m.waits, m.waited, m.opens} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *poolMetrics) Collect(out chan<- prometheus.Metric) {
	stat := m.pool.Stat()
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	counter := func(desc *prometheus.Desc, value float64) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value)
	}
	gauge(m.connections, float64(stat.AcquiredConns()), "in_use")
	gauge(m.connections, float64(stat.IdleConns()), "idle")
	gauge(m.connections, float64(stat.ConstructingConns()), "opening")
	gauge(m.limit, float64(stat.MaxConns()))
	counter(m.waits, float64(stat.EmptyAcquireCount()))
	counter(m.waited, stat.EmptyAcquireWaitTime().Seconds())
	counter(m.opens, float64(stat.NewConnsCount()))
}

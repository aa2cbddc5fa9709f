package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/pedidos/order"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// metrics are the business's own.
type metrics struct {
	orders *prometheus.CounterVec
	value  *prometheus.CounterVec
}

// newMetrics registers the metrics; each state is there from the start, so that
// the first order of a kind is an increase.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orders_total", Help: "Orders that have come into a state.",
		}, []string{"state"}),
		value: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "order_value_minor_units_total", Help: "Value of the orders confirmed, in minor units of the currency.",
		}, []string{"currency"}),
	}
	for _, state := range order.States {
		m.orders.WithLabelValues(string(state))
	}
	registry.MustRegister(m.orders, m.value)
	return m
}

func (m *metrics) moved(o *order.Order, t order.Transition) {
	m.orders.WithLabelValues(string(t.To)).Inc()
	if t.To == order.Confirmed {
		m.value.WithLabelValues(o.Total.Currency).Add(float64(o.Total.Amount))
	}
}

// auditMetrics shows what the last audit found, whichever replica made it.
type auditMetrics struct {
	queries    *store.Queries
	violations *prometheus.Desc
	lastRun    *prometheus.Desc
}

func newAuditMetrics(queries *store.Queries) *auditMetrics {
	return &auditMetrics{
		queries:    queries,
		violations: prometheus.NewDesc("audit_violations", "Violations of an invariant that the last audit found.", []string{"invariant"}, nil),
		lastRun:    prometheus.NewDesc("audit_last_run_timestamp_seconds", "When the last audit ended.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (a *auditMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- a.violations
	descs <- a.lastRun
}

// Collect implements prometheus.Collector. Without the database there are no
// values, which is what an alert on absence looks for.
func (a *auditMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	rows, err := a.queries.LastAudit(ctx)
	if err != nil {
		return
	}
	var last time.Time
	for _, row := range rows {
		metrics <- prometheus.MustNewConstMetric(a.violations, prometheus.GaugeValue, float64(row.Violations), row.Invariant)
		if row.At.After(last) {
			last = row.At
		}
	}
	if !last.IsZero() {
		metrics <- prometheus.MustNewConstMetric(a.lastRun, prometheus.GaugeValue, float64(last.Unix()))
	}
}

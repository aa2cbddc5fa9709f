package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/audit/invariant"
)

// metrics describe the last audit that read all databases, with or without violations.
type metrics struct {
	violations                                          *prometheus.GaugeVec
	orders, inFlight, read, wholeAge, duration, success prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	m := &metrics{
		violations: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "audit_violations", Help: "Violations of an invariant that the last audit found.",
		}, []string{"invariant"}),
		orders:   gauge("audit_orders", "Orders, according to the last audit."),
		inFlight: gauge("audit_orders_in_flight", "Orders that were not final, according to the last audit."),
		read:     gauge("audit_orders_read", "Orders that the last audit read: all, or those near one that has changed."),
		wholeAge: gauge("audit_whole_age_seconds", "Age, at the last audit, of the last one that read all orders. 0 if it did."),
		duration: gauge("audit_duration_seconds", "Duration of the last audit."),
		success:  gauge("audit_last_success_timestamp_seconds", "When an audit last read all databases, with or without violations."),
	}
	registry.MustRegister(m.violations)
	return m
}

func (m *metrics) record(report *invariant.Report, took time.Duration) {
	for _, rule := range invariant.Invariants {
		m.violations.WithLabelValues(string(rule)).Set(float64(report.Violations[rule].Total))
	}
	m.orders.Set(float64(report.Orders))
	m.inFlight.Set(float64(report.InFlight))
	m.read.Set(float64(report.Read))
	m.wholeAge.Set(report.WholeAge.Seconds())
	m.duration.Set(took.Seconds())
	m.success.SetToCurrentTime()
}

package webhook

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of an attempt.
const (
	delivered = "delivered"
	retried   = "retried" // it failed, and is repeated
	failed    = "failed"  // it failed, and was the last
)

// metrics count attempts and disabled endpoints.
type metrics struct {
	attempts *prometheus.CounterVec
	disabled *prometheus.CounterVec
	oldest   prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_attempts_total", Help: "Attempts to send an event to an endpoint.",
		}, []string{"outcome"}),
		disabled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "webhook_endpoints_disabled_total", Help: "Endpoints that were disabled because of their answers.",
		}, []string{"reason"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "webhook_oldest_waiting_seconds", Help: "Age of the oldest event that waits for an endpoint that is not disabled.",
		}),
	}
	for _, outcome := range []string{delivered, retried, failed} {
		m.attempts.WithLabelValues(outcome)
	}
	for _, reason := range []string{gone, failing} {
		m.disabled.WithLabelValues(reason)
	}
	registry.MustRegister(m.attempts, m.disabled, m.oldest)
	return m
}

package server

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"
)

// Route and method of a request that matches no route or uses a method that
// HTTP does not define. Clients choose paths and methods, so either would let
// them create time series without end.
const (
	unmatchedRoute = "unmatched"
	otherMethod    = "OTHER"
)

// buckets are in seconds. 0.1, 0.2 and 0.5 are the platform's latency
// objectives, which a histogram can only answer exactly at a bucket's edge.
var buckets = []float64{.005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10}

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics(service string) *metrics {
	labels := []string{"method", "route", "status"}
	constant := prometheus.Labels{"service": service}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        "http_requests_total",
			Help:        "Requests answered.",
			ConstLabels: constant,
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "http_request_duration_seconds",
			Help:        "Time from a request's arrival to the end of its answer.",
			ConstLabels: constant,
			Buckets:     buckets,
		}, labels),
	}
	m.registry.MustRegister(m.requests, m.duration,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// record counts one answered request; a sampled trace becomes the exemplar that
// leads from a slow bucket to a request that fell into it.
func (m *metrics) record(ctx context.Context, method, route string, status int, elapsed time.Duration) {
	values := []string{method, route, strconv.Itoa(status)}
	m.requests.WithLabelValues(values...).Inc()
	observer := m.duration.WithLabelValues(values...)
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		observer.(prometheus.ExemplarObserver).ObserveWithExemplar(elapsed.Seconds(),
			prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	observer.Observe(elapsed.Seconds())
}

func (m *metrics) handler(logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, // the format that carries exemplars
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelError),
	})
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return otherMethod
}

func routeLabel(template string) string {
	if template == "" {
		return unmatchedRoute
	}
	return template
}

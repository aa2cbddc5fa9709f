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

// The labels of a request that matches no route, or whose method HTTP does not define.
// With the path or method itself as a label, clients could create any number of time
// series.
const (
	unmatchedRoute = "unmatched"
	otherMethod    = "OTHER"
)

// buckets are in seconds. A histogram is exact only at the edge of a bucket, so each
// latency in the objectives of a service.yaml is an edge.
var buckets = []float64{.005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10}

type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	// outcomes is the metric that objectives and canaries are judged by. It has few
	// series, all with the value 0 from the start, so that a rate includes the first
	// request.
	outcomes *prometheus.HistogramVec
}

// Outcomes of a request. A client's error counts neither as success nor as failure.
const (
	outcomeOK          = "ok"
	outcomeClientError = "client_error"
	outcomeError       = "error"
)

func outcome(status int) string {
	switch {
	case status >= http.StatusInternalServerError:
		return outcomeError
	case status >= http.StatusBadRequest:
		return outcomeClientError
	}
	return outcomeOK
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
		outcomes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "sli_request_duration_seconds",
			Help:        "Time from a request's arrival to the end of its answer, by outcome, without probes.",
			ConstLabels: constant,
			Buckets:     buckets,
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{outcomeOK, outcomeClientError, outcomeError} {
		m.outcomes.WithLabelValues(outcome)
	}
	m.registry.MustRegister(m.requests, m.duration, m.outcomes,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// record counts one answered request. It stores a sampled trace as exemplar, which
// leads from a slow bucket to the trace of a request in it.
func (m *metrics) record(ctx context.Context, method, route string, status int, probe bool, elapsed time.Duration) {
	values := []string{method, route, strconv.Itoa(status)}
	m.requests.WithLabelValues(values...).Inc()
	observers := []prometheus.Observer{m.duration.WithLabelValues(values...)}
	if !probe {
		observers = append(observers, m.outcomes.WithLabelValues(outcome(status)))
	}
	span := trace.SpanContextFromContext(ctx)
	for _, observer := range observers {
		if span.IsSampled() {
			observer.(prometheus.ExemplarObserver).ObserveWithExemplar(elapsed.Seconds(),
				prometheus.Labels{"trace_id": span.TraceID().String()})
			continue
		}
		observer.Observe(elapsed.Seconds())
	}
}

func (m *metrics) handler(logger *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, // only this format has exemplars
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

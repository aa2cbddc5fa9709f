package main

import (
	"errors"
	"net/http"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the gateway, in addition to those of every service.
type metrics struct {
	requests *prometheus.CounterVec
	retries  *prometheus.CounterVec
	limited  prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_requests_total",
			Help: "Requests to an upstream, retries included, by outcome.",
		}, []string{"upstream", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_upstream_retries_total",
			Help: "Retries of requests to an upstream.",
		}, []string{"upstream"}),
		limited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_rate_limited_total",
			Help: "Requests refused by the rate limit.",
		}),
	}
}

// register registers the metrics, and gauges of g's state.
func (m *metrics) register(registry prometheus.Registerer, g *gateway) error {
	errs := []error{registry.Register(m.requests), registry.Register(m.retries), registry.Register(m.limited)}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		errs = append(errs, registry.Register(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)))
	}
	for _, up := range g.upstreams {
		for _, guard := range up.guards {
			labels := prometheus.Labels{"upstream": up.name, "operation": guard.operation}
			gauge("gateway_circuit_state", "State of an operation's circuit: 0 closed, 1 half-open, 2 open.", labels, func() float64 {
				return float64(badness(guard.breaker.State()))
			})
			gauge("gateway_bulkhead_in_use", "Slots of an operation's bulkhead that requests occupy.", labels, func() float64 {
				return float64(guard.inUse.Load())
			})
		}
	}
	if g.limiter != nil {
		gauge("gateway_rate_clients", "Clients whose rate is tracked.", nil, func() float64 {
			return float64(g.limiter.size())
		})
	}
	return errors.Join(errs...)
}

// badness orders the states of a circuit: 0 closed, 1 half-open, 2 open.
func badness(state circuitbreaker.State) int {
	switch state {
	case circuitbreaker.OpenState:
		return 2
	case circuitbreaker.HalfOpenState:
		return 1
	}
	return 0
}

// upstreamCounters are one upstream's counters. They are looked up once, not for each request.
type upstreamCounters struct {
	ok, clientError, serverError          prometheus.Counter
	broken, unreachable, timedOut, client prometheus.Counter
	open, overloaded                      prometheus.Counter
	retries                               prometheus.Counter
}

func (m *metrics) of(upstream string) *upstreamCounters {
	outcome := func(name string) prometheus.Counter { return m.requests.WithLabelValues(upstream, name) }
	return &upstreamCounters{
		ok:          outcome("ok"),
		clientError: outcome("client_error"),
		serverError: outcome("server_error"),
		broken:      outcome(broken.String()),
		unreachable: outcome(unreachable.String()),
		timedOut:    outcome(timedOut.String()),
		client:      outcome(clientGone.String()),
		open:        outcome("circuit_open"),
		overloaded:  outcome("overloaded"),
		retries:     m.retries.WithLabelValues(upstream),
	}
}

// count counts the outcome of a try. It returns whether the upstream failed.
func (c *upstreamCounters) count(answer *http.Response, err error) (failed bool) {
	if err != nil {
		switch kindOf(err) {
		case clientGone:
			c.client.Inc()
			return false
		case timedOut:
			c.timedOut.Inc()
		case unreachable:
			c.unreachable.Inc()
		default:
			c.broken.Inc()
		}
		return true
	}
	switch {
	case answer.StatusCode >= http.StatusInternalServerError:
		c.serverError.Inc()
		return answer.StatusCode != http.StatusNotImplemented
	case answer.StatusCode >= http.StatusBadRequest:
		c.clientError.Inc()
	default:
		c.ok.Inc()
	}
	return false
}

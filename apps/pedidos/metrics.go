package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/pedidos/order"
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

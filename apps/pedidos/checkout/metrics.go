package checkout

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// metrics count orders and their value.
type metrics struct {
	orders *prometheus.CounterVec
	value  *prometheus.CounterVec
}

// newMetrics registers the metrics. It exports each state from 0 on, so that the
// first order in a state is an increase.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orders_total", Help: "Orders that have entered a state.",
		}, []string{"state"}),
		value: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "order_value_minor_units_total", Help: "Value of confirmed orders, in minor units of the currency.",
		}, []string{"currency"}),
	}
	for _, state := range order.States {
		m.orders.WithLabelValues(string(state))
	}
	registry.MustRegister(m.orders, m.value)
	return m
}

// moved counts a transition of an order.
func (m *metrics) moved(o *order.Order, t order.Transition) {
	m.orders.WithLabelValues(string(t.To)).Inc()
	if t.To == order.Confirmed {
		m.value.WithLabelValues(o.Total.Currency).Add(float64(o.Total.Amount))
	}
}

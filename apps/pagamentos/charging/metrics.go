package charging

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
)

// The outcomes of failed calls to the acquirer, and of refunds.
const (
	outcomeUnknown = "unknown"
	outcomeRefused = "refused"
	// outcomeReopened is that of a refund that failed after it was done.
	outcomeReopened = "reopened"
	// outcomeConflict is that of a refund that the acquirer has done after it was given up, or recorded as
	// done by other means.
	outcomeConflict = "conflict"
)

// Metrics are the metrics of payments and of calls to the acquirer.
type Metrics struct {
	payments *prometheus.CounterVec
	refunds  *prometheus.CounterVec
	calls    *prometheus.HistogramVec
	overdue  prometheus.Gauge
	needing  prometheus.Gauge
}

// NewMetrics registers and returns the metrics, with a series for each outcome.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		payments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "payments_total",
			Help: "States that payments entered; unknown counts calls to the acquirer whose outcome is not known.",
		}, []string{"outcome"}),
		refunds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "partial_refunds_total",
			Help: "Partial refunds by what became of them; unknown counts calls to the acquirer whose outcome is not known.",
		}, []string{"outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "acquirer_call_duration_seconds",
			Help:    "Duration of calls to the acquirer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation", "outcome"}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "payments_overdue",
			Help: "Payments that the resolver has tried and not finished, as of its last round.",
		}),
		needing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "payments_needing_person",
			Help: "Payments that do not finish by themselves, as of the resolver's last round.",
		}),
	}
	for _, outcome := range []payment.State{
		payment.Authorised, payment.Captured, payment.Declined, payment.Refunded, payment.Voided, outcomeUnknown,
	} {
		m.payments.WithLabelValues(string(outcome))
	}
	for _, outcome := range []string{
		string(payment.RefundSucceeded), string(payment.RefundFailed), outcomeReopened, outcomeConflict, outcomeRefused, outcomeUnknown,
	} {
		m.refunds.WithLabelValues(outcome)
	}
	registry.MustRegister(m.payments, m.refunds, m.calls, m.overdue, m.needing)
	return m
}

// entered counts a payment that has entered a state.
func (m *Metrics) entered(state payment.State) { m.payments.WithLabelValues(string(state)).Inc() }

// observed measures and traces the calls of an acquirer.
type observed struct {
	acquirer.Acquirer
	metrics *Metrics
	tracer  trace.Tracer
}

func (o observed) Prepare(ctx context.Context, key string, charge acquirer.Charge) (result acquirer.Result, err error) {
	err = o.call(ctx, payment.Prepare, func(ctx context.Context) (string, error) {
		result, err = o.Acquirer.Prepare(ctx, key, charge)
		return string(result.State), err
	})
	return result, err
}

func (o observed) Authorise(ctx context.Context, key string, charge acquirer.Charge) (result acquirer.Result, err error) {
	err = o.call(ctx, payment.Authorise, func(ctx context.Context) (string, error) {
		result, err = o.Acquirer.Authorise(ctx, key, charge)
		return string(result.State), err
	})
	return result, err
}

func (o observed) Find(ctx context.Context, charge acquirer.Charge) (result acquirer.Result, err error) {
	err = o.call(ctx, payment.Await, func(ctx context.Context) (string, error) {
		result, err = o.Acquirer.Find(ctx, charge)
		return string(result.State), err
	})
	return result, err
}

func (o observed) Capture(ctx context.Context, key, reference string) error {
	return o.call(ctx, payment.Capture, func(ctx context.Context) (string, error) {
		return string(payment.Captured), o.Acquirer.Capture(ctx, key, reference)
	})
}

func (o observed) Void(ctx context.Context, key string, charge acquirer.Charge) error {
	return o.call(ctx, payment.Void, func(ctx context.Context) (string, error) {
		return string(payment.Voided), o.Acquirer.Void(ctx, key, charge)
	})
}

func (o observed) Refund(ctx context.Context, key, reference string, amount money.Money) (refund acquirer.Refund, err error) {
	err = o.call(ctx, payment.Refund, func(ctx context.Context) (string, error) {
		refund, err = o.Acquirer.Refund(ctx, key, reference, amount)
		return string(refund.State), err
	})
	return refund, err
}

func (o observed) RefundPart(
	ctx context.Context, key, reference string, amount money.Money, old bool,
) (refund acquirer.Refund, err error) {
	err = o.call(ctx, payment.Refund, func(ctx context.Context) (string, error) {
		refund, err = o.Acquirer.RefundPart(ctx, key, reference, amount, old)
		return string(refund.State), err
	})
	return refund, err
}

func (o observed) FindRefund(ctx context.Context, reference string) (refund acquirer.Refund, err error) {
	err = o.call(ctx, "find refund", func(ctx context.Context) (string, error) {
		refund, err = o.Acquirer.FindRefund(ctx, reference)
		return string(refund.State), err
	})
	return refund, err
}

func (o observed) call(ctx context.Context, step payment.Step, run func(context.Context) (string, error)) error {
	ctx, span := o.tracer.Start(ctx, "acquirer "+string(step), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("peer.service", o.Name())))
	defer span.End()
	start := time.Now()
	outcome, err := run(ctx)
	switch {
	case errors.Is(err, acquirer.ErrVoided):
		outcome = string(payment.Voided)
	case errors.Is(err, acquirer.ErrCaptured):
		outcome = string(payment.Captured)
	case acquirer.Unknown(err):
		outcome = outcomeUnknown
	case err != nil:
		outcome = outcomeRefused
	}
	if outcome == outcomeUnknown || outcome == outcomeRefused {
		span.SetStatus(codes.Error, outcome)
	}
	span.SetAttributes(attribute.String("acquirer.outcome", outcome))
	o.metrics.calls.WithLabelValues(string(step), outcome).Observe(time.Since(start).Seconds())
	return err
}

package telemetry

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// maxQueued is how many ended spans wait for their export at most, about 10 MB. With 40 spans
// for an order that is the time of 200 orders.
const maxQueued = 8192

// queue is a processor that exports spans in batches, and counts what happens to them. The
// SDK's own processor drops spans without a trace, so queue refuses them before it is full.
type queue struct {
	sdktrace.SpanProcessor
	waiting  atomic.Int64
	outcomes *prometheus.CounterVec
}

func newQueue(exporter sdktrace.SpanExporter) *queue {
	q := &queue{outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "telemetry_spans_total",
		Help: "Spans that were exported, that the collector did not take (failed), or that found the queue full (dropped).",
	}, []string{"outcome"})}
	for _, outcome := range []string{"exported", "failed", "dropped"} {
		q.outcomes.WithLabelValues(outcome)
	}
	q.SpanProcessor = sdktrace.NewBatchSpanProcessor(counting{exporter, q}, sdktrace.WithMaxQueueSize(maxQueued))
	return q
}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(span sdktrace.ReadOnlySpan) {
	switch {
	case !span.SpanContext().IsSampled():
	case q.waiting.Add(1) > maxQueued:
		q.waiting.Add(-1)
		q.outcomes.WithLabelValues("dropped").Inc()
	default:
		q.SpanProcessor.OnEnd(span)
	}
}

// counting is the exporter of a queue.
type counting struct {
	sdktrace.SpanExporter
	queue *queue
}

// ExportSpans implements sdktrace.SpanExporter.
func (c counting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.SpanExporter.ExportSpans(ctx, spans)
	c.queue.waiting.Add(-int64(len(spans)))
	outcome := "exported"
	if err != nil {
		outcome = "failed"
	}
	c.queue.outcomes.WithLabelValues(outcome).Add(float64(len(spans)))
	return err //nolint:wrapcheck // the SDK logs it as its exporter's
}

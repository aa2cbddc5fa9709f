package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// ReadMetricSettings reads whether and how PushMetrics sends metrics. It is like
// ReadSettings, with METRICS in place of TRACES in the variables.
func ReadMetricSettings(env *config.Reader, identity config.Identity) Settings {
	return readExport(env, identity, "METRICS")
}

// PushMetrics sends the gauges of a registry once, over OTLP. It is for a program that
// ends before Prometheus could scrape it. It does nothing without an endpoint, and
// gives up after five seconds.
func PushMetrics(ctx context.Context, settings Settings, registry prometheus.Gatherer) (err error) {
	if !settings.Export {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	families, err := registry.Gather()
	if err != nil {
		return fmt.Errorf("gathering metrics: %w", err)
	}
	res, err := describe(ctx, settings.Identity)
	if err != nil {
		return err
	}
	exporter, err := newMetricExporter(ctx, settings.Protocol)
	if err != nil {
		return fmt.Errorf("creating the %s metric exporter: %w", settings.Protocol, err)
	}
	defer func() { err = errors.Join(err, exporter.Shutdown(ctx)) }()
	if err := exporter.Export(ctx, &metricdata.ResourceMetrics{Resource: res, ScopeMetrics: []metricdata.ScopeMetrics{{
		Scope: instrumentation.Scope{Name: Scope}, Metrics: gauges(families, time.Now()),
	}}}); err != nil {
		return fmt.Errorf("sending metrics: %w", err)
	}
	return nil
}

func newMetricExporter(ctx context.Context, protocol string) (metric.Exporter, error) {
	if protocol == "grpc" {
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}

func gauges(families []*dto.MetricFamily, at time.Time) []metricdata.Metrics {
	var all []metricdata.Metrics
	for _, family := range families {
		if family.GetType() != dto.MetricType_GAUGE {
			continue
		}
		var points []metricdata.DataPoint[float64]
		for _, m := range family.GetMetric() {
			var labels []attribute.KeyValue
			for _, label := range m.GetLabel() {
				labels = append(labels, attribute.String(label.GetName(), label.GetValue()))
			}
			points = append(points, metricdata.DataPoint[float64]{
				Attributes: attribute.NewSet(labels...), Time: at, Value: m.GetGauge().GetValue(),
			})
		}
		all = append(all, metricdata.Metrics{
			Name: family.GetName(), Description: family.GetHelp(), Data: metricdata.Gauge[float64]{DataPoints: points},
		})
	}
	return all
}

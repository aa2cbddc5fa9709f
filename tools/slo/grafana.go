package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

// Grafana is the dashboard of an environment as JSON, which Grafana imports. Its three rows are
// those of Datadog's dashboards. It asks only for what the services export and for the recorded
// series of the objectives; the Prometheus of an environment scrapes nothing else.
func Grafana(services []catalogue.Program) ([]byte, error) {
	// dashboardv2 is for the API of Grafana 12; every Grafana imports and provisions this format.
	board := dashboard.NewDashboardBuilder("Loja Veloz") //nolint:staticcheck // see above
	board.Uid("loja-veloz").Tags([]string{"loja-veloz"}).Refresh("10s").Time("now-1h", "now").
		Description("Derived from the objectives in apps/*/service.yaml.").
		WithVariable(dashboard.NewDatasourceVariableBuilder("prometheus").Label("Prometheus").Type("prometheus"))
	for _, row := range rows(services) {
		board.WithRow(dashboard.NewRowBuilder(row.title))
		for _, p := range row.panels {
			board.WithPanel(p.build())
		}
	}
	built, err := board.Build()
	if err != nil {
		return nil, fmt.Errorf("building Grafana's dashboard: %w", err)
	}
	content, err := json.MarshalIndent(built, "", "  ")
	return append(content, '\n'), err
}

type row struct {
	title  string
	panels []panel
}

// A panel shows queries; width is in columns, of which Grafana has 24, and lines are drawn across
// it at the values of thresholds.
type panel struct {
	title, unit, about string
	width              uint32
	queries            []query
	thresholds         []float64
	// single shows the last value of each series instead of a curve.
	single bool
}

type query struct{ expression, legend string }

func rows(services []catalogue.Program) []row {
	overview := row{"Overview", []panel{{
		title: "Budget left, of the last two days that Prometheus keeps", unit: "percentunit", width: 24, single: true,
		queries: []query{{"slo:period_error_budget_remaining:ratio", "{{sloth_service}} {{sloth_slo}}"}},
	}}}
	for _, service := range services {
		overview.panels = append(overview.panels, servicePanels(service.Name, slo.Objectives(*service.Objectives))...)
	}
	return []row{overview, {"Infrastructure", infrastructure}, {"APM", apm}}
}

// servicePanels are what a service promises, and how it keeps it.
func servicePanels(service string, o slo.Objectives) []panel {
	var rates []float64
	var promises []string
	for _, objective := range o.List() {
		promises = append(promises, fmt.Sprintf("%s: %v %% over %s, a budget of %s.", objective.Name, objective.Target(),
			slo.Period(objective.Window), objective.Budget()))
		for _, alert := range objective.Alerts() {
			rates = append(rates, alert.Burn)
		}
	}
	latency := panel{
		title: service + ": latency", unit: "s", width: 6,
		thresholds: []float64{o.P50.Seconds(), o.LatencyThreshold.Seconds(), o.P99.Seconds()},
	}
	for _, rank := range []string{"0.5", "0.95", "0.99"} {
		latency.queries = append(latency.queries, query{
			fmt.Sprintf(`histogram_quantile(%s, sum by (le) (rate(%s_bucket{service=%q,outcome="ok"}[1m])))`, rank, slo.Metric, service), rank,
		})
	}
	canary := panel{title: service + ": bad requests, canary against stable", unit: "percentunit", width: 6}
	for _, c := range o.Criteria() {
		canary.queries = append(canary.queries, query{c.PrometheusByRole(service, "1m"), c.Name + " {{role}}"})
		canary.thresholds = append(canary.thresholds, c.Tolerated)
	}
	return []panel{
		{
			title: service + ": burn rate", about: strings.Join(promises, "\n\n"), width: 6, thresholds: rates,
			queries: []query{{fmt.Sprintf(`slo:current_burn_rate:ratio{sloth_service=%q}`, service), "{{sloth_slo}}"}},
		},
		{
			title: service + ": requests per second", unit: "reqps", width: 6, thresholds: []float64{o.BaselineRPS},
			queries: []query{{fmt.Sprintf(`sum by (outcome) (rate(%s_count{service=%q}[1m]))`, slo.Metric, service), "{{outcome}}"}},
		},
		latency, canary,
	}
}

// infrastructure is what a pod's process says about itself: nothing here scrapes the kubelet.
var infrastructure = []panel{
	{title: "Pods that answer Prometheus", width: 6, queries: []query{{`sum by (role) (up)`, "{{role}}"}}},
	{title: "CPU, cores", width: 6, queries: []query{{`rate(process_cpu_seconds_total[1m])`, "{{pod}}"}}},
	{title: "Memory", unit: "bytes", width: 6, queries: []query{{`process_resident_memory_bytes`, "{{pod}}"}}},
	{title: "Restarts in an hour", width: 6, queries: []query{{`changes(process_start_time_seconds[1h])`, "{{pod}}"}}},
	{title: "Goroutines", width: 6, queries: []query{{`go_goroutines`, "{{pod}}"}}},
	{title: "Open files", unit: "percentunit", width: 6, queries: []query{{`process_open_fds / process_max_fds`, "{{pod}}"}}},
	{title: "Go heap", unit: "bytes", width: 12, queries: []query{{`go_memstats_heap_alloc_bytes`, "{{pod}}"}}},
}

var apm = []panel{
	{title: "Calls of api-gateway", unit: "reqps", width: 8, queries: []query{
		{`sum by (upstream, outcome) (rate(gateway_upstream_requests_total[1m]))`, "{{upstream}} {{outcome}}"},
		{`sum by (upstream) (rate(gateway_upstream_retries_total[1m]))`, "{{upstream}} retries"},
	}},
	{title: "Circuits: 0 closed, 1 half-open, 2 open", width: 8, queries: []query{
		{`max by (operation) (gateway_circuit_state)`, "{{operation}}"},
	}},
	{title: "Bulkheads, and requests over the rate limit", width: 8, queries: []query{
		{`max by (operation) (gateway_bulkhead_in_use)`, "{{operation}} in use"},
		{`sum(rate(gateway_rate_limited_total[1m]))`, "limited per second"},
	}},
	{title: "Slowest routes, p99", unit: "s", width: 8, queries: []query{
		{`topk(10, histogram_quantile(0.99, sum by (service, method, route, le) (rate(http_request_duration_seconds_bucket[5m]))))`,
			"{{service}} {{method}} {{route}}"},
	}},
	{title: "Server errors by route", unit: "reqps", width: 8, queries: []query{
		{`sum by (service, method, route, status) (rate(http_requests_total{status=~"5.."}[1m]))`,
			"{{service}} {{method}} {{route}} {{status}}"},
	}},
	{title: "Acquirer, p95", unit: "s", width: 8, queries: []query{
		{`histogram_quantile(0.95, sum by (operation, le) (rate(acquirer_call_duration_seconds_bucket[5m])))`, "{{operation}}"},
	}},
	{title: "Database connections in use, of the pool", unit: "percentunit", width: 8, queries: []query{
		{`sum by (pod) (database_pool_connections{state="in_use"}) / sum by (pod) (database_pool_connections_max)`, "{{pod}}"},
	}},
	{title: "Waits for a database connection, seconds per second", width: 8, queries: []query{
		{`rate(database_pool_wait_seconds_total[1m])`, "{{pod}}"},
	}},
	{title: "Orders by state, per second", width: 8, queries: []query{{`sum by (state) (rate(orders_total[5m]))`, "{{state}}"}}},
	{title: "Units of stock", width: 8, queries: []query{{`sum by (kind) (max by (sku, kind) (stock_units))`, "{{kind}}"}}},
	{title: "Queue: payments overdue", width: 8, queries: []query{
		{`max(payments_overdue)`, "overdue"}, {`max(payments_needing_person)`, "need a person"},
	}},
	{title: "Failures in the background, per second", width: 8, queries: []query{
		{`sum by (task) (rate(background_failures_total[5m]))`, "{{task}}"},
	}},
	{title: "Payments and partial refunds by outcome, per second", width: 8, queries: []query{
		{`sum by (outcome) (rate(payments_total[5m]))`, "{{outcome}}"},
		{`sum by (outcome) (rate(partial_refunds_total[5m]))`, "partial refund {{outcome}}"},
	}},
}

func (p panel) build() cog.Builder[dashboard.Panel] {
	source := common.DataSourceRef{Type: new("prometheus"), Uid: new("${prometheus}")}
	steps := []dashboard.Threshold{{Color: "green"}}
	for _, value := range slices.Compact(slices.Sorted(slices.Values(p.thresholds))) { // Grafana wants them to rise
		steps = append(steps, dashboard.Threshold{Value: new(value), Color: "red"})
	}
	thresholds := dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps)
	targets := make([]cog.Builder[variants.Dataquery], 0, len(p.queries))
	for i, q := range p.queries {
		targets = append(targets, prometheus.NewDataqueryBuilder().Expr(q.expression).LegendFormat(q.legend).RefId(string(rune('A'+i))))
	}
	if p.single {
		return stat.NewPanelBuilder().Title(p.title).Unit(p.unit).Datasource(source).Span(p.width).Height(8).
			Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).
				Steps([]dashboard.Threshold{{Color: "red"}, {Value: new(0.0), Color: "green"}})).Targets(targets)
	}
	graph := timeseries.NewPanelBuilder().Title(p.title).Datasource(source).Span(p.width).Height(8).Min(0).
		Thresholds(thresholds).Targets(targets)
	if p.about != "" {
		graph.Description(p.about)
	}
	if p.unit != "" {
		graph.Unit(p.unit)
	}
	if len(p.thresholds) > 0 {
		graph.ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return graph
}

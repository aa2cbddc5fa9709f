package slo

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// DatadogDashboard is the body of a dashboard
// (https://docs.datadoghq.com/api/latest/dashboards/).
type DatadogDashboard struct {
	Title       string          `json:"title"`
	Description string          `json:"description"`
	LayoutType  string          `json:"layout_type"`
	ReflowType  string          `json:"reflow_type,omitempty"`
	Widgets     []DatadogWidget `json:"widgets"`
}

// DatadogWidget is a panel, or a group of panels.
type DatadogWidget struct {
	Definition DatadogDefinition `json:"definition"`
}

// DatadogDefinition is what a panel shows; which fields it has depends on Type.
type DatadogDefinition struct {
	Type       string           `json:"type"`
	Title      string           `json:"title"`
	LayoutType string           `json:"layout_type,omitempty"`
	Widgets    []DatadogWidget  `json:"widgets,omitempty"`
	Requests   []DatadogRequest `json:"requests,omitempty"`
	Markers    []DatadogMarker  `json:"markers,omitempty"`
	Time       *DatadogTime     `json:"time,omitempty"`
	Precision  *int             `json:"precision,omitempty"`
	CustomUnit string           `json:"custom_unit,omitempty"`
}

// DatadogTime fixes the time that a panel shows.
type DatadogTime struct {
	LiveSpan string `json:"live_span"`
}

// DatadogMarker is a line across a panel: Value is "y = NUMBER".
type DatadogMarker struct {
	Value       string `json:"value"`
	Label       string `json:"label"`
	DisplayType string `json:"display_type"`
}

// DatadogRequest is what a panel asks for: formulas of queries, or the query of a list or map.
type DatadogRequest struct {
	ResponseFormat string           `json:"response_format,omitempty"`
	Formulas       []DatadogFormula `json:"formulas,omitempty"`
	Queries        []DatadogQuery   `json:"queries,omitempty"`
	DisplayType    string           `json:"display_type,omitempty"`
	RequestType    string           `json:"request_type,omitempty"`
	Query          *DatadogSource   `json:"query,omitempty"`
	Columns        []DatadogColumn  `json:"columns,omitempty"`
}

// DatadogFormula is arithmetic with names of queries.
type DatadogFormula struct {
	Formula string `json:"formula"`
	Alias   string `json:"alias,omitempty"`
}

// DatadogQuery is a metric's query with a name.
type DatadogQuery struct {
	DataSource string `json:"data_source"`
	Name       string `json:"name"`
	Query      string `json:"query"`
	Aggregator string `json:"aggregator,omitempty"`
}

// DatadogSource is where a list or a map comes from.
type DatadogSource struct {
	DataSource  string   `json:"data_source"`
	QueryString *string  `json:"query_string,omitempty"`
	Service     string   `json:"service,omitempty"`
	Filters     []string `json:"filters,omitempty"`
}

// DatadogColumn is a column of a list.
type DatadogColumn struct {
	Field string `json:"field"`
	Width string `json:"width"`
}

// datadogSpans is the metric of the spans of HTTP servers that Datadog's agent derives from
// what arrives by OTLP (infra/charts says from which agent on). It is a distribution of seconds.
const datadogSpans = "trace.http.server.request"

// datadogDashboard has the groups overview, infrastructure and APM.
func (o Objectives) datadogDashboard(service string, place DatadogPlace) DatadogDashboard {
	group := func(title string, widgets ...DatadogDefinition) DatadogWidget {
		d := DatadogDefinition{Type: "group", Title: title, LayoutType: "ordered"}
		for _, w := range widgets {
			d.Widgets = append(d.Widgets, DatadogWidget{w})
		}
		return DatadogWidget{d}
	}
	var overview []DatadogDefinition
	for _, objective := range o.List() {
		overview = append(overview, objective.datadogBudget(service, place))
	}
	overview = append(overview, o.datadogBurn(service, place), o.datadogErrors(service, place),
		datadogSeries("Requests per second", datadogQuery("requests",
			fmt.Sprintf("sum:%s.count{env:%s,%s:%s} by {%s}.as_rate()", datadogMetric, place.Environment, labelService, service, labelOutcome))),
		o.datadogLatency(service, place))
	return DatadogDashboard{
		Title:       fmt.Sprintf("%s (%s)", service, place.Environment),
		Description: "Derived from the objectives in apps/" + service + "/service.yaml.",
		LayoutType:  "ordered", ReflowType: "auto",
		Widgets: []DatadogWidget{
			group("Overview", overview...),
			group("Infrastructure", datadogInfrastructure(service, place)...),
			group("APM", datadogAPM(service, place)...),
		},
	}
}

// datadogBudget is how much of the budget is left, in percent. A panel has the spans 1d, 1w and
// 1mo, the last of which is not exactly 30 days.
func (o Objective) datadogBudget(service string, place DatadogPlace) DatadogDefinition {
	counts := o.Indicator.datadogCounts(service, place)
	span := map[time.Duration]string{day: "1d", 7 * day: "1w"}[o.Window]
	if span == "" {
		span = "1mo"
	}
	for i := range counts.queries {
		counts.queries[i].Aggregator = "sum"
	}
	return DatadogDefinition{
		Type: "query_value", Title: fmt.Sprintf("Budget left: %s, %v %% over %s", o.Name, o.Target(), Period(o.Window)),
		Time: &DatadogTime{span}, Precision: new(1), CustomUnit: "%",
		Requests: []DatadogRequest{{
			ResponseFormat: "scalar", Queries: counts.queries,
			Formulas: []DatadogFormula{{Formula: fmt.Sprintf("100 * (1 - %s / %s / %s)", counts.bad, counts.total, plain(o.Tolerated))}},
		}},
	}
}

// datadogBurn is how many times faster than allowed each budget is spent, with the rates at
// which alerts fire.
func (o Objectives) datadogBurn(service string, place DatadogPlace) DatadogDefinition {
	request := DatadogRequest{ResponseFormat: "timeseries", DisplayType: "line"}
	var markers []DatadogMarker
	for _, objective := range o.List() {
		counts := objective.Indicator.datadogCounts(service, place)
		for _, q := range counts.queries {
			if !slices.Contains(request.Queries, q) {
				request.Queries = append(request.Queries, q)
			}
		}
		request.Formulas = append(request.Formulas, DatadogFormula{
			Formula: fmt.Sprintf("%s / %s / %s", counts.bad, counts.total, plain(objective.Tolerated)), Alias: objective.Name,
		})
		for _, alert := range objective.Alerts() {
			if line := datadogLine(alert.Burn, alert.Severity); !slices.Contains(markers, line) {
				markers = append(markers, line)
			}
		}
	}
	return DatadogDefinition{Type: "timeseries", Title: "Burn rate", Requests: []DatadogRequest{request}, Markers: markers}
}

func (o Objectives) datadogErrors(service string, place DatadogPlace) DatadogDefinition {
	counts := Indicator{}.datadogCounts(service, place)
	return DatadogDefinition{
		Type: "timeseries", Title: "Server errors, in percent",
		Requests: []DatadogRequest{{
			ResponseFormat: "timeseries", DisplayType: "line", Queries: counts.queries,
			Formulas: []DatadogFormula{{Formula: "100 * " + counts.bad + " / " + counts.total, Alias: "server errors"}},
		}},
		Markers: []DatadogMarker{datadogLine(o.ErrorRate, "error-rate")},
	}
}

func (o Objectives) datadogLatency(service string, place DatadogPlace) DatadogDefinition {
	request := DatadogRequest{ResponseFormat: "timeseries", DisplayType: "line"}
	for _, quantile := range []string{"p50", "p95", "p99"} {
		request.Queries = append(request.Queries, datadogQuery(quantile,
			fmt.Sprintf("%s:%s{env:%s,service:%s}", quantile, datadogSpans, place.Environment, service)))
		request.Formulas = append(request.Formulas, DatadogFormula{Formula: quantile, Alias: quantile})
	}
	return DatadogDefinition{
		Type: "timeseries", Title: "Latency, in seconds", Requests: []DatadogRequest{request},
		Markers: []DatadogMarker{
			datadogLine(o.P50.Seconds(), "p50"), datadogLine(o.LatencyThreshold.Seconds(), "latency"), datadogLine(o.P99.Seconds(), "p99"),
		},
	}
}

// datadogInfrastructure uses metrics that the agent and the cluster agent collect by themselves.
func datadogInfrastructure(service string, place DatadogPlace) []DatadogDefinition {
	pods := fmt.Sprintf("{kube_cluster_name:%s,kube_namespace:%s,pod_name:%s-*} by {pod_name}", place.Cluster, place.Namespace, service)
	return []DatadogDefinition{
		datadogSeries("CPU of the pods, in nanocores", datadogQuery("cpu", "sum:kubernetes.cpu.usage.total"+pods)),
		datadogSeries("Memory of the pods, in bytes", datadogQuery("memory", "sum:kubernetes.memory.usage"+pods)),
		datadogSeries("Restarts of containers", datadogQuery("restarts", "max:kubernetes.containers.restarts"+pods)),
		datadogSeries("Nodes, by readiness", datadogQuery("nodes",
			fmt.Sprintf("sum:kubernetes_state.node.by_condition{kube_cluster_name:%s,condition:ready} by {status}", place.Cluster))),
	}
}

func datadogAPM(service string, place DatadogPlace) []DatadogDefinition {
	where := fmt.Sprintf("env:%s service:%s", place.Environment, service)
	list := func(title, source string, columns ...string) DatadogDefinition {
		request := DatadogRequest{ResponseFormat: "event_list", Query: &DatadogSource{DataSource: source, QueryString: &where}}
		for _, column := range columns {
			request.Columns = append(request.Columns, DatadogColumn{column, "auto"})
		}
		return DatadogDefinition{Type: "list_stream", Title: title, Requests: []DatadogRequest{request}}
	}
	return []DatadogDefinition{
		{Type: "topology_map", Title: "Service map", Requests: []DatadogRequest{{RequestType: "topology",
			Query: &DatadogSource{DataSource: "service_map", Service: service, Filters: []string{"env:" + place.Environment}}}}},
		datadogSeries("Failed requests, by resource", datadogQuery("errors",
			fmt.Sprintf("sum:%s.errors{env:%s,service:%s} by {resource_name}.as_count()", datadogSpans, place.Environment, service))),
		list("Traces", "trace_stream", "timestamp", "service", "resource_name", "duration", "status_code"),
		list("Error tracking", "apm_issue_stream", "issue", "last_seen", "event_count"),
	}
}

func datadogQuery(name, query string) DatadogQuery {
	return DatadogQuery{DataSource: "metrics", Name: name, Query: query}
}

// datadogSeries is a panel of one query over time.
func datadogSeries(title string, query DatadogQuery) DatadogDefinition {
	return DatadogDefinition{Type: "timeseries", Title: title, Requests: []DatadogRequest{{
		ResponseFormat: "timeseries", DisplayType: "line",
		Formulas: []DatadogFormula{{Formula: query.Name}}, Queries: []DatadogQuery{query},
	}}}
}

func datadogLine(value float64, label string) DatadogMarker {
	return DatadogMarker{Value: "y = " + plain(value), Label: label, DisplayType: "error dashed"}
}

// plain writes a number without an exponent.
func plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

package slo

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// DatadogNamespace is what the agent puts before the names of the services' metrics.
const DatadogNamespace = "loja"

// A DatadogPlace is where Datadog finds a service: the value of the tag env, the cluster's
// name, and the namespace of the service's pods.
type DatadogPlace struct{ Environment, Cluster, Namespace string }

// A DatadogObject is an object of Datadog's API that follows from a service's objectives.
type DatadogObject struct {
	// Name is unique within an environment, and a name that Kubernetes accepts.
	Name string
	// Type is slo, monitor or dashboard.
	Type string
	// Spec is the body with which Datadog's API creates the object; encoding/json encodes it.
	Spec any
}

// DatadogSLO is the body of a metric-based SLO
// (https://docs.datadoghq.com/api/latest/service-level-objectives/).
type DatadogSLO struct {
	Name        string             `json:"name"`
	Type        string             `json:"type"`
	Description string             `json:"description"`
	Query       DatadogRatio       `json:"query"`
	Thresholds  []DatadogThreshold `json:"thresholds"`
	Tags        []string           `json:"tags"`
}

// DatadogRatio is the queries of good and of all requests.
type DatadogRatio struct {
	Numerator   string `json:"numerator"`
	Denominator string `json:"denominator"`
}

// DatadogThreshold is a target, in percent of good requests, over one of Datadog's timeframes.
type DatadogThreshold struct {
	Timeframe string  `json:"timeframe"`
	Target    float64 `json:"target"`
}

// DatadogMonitor is the body of a monitor (https://docs.datadoghq.com/api/latest/monitors/).
type DatadogMonitor struct {
	Name    string                `json:"name"`
	Type    string                `json:"type"`
	Query   string                `json:"query"`
	Message string                `json:"message"`
	Tags    []string              `json:"tags"`
	Options DatadogMonitorOptions `json:"options"`
}

// DatadogMonitorOptions says when a monitor alerts.
type DatadogMonitorOptions struct {
	Thresholds DatadogCritical `json:"thresholds"`
	// NotifyNoData alerts without data. Without requests no budget burns.
	NotifyNoData bool `json:"notify_no_data"`
	// NoDataTimeframe is after how many minutes.
	NoDataTimeframe int `json:"no_data_timeframe,omitempty"`
	// RequireFullWindow waits for data in the whole window: a new service would have no alert.
	RequireFullWindow bool `json:"require_full_window"`
	IncludeTags       bool `json:"include_tags"`
}

// DatadogCritical is the value above which a monitor alerts, as in its query.
type DatadogCritical struct {
	Critical float64 `json:"critical"`
}

// Datadog returns the objects of a service: an SLO for each objective, a monitor for each of
// its alerts, and a dashboard.
func (o Objectives) Datadog(service string, place DatadogPlace) []DatadogObject {
	var objects []DatadogObject
	for _, objective := range o.List() {
		objects = append(objects, DatadogObject{service + "-" + objective.Name, "slo", objective.datadogSLO(service, place)})
		for _, alert := range objective.Alerts() {
			name := strings.Join([]string{service, objective.Name, alert.Severity, span(alert.Long)}, "-")
			objects = append(objects, DatadogObject{name, "monitor", objective.datadogMonitor(service, place, alert)})
		}
	}
	return append(objects, DatadogObject{service + "-overview", "dashboard", o.datadogDashboard(service, place)})
}

// datadogTimeframe is the shortest timeframe of a Datadog SLO that contains the window: an SLO
// has 7, 30 or 90 days.
func datadogTimeframe(window time.Duration) string {
	if window <= 7*day {
		return "7d"
	}
	return "30d"
}

func (o Objective) datadogTags(service string, place DatadogPlace, more ...string) []string {
	return append([]string{"service:" + service, "env:" + place.Environment, "objective:" + o.Name, "managed-by:loja-veloz"}, more...)
}

func (o Objective) datadogSLO(service string, place DatadogPlace) DatadogSLO {
	counts := o.Indicator.datadogCounts(service, place)
	description := fmt.Sprintf("%v %% over %s: a budget of %s.", o.Target(), Period(o.Window), o.Budget())
	timeframe := datadogTimeframe(o.Window)
	if timeframe != Period(o.Window) {
		description += fmt.Sprintf(" Datadog has no such timeframe and computes it over %s; the monitors are those of %s.",
			timeframe, Period(o.Window))
	}
	return DatadogSLO{
		Name: fmt.Sprintf("%s: %s (%s)", service, o.Name, place.Environment), Type: "metric", Description: description,
		Query:      DatadogRatio{Numerator: counts.expand(counts.good), Denominator: counts.expand(counts.total)},
		Thresholds: []DatadogThreshold{{Timeframe: timeframe, Target: o.Target()}},
		Tags:       o.datadogTags(service, place),
	}
}

// datadogMonitor alerts by the long window of an alert. Only a composite monitor has a second
// window; it needs the identities of its parts, which Datadog assigns when it creates them.
func (o Objective) datadogMonitor(service string, place DatadogPlace, a Alert) DatadogMonitor {
	counts := o.Indicator.datadogCounts(service, place)
	limit := round(a.Burn * o.Tolerated)
	return DatadogMonitor{
		Name: fmt.Sprintf("%s spends its %s budget %v times too fast over %s (%s)", service, o.Name, a.Burn, span(a.Long),
			place.Environment),
		Type:  "query alert",
		Query: fmt.Sprintf("sum(last_%s):%s > %s", span(a.Long), counts.expand(counts.bad+" / "+counts.total), plain(limit)),
		Message: fmt.Sprintf("%s promises %v %% over %s, a budget of %s. At this rate %.0f %% of it is gone within %s.",
			service, o.Target(), Period(o.Window), o.Budget(), a.Share(o.Window), span(a.Long)),
		Tags:    o.datadogTags(service, place, "severity:"+a.Severity),
		Options: DatadogMonitorOptions{Thresholds: DatadogCritical{limit}},
	}
}

// span writes the window of an alert: in minutes below an hour, otherwise in hours, of which
// Datadog allows 168.
func span(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// datadogCounts are a service's good, bad and all requests as formulas of queries, of which
// Datadog takes the sums over the time that is asked for.
type datadogCounts struct {
	good, bad, total string
	queries          []DatadogQuery
}

// datadogCounts uses what the agent's OpenMetrics check sends of a histogram: the counts
// NAME.count, .sum and .bucket, and the label le as the tag upper_bound
// (https://docs.datadoghq.com/integrations/guide/prometheus-metrics/). They are the numbers
// that Prometheus would have, so both judge a request alike.
func (i Indicator) datadogCounts(service string, place DatadogPlace) datadogCounts {
	count := func(name, suffix, outcome, more string) DatadogQuery {
		return datadogQuery(name, fmt.Sprintf("sum:%s%s{env:%s,%s:%s,%s:%s%s}.as_count()", datadogMetric, suffix, place.Environment,
			labelService, service, labelOutcome, outcome, more))
	}
	ok := count("ok", ".count", outcomeOK, "")
	if i.SlowerThan > 0 {
		return datadogCounts{"fast", "(ok - fast)", "ok", []DatadogQuery{
			ok, count("fast", ".bucket", outcomeOK, ",upper_bound:"+bound(i.SlowerThan)),
		}}
	}
	return datadogCounts{"ok", "error", "(ok + error)", []DatadogQuery{ok, count("error", ".count", outcomeError, "")}}
}

// expand replaces the names in a formula by their queries, for SLOs and monitors.
func (c datadogCounts) expand(formula string) string {
	var names []string
	for _, q := range c.queries {
		names = append(names, q.Name, q.Query)
	}
	return strings.NewReplacer(names...).Replace(formula)
}

const datadogMetric = DatadogNamespace + "." + Metric

// The kind of Datadog's operator in which a DatadogObject is created
// (https://github.com/DataDog/datadog-operator, docs/datadoggenericresource). Its spec has the
// fields type, and jsonSpec with the API's body as a string.
const (
	DatadogAPIVersion = "datadoghq.com/v1alpha1"
	DatadogKind       = "DatadogGenericResource"
)

// JSON returns Spec as Datadog's API reads it.
func (o DatadogObject) JSON() (string, error) {
	var body strings.Builder
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // a person reads the queries, which compare with >
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(o.Spec); err != nil {
		return "", fmt.Errorf("encoding Datadog's %s %s: %w", o.Type, o.Name, err)
	}
	return body.String(), nil
}

package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/DataDog/datadog-api-client-go/v2/api/datadog"
	"github.com/DataDog/datadog-api-client-go/v2/api/datadogV1"

	"github.com/loja-veloz/platform/infra/slo"
)

// read decodes a body as Datadog's operator does, which answers errors only in the object's
// status, and returns what Datadog's client does not know of it.
func read(kind, body string) error {
	var into any
	switch kind {
	case "slo":
		into = &datadogV1.ServiceLevelObjectiveRequest{}
	case "monitor":
		into = &datadogV1.Monitor{}
	case "dashboard":
		into = &datadogV1.Dashboard{}
	default:
		return fmt.Errorf("the operator has no type %q", kind)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		return err
	}
	if unparsed, what := datadog.ContainsUnparsedObject(into); unparsed {
		return fmt.Errorf("Datadog's client cannot read %v", what)
	}
	return unknown(reflect.ValueOf(into))
}

// unknown finds fields that no type of Datadog's client has.
func unknown(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return unknown(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := unknown(v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		if more := v.FieldByName("AdditionalProperties"); more.IsValid() && more.Len() > 0 {
			return fmt.Errorf("%s has no field %v", v.Type(), more.MapKeys())
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				if err := unknown(v.Field(i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func TestDatadogReadsEveryObject(t *testing.T) {
	names := map[string]bool{}
	for _, service := range services(t, "") {
		count := map[string]int{}
		for _, o := range slo.Objectives(*service.Objectives).Datadog(service.Name, place("dev")) {
			body, err := o.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if err := read(o.Type, body); err != nil {
				t.Errorf("%s: %v\n%s", o.Name, err, body)
			}
			if names[o.Name] {
				t.Errorf("there are two objects %s", o.Name)
			}
			names[o.Name] = true
			count[o.Type]++
		}
		if count["slo"] != 3 || count["monitor"] != 12 || count["dashboard"] != 1 {
			t.Errorf("%s has %v, want an SLO and four monitors for each of three objectives, and a dashboard", service.Name, count)
		}
	}
	for _, alarm := range slo.Alarms(true) {
		o := alarm.Datadog(place("dev"))
		body, err := o.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := read(o.Type, body); err != nil {
			t.Errorf("%s: %v\n%s", o.Name, err, body)
		}
		if names[o.Name] {
			t.Errorf("there are two objects %s", o.Name)
		}
		names[o.Name] = true
	}
}

// TestDatadogAsksForWhatPrometheusAsks: the agent sends a counter without _total, and what
// programs push under their own names.
func TestDatadogAsksForWhatPrometheusAsks(t *testing.T) {
	want := map[string]string{
		"audit-violation": "min(last_3m):max:audit_violations{env:dev} by {invariant} >= 1",
		"audit-not-whole": "min(last_3m):max:audit_whole_age_seconds{env:dev} >= 90000",
		"audit-stale":     "max(last_10m):max:audit_last_success_timestamp_seconds{env:dev} < 1",
		"background-work-fails": "min(last_10m):moving_rollup(" +
			"sum:loja.background_failures.count{env:dev} by {service,task}.as_count(), 300, 'sum') >= 2",
		"payments-need-person": "min(last_10m):moving_rollup(max:loja.payments_needing_person{env:dev}, 300, 'max') >= 1",
		"payments-overdue":     "min(last_15m):moving_rollup(max:loja.payments_overdue{env:dev}, 300, 'max') >= 1",
	}
	for _, alarm := range slo.Alarms(true) {
		o := alarm.Datadog(place("dev"))
		body := o.Spec.(slo.DatadogMonitor)
		if body.Query != want[o.Name] {
			t.Errorf("%s asks for %s, want %s", o.Name, body.Query, want[o.Name])
		}
		if limit := fmt.Sprintf(" %v", body.Options.Thresholds.Critical); !strings.HasSuffix(body.Query, limit) {
			t.Errorf("%s alerts at another value than%s: %s", o.Name, limit, body.Query)
		}
		if stale := o.Name == "audit-stale"; body.Options.NotifyNoData != stale || (body.Options.NoDataTimeframe == 25) != stale {
			t.Errorf("%s without data: %+v", o.Name, body.Options)
		}
		if severity := "severity:" + alarm.Severity; !slices.Contains(body.Tags, severity) || !slices.Contains([]string{"page", "ticket"}, alarm.Severity) {
			t.Errorf("%s has the tags %v", o.Name, body.Tags)
		}
		delete(want, o.Name)
	}
	if len(want) > 0 {
		t.Errorf("there are no monitors %v", want)
	}
}

func TestWhatDatadogDoesNotReadIsFound(t *testing.T) {
	for body, kind := range map[string]string{
		`{"name":"a","type":"metric","thresholds":[{"timeframe":"24h","target":99}]}`:                                      "slo",
		`{"name":"a","type":"metric","thresholds":[{"timeframe":"7d","target":99}],"treshold":1}`:                          "slo",
		`{"name":"a","type":"query","query":"q"}`:                                                                          "monitor",
		`{"title":"a","layout_type":"ordered","widgets":[{"definition":{"type":"timeserie","requests":[]}}]}`:              "dashboard",
		`{"title":"a","layout_type":"ordered","widgets":[{"definition":{"type":"timeseries","requests":[],"marker":[]}}]}`: "dashboard",
	} {
		if err := read(kind, body); err == nil {
			t.Errorf("a %s %s is accepted", kind, body)
		}
	}
}

// TestEachGroupOfTheDashboard: the dashboard has the three groups of the seed's.
func TestEachGroupOfTheDashboard(t *testing.T) {
	for _, o := range slo.Objectives(*services(t, "objectives: {}")[0].Objectives).Datadog("shop", place("dev")) {
		if o.Type != "dashboard" {
			continue
		}
		var groups []string
		for _, w := range o.Spec.(slo.DatadogDashboard).Widgets {
			groups = append(groups, w.Definition.Title)
		}
		if got := strings.Join(groups, ", "); got != "Overview, Infrastructure, APM" {
			t.Errorf("the groups are %s", got)
		}
	}
}

// TestDatadogCountsWhatPrometheusCounts: a query without the objective's bucket or outcome
// would count other requests.
func TestDatadogCountsWhatPrometheusCounts(t *testing.T) {
	const (
		metric = "sum:loja.sli_request_duration_seconds"
		ok     = metric + ".count{env:dev,service:shop,outcome:ok}.as_count()"
		failed = metric + ".count{env:dev,service:shop,outcome:error}.as_count()"
		fast   = metric + ".bucket{env:dev,service:shop,outcome:ok,upper_bound:1.0}.as_count()"
	)
	want := map[string]any{
		"shop-availability":     slo.DatadogRatio{Numerator: ok, Denominator: "(" + ok + " + " + failed + ")"},
		"shop-latency":          slo.DatadogRatio{Numerator: fast, Denominator: ok},
		"shop-latency-page-30m": "sum(last_30m):(" + ok + " - " + fast + ") / " + ok + " > 0.72",
	}
	objectives := slo.Objectives(*services(t, "objectives: {latency: {threshold: 1s}, p99: 1s}")[0].Objectives)
	for _, o := range objectives.Datadog("shop", place("dev")) {
		var got any
		switch body := o.Spec.(type) {
		case slo.DatadogSLO:
			got = body.Query
		case slo.DatadogMonitor:
			got = body.Query
			if limit := fmt.Sprintf(" > %v", body.Options.Thresholds.Critical); !strings.HasSuffix(body.Query, limit) {
				t.Errorf("%s alerts at another value than%s: %s", o.Name, limit, body.Query)
			}
		}
		if w, there := want[o.Name]; there && got != w {
			t.Errorf("%s asks for %+v, want %+v", o.Name, got, w)
		}
		delete(want, o.Name)
	}
	if len(want) > 0 {
		t.Errorf("there are no objects for %v", want)
	}
}

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

// services reads declarations: those of the shop, or one service shop.
func services(t *testing.T, declaration string) []catalogue.Program {
	t.Helper()
	files := os.DirFS("../../apps")
	if declaration != "" {
		files = fstest.MapFS{"shop/service.yaml": {Data: []byte("port: 8081\n" + declaration)}}
	}
	programs, err := catalogue.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return programs.Services()
}

func rules(t *testing.T, declaration string) string {
	t.Helper()
	content, err := Rules(t.Context(), services(t, declaration))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestTheRulesAreUpToDate(t *testing.T) {
	if rules(t, "") != slo.PrometheusRules {
		t.Error("infra/slo/objectives.yaml is not what apps/*/service.yaml says: run make generate")
	}
}

func TestTheDocumentsAreUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../docs/slo.md")
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := defaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	written, err := Docs(string(page), defaults, services(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if written != string(page) {
		t.Error("the tables of docs/slo.md are not what the objectives say: run make generate")
	}
	if _, err := Docs("no table", defaults, nil); err == nil {
		t.Error("a page without tables is accepted")
	}
}

func TestPrometheusAcceptsTheRules(t *testing.T) {
	groups, errs := rulefmt.Parse([]byte(slo.PrometheusRules), false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if want := 5 * 3 * 3; len(groups.Groups) != want {
		t.Errorf("%d groups, want recordings, metadata and alerts of 3 objectives for 5 services", len(groups.Groups))
	}
	if strings.Contains(slo.PrometheusRules, "sum_over_time") {
		t.Error("a ratio is an average of ratios")
	}
}

// TestOneTargetChangesEverything: each promise is written once, and what follows from it
// changes with it.
func TestOneTargetChangesEverything(t *testing.T) {
	for declaration, want := range map[string]string{
		"objectives: {availability: {percent: 99.5}}": "99.5",
		"objectives: {latency: {threshold: 300ms}}":   `le="0.3"`,
		"objectives: {latency: {percent: 97}}":        "97",
		"objectives: {errorRate: {window: 7d}}":       "7d",
		"objectives: {errorRate: {percent: 0.05}}":    "99.95",
	} {
		before, after := rules(t, "objectives: {}"), rules(t, declaration)
		if before == after || strings.Count(after, want) <= strings.Count(before, want) {
			t.Errorf("%s: the rules do not have %s", declaration, want)
		}
		document := func(declaration string) string {
			content, err := OpenSLO(services(t, declaration)[0])
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
		if document("objectives: {}") == document(declaration) {
			t.Errorf("%s: the OpenSLO documents do not change", declaration)
		}
		board := func(declaration string) string {
			content, err := Grafana(services(t, declaration))
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
		if board("objectives: {}") == board(declaration) {
			t.Errorf("%s: Grafana's dashboard does not change", declaration)
		}
		// In the documents a service's own objective changes its row, and a default the others.
		defaults := slo.Objectives(*services(t, "objectives: {}")[0].Objectives)
		changed := services(t, declaration)
		if servicesTable(defaults, services(t, "objectives: {}")) == servicesTable(defaults, changed) {
			t.Errorf("%s: the service's row in the documents does not change", declaration)
		}
		if defaultsTable(defaults) == defaultsTable(slo.Objectives(*changed[0].Objectives)) {
			t.Errorf("%s: the table of the defaults does not change", declaration)
		}
		for _, kind := range []string{"slo", "monitor", "dashboard"} {
			objects := func(declaration string) string {
				var text strings.Builder
				for _, o := range slo.Objectives(*services(t, declaration)[0].Objectives).Datadog("shop", place("dev")) {
					if o.Type == kind {
						body, err := o.JSON()
						if err != nil {
							t.Fatal(err)
						}
						text.WriteString(body)
					}
				}
				return text.String()
			}
			if objects("objectives: {}") == objects(declaration) {
				t.Errorf("%s: no %s of Datadog changes", declaration, kind)
			}
		}
		template := func(declaration string) string {
			var text bytes.Buffer
			for _, c := range slo.Objectives(*services(t, declaration)[0].Objectives).Criteria() {
				for _, rule := range c.Rules("shop") {
					text.WriteString(rule.Expr)
				}
				text.WriteString(c.Prometheus("shop", "hash") + c.PrometheusNeeded("shop", "hash") + c.Describe())
			}
			return text.String()
		}
		// The window of an objective is none of a canary's.
		if !strings.Contains(declaration, "window") && !strings.Contains(declaration, "availability") &&
			template("objectives: {}") == template(declaration) {
			t.Errorf("%s: the canary's criteria do not change", declaration)
		}
	}
}

func TestObjectivesThatAreRefused(t *testing.T) {
	_, err := Rules(context.Background(), services(t, "objectives: {latency: {percent: 50}}"))
	if err == nil || !strings.Contains(err.Error(), "apps/shop/service.yaml: objectives: latency.percent is 50") {
		t.Errorf("the error is %v", err)
	}
}

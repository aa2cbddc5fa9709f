//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/rollout/jaeger"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/tools/internal/cluster"
)

// tracesOf returns Jaeger's answer about an order, as text, and the first trace.
func tracesOf(t *testing.T, order string) (text string, first jaeger.Trace) {
	t.Helper()
	query, err := jaeger.OfOrder(order)
	if err != nil {
		t.Fatal(err)
	}
	response, body := fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d%s?%s", cluster.JaegerPort, jaeger.Path, query.Encode()), "")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("Jaeger answers %s: %s", response.Status, body)
	}
	traces, err := jaeger.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(traces) > 0 {
		first = traces[0]
	}
	return body, first
}

// versions are the services of a trace with their versions.
func versions(trace jaeger.Trace) map[string]string {
	found := map[string]string{}
	trace.Walk(func(s *jaeger.Span, _ int) { found[s.Service] = s.Version })
	return found
}

// plantedAddress is sent wherever a client of the edge can send a text.
const plantedAddress = "planted@example.com"

// plant sends the address in paths, a query, headers and a body.
func plant(t *testing.T) {
	t.Helper()
	for _, path := range []string{
		"/api/pedidos/", "/api/pagamentos/", "/api/estoque/", "/api/pedidos?cursor=", "/echo/", "/orders/", "/",
	} {
		body := `{"` + plantedAddress + `":"` + plantedAddress + `"}`
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path+plantedAddress, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("User-Agent", "e2e (+mailto:"+plantedAddress+")")
		request.Header.Set("Tracestate", "shop=planted")
		for _, name := range []string{"Baggage", "From", "Referer", "X-Request-Id", "X-Forwarded-For", "Client-Id"} {
			request.Header.Set(name, "user="+plantedAddress)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
}

// TestAnOrderIsObserved starts with the id of an order, and finds its trace across all
// services, their log lines and an exemplar of a metric. The card's token and an e-mail address
// that was sent before are in none of them.
func TestAnOrderIsObserved(t *testing.T) {
	needsCluster(t)
	const token = "tok_approved"
	plant(t)
	o := place(t, token)
	var trace jaeger.Trace
	eventually(t, time.Minute, "Jaeger has the whole trace", func() error {
		_, trace = tracesOf(t, o.ID)
		for _, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos"} {
			if versions(trace)[service] == "" {
				return fmt.Errorf("the trace has no span of %s with its version: %v", service, versions(trace))
			}
		}
		return nil
	})
	if trace.ID == strangersTrace {
		t.Error("the order's trace has the id that its client chose")
	}
	var spans string
	eventually(t, time.Minute, "Jaeger has the requests with the address", func() error {
		spans = ""
		for _, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos", "sample-web-app"} {
			_, text := fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d%s?service=%s&limit=500", cluster.JaegerPort, jaeger.Path, service), "")
			spans += text
		}
		for _, path := range []string{`"/pedidos/*"`, `"/echo/*"`} {
			if !strings.Contains(spans, path) {
				return fmt.Errorf("no span has the path %s", path)
			}
		}
		return nil
	})
	var logs string
	// kubectl fails when a pod of the audit's Jobs goes after it has listed it.
	eventually(t, time.Minute, "kubectl reads all logs", func() error {
		all, err := kubectl("-n", "shop", "logs", "-l", "app.kubernetes.io/part-of=loja-veloz", "--tail=-1", "--max-log-requests=50")
		logs = string(all)
		return err
	})
	for _, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos"} {
		if !slices.ContainsFunc(strings.Split(logs, "\n"), func(line string) bool {
			return strings.Contains(line, trace.ID) && strings.Contains(line, fmt.Sprintf(`"service":%q`, service))
		}) {
			t.Errorf("no log line of %s has the trace %s", service, trace.ID)
		}
	}
	var metrics string
	eventually(t, time.Minute, "an exemplar has a trace", func() error {
		_, metrics = fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d/api/v1/query_exemplars?query=sli_request_duration_seconds_bucket&start=%d&end=%d",
			cluster.PrometheusPort, time.Now().Add(-time.Hour).Unix(), time.Now().Unix()), "")
		if !strings.Contains(metrics, `"trace_id":"`) {
			return fmt.Errorf("the exemplars are %.200s", metrics)
		}
		return nil
	})
	_, series := fetch(t, http.MethodGet, fmt.Sprintf(`http://localhost:%d/api/v1/series?match[]={__name__=~".%%2B"}`, cluster.PrometheusPort), "")
	if !strings.Contains(series, `"__name__":"sli_request_duration_seconds_count"`) {
		t.Fatalf("Prometheus lists no series: %.200s", series)
	}
	for where, text := range map[string]string{"spans": spans, "logs": logs, "exemplars": metrics, "series": series} {
		for what, secret := range map[string]string{"the card's token": token, "a client's address": "planted"} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the %s contain %s: %s", where, what, text[max(0, at-200):min(len(text), at+100)])
			}
		}
	}
}

// TestMetricsThatDocsName: Prometheus has what the audit pushes and what the collector computes
// from spans.
func TestMetricsThatDocsName(t *testing.T) {
	needsCluster(t)
	for _, name := range []string{
		"audit_last_success_timestamp_seconds", "audit_violations", "traces_span_metrics_calls_total",
		"traces_span_metrics_duration_milliseconds_bucket",
	} {
		eventually(t, 3*time.Minute, "Prometheus has "+name, func() error {
			_, body := fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d/api/v1/query?query=count(%s)", cluster.PrometheusPort, name), "")
			if !strings.Contains(body, `"value":[`) {
				return fmt.Errorf("its answer is %s", body)
			}
			return nil
		})
	}
}

// TestPrometheusEvaluatesTheAlarms: the cluster's Prometheus has the rules of this version, and no
// error.
func TestPrometheusEvaluatesTheAlarms(t *testing.T) {
	needsCluster(t)
	eventually(t, 3*time.Minute, "Prometheus evaluates all rules", func() error {
		_, body := fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d/api/v1/rules", cluster.PrometheusPort), "")
		var answer struct {
			Data struct {
				Groups []struct {
					Name  string
					Rules []struct{ Name, Query, Health, LastError string }
				}
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			return err
		}
		evaluated := map[string]bool{}
		for _, group := range answer.Data.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return fmt.Errorf("the rule %s of %s is %s: %s (%s)", rule.Name, group.Name, rule.Health, rule.LastError, rule.Query)
				}
				evaluated[rule.Name] = true
			}
		}
		for _, alarm := range slo.Alarms(true) {
			if !evaluated[alarm.Name] {
				return fmt.Errorf("it has no rule %s", alarm.Name)
			}
		}
		return nil
	})
}

// TestTheCostOfRulesIsPrinted: make cluster-status says what the evaluation of the rules takes.
func TestTheCostOfRulesIsPrinted(t *testing.T) {
	needsCluster(t)
	eventually(t, 3*time.Minute, "make cluster-status prints the cost", func() error {
		out := start(t, "make", "--no-print-directory", "cluster-status").wait(t, time.Minute, true)
		if !ruleCost.MatchString(out) {
			return fmt.Errorf("it prints\n%s", out)
		}
		return nil
	})
}

var ruleCost = regexp.MustCompile(`rules of Prometheus: evaluations of \d+\.\d s per minute; processor time of the whole process \d+\.\d s per minute`)

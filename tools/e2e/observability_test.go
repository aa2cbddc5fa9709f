//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	queries "net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/cluster"
)

// tracesOf returns Jaeger's answer about an order, as text, and the first trace.
func tracesOf(t *testing.T, order string) (text string, first jaegerTrace) {
	t.Helper()
	now := time.Now()
	query := queries.Values{
		"service": {"pedidos"}, "tags": {fmt.Sprintf(`{"order.id":%q}`, order)}, "limit": {"20"},
		"start": {fmt.Sprint(now.Add(-time.Hour).UnixMicro())}, "end": {fmt.Sprint(now.UnixMicro())},
	}
	response, body := fetch(t, http.MethodGet, fmt.Sprintf("http://localhost:%d/api/traces?%s", cluster.JaegerPort, query.Encode()), "")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("Jaeger answers %s: %s", response.Status, body)
	}
	var answer struct{ Data []jaegerTrace }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) > 0 {
		first = answer.Data[0]
	}
	return body, first
}

type jaegerTrace struct {
	TraceID   string
	Processes map[string]struct {
		ServiceName string
		Tags        []struct {
			Key   string
			Value any
		}
	}
}

// versions are the services of a trace with their versions.
func (j jaegerTrace) versions() map[string]string {
	found := map[string]string{}
	for _, p := range j.Processes {
		for _, tag := range p.Tags {
			if tag.Key == "service.version" {
				found[p.ServiceName] = fmt.Sprint(tag.Value)
			}
		}
	}
	return found
}

// TestAnOrderIsObserved starts with the id of an order, and finds its trace across all
// services, their log lines and an exemplar of a metric. The card's token is in none of them.
func TestAnOrderIsObserved(t *testing.T) {
	needsCluster(t)
	const token = "tok_approved"
	o := place(t, token)
	var spans string
	var trace jaegerTrace
	eventually(t, time.Minute, "Jaeger has the whole trace", func() error {
		spans, trace = tracesOf(t, o.ID)
		for _, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos"} {
			if trace.versions()[service] == "" {
				return fmt.Errorf("the trace has no span of %s with its version: %v", service, trace.versions())
			}
		}
		return nil
	})
	logs := must(t, "-n", "shop", "logs", "-l", "app.kubernetes.io/part-of=loja-veloz", "--tail=-1", "--max-log-requests=50")
	for _, service := range []string{"api-gateway", "estoque", "pagamentos", "pedidos"} {
		if !slices.ContainsFunc(strings.Split(logs, "\n"), func(line string) bool {
			return strings.Contains(line, trace.TraceID) && strings.Contains(line, fmt.Sprintf(`"service":%q`, service))
		}) {
			t.Errorf("no log line of %s has the trace %s", service, trace.TraceID)
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
		if strings.Contains(text, token) {
			t.Errorf("the %s contain the card's token", where)
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

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/loja-veloz/platform/apps/audit/invariant"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// environment returns the settings of an audit of three databases without orders, and one
// of the databases.
func environment(t *testing.T) (map[string]string, postgrestest.Database) {
	t.Helper()
	env := map[string]string{}
	var pagamentos postgrestest.Database
	for _, service := range []string{"pedidos", "pagamentos", "estoque"} {
		d := postgrestest.New(t, os.DirFS("../"+service+"/migrations"))
		env["AUDIT_"+strings.ToUpper(service)+"_DATABASE_URL"] = d.AuditorURL
		if service == "pagamentos" {
			pagamentos = d
		}
	}
	return env, pagamentos
}

func get(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

// captureWithoutOrder violates one invariant.
func captureWithoutOrder(t *testing.T, pagamentos postgrestest.Database) {
	t.Helper()
	if _, err := pagamentos.Pool.Exec(t.Context(), `
		INSERT INTO pagamentos (order_id, state, amount, currency, capture, fingerprint, acquirer, acquirer_reference)
		VALUES ('00000000-0000-7000-8000-000000000003', 'captured', 1, 'BRL', true, '\x00', 'stripe', 'r3')`); err != nil {
		t.Fatal(err)
	}
}

func TestRunReportsEveryWrongSettingAndDoesNotStart(t *testing.T) {
	env := map[string]string{
		"AUDIT_ESTOQUE_DATABASE_URL": "postgres://user:hunter2@db:port/x", "AUDIT_EVERY": "often", "AUDIT_WHOLE_EVERY": "25h",
	}
	err := run(t.Context(), []string{"once"}, get(env), io.Discard)
	for _, name := range []string{
		"once", "AUDIT_PEDIDOS_DATABASE_URL", "AUDIT_PAGAMENTOS_DATABASE_URL", "AUDIT_ESTOQUE_DATABASE_URL", "AUDIT_EVERY", "AUDIT_WHOLE_EVERY",
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("run = %v, want an error that names %s", err, name)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a password: %v", err)
	}
}

// One run prints the report, fails if an invariant is violated, and sends its metrics
// before it ends.
func TestOneRunReportsAndSendsMetrics(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]float64{} // by metric and invariant
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request metricspb.ExportMetricsServiceRequest
		if err != nil || r.URL.Path != "/v1/metrics" || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "not an OTLP metrics request", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range request.GetResourceMetrics()[0].GetScopeMetrics()[0].GetMetrics() {
			for _, point := range m.GetGauge().GetDataPoints() {
				name := m.GetName()
				for _, label := range point.GetAttributes() {
					name += " " + label.GetValue().GetStringValue()
				}
				sent[name] = point.GetAsDouble()
			}
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL) // the exporter reads it from the environment

	env, pagamentos := environment(t)
	env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.URL
	var out bytes.Buffer
	if err := run(t.Context(), nil, get(env), &out); err != nil || !strings.Contains(out.String(), "0 orders") {
		t.Errorf("run = %v\n%s", err, out.String())
	}
	if v, there := sent["audit_violations capture_has_order"]; !there || v != 0 {
		t.Errorf("the collector got %v, want no violation", sent)
	}
	captureWithoutOrder(t, pagamentos)
	began := time.Now()
	out.Reset()
	err := run(t.Context(), nil, get(env), &out)
	if !errors.Is(err, invariant.ErrViolated) || !strings.Contains(out.String(), "VIOLATED capture_has_order (1)") {
		t.Errorf("run = %v\n%s", err, out.String())
	}
	if sent["audit_violations capture_has_order"] != 1 || sent["audit_last_success_timestamp_seconds"] < float64(began.Unix()) {
		t.Errorf("the collector got %v, want one violation, now", sent)
	}
}

// With AUDIT_WHOLE_EVERY, the second of two audits reads what has changed. Without it, each reads everything.
func TestAuditsReadWhatHasChanged(t *testing.T) {
	env, pagamentos := environment(t)
	env["OTEL_METRICS_EXPORTER"] = "none"
	for _, want := range []struct{ every, prints string }{
		{"1h", "a whole audit (there is no checkpoint): all 0 were read"},
		{"1h", "an audit of what has changed: 0 were read"},
		{"", "a whole audit (as asked for): all 0 were read"},
		{"1h", "an audit of what has changed: 0 were read"},
	} {
		env["AUDIT_WHOLE_EVERY"] = want.every
		var out bytes.Buffer
		if err := run(t.Context(), nil, get(env), &out); err != nil || !strings.Contains(out.String(), want.prints) {
			t.Errorf("run = %v, and not %q in\n%s", err, want.prints, out.String())
		}
	}
	captureWithoutOrder(t, pagamentos)
	for range 2 {
		var out bytes.Buffer
		err := run(t.Context(), nil, get(env), &out)
		if !errors.Is(err, invariant.ErrViolated) || !strings.Contains(out.String(), "an audit of what has changed: 1 were read") {
			t.Errorf("run = %v\n%s", err, out.String())
		}
	}
}

// An unreachable collector does not make the audit fail.
func TestFailingToSendMetricsDoesNotFailTheAudit(t *testing.T) {
	down := httptest.NewServer(nil)
	down.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", down.URL)
	env, _ := environment(t)
	env["OTEL_EXPORTER_OTLP_ENDPOINT"] = down.URL
	var out bytes.Buffer
	if err := run(t.Context(), nil, get(env), &out); err != nil || !strings.Contains(out.String(), "sending the audit's metrics failed") {
		t.Errorf("run = %v\n%s", err, out.String())
	}
}

// With AUDIT_EVERY the process audits until it is stopped, serves its metrics, and logs
// violations.
func TestWithAuditEveryItKeepsAuditing(t *testing.T) {
	env, pagamentos := environment(t)
	captureWithoutOrder(t, pagamentos)
	env["AUDIT_EVERY"], env["PORT"], env["BIND_ADDRESS"], env["DRAIN_PAUSE"] = "1s", "0", "127.0.0.1", "0s"
	lines, out := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, nil, get(env), out)
		_ = out.Close()
		ended <- err
	}()
	address, found := watch(t, lines, "an invariant is violated")
	if !found {
		t.Fatalf("no violation is logged: %v", <-ended)
	}
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if want := `audit_violations{invariant="capture_has_order",service="audit"} 1`; err != nil || !strings.Contains(string(body), want) {
		t.Errorf("no %s in\n%s", want, body)
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	if err := <-ended; err != nil {
		t.Errorf("run = %v", err)
	}
}

// watch reads log lines until one has the message, and returns the address on which the
// server listens.
func watch(t *testing.T, log io.Reader, message string) (address string, found bool) {
	t.Helper()
	lines := json.NewDecoder(log)
	for {
		var line struct{ Message, Address string }
		if err := lines.Decode(&line); err != nil {
			return address, false
		}
		if line.Message == "listening" {
			address = line.Address
		}
		if line.Message == message {
			return address, true
		}
	}
}

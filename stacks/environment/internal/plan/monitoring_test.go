package plan

import (
	"testing"

	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

func TestTheConsoleNeedsPrometheus(t *testing.T) {
	for _, c := range []struct{ prometheus, console, want bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		cfg := config.Defaults(nil)
		cfg.Prometheus.Install, cfg.Console.Install = c.prometheus, c.console
		m := NewMonitoring(cfg, nil)
		if got := m.Console(&Plan{}) != nil; got != c.want {
			t.Errorf("with prometheus.install %v and console.install %v there is a console: %v", c.prometheus, c.console, got)
		}
		if c.prometheus && len(m.prometheus.Clients) != map[bool]int{false: 1, true: 2}[c.want] {
			t.Errorf("with console.install %v Prometheus admits %v", c.console, m.prometheus.Clients)
		}
		if got := m.Metrics() != nil; got != c.prometheus {
			t.Errorf("with prometheus.install %v canaries are judged: %v", c.prometheus, got)
		}
	}
}

// TestAnAlarmNeedsItsMetrics: what programs push reaches Prometheus by the collector alone, and
// without it the alarm that misses an audit would always fire.
func TestAnAlarmNeedsItsMetrics(t *testing.T) {
	for _, traces := range []*observability.TracesSpec{nil, {Namespace: TracingNamespace}} {
		cfg := config.Defaults(nil)
		cfg.Prometheus.Install = true
		found := map[string]bool{}
		for _, alarm := range NewMonitoring(cfg, traces).Prometheus(&Plan{}).Alarms {
			found[alarm.Name] = true
		}
		if !found["PaymentsOverdue"] || found["AuditStale"] != (traces != nil) || found["AuditViolation"] != (traces != nil) {
			t.Errorf("with the collector %v there are the alarms %v", traces != nil, found)
		}
	}
}

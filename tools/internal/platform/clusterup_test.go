package platform

import (
	"testing"
	"time"
)

func TestRuleCost(t *testing.T) {
	const metrics = `# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 10.5
process_start_time_seconds 1.7e+09
prometheus_rule_evaluation_duration_seconds{quantile="0.99"} 2.11
prometheus_rule_evaluation_duration_seconds_sum 30
`
	now := time.Unix(1_700_000_300, 0)
	want := "rules of Prometheus: evaluations of 6.0 s per minute; processor time of the whole process 2.1 s per minute"
	if got := ruleCost(metrics, now); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := ruleCost("process_start_time_seconds 1.7e+09", now), "rules of Prometheus: not evaluated yet"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

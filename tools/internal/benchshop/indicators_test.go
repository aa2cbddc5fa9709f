package benchshop

import (
	"strings"
	"testing"
)

func TestMetricsAreSummedByTheirLabels(t *testing.T) {
	const text = `# HELP sli_request_duration_seconds ...
sli_request_duration_seconds_bucket{outcome="ok",service="a b",le="0.1"} 7
sli_request_duration_seconds_bucket{outcome="ok",service="a b",le="+Inf"} 9
sli_request_duration_seconds_count{outcome="ok",service="a b"} 9
sli_request_duration_seconds_count{outcome="error",service="a b"} 2
up 1
`
	m, err := readMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	change := m.minus(metrics{`sli_request_duration_seconds_count{outcome="ok",service="a b"}`: 4})
	if got := change.sum("sli_request_duration_seconds_count", `outcome="ok"`); got != 5 {
		t.Errorf("%v answers, want 5", got)
	}
	if got := m.sum("sli_request_duration_seconds_count"); got != 11 {
		t.Errorf("%v answers of all outcomes, want 11", got)
	}
	if got := m.sum("sli_request_duration_seconds_bucket", `outcome="ok"`, `le="0.1"`); got != 7 {
		t.Errorf("%v answers within 0.1 s, want 7", got)
	}
	if _, err := readMetrics(strings.NewReader("up one")); err == nil {
		t.Error("a line without a number is accepted")
	}
}

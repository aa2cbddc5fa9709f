package rollout

import (
	"encoding/json"
	"testing"
)

// TestRefusals has the errors of measurements by what becomes of the canary: a refusal ends it,
// anything else lets it wait. The texts are those of Argo Rollouts 1.9.1.
func TestRefusals(t *testing.T) {
	for message, want := range map[string]bool{
		"bad_data: invalid parameter \"query\"":                                               true,
		"execution: found duplicate series":                                                   true,
		"client_error: client error: 404":                                                     true,
		"received non 2xx response code: 400 {\"errors\":[\"query is invalid\"]}":             true,
		"received authentication error response code: 403 {\"errors\":[\"Forbidden\"]}":       true,
		"received non 2xx response code: 503 ":                                                false,
		"server_error: server error: 503":                                                     false,
		"Post \"http://prometheus:9090/api/v1/query\": dial tcp: connect: connection refused": false,
	} {
		if got := isRefusal(message); got != want {
			t.Errorf("%s: refusal %v, want %v", message, got, want)
		}
	}
}

// TestCountsAreOneSentence: the two counts are measured one after another.
func TestCountsAreOneSentence(t *testing.T) {
	for counts, want := range map[[2]string]string{
		{"[12]", "[40]"}: "errors: 12 of 40 requests to the new version are bad (30.0 %)",
		{"[9]", "[8]"}:   "errors: 9 of 9 requests to the new version are bad (100.0 %)",
		{"[0]", "[0]"}:   "",
	} {
		var run AnalysisRun
		results := `{"status":{"metricResults":[{"name":"errors-bad","measurements":[{"value":"` + counts[0] +
			`"}]},{"name":"errors-total","measurements":[{"value":"` + counts[1] + `"}]}]}}`
		if err := json.Unmarshal([]byte(results), &run); err != nil {
			t.Fatal(err)
		}
		if got := run.counted("errors"); got != want {
			t.Errorf("%v gives %q, want %q", counts, got, want)
		}
	}
}

// TestRestartsAreAReason: a version whose processes are killed answers nothing that counts.
func TestRestartsAreAReason(t *testing.T) {
	var run AnalysisRun
	results := `{"status":{"metricResults":[{"name":"restarts","phase":"Failed","measurements":[{"value":"[3]"}]}]}}`
	if err := json.Unmarshal([]byte(results), &run); err != nil {
		t.Fatal(err)
	}
	want := "restarts: the containers of the new version had 3 more restarts than those of the stable version"
	if got := run.Reasons(); len(got) != 1 || got[0] != want {
		t.Errorf("the reasons are %q, want %q", got, want)
	}
}

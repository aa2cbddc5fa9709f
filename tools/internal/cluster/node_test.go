package cluster

import (
	"encoding/json"
	"testing"
	"time"
)

func TestAPodThatWasReadyBeforeTheKubeletIsStale(t *testing.T) {
	began := time.Date(2026, 11, 29, 3, 52, 1, 0, time.UTC)
	for state, stale := range map[string]bool{
		`{"ready": true, "state": {"running": {"startedAt": "2026-11-29T03:51:40Z"}}}`:     true,
		`{"ready": true, "state": {"running": {"startedAt": "2026-11-29T03:52:02Z"}}}`:     false, // started again
		`{"ready": false, "state": {"running": {"startedAt": "2026-11-29T03:51:40Z"}}}`:    false, // has no requests
		`{"ready": false, "state": {"terminated": {"startedAt": "2026-11-29T03:51:40Z"}}}`: false,
	} {
		var pod podStatus
		if err := json.Unmarshal([]byte(`{"status": {"containerStatuses": [`+state+`]}}`), &pod); err != nil {
			t.Fatal(err)
		}
		if got := pod.staleSince(began); got != stale {
			t.Errorf("%s is stale: %t, want %t", state, got, stale)
		}
	}
}

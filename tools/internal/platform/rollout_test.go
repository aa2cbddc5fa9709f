package platform

import (
	"encoding/json"
	"testing"
)

func TestOutcomeOfARollout(t *testing.T) {
	for name, c := range map[string]struct {
		generation int64
		status     string
		done       bool
		fails      bool
	}{
		"healthy":                   {2, `{"phase":"Healthy","observedGeneration":"2"}`, true, false},
		"healthy before the change": {3, `{"phase":"Healthy","observedGeneration":"2"}`, false, false},
		"paused between steps":      {2, `{"phase":"Paused","observedGeneration":"2"}`, false, false},
		"degraded":                  {2, `{"phase":"Degraded","observedGeneration":"2","message":"why"}`, true, true},
		"aborted":                   {2, `{"phase":"Progressing","abort":true,"observedGeneration":"2"}`, true, true},
	} {
		var r rollout
		if err := json.Unmarshal([]byte(c.status), &r.Status); err != nil {
			t.Fatal(err)
		}
		r.Metadata.Generation = c.generation
		if done, err := r.outcome(); done != c.done || (err != nil) != c.fails {
			t.Errorf("%s: outcome is %v, %v, want done %v, failure %v", name, done, err, c.done, c.fails)
		}
	}
}

package platform

import "testing"

func TestJobEndReadsTheConditions(t *testing.T) {
	for _, test := range []struct {
		name, conditions string
		ended            bool
		failure          string
	}{
		{"running", ``, false, ""},
		{"failed, and its pods are still ending", `{"type":"FailureTarget","status":"True","reason":"BackoffLimitExceeded"}`, false, ""},
		{"complete", `{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}`, true, ""},
		{"failed", `{"type":"Failed","status":"True","reason":"BackoffLimitExceeded",` +
			`"message":"Job has reached the specified backoff limit"}`,
			true, "BackoffLimitExceeded: Job has reached the specified backoff limit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ended, failure, err := jobEnd(`{"status":{"conditions":[` + test.conditions + `]}}`)
			if err != nil || ended != test.ended || failure != test.failure {
				t.Errorf("jobEnd = %v, %q, %v", ended, failure, err)
			}
		})
	}
	if _, _, err := jobEnd("error"); err == nil {
		t.Error("text that is not JSON is accepted as a Job")
	}
}

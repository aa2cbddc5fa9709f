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

// The Job of make audit reads everything, and does not belong to the CronJob.
func TestAPersonsAuditIsWhole(t *testing.T) {
	manifest, err := wholeAudit(`{"kind": "Job", "metadata": {"name": "audit-by-hand-1", "ownerReferences": [{"kind": "CronJob"}]},
		"spec": {"activeDeadlineSeconds": 660, "template": {"spec": {"containers": [{"name": "audit", "env": [
			{"name": "AUDIT_WHOLE_EVERY", "value": "24h"}, {"name": "LOG_FORMAT", "value": "json"}]}]}}}}`)
	want := `{"kind":"Job","metadata":{"name":"audit-by-hand-1"},"spec":{"activeDeadlineSeconds":660,"template":{"spec":{"containers":` +
		`[{"env":[{"name":"LOG_FORMAT","value":"json"}],"name":"audit"}]}}}}`
	if err != nil || string(manifest) != want {
		t.Errorf("%v: %s, want %s", err, manifest, want)
	}
	if _, err := wholeAudit("error"); err == nil {
		t.Error("what is not JSON is no job")
	}
}

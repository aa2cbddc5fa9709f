package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAWS(t *testing.T) {
	env := map[string]string{TokenVariable: "t"}
	var out strings.Builder
	if err := AWS([]string{"--version"}, func(k string) string { return env[k] }, &out); err != nil || !strings.HasPrefix(out.String(), "aws-cli/2.") {
		t.Errorf("%v %s", err, out.String())
	}
	out.Reset()
	if err := AWS([]string{"--region", "x", "eks", "get-token", "--cluster-name", "c", "--output", "json"}, func(k string) string { return env[k] }, &out); err != nil {
		t.Fatal(err)
	}
	var c struct {
		Kind   string
		Status struct{ Token string }
	}
	if err := json.Unmarshal([]byte(out.String()), &c); err != nil || c.Kind != "ExecCredential" || c.Status.Token != "t" {
		t.Errorf("%v %s", err, out.String())
	}
	if err := AWS([]string{"s3", "ls"}, func(k string) string { return env[k] }, &out); err == nil {
		t.Error("s3 ls was answered")
	}
}

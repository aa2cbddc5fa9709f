package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAWS(t *testing.T) {
	env := map[string]string{TokenVariable: "t"}
	aws := func(args ...string) (string, error) {
		var out strings.Builder
		err := AWS(args, func(k string) string { return env[k] }, &out)
		return out.String(), err
	}
	if out, err := aws("--version"); err != nil || !strings.HasPrefix(out, "aws-cli/2.") {
		t.Errorf("%v %s", err, out)
	}
	out, err := aws("--region", "x", "eks", "get-token", "--cluster-name", "c", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Kind   string
		Status struct{ Token string }
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Kind != "ExecCredential" || c.Status.Token != "t" {
		t.Errorf("%v %s", err, out)
	}
	if _, err := aws("s3", "ls"); err == nil {
		t.Error("s3 ls was answered")
	}
}

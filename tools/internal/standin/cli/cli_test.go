package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

func TestAWS(t *testing.T) {
	const role = "arn:aws:iam::111122223333:role/ops"
	env := map[string]string{TokenVariable: "t", world.CallerVariable: role}
	enter(t, "c", role)
	command := func(args ...string) (string, error) {
		var out strings.Builder
		err := AWS(args, func(k string) string { return env[k] }, &out)
		return out.String(), err
	}
	if out, err := command("--version"); err != nil || !strings.HasPrefix(out, "aws-cli/2.") {
		t.Errorf("%v %s", err, out)
	}
	out, err := command("--region", "x", "eks", "get-token", "--cluster-name", "c", "--output", "json")
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
	if _, err := command("s3", "ls"); err == nil {
		t.Error("s3 ls was answered")
	}
	// Another cluster has no access entry for the role, and this one none for another role.
	if _, err := command("eks", "get-token", "--cluster-name", "other"); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("a cluster without the role's access entry: %v", err)
	}
	env[world.CallerVariable] = "arn:aws:iam::111122223333:role/stranger"
	if _, err := command("eks", "get-token", "--cluster-name", "c"); err == nil || !strings.Contains(err.Error(), "no access entry for "+env[world.CallerVariable]) {
		t.Errorf("a role without an access entry: %v", err)
	}
}

// enter gives a role an access entry in a cluster of a world of the test's own.
func enter(t *testing.T, cluster, role string) {
	t.Helper()
	t.Setenv(world.DirVariable, t.TempDir())
	w, err := world.Open()
	if err != nil {
		t.Fatal(err)
	}
	known := &schema.Resource{Token: aws.AccessEntry}
	clusterType := &schema.Resource{Token: aws.Cluster}
	place := aws.Place{Region: "us-east-1", Account: "111122223333"}
	inputs := resource.NewPropertyMapFromMap(map[string]any{"name": cluster})
	if _, err := w.Create(place, "urn:pulumi:dev::test::"+aws.Cluster+"::c", clusterType, inputs); err != nil {
		t.Fatal(err)
	}
	inputs = resource.NewPropertyMapFromMap(map[string]any{"clusterName": cluster, "principalArn": role})
	if _, err := w.Create(place, "urn:pulumi:dev::test::"+aws.AccessEntry+"::e", known, inputs); err != nil {
		t.Fatal(err)
	}
}

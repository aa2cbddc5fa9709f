//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/standin/cli"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// restoreDatabase follows docs/aws/disaster-recovery.md: the instance of dev gets another name, and a new
// one begins with its data of a moment. refused is what Pulumi says when it does not do what it was told.
func restoreDatabase(dev environment, w platform.Workspace) {
	t := dev.T
	t.Helper()
	const old, key = "loja-veloz-dev", "loja-veloz:database.restoreFrom"
	t.Setenv(world.DirVariable, w.Local("e2e-aws", "world"))
	aws := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		if err := cli.AWS(args, os.Getenv, &out); err != nil {
			t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(out.String())
	}
	from := func(origin string) {
		t.Helper()
		dev.set(map[string]string{key: origin})
	}
	create := []string{"up", "--yes", "--skip-preview", "--target", "**::database-instance"}

	from("loja-veloz-dev-other")
	dev.refused("protect", create...) // an instance with data is not replaced by a snapshot
	aws("rds", "modify-db-instance", "--db-instance-identifier", old, "--new-db-instance-identifier", old+"-broken", "--apply-immediately")
	forgetResource(t, dev.Stack, "::database-instance")
	dev.show("refresh", "--yes", "--skip-preview")
	dev.refused("DBSnapshotNotFound", create...)
	from(old + "-broken@2026-11-28T18:00:00Z")
	dev.show(create...)
	arn := aws("rds", "describe-db-instances", "--db-instance-identifier", old, "--query", "DBInstances[0].MasterUserSecret.SecretArn", "--output", "text")
	if secret := secretOf(t, w, arn); strings.Contains(secret, "Environment") {
		t.Errorf("the master secret of a restored instance has tags from the start:\n%s", secret)
	}
	aws("secretsmanager", "tag-resource", "--secret-id", arn, "--tags", "Key=Environment,Value=dev")
	if secret := secretOf(t, w, arn); !strings.Contains(secret, `"Environment": "dev"`) {
		t.Errorf("the master secret is not tagged:\n%s", secret)
	}
	dev.show("up", "--yes", "--skip-preview")
	if read := must(t, "-n", "database", "get", "externalsecret", "database-master", "-o", "jsonpath={.spec.data[*].remoteRef.key}"); !strings.Contains(read, arn) {
		t.Errorf("External Secrets reads %s, want the new master secret %s", read, arn)
	}
	dev.show("preview", "--expect-no-changes")
	unset(t, dev.Stack, key)
	dev.show("preview", "--expect-no-changes")
	aws("rds", "delete-db-instance", "--db-instance-identifier", old+"-broken", "--skip-final-snapshot")
}

// forgetResource gives a resource of the state an id that does not exist.
func forgetResource(t *testing.T, dev *platform.Stack, end string) {
	t.Helper()
	var out bytes.Buffer
	export := dev.Pulumi("stack", "export", "--stack", "dev")
	export.Stdout = &out
	if err := export.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var state map[string]any
	if err := json.Unmarshal(out.Bytes(), &state); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, r := range state["deployment"].(map[string]any)["resources"].([]any) {
		if r := r.(map[string]any); strings.HasSuffix(r["urn"].(string), end) {
			r["id"] = "db-FORGOTTEN"
			found++
		}
	}
	if found != 1 {
		t.Fatalf("%d resources of the state are %s", found, end)
	}
	changed, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "after.json")
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dev.Pulumi("stack", "import", "--stack", "dev", "--file", file).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// secretOf is a secret of the invented account.
func secretOf(t *testing.T, w platform.Workspace, arn string) string {
	t.Helper()
	for _, one := range strings.SplitAfter(worldOf(t, w, "secretsmanager/Secret"), "\n}\n") {
		if strings.Contains(one, arn) {
			return one
		}
	}
	t.Fatalf("the invented account has no secret %s", arn)
	return ""
}

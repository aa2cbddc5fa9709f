package plugin

import (
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/cli"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// database are the inputs of an instance with a password that RDS manages.
func database() map[string]any {
	return map[string]any{
		"identifier": "loja-veloz-dev", "instanceClass": "db.t4g.micro", "engine": "postgres", "engineVersion": "15", "allocatedStorage": 50,
		"manageMasterUserPassword": true, "skipFinalSnapshot": false, "finalSnapshotIdentifier": "loja-veloz-dev-final",
		"tags": map[string]any{"Environment": "dev"},
	}
}

func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func TestRDSRefusesInUpdates(t *testing.T) {
	b := newBench(t)
	id, _ := b.create(rdsType, "db", database())
	for name, tc := range map[string]struct {
		key   string
		value any
		want  string
	}{
		"the same storage":  {"backupRetentionPeriod", 7, ""},
		"less storage":      {"allocatedStorage", 40, "cannot be less than the current storage size"},
		"no room to grow":   {"maxAllocatedStorage", 51, "not at least 10 %"},
		"an unknown minor":  {"engineVersion", "15.99", "cannot find version 15.99"},
		"an unknown family": {"parameterGroupName", "none", "DBParameterGroupNotFound"},
	} {
		err := b.update(rdsType, id, database(), with(database(), tc.key, tc.value))
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// The plan says so too.
	r, err := b.p.Check(t.Context(), &pulumirpc.CheckRequest{
		Urn: urnOf(rdsType, "db"), Olds: b.proto(database()), News: b.proto(with(database(), "allocatedStorage", 40)),
	})
	if err != nil || len(r.GetFailures()) != 1 || r.GetFailures()[0].GetProperty() != "allocatedStorage" {
		t.Errorf("the check of less storage: %v, %v", r.GetFailures(), err)
	}
}

func TestAFinalSnapshotIsTakenOnce(t *testing.T) {
	b := newBench(t)
	id, _ := b.create(rdsType, "db", database())
	if err := b.delete(rdsType, "db", id); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.tryCreate(rdsType, "second", with(database(), "snapshotIdentifier", "loja-veloz-dev-finale"))
	refused(t, "a snapshot that does not exist", err, `DBSnapshotNotFound: snapshotIdentifier: "loja-veloz-dev-finale" does not exist`)
	id, _ = b.create(rdsType, "second", with(database(), "snapshotIdentifier", "loja-veloz-dev-final"))
	refused(t, "a second final snapshot", b.delete(rdsType, "second", id), "DBSnapshotAlreadyExists: finalSnapshotIdentifier: the snapshot loja-veloz-dev-final of loja-veloz-dev")
}

// A copy has the storage of its origin, which may have grown, and does not shrink.
func TestACopyHasAtLeastTheStorageOfItsOrigin(t *testing.T) {
	b := newBench(t)
	b.create(rdsType, "source", with(database(), "identifier", "source"))
	id, _ := b.create(rdsType, "db", database())
	if err := b.delete(rdsType, "db", id); err != nil {
		t.Fatal(err)
	}
	for key, origin := range map[string]any{
		"snapshotIdentifier":   "loja-veloz-dev-final",
		"restoreToPointInTime": map[string]any{"sourceDbInstanceIdentifier": "source", "restoreTime": "2026-11-28T18:00:00Z"},
	} {
		restored := with(with(database(), key, origin), "skipFinalSnapshot", true)
		_, _, err := b.tryCreate(rdsType, "copy", with(restored, "allocatedStorage", 49))
		refused(t, key, err, "InvalidParameterCombination: allocatedStorage: invalid storage size for engine name postgres and storage type gp3: 49: ")
		for _, size := range []int{50, 60} {
			id, _, err := b.tryCreate(rdsType, "copy", with(restored, "allocatedStorage", size))
			if err != nil {
				t.Errorf("%s, %d GiB: %v", key, size, err)
				continue
			}
			if err := b.delete(rdsType, "copy", id); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A restored instance gets its master secret by a change, which copies no tags to it.
func TestARestoredInstanceHasAnUntaggedSecret(t *testing.T) {
	b := newBench(t)
	w, err := world.Open()
	if err != nil {
		t.Fatal(err)
	}
	tags := func(identifier string) string {
		t.Helper()
		arn, err := w.MasterSecret(identifier)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := w.Get(aws.Secret, arn)
		if err != nil || secret == nil {
			t.Fatalf("the secret of %s: %v, %v", identifier, secret, err)
		}
		if v := value.Plain(secret.Outputs["tagsAll"]); v.IsObject() {
			return value.Text(v.ObjectValue(), "Environment")
		}
		return ""
	}
	command := func(args ...string) (string, error) {
		var out strings.Builder
		err := cli.AWS(args, func(string) string { return "" }, &out)
		return strings.TrimSpace(out.String()), err
	}
	b.create(rdsType, "db", database())
	if got := tags("loja-veloz-dev"); got != "dev" {
		t.Errorf("the secret of a new instance has the environment %q", got)
	}
	_, err = command("rds", "modify-db-instance", "--db-instance-identifier", "loja-veloz-dev", "--new-db-instance-identifier", "loja-veloz-dev-broken")
	refused(t, "a later rename", err, "--apply-immediately")
	if _, err := command("rds", "modify-db-instance", "--db-instance-identifier", "loja-veloz-dev",
		"--new-db-instance-identifier", "loja-veloz-dev-broken", "--apply-immediately"); err != nil {
		t.Fatal(err)
	}
	from := func(source, at string) map[string]any {
		return with(database(), "restoreToPointInTime", map[string]any{"sourceDbInstanceIdentifier": source, "restoreTime": at})
	}
	_, _, err = b.tryCreate(rdsType, "second", from("loja-veloz-dev-lost", "2026-11-28T18:00:00Z"))
	refused(t, "another instance", err, "DBInstanceNotFound")
	b.create(rdsType, "second", from("loja-veloz-dev-broken", "2026-11-28T18:00:00Z"))
	if got := tags("loja-veloz-dev"); got != "" {
		t.Errorf("the secret of a restored instance has the environment %q", got)
	}
	arn, err := command("rds", "describe-db-instances", "--db-instance-identifier", "loja-veloz-dev",
		"--query", "DBInstances[0].MasterUserSecret.SecretArn", "--output", "text")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := command("secretsmanager", "tag-resource", "--secret-id", arn, "--tags", "Key=Environment,Value=dev"); err != nil {
		t.Fatal(err)
	}
	if got := tags("loja-veloz-dev"); got != "dev" {
		t.Errorf("the secret that was tagged has the environment %q", got)
	}
	_, err = command("secretsmanager", "tag-resource", "--secret-id", arn+"x", "--tags", "Key=Environment,Value=dev")
	refused(t, "another secret", err, "ResourceNotFoundException")
}

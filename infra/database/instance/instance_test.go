package instance_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/infratest"
)

const (
	key    = "arn:aws:kms:us-east-1:123456789012:key/k"
	secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1"
)

func args() *instance.Spec {
	return &instance.Spec{
		Name: "loja-veloz-prod", EngineVersion: "15", InstanceClass: "db.m7g.large", AllocatedGiB: 50, MaxAllocatedGiB: 200, MultiAZ: true, BackupDays: 14,
		LogDays: 90, Protect: true,
	}
}

func inputs() instance.Inputs {
	return instance.Inputs{
		VPCID: pulumi.String("vpc-1"), Subnets: pulumi.ToStringArray([]string{"subnet-a", "subnet-b"}),
		ClusterSecurityGroupID: pulumi.String("sg-nodes"), KeyARN: pulumi.String(key),
	}
}

// withSecret answers as RDS does when it manages the master password.
type withSecret struct {
	*infratest.Recorder
	mu        sync.Mutex
	protected map[string]bool
	ignored   []string // changes of the instance
}

func (m *withSecret) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.mu.Lock()
	m.protected[args.Name] = args.RegisterRPC.GetProtect()
	m.mu.Unlock()
	id, outputs, err := m.Recorder.NewResource(args)
	if args.TypeToken == "aws:rds/instance:Instance" {
		outputs = outputs.Copy()
		outputs["address"] = resource.NewProperty("db.example.com")
		m.ignored = args.RegisterRPC.GetIgnoreChanges()
		outputs["masterUserSecrets"] = resource.NewProperty([]resource.PropertyValue{
			resource.NewProperty(resource.PropertyMap{"secretArn": resource.NewProperty(secret)}),
		})
	}
	return id, outputs, err
}

func run(t *testing.T, s *instance.Spec, use func(*instance.Database)) *withSecret {
	t.Helper()
	mocks := &withSecret{Recorder: &infratest.Recorder{}, protected: map[string]bool{}}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		database, err := instance.New(ctx, "db", s, inputs())
		if err == nil && use != nil {
			use(database)
		}
		return err
	}, pulumi.WithMocks("loja-veloz", "test", mocks))
	if err != nil {
		t.Fatal(err)
	}
	mocks.WellFormed(t)
	return mocks
}

func TestProtectedInstance(t *testing.T) {
	var mu sync.Mutex
	var got []any
	mocks := run(t, args(), func(d *instance.Database) {
		pulumi.All(d.Endpoint, d.Port, d.MasterSecretARN).ApplyT(func(values []any) error {
			mu.Lock()
			defer mu.Unlock()
			got = values
			return nil
		})
	})
	if fmt.Sprint(got) != fmt.Sprint([]any{"db.example.com", 5432, secret}) {
		t.Errorf("outputs are %v", got)
	}
	instance := mocks.Named(t, "db-instance").Inputs
	for field, want := range map[string]any{
		"engine": "postgres", "engineVersion": "15", "instanceClass": "db.m7g.large", "storageType": "gp3", "allocatedStorage": 50, "maxAllocatedStorage": 200,
		"storageEncrypted": true, "kmsKeyId": key, "manageMasterUserPassword": true, "masterUserSecretKmsKeyId": key, "password": nil,
		"multiAz": true, "publiclyAccessible": false, "backupRetentionPeriod": 14, "copyTagsToSnapshot": true, "deletionProtection": true,
		"skipFinalSnapshot": false, "finalSnapshotIdentifier": "loja-veloz-prod-final", "deleteAutomatedBackups": false,
		"performanceInsightsEnabled": true, "performanceInsightsKmsKeyId": key, "performanceInsightsRetentionPeriod": 7,
		"caCertIdentifier": "rds-ca-rsa2048-g1", "autoMinorVersionUpgrade": true,
		"enabledCloudwatchLogsExports": []any{"postgresql", "upgrade"}, "vpcSecurityGroupIds": []any{"db-group-id"},
	} {
		if fmt.Sprint(instance[field]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", field, instance[field], want)
		}
	}
	if !mocks.protected["db-instance"] {
		t.Error("Pulumi may delete the instance")
	}
	parameters := mocks.Named(t, "db-parameters").Inputs
	if parameters["family"] != "postgres15" || !strings.Contains(fmt.Sprint(parameters["parameters"]), "name:rds.force_ssl value:1") {
		t.Errorf("parameters are %v", parameters)
	}
	rule := mocks.Named(t, "db-from-cluster").Inputs
	if rule["referencedSecurityGroupId"] != "sg-nodes" || rule["cidrIpv4"] != nil || rule["fromPort"] != 5432.0 || rule["toPort"] != 5432.0 {
		t.Errorf("admitted is %v", rule)
	}
	for _, log := range []string{"postgresql", "upgrade"} {
		if group := mocks.Named(t, "db-logs-"+log).Inputs; group["retentionInDays"] != 90.0 || group["kmsKeyId"] != key ||
			group["name"] != "/aws/rds/instance/loja-veloz-prod/"+log {
			t.Errorf("the group of %s is %v", log, group)
		}
	}
	mocks.InOrder(t, map[string][]string{
		"db-instance": {"db-from-cluster", "db-logs-postgresql", "db-logs-upgrade", "db-parameters", "db-subnets"},
	})
}

func TestPlainInstance(t *testing.T) {
	a := args()
	a.Protect, a.LogDays, a.MaxAllocatedGiB, a.BackupDays, a.MultiAZ = false, 30, 0, 1, false
	a.EngineVersion = "15.17"
	mocks := run(t, a, nil)
	instance := mocks.Named(t, "db-instance").Inputs
	for field, want := range map[string]any{
		"deletionProtection": false, "skipFinalSnapshot": true, "finalSnapshotIdentifier": nil,
		"maxAllocatedStorage": nil, "storageEncrypted": true, "autoMinorVersionUpgrade": false,
		"performanceInsightsEnabled": true, "performanceInsightsRetentionPeriod": 7, "performanceInsightsKmsKeyId": key,
		"enabledCloudwatchLogsExports": []any{"postgresql", "upgrade"},
	} {
		if fmt.Sprint(instance[field]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", field, instance[field], want)
		}
	}
	if days := mocks.Named(t, "db-logs-upgrade").Inputs["retentionInDays"]; days != 30.0 {
		t.Errorf("logs are kept for %v days", days)
	}
	if mocks.protected["db-instance"] {
		t.Error("the instance is protected")
	}
}

// refused returns the error of New.
func refused(spec *instance.Spec, in instance.Inputs) error {
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := instance.New(ctx, "db", spec, in)
		return err
	})
	return err
}

func TestValidateReportsAllErrorsAtOnce(t *testing.T) {
	err := refused(&instance.Spec{
		Name: "Loja--", EngineVersion: "9.6", InstanceClass: "t3.medium", AllocatedGiB: 5, MaxAllocatedGiB: 5, BackupDays: 36,
		LogDays: 2,
	}, instance.Inputs{})
	infratest.Refused(t, err,
		"Name is", "VPCID is missing", "Subnets is missing", "ClusterSecurityGroupID is missing", "KeyARN is missing", "EngineVersion is", "InstanceClass is",
		"AllocatedGiB is 5", "MaxAllocatedGiB is 5", "BackupDays is 36", "LogDays is 2")
	short := args()
	short.BackupDays = 3
	infratest.Refused(t, short.Validate(), "a protected instance needs backups")
	if err := args().Validate(); err != nil {
		t.Errorf("a valid spec is refused: %v", err)
	}
}

// An instance is restored by its creation. Another origin would replace it, which protection refuses;
// none may mean that it was restored long ago.
func TestRestoredInstance(t *testing.T) {
	snapshot := args()
	snapshot.RestoreFrom = "rds:loja-veloz-prod-2026-11-29-05-07"
	mocks := run(t, snapshot, nil)
	if got := mocks.Named(t, "db-instance").Inputs; got["snapshotIdentifier"] != snapshot.RestoreFrom || got["restoreToPointInTime"] != nil {
		t.Errorf("the instance comes from %v and %v", got["snapshotIdentifier"], got["restoreToPointInTime"])
	}
	if len(mocks.ignored) != 0 {
		t.Errorf("with RestoreFrom, changes of %q are ignored", mocks.ignored)
	}
	if plain := run(t, args(), nil); !slices.Equal(plain.ignored, []string{"snapshotIdentifier", "restoreToPointInTime"}) {
		t.Errorf("without RestoreFrom, changes of %q are ignored", plain.ignored)
	}
	moment := args()
	moment.RestoreFrom = "loja-veloz-prod-broken@2026-11-29T18:00:00Z"
	got := run(t, moment, nil).Named(t, "db-instance").Inputs
	if fmt.Sprint(got["restoreToPointInTime"]) != "map[restoreTime:2026-11-29T18:00:00Z sourceDbInstanceIdentifier:loja-veloz-prod-broken]" ||
		got["snapshotIdentifier"] != nil {
		t.Errorf("the instance comes from %v and %v", got["snapshotIdentifier"], got["restoreToPointInTime"])
	}
	for from, want := range map[string]string{
		"Final":                                       `RestoreFrom is "Final": use the name of a snapshot, or INSTANCE@TIME`,
		"loja-veloz-prod-broken@yesterday":            "use the name of a snapshot, or INSTANCE@TIME",
		"loja-veloz-prod@2026-11-29T18:00:00Z":        "the instance itself: rename that one first",
		"loja-veloz-prod-broken@2026-02-30T18:00:00Z": "there is no moment 2026-02-30T18:00:00Z in UTC",
		"loja-veloz-prod-broken@2026-11-29T24:00:00Z": "there is no moment 2026-11-29T24:00:00Z in UTC",
		"loja-veloz-prod--x":                          "use the name of a snapshot",
	} {
		spec := args()
		spec.RestoreFrom = from
		infratest.Refused(t, spec.Validate(), want)
	}
}

func TestWhatRDSWouldRefuse(t *testing.T) {
	for change, want := range map[string]struct {
		change func(*instance.Spec)
		want   string // "" is accepted
	}{
		"a tenth to grow":          {func(s *instance.Spec) { s.AllocatedGiB, s.MaxAllocatedGiB = 50, 55 }, ""},
		"less than a tenth":        {func(s *instance.Spec) { s.AllocatedGiB, s.MaxAllocatedGiB = 50, 54 }, "MaxAllocatedGiB is 54: use 0, or at least a tenth more than AllocatedGiB (50), which is 55"},
		"a tenth, rounded up":      {func(s *instance.Spec) { s.AllocatedGiB, s.MaxAllocatedGiB = 25, 27 }, "which is 28"},
		"a minor version":          {func(s *instance.Spec) { s.EngineVersion = "16.9" }, ""},
		"a minor that was retired": {func(s *instance.Spec) { s.EngineVersion = "15.8" }, ""},
	} {
		spec := args()
		want.change(spec)
		if err := spec.Validate(); want.want == "" && err != nil {
			t.Errorf("%s: %v", change, err)
		} else if want.want != "" {
			infratest.Refused(t, err, want.want)
		}
	}
}

// An instance keeps a version of which RDS creates no new ones: the program warns, and updates it.
func TestAnUnknownMinorVersionIsAWarning(t *testing.T) {
	for version, want := range map[string]string{
		"15": "", "16.9": "", "17.9": "", "9.6": "",
		"15.8":                    `EngineVersion is "15.8", of which RDS creates no instance, as far as we know, nor upgrades one to it: use 15.13 to 15.17, or 15 alone`,
		"17.99":                   "use 17.5 to 17.9, or 17 alone",
		"15.99999999999999999999": "use 15.13 to 15.17",
	} {
		spec := args()
		spec.EngineVersion = version
		if got := spec.Warning(); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
	}
	old := args()
	old.EngineVersion = "15.8"
	if got := run(t, old, nil).Named(t, "db-instance").Inputs["engineVersion"]; got != "15.8" {
		t.Errorf("the instance has %v", got)
	}
}

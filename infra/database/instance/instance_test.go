package instance_test

import (
	"fmt"
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
}

func (m *withSecret) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.mu.Lock()
	m.protected[args.Name] = args.RegisterRPC.GetProtect()
	m.mu.Unlock()
	id, outputs, err := m.Recorder.NewResource(args)
	if args.TypeToken == "aws:rds/instance:Instance" {
		outputs = outputs.Copy()
		outputs["address"] = resource.NewProperty("db.example.com")
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
	a.EngineVersion = "15.8"
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

// Package instance creates the PostgreSQL instance of an environment on RDS.
package instance

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/rds"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	port = 5432

	// MasterUsername is the user whose password RDS manages. Only the Job that creates databases
	// and roles uses it; each service has its own user.
	MasterUsername = "dbadmin"

	// certificateAuthority signs the instance's certificate, and is valid until 2061. The services'
	// programs have its certificates, those of VerifiedRegions.
	certificateAuthority = "rds-ca-rsa2048-g1"

	// gp3's limits on RDS for PostgreSQL, GiB.
	minStorageGiB = 20
	maxStorageGiB = 65536

	maxBackupDays = 35
	// insightsDays is how long AWS keeps Performance Insights without charge.
	insightsDays = 7

	// protectedBackupDays is the minimum of BackupDays for a protected instance: an error that is
	// found after a weekend can still be undone.
	protectedBackupDays = 7
)

// VerifiedRegions are the regions of AWS in which clients can verify an instance: the programs of apps
// have the certificates of their authorities (apps/internal/postgres/rds-authorities.pem).
var VerifiedRegions = []string{
	"af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2", "ap-southeast-1",
	"ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1",
	"eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2",
	"us-west-1", "us-west-2",
}

// Spec describes an instance.
type Spec struct {
	// Name is the instance's identifier, such as loja-veloz-dev, and the prefix of the names of
	// its other resources.
	Name string

	// EngineVersion is PostgreSQL's version, such as 15 or 15.17. Without a minor version AWS
	// chooses it, and upgrades it in the maintenance window. With a minor version the instance
	// keeps it until this field changes.
	EngineVersion string
	// InstanceClass is an RDS instance class, such as db.t4g.medium.
	InstanceClass string
	// AllocatedGiB is the storage at the start; it can grow later, never shrink. RDS enlarges it up to
	// MaxAllocatedGiB, at least a tenth more; 0 turns that off.
	AllocatedGiB, MaxAllocatedGiB int32
	// MultiAZ keeps a standby in another zone.
	MultiAZ bool
	// BackupDays is how many days back a point in time can be restored, 1 to 35; at least 7 with
	// Protect.
	BackupDays int32
	// RestoreFrom is what a new instance begins with; empty is nothing. It is the name of a snapshot,
	// or INSTANCE@TIME, another instance at a moment in UTC: loja-veloz-dev-broken@2026-11-29T18:00:00Z.
	// Only the creation of an instance takes it. For one that exists and does not come from it, it
	// means a replacement, which protection refuses. Left out afterwards it changes nothing. AllocatedGiB
	// has to be at least the storage of the origin, which may have grown.
	RestoreFrom string
	// LogDays is how long the logs of PostgreSQL and of its upgrades are kept in CloudWatch; see
	// network.ValidLogDays.
	LogDays int

	// Protect lets Pulumi and AWS refuse to delete the instance, and AWS take a final snapshot,
	// <Name>-final, if it is deleted nevertheless. The snapshot outlives the instance. AWS does not
	// delete another instance of this name before that snapshot is deleted.
	Protect bool
}

// Inputs are what other resources produce for an instance. All fields are required.
type Inputs struct {
	VPCID pulumi.StringInput
	// Subnets are the isolated subnets, in at least two zones.
	Subnets pulumi.StringArrayInput
	// ClusterSecurityGroupID is the group whose members may connect: the nodes'.
	ClusterSecurityGroupID pulumi.StringInput
	// KeyARN is the KMS key of data, backups, the master's secret, Performance Insights and logs.
	KeyARN pulumi.StringInput
}

func (in Inputs) validate() error {
	var errs validate.Errors
	errs.Input("VPCID", in.VPCID)
	errs.Input("Subnets", in.Subnets)
	errs.Input("ClusterSecurityGroupID", in.ClusterSecurityGroupID)
	errs.Input("KeyARN", in.KeyARN)
	return errs.Err()
}

// Database is the instance.
type Database struct {
	pulumi.ResourceState

	// Endpoint is a host name, without the port.
	Endpoint pulumi.StringOutput
	Port     pulumi.IntOutput
	// MasterSecretARN is the secret in Secrets Manager that holds the password of MasterUsername.
	// RDS rotates it every 7 days.
	MasterSecretARN pulumi.StringOutput
	SecurityGroupID pulumi.StringOutput
}

var (
	identifier    = regexp.MustCompile(`^[a-z]([a-z0-9]|-[a-z0-9]){0,49}$`)
	engineVersion = regexp.MustCompile(`^(1[5-7])(\.[0-9]+)?$`)
	// A snapshot that RDS has taken by itself begins with rds:.
	snapshot      = regexp.MustCompile(`^(rds:)?[a-z]([a-z0-9]|-[a-z0-9])*$`)
	moment        = regexp.MustCompile(`^([a-z](?:[a-z0-9]|-[a-z0-9])*)@([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)$`)
	instanceClass = regexp.MustCompile(`^db\.[a-z][a-z0-9]+\.[a-z0-9]+$`)
)

// A span of minor versions, with both ends.
type span struct{ first, last int }

func (s span) has(minor int) bool { return minor >= s.first && minor <= s.last }

// minors are those of which RDS creates instances. Newer ones may exist: renew the table, and that of
// tools/internal/standin/aws, which says where it comes from. An instance keeps a version that RDS does
// not create any more, so Warning speaks of others, and Validate accepts them.
var minors = map[string]span{"15": {13, 17}, "16": {9, 13}, "17": {5, 9}}

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !identifier.MatchString(s.Name) {
		errs.Add("Name", "is %q: use lower-case letters, digits and single dashes, beginning with a letter", s.Name)
	}
	if !engineVersion.MatchString(s.EngineVersion) {
		errs.Add("EngineVersion", "is %q: use PostgreSQL 15, 16 or 17, with or without the minor version", s.EngineVersion)
	}
	if !instanceClass.MatchString(s.InstanceClass) {
		errs.Add("InstanceClass", "is %q: use an RDS instance class such as db.t4g.medium", s.InstanceClass)
	}
	s.checkStorage(&errs)
	s.checkOrigin(&errs)
	switch {
	case s.BackupDays < 1 || s.BackupDays > maxBackupDays:
		errs.Add("BackupDays", "is %d: RDS keeps backups for 1 to %d days", s.BackupDays, maxBackupDays)
	case s.Protect && s.BackupDays < protectedBackupDays:
		errs.Add("BackupDays", "is %d: a protected instance needs backups of at least %d days", s.BackupDays, protectedBackupDays)
	}
	if !network.ValidLogDays(s.LogDays) {
		errs.Add("LogDays", "is %d, which CloudWatch Logs does not accept: use 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365 or more",
			s.LogDays)
	}
	return errs.Err()
}

// Warning says that RDS creates no instance of the minor version, as far as we know; "" if it does, or
// chooses it. An instance that has the version keeps it until AWS upgrades it.
func (s *Spec) Warning() string {
	parts := engineVersion.FindStringSubmatch(s.EngineVersion)
	if parts == nil || parts[2] == "" {
		return ""
	}
	major, known := parts[1], minors[parts[1]]
	if minor, err := strconv.Atoi(strings.TrimPrefix(parts[2], ".")); err == nil && known.has(minor) {
		return ""
	}
	return fmt.Sprintf("EngineVersion is %q, of which RDS creates no instance, as far as we know, nor upgrades one to it: "+
		"use %s.%d to %s.%d, or %s alone, whose minor version RDS chooses", s.EngineVersion, major, known.first, major, known.last, major)
}

func (s *Spec) checkStorage(errs *validate.Errors) {
	if s.AllocatedGiB < minStorageGiB || s.AllocatedGiB > maxStorageGiB {
		errs.Add("AllocatedGiB", "is %d: gp3 has %d to %d", s.AllocatedGiB, minStorageGiB, maxStorageGiB)
	}
	// A tenth more, rounded up; below that RDS refuses to enlarge the storage by itself.
	least := s.AllocatedGiB + (s.AllocatedGiB+9)/10
	if s.MaxAllocatedGiB != 0 && (s.MaxAllocatedGiB < least || s.MaxAllocatedGiB > maxStorageGiB) {
		errs.Add("MaxAllocatedGiB", "is %d: use 0, or at least a tenth more than AllocatedGiB (%d), which is %d, up to %d",
			s.MaxAllocatedGiB, s.AllocatedGiB, least, maxStorageGiB)
	}
}

func (s *Spec) checkOrigin(errs *validate.Errors) {
	if s.RestoreFrom != "" && !snapshot.MatchString(s.RestoreFrom) && !moment.MatchString(s.RestoreFrom) {
		errs.Add("RestoreFrom", "is %q: use the name of a snapshot, or INSTANCE@TIME such as %s-broken@2026-11-29T18:00:00Z",
			s.RestoreFrom, s.Name)
	}
	source := moment.FindStringSubmatch(s.RestoreFrom)
	if source == nil {
		return
	}
	if _, err := time.Parse(time.RFC3339, source[2]); err != nil {
		errs.Add("RestoreFrom", "is %q, and there is no moment %s in UTC: use one such as 2026-11-29T18:00:00Z", s.RestoreFrom, source[2])
	}
	if source[1] == s.Name {
		errs.Add("RestoreFrom", "is %q, the instance itself: rename that one first (docs/aws/disaster-recovery.md)", s.RestoreFrom)
	}
}

// majorAlone tells whether AWS chooses the minor version.
func (s *Spec) majorAlone() bool { return engineVersion.FindStringSubmatch(s.EngineVersion)[2] == "" }

// family is the parameter group family of the major version.
func (s *Spec) family() string {
	return "postgres" + engineVersion.FindStringSubmatch(s.EngineVersion)[1]
}

// builder creates an instance's resources.
type builder struct {
	ctx  *pulumi.Context
	name string
	spec *Spec
	in   Inputs
	out  *Database
}

// New creates the instance.
func New(ctx *pulumi.Context, name string, spec *Spec, in Inputs, opts ...pulumi.ResourceOption) (*Database, error) {
	if err := errors.Join(spec.Validate(), in.validate()); err != nil {
		return nil, fmt.Errorf("database %s: %w", name, err)
	}
	if warning := spec.Warning(); warning != "" {
		_ = ctx.Log.Warn("database: "+warning, nil)
	}
	d := &Database{}
	return d, component.Register(ctx, "database", "loja-veloz:database:Database", name, d, opts, func() (pulumi.Map, error) {
		b := &builder{ctx: ctx, name: name, spec: spec, in: in, out: d}
		if err := b.createInstance(); err != nil {
			return nil, err
		}
		return pulumi.Map{
			"endpoint": d.Endpoint, "port": d.Port, "masterSecretArn": d.MasterSecretARN, "securityGroupId": d.SecurityGroupID,
		}, nil
	})
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

func (b *builder) tags(suffix string) pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(b.spec.Name + suffix)}
}

func (b *builder) key() pulumi.StringPtrOutput {
	return b.in.KeyARN.ToStringOutput().ToStringPtrOutput()
}

// securityGroup admits the cluster's nodes to PostgreSQL, and nothing else; the
// instance itself reaches nobody.
func (b *builder) securityGroup() (*ec2.SecurityGroup, pulumi.Resource, error) {
	group, err := ec2.NewSecurityGroup(b.ctx, b.name+"-group", &ec2.SecurityGroupArgs{
		Name: pulumi.String(b.spec.Name + "-database"), Description: pulumi.String("PostgreSQL, for the cluster"),
		VpcId: b.in.VPCID.ToStringOutput().ToStringPtrOutput(), Tags: b.tags("-database"),
	}, b.child())
	if err != nil {
		return nil, nil, fmt.Errorf("creating the security group: %w", err)
	}
	rule, err := vpc.NewSecurityGroupIngressRule(b.ctx, b.name+"-from-cluster", &vpc.SecurityGroupIngressRuleArgs{
		SecurityGroupId: group.ID(), Description: pulumi.String("PostgreSQL from the cluster"),
		ReferencedSecurityGroupId: b.in.ClusterSecurityGroupID.ToStringOutput().ToStringPtrOutput(),
		IpProtocol:                pulumi.String("tcp"), FromPort: pulumi.Int(port), ToPort: pulumi.Int(port),
		Tags: b.tags("-database-from-cluster"),
	}, b.child())
	if err != nil {
		return nil, nil, fmt.Errorf("admitting the cluster: %w", err)
	}
	return group, rule, nil
}

func (b *builder) parameters() (*rds.ParameterGroup, error) {
	family := b.spec.family()
	// The name contains the major version: an upgrade creates a new group while the old one is
	// still in use.
	parameters, err := rds.NewParameterGroup(b.ctx, b.name+"-parameters", &rds.ParameterGroupArgs{
		Name: pulumi.String(b.spec.Name + "-" + family), Family: pulumi.String(family), Description: pulumi.String("PostgreSQL over TLS only"),
		Parameters: rds.ParameterGroupParameterArray{
			rds.ParameterGroupParameterArgs{Name: pulumi.String("rds.force_ssl"), Value: pulumi.String("1")},
			// Milliseconds: statements slower than a second are logged.
			rds.ParameterGroupParameterArgs{Name: pulumi.String("log_min_duration_statement"), Value: pulumi.String("1000")},
		},
		Tags: b.tags("-" + family),
	}, b.child())
	if err != nil {
		return nil, fmt.Errorf("creating the parameter group: %w", err)
	}
	return parameters, nil
}

// exported are the logs of PostgreSQL that RDS exports to CloudWatch.
var exported = []string{"postgresql", "upgrade"}

// logs creates the log groups before the instance: otherwise RDS creates them, without a
// retention and without the key.
func (b *builder) logs() ([]pulumi.Resource, error) {
	var groups []pulumi.Resource
	for _, log := range exported {
		group, err := cloudwatch.NewLogGroup(b.ctx, b.name+"-logs-"+log, &cloudwatch.LogGroupArgs{
			Name:            pulumi.String("/aws/rds/instance/" + b.spec.Name + "/" + log),
			RetentionInDays: pulumi.Int(b.spec.LogDays), KmsKeyId: b.key(), Tags: b.tags("-" + log),
		}, b.child())
		if err != nil {
			return nil, fmt.Errorf("creating the log group of %s: %w", log, err)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

func (b *builder) createInstance() error {
	group, rule, err := b.securityGroup()
	if err != nil {
		return err
	}
	parameters, err := b.parameters()
	if err != nil {
		return err
	}
	subnets, err := rds.NewSubnetGroup(b.ctx, b.name+"-subnets", &rds.SubnetGroupArgs{
		Name: pulumi.String(b.spec.Name), Description: pulumi.String("Isolated subnets"), SubnetIds: b.in.Subnets, Tags: b.tags("-database"),
	}, b.child())
	if err != nil {
		return fmt.Errorf("creating the subnet group: %w", err)
	}
	args := &rds.InstanceArgs{
		Identifier: pulumi.String(b.spec.Name), Engine: pulumi.String("postgres"), EngineVersion: pulumi.String(b.spec.EngineVersion),
		InstanceClass:      pulumi.String(b.spec.InstanceClass),
		ParameterGroupName: parameters.Name, CaCertIdentifier: pulumi.String(certificateAuthority),
		AutoMinorVersionUpgrade: pulumi.Bool(b.spec.majorAlone()), MultiAz: pulumi.Bool(b.spec.MultiAZ),

		StorageType: pulumi.String("gp3"), AllocatedStorage: pulumi.Int(int(b.spec.AllocatedGiB)),
		StorageEncrypted: pulumi.Bool(true), KmsKeyId: b.key(),

		// RDS generates the password, stores it in Secrets Manager and rotates it, so it is not in
		// Pulumi's state.
		Username: pulumi.String(MasterUsername), ManageMasterUserPassword: pulumi.Bool(true), MasterUserSecretKmsKeyId: b.key(),

		DbSubnetGroupName: subnets.Name, VpcSecurityGroupIds: pulumi.StringArray{group.ID()},
		Port: pulumi.Int(port), PubliclyAccessible: pulumi.Bool(false),

		// In UTC, at night in Brazil, and not at the same time.
		BackupRetentionPeriod: pulumi.Int(int(b.spec.BackupDays)), BackupWindow: pulumi.String("05:00-06:00"),
		MaintenanceWindow: pulumi.String("sun:06:30-sun:07:30"), CopyTagsToSnapshot: pulumi.Bool(true),
		DeleteAutomatedBackups: pulumi.Bool(!b.spec.Protect), DeletionProtection: pulumi.Bool(b.spec.Protect),
		SkipFinalSnapshot: pulumi.Bool(!b.spec.Protect),

		PerformanceInsightsEnabled: pulumi.Bool(true), PerformanceInsightsKmsKeyId: b.key(),
		PerformanceInsightsRetentionPeriod: pulumi.Int(insightsDays),
		EnabledCloudwatchLogsExports:       pulumi.ToStringArray(exported),
		Tags:                               b.tags(""),
	}
	if b.spec.MaxAllocatedGiB > 0 {
		args.MaxAllocatedStorage = pulumi.Int(int(b.spec.MaxAllocatedGiB))
	}
	if b.spec.Protect {
		args.FinalSnapshotIdentifier = pulumi.String(b.spec.Name + "-final")
	}
	if source := moment.FindStringSubmatch(b.spec.RestoreFrom); source != nil {
		args.RestoreToPointInTime = &rds.InstanceRestoreToPointInTimeArgs{
			SourceDbInstanceIdentifier: pulumi.String(source[1]), RestoreTime: pulumi.String(source[2]),
		}
	} else if b.spec.RestoreFrom != "" {
		args.SnapshotIdentifier = pulumi.String(b.spec.RestoreFrom)
	}
	logs, err := b.logs()
	if err != nil {
		return err
	}
	after := slices.Concat(logs, []pulumi.Resource{rule}) // without the rule nobody can reach the instance
	options := []pulumi.ResourceOption{b.child(), pulumi.Protect(b.spec.Protect), pulumi.DependsOn(after)}
	if b.spec.RestoreFrom == "" {
		options = append(options, pulumi.IgnoreChanges([]string{"snapshotIdentifier", "restoreToPointInTime"}))
	}
	instance, err := rds.NewInstance(b.ctx, b.name+"-instance", args, options...)
	if err != nil {
		return fmt.Errorf("creating the instance: %w", err)
	}
	b.out.Endpoint, b.out.Port, b.out.SecurityGroupID = instance.Address, instance.Port, group.ID().ToStringOutput()
	b.out.MasterSecretARN = instance.MasterUserSecrets.ApplyT(func(secrets []rds.InstanceMasterUserSecret) (string, error) {
		if len(secrets) == 0 || secrets[0].SecretArn == nil {
			return "", fmt.Errorf("RDS returned no master user secret for instance %s", b.spec.Name)
		}
		return *secrets[0].SecretArn, nil
	}).(pulumi.StringOutput)
	return nil
}

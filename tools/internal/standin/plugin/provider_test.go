package plugin

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

var sharedSource = sync.OnceValues(func() (*schema.Source, error) {
	dir, err := schema.SourceDir(context.Background())
	if err != nil {
		return nil, err
	}
	return schema.NewSource(dir), nil
})

// bench is a provider with its own world.
type bench struct {
	*testing.T
	p *Provider
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Setenv(world.DirVariable, t.TempDir())
	t.Setenv(world.DayVariable, "2026-11-29")
	t.Setenv(world.QuotaVariable+"L_1216C47A", "32")
	p, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	p.source = sharedSource
	b := &bench{t, p}
	if _, err := p.Configure(t.Context(), &pulumirpc.ConfigureRequest{Args: b.proto(map[string]any{
		"region": "sa-east-1", "allowedAccountIds": `["123456789012"]`, "defaultTags": `{"tags":{"Project":"loja"}}`,
	})}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) proto(m any) *structpb.Struct {
	b.Helper()
	var props resource.PropertyMap
	switch m := m.(type) {
	case resource.PropertyMap:
		props = m
	case map[string]any:
		props = resource.NewPropertyMapFromMap(m)
	}
	s, err := value.Marshal("test", props)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bench) props(s *structpb.Struct) resource.PropertyMap {
	b.Helper()
	m, err := value.Unmarshal("test", s)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func urnOf(tok, name string) string { return "urn:pulumi:dev::test::" + tok + "::" + name }

// refused are the failures of a check, one a line.
func (b *bench) refused(tok string, inputs any) string {
	b.Helper()
	r, err := b.p.Check(context.Background(), &pulumirpc.CheckRequest{Urn: urnOf(tok, "x"), News: b.proto(inputs)})
	if err != nil {
		b.Fatal(err)
	}
	var all []string
	for _, f := range r.GetFailures() {
		all = append(all, f.GetReason())
	}
	return strings.Join(all, "\n")
}

func (b *bench) checked(tok, name string, inputs any) *structpb.Struct {
	b.Helper()
	r, err := b.p.Check(context.Background(), &pulumirpc.CheckRequest{Urn: urnOf(tok, name), News: b.proto(inputs)})
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range r.GetFailures() {
		b.Errorf("%s: %s", tok, f.GetReason())
	}
	return r.GetInputs()
}

func (b *bench) create(tok, name string, inputs any) (string, resource.PropertyMap) {
	b.Helper()
	id, out, err := b.tryCreate(tok, name, inputs)
	if err != nil {
		b.Fatalf("%s %s: %v", tok, name, err)
	}
	return id, out
}

func (b *bench) tryCreate(tok, name string, inputs any) (string, resource.PropertyMap, error) {
	b.Helper()
	r, err := b.p.Create(context.Background(), &pulumirpc.CreateRequest{Urn: urnOf(tok, name), Properties: b.checked(tok, name, inputs)})
	if err != nil {
		return "", nil, err
	}
	return r.GetId(), b.props(r.GetProperties()), nil
}

func (b *bench) delete(tok, name, id string) error {
	_, err := b.p.Delete(context.Background(), &pulumirpc.DeleteRequest{Urn: urnOf(tok, name), Id: id})
	return err
}

func (b *bench) diff(tok string, olds, news any, ignore ...string) *pulumirpc.DiffResponse {
	b.Helper()
	r, err := b.p.Diff(context.Background(), &pulumirpc.DiffRequest{
		Urn: urnOf(tok, "x"), Id: "x", OldInputs: b.proto(olds), News: b.proto(news), IgnoreChanges: ignore,
	})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

const (
	vpcType     = "aws:ec2/vpc:Vpc"
	subnetType  = "aws:ec2/subnet:Subnet"
	alarmType   = "aws:cloudwatch/metricAlarm:MetricAlarm"
	roleType    = "aws:iam/role:Role"
	attachType  = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
	rdsType     = "aws:rds/instance:Instance"
	clusterType = "aws:eks/cluster:Cluster"
	projectType = "aws:codebuild/project:Project"
	ruleType    = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	webhookType = "aws:codebuild/webhook:Webhook"
	trust       = `{"Version":"2012-10-17","Statement":[]}`
)

func TestCheckRefusesAllErrorsAtOnce(t *testing.T) {
	b := newBench(t)
	got := b.refused("aws:ec2/securityGroup:SecurityGroup", map[string]any{
		"vpc_id":  "vpc-1",
		"egress":  []any{map[string]any{"protocol": "-1", "fromPort": 0, "toPort": 0}},
		"ingress": []any{map[string]any{"protocol": "tcp", "fromPort": true, "cidrBlocks": []any{"10.0.0.1/8", "nonsense"}, "port": 1}},
		"tags":    []any{"a"},
	})
	for _, want := range []string{
		"vpc_id: aws:ec2/securityGroup:SecurityGroup has no such property; it has vpcId",
		"ingress[0].fromPort: wants a whole number, has the boolean true",
		"ingress[0].port: SecurityGroupIngress has no such property",
		"ingress[0].toPort: is required by SecurityGroupIngress",
		`ingress[0].cidrBlocks: 10.0.0.1/8 has bits beyond its prefix; the block is 10.0.0.0/8; "nonsense" is not a CIDR block`,
		"tags: wants a map, has a list",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
}

func TestCheckRefusals(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct {
		tok    string
		inputs map[string]any
		want   string // empty: accepted
	}{
		{"aws:ec2/nothing:Nothing", nil, "has no such type or function: aws:ec2/nothing:Nothing"},
		{"aws:../../x:X", nil, "has no such type"},
		{subnetType, map[string]any{}, "vpcId: is required"},
		{vpcType, map[string]any{"cidrBlock": "10.0.0.0/8"}, "must be between /16 and /28"},
		{vpcType, map[string]any{"cidrBlock": 10}, "cidrBlock: wants a string, has the number 10"},
		{vpcType, map[string]any{"cidrBlock": "10.0.0.0/16", "enableDnsSupport": "true"}, ""},
		{vpcType, map[string]any{"cidrBlock": "10.0.0.0/16", "enableDnsSupport": "yes"}, "enableDnsSupport: wants a boolean"},
		{vpcType, map[string]any{"cidrBlock": "10.0.0.0/16", "ipv4NetmaskLength": "16"}, ""},
		{vpcType, map[string]any{"cidrBlock": "10.0.0.0/16", "ipv4NetmaskLength": "many"}, "ipv4NetmaskLength: wants a whole number"},
		{roleType, map[string]any{"assumeRolePolicy": "{"}, "assumeRolePolicy: is not a JSON object"},
		{roleType, map[string]any{"assumeRolePolicy": trust, "name": strings.Repeat("a", 65)}, "65 characters, at most 64"},
		{roleType, map[string]any{"assumeRolePolicy": map[string]any{"Version": "2012-10-17"}}, ""},
		{attachType, map[string]any{"role": "r", "policyArn": "AdministratorAccess"}, `policyArn: "AdministratorAccess" is not an ARN`},
		{attachType, map[string]any{"role": "r", "policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"}, ""},
		{"aws:ecr/repository:Repository", map[string]any{"name": "Loja/Web"}, `"Loja/Web" does not match`},
		{rdsType, map[string]any{"instanceClass": "db.t4g.micro", "identifier": "loja--db"}, `"loja--db" does not match`},
		{rdsType, map[string]any{"instanceClass": "db.t4g.micro", "identifier": strings.Repeat("a", 64)}, "at most 63"},
		{clusterType, map[string]any{
			"version": "1.20", "roleArn": "arn:aws:iam::123456789012:role/r", "vpcConfig": map[string]any{"subnetIds": []any{"subnet-1"}},
		}, "version: unsupported Kubernetes version 1.20"},
		{clusterType, map[string]any{"roleArn": "arn:aws:iam::123456789012:role/r"}, "vpcConfig: is required"},
		{"aws:cloudwatch/logGroup:LogGroup", map[string]any{"retentionInDays": 8}, "retentionInDays: 8 is not one of"},
		{alarmType, map[string]any{"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 1, "period": 300, "statistic": "Sum"}, ""},
		{alarmType, map[string]any{"comparisonOperator": ">", "evaluationPeriods": 1}, `comparisonOperator: ">" is not one of`},
		{alarmType, map[string]any{"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 0}, "evaluationPeriods: "},
		{alarmType, map[string]any{"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 1, "period": 90}, "a multiple of 60"},
		{"aws:sns/topicSubscription:TopicSubscription", map[string]any{"topic": "arn:x", "protocol": "mail", "endpoint": "a@b.c"},
			`protocol: "mail" is not one of`},
		{projectType, project(map[string]any{}), ""},
		{projectType, project(map[string]any{"buildTimeout": 3}), "buildTimeout: "},
		{projectType, project(map[string]any{"name": "a"}), `name: "a" does not match`},
		{projectType, project(map[string]any{"source": map[string]any{"type": "GITHUB", "auth": map[string]any{"type": "OAUTH", "resource": "r"}}}),
			`source.auth.type: "OAUTH" is not one of`},
		{webhookType, jobs("EVENT"), ""},
		{webhookType, jobs("JOB"), `"JOB" is not one of`},
		{"aws:budgets/budget:Budget", map[string]any{"budgetType": "COST", "timeUnit": "WEEKLY"}, `timeUnit: "WEEKLY" is not one of`},
	} {
		got := b.refused(tc.tok, tc.inputs)
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s %v: got %q, want %q", tc.tok, tc.inputs, got, tc.want)
		}
	}
}

func TestUnknownsPassAndSecretsAreKept(t *testing.T) {
	b := newBench(t)
	inputs := resource.PropertyMap{
		"instanceClass":       resource.NewProperty("db.t4g.micro"),
		"identifier":          resource.NewProperty("loja"),
		"password":            resource.MakeSecret(resource.NewProperty("hunter2")),
		"username":            resource.NewProperty("app"),
		"skipFinalSnapshot":   resource.NewProperty(true),
		"vpcSecurityGroupIds": resource.NewProperty([]resource.PropertyValue{value.Unknown()}),
	}
	checked := b.props(b.checked(rdsType, "x", inputs))
	if !checked["password"].IsSecret() || !checked["vpcSecurityGroupIds"].ContainsUnknowns() {
		t.Errorf("checked: %v", checked)
	}
	r, err := b.p.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOf(rdsType, "x"), Properties: b.proto(checked), Preview: true})
	if err != nil {
		t.Fatal(err)
	}
	out := b.props(r.GetProperties())
	if !out["endpoint"].IsComputed() || !out["arn"].IsComputed() || !out["password"].IsSecret() {
		t.Errorf("preview: endpoint %v, arn %v, password %v", out["endpoint"], out["arn"], out["password"])
	}
	if v := out["identifier"]; !v.IsString() || v.StringValue() != "loja" {
		t.Errorf("preview: identifier %v", v)
	}
	delete(inputs, "vpcSecurityGroupIds")
	id, out := b.create(rdsType, "x", inputs)
	if !out["password"].IsSecret() {
		t.Errorf("password lost its mark: %v", out["password"])
	}
	read, err := b.p.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(rdsType, "x"), Id: id})
	if err != nil {
		t.Fatal(err)
	}
	if !b.props(read.GetInputs())["password"].IsSecret() || !b.props(read.GetProperties())["password"].IsSecret() {
		t.Error("the password lost its mark in the world")
	}
	illTyped := resource.PropertyMap{"instanceClass": resource.MakeSecret(resource.NewProperty(1.0))}
	if got := b.refused(rdsType, illTyped); !strings.Contains(got, "instanceClass: wants a string") {
		t.Errorf("an ill-typed secret passed: %q", got)
	}
}

func TestReplacements(t *testing.T) {
	type inputs = map[string]any
	const (
		update        = pulumirpc.PropertyDiff_UPDATE
		updateReplace = pulumirpc.PropertyDiff_UPDATE_REPLACE
		addReplace    = pulumirpc.PropertyDiff_ADD_REPLACE
	)
	b := newBench(t)
	cidrs := func(cidr string) inputs { return inputs{"vpcConfig": inputs{"publicAccessCidrs": []any{cidr}}} }
	const creator = "bootstrapClusterCreatorAdminPermissions"
	for _, tc := range []struct {
		tok, path  string
		olds, news inputs
		kind       pulumirpc.PropertyDiff_Kind
		replaces   bool
	}{
		{vpcType, "cidrBlock", inputs{"cidrBlock": "10.0.0.0/16"}, inputs{"cidrBlock": "10.1.0.0/16"}, updateReplace, true},
		{vpcType, "tags.Name", inputs{"tags": inputs{"Name": "a"}}, inputs{"tags": inputs{"Name": "b"}}, update, false},
		{rdsType, "instanceClass", inputs{"instanceClass": "a"}, inputs{"instanceClass": "b"}, update, false},
		{rdsType, "storageEncrypted", inputs{}, inputs{"storageEncrypted": true}, addReplace, true},
		// In no list: may replace, and is planned so.
		{rdsType, "domain", inputs{}, inputs{"domain": "d"}, addReplace, true},
		{"aws:glue/job:Job", "description", inputs{"description": "a"}, inputs{"description": "b"}, updateReplace, true},
		{clusterType, "vpcConfig.publicAccessCidrs[0]", cidrs("a"), cidrs("b"), update, false},
		{
			clusterType, "accessConfig." + creator,
			inputs{"accessConfig": inputs{creator: true}}, inputs{"accessConfig": inputs{creator: false}}, updateReplace, true,
		},
	} {
		r := b.diff(tc.tok, tc.olds, tc.news)
		if got := r.GetDetailedDiff()[tc.path]; got == nil || got.GetKind() != tc.kind || (len(r.GetReplaces()) > 0) != tc.replaces {
			t.Errorf("%s %s: %v, replaces %v", tc.tok, tc.path, r.GetDetailedDiff(), r.GetReplaces())
		}
	}
	ignored := b.diff(vpcType, inputs{"cidrBlock": "10.0.0.0/16"}, inputs{"cidrBlock": "10.1.0.0/16"}, "cidrBlock")
	if ignored.GetChanges() != pulumirpc.DiffResponse_DIFF_NONE {
		t.Errorf("an ignored change: %v", ignored)
	}
	if r := b.diff(roleType, inputs{"name": "a", "path": "/"}, inputs{"name": "a", "path": "/b/"}); !r.GetDeleteBeforeReplace() {
		t.Error("a role of a fixed name must be deleted before it is replaced")
	}
	if r := b.diff(roleType, inputs{"name": "a"}, inputs{"name": "a", "description": "b"}); r.GetDeleteBeforeReplace() {
		t.Error("an update deletes first")
	}
}

// The functions that are answered exist.
func TestAnswersNameFunctions(t *testing.T) {
	b := newBench(t)
	source, err := b.p.source()
	if err != nil {
		t.Fatal(err)
	}
	for tok := range answers {
		if _, err := source.Function(tok); err != nil {
			t.Error(err)
		}
		if _, known := aws.Actions(tok, aws.Read); !known {
			t.Errorf("nobody judges who may call %s", tok)
		}
	}
}

func TestIdsAreDeterministic(t *testing.T) {
	var first, second []string
	for _, into := range []*[]string{&first, &second} {
		b := newBench(t)
		vpc, out := b.create(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
		role, roleOut := b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust})
		_, repo := b.create("aws:ecr/repository:Repository", "web", map[string]any{"name": "loja/web"})
		_, db := b.create(rdsType, "db", map[string]any{
			"instanceClass": "db.t4g.micro", "identifier": "loja", "manageMasterUserPassword": true,
		})
		secrets := db["masterUserSecrets"].ArrayValue()[0].ObjectValue()
		arn := value.Text(out, "arn")
		*into = []string{
			vpc, arn, role, value.Text(roleOut, "arn"),
			value.Text(repo, "repositoryUrl"), value.Text(db, "endpoint"), value.Text(secrets, "secretArn"),
		}
		if !strings.HasPrefix(vpc, "vpc-") || len(vpc) != len("vpc-")+17 || arn != "arn:aws:ec2:sa-east-1:123456789012:vpc/"+vpc {
			t.Errorf("vpc %s, arn %s", vpc, arn)
		}
		if value.Text(roleOut, "arn") != "arn:aws:iam::123456789012:role/"+role || !strings.HasPrefix(role, "role-") {
			t.Errorf("role %s: %s", role, value.Text(roleOut, "arn"))
		}
		if got := value.Text(repo, "repositoryUrl"); got != "123456789012.dkr.ecr.sa-east-1.amazonaws.com/loja/web" {
			t.Errorf("repository: %s", got)
		}
		if got := value.Text(db, "endpoint"); got != value.Text(db, "address")+":5432" || !strings.HasPrefix(got, "loja.") {
			t.Errorf("endpoint: %s", got)
		}
		if tags := out["tagsAll"]; !tags.IsObject() || value.Text(tags.ObjectValue(), "Project") != "loja" {
			t.Errorf("tagsAll: %v", tags)
		}
	}
	if !slices.Equal(first, second) {
		t.Errorf("%v\n%v", first, second)
	}
}

func TestCluster(t *testing.T) {
	b := newBench(t)
	vpc, _ := b.create(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
	a, _ := b.create(subnetType, "a", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.0.0/24"})
	other, _ := b.create(subnetType, "b", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.1.0/24", "availabilityZone": "sa-east-1b"})
	_, role := b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust})
	inputs := map[string]any{"name": "loja", "roleArn": value.Text(role, "arn"), "vpcConfig": map[string]any{"subnetIds": []any{a, other}}}
	id, out := b.create(clusterType, "cluster", inputs)
	if id != "loja" || !strings.HasSuffix(value.Text(out, "endpoint"), ".gr7.sa-east-1.eks.amazonaws.com") {
		t.Errorf("%s %s", id, value.Text(out, "endpoint"))
	}
	v := out["vpcConfig"].ObjectValue()
	if value.Text(v, "vpcId") != vpc || !strings.HasPrefix(value.Text(v, "clusterSecurityGroupId"), "sg-") {
		t.Errorf("vpcConfig: %v", v)
	}
	if err := b.delete(clusterType, "cluster", id); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EndpointVariable, "https://127.0.0.1:6443")
	t.Setenv(AuthorityVariable, "Q0E=")
	_, out = b.create(clusterType, "cluster", inputs)
	authority := value.Text(out["certificateAuthority"].ObjectValue(), "data")
	if value.Text(out, "endpoint") != "https://127.0.0.1:6443" || authority != "Q0E=" {
		t.Errorf("%v", out)
	}
}

// project returns the inputs of a CodeBuild project with changes.
func project(changes map[string]any) map[string]any {
	inputs := map[string]any{
		"name": "loja-veloz-dev-runner", "serviceRole": "arn:aws:iam::123456789012:role/loja-veloz-dev-runner", "buildTimeout": 120,
		"artifacts":   map[string]any{"type": "NO_ARTIFACTS"},
		"environment": map[string]any{"computeType": "BUILD_GENERAL1_SMALL", "image": "i", "type": "LINUX_CONTAINER"},
		"source":      map[string]any{"type": "GITHUB", "auth": map[string]any{"type": "CODECONNECTIONS", "resource": "arn:aws:x"}},
	}
	maps.Copy(inputs, changes)
	return inputs
}

// jobs returns the inputs of a webhook for jobs of GitHub.
func jobs(filter string) map[string]any {
	return map[string]any{"projectName": "loja-veloz-dev-runner", "buildType": "BUILD", "filterGroups": []any{map[string]any{
		"filters": []any{map[string]any{"type": filter, "pattern": "WORKFLOW_JOB_QUEUED"}},
	}}}
}

func TestARunnerNeedsItsRoleAndAWebhookItsProject(t *testing.T) {
	b := newBench(t)
	if _, _, err := b.tryCreate(projectType, "project", project(nil)); err == nil || !strings.Contains(err.Error(), "InvalidInputException") {
		t.Errorf("a project without its role: %v", err)
	}
	if _, _, err := b.tryCreate(webhookType, "webhook", jobs("EVENT")); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a webhook without its project: %v", err)
	}
	b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust, "name": "loja-veloz-dev-runner"})
	b.create(projectType, "project", project(nil))
	if id, _ := b.create(webhookType, "webhook", jobs("EVENT")); id != "loja-veloz-dev-runner" {
		t.Errorf("the webhook has the id %s", id)
	}
}

func TestWorldRefuses(t *testing.T) {
	b := newBench(t)
	vpc, _ := b.create(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
	subnet, _ := b.create(subnetType, "a", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.0.0/24"})
	role, _ := b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust, "name": "r"})
	b.create(attachType, "attach", map[string]any{"role": role, "policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"})
	db := map[string]any{"instanceClass": "db.t4g.micro", "identifier": "loja", "deletionProtection": true, "skipFinalSnapshot": true}
	dbID, _ := b.create(rdsType, "db", db)
	b.create("aws:secretsmanager/secret:Secret", "s", map[string]any{"name": "s"})
	wants := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, tc := range []struct {
		tok    string
		inputs map[string]any
		want   string
	}{
		{roleType, map[string]any{"assumeRolePolicy": trust, "name": "r"}, "EntityAlreadyExists"},
		{rdsType, db, "DBInstanceAlreadyExists"},
		{"aws:secretsmanager/secret:Secret", map[string]any{"name": "s", "description": "another"}, "ResourceExistsException"},
		{subnetType, map[string]any{"vpcId": vpc, "cidrBlock": "10.0.0.128/25"}, "InvalidSubnet.Conflict"},
		{subnetType, map[string]any{"vpcId": vpc, "cidrBlock": "10.1.0.0/24"}, "InvalidSubnet.Range"},
		{subnetType, map[string]any{"vpcId": "vpc-none", "cidrBlock": "10.1.0.0/24"}, "InvalidVpcID.NotFound"},
		{attachType, map[string]any{"role": "none", "policyArn": "arn:aws:iam::aws:policy/P"}, "NoSuchEntity"},
	} {
		_, _, err := b.tryCreate(tc.tok, "second", tc.inputs)
		wants(err, tc.want)
	}
	wants(b.delete(vpcType, "vpc", vpc), "DependencyViolation")
	wants(b.delete(roleType, "role", role), "DeleteConflict")
	wants(b.delete(rdsType, "db", dbID), "InvalidParameterCombination")
	if err := b.delete(subnetType, "a", subnet); err != nil {
		t.Fatal(err)
	}
	if err := b.delete(vpcType, "vpc", vpc); err != nil {
		t.Fatal(err)
	}
	read, err := b.p.Read(t.Context(), &pulumirpc.ReadRequest{Urn: urnOf(vpcType, "vpc"), Id: vpc})
	if err != nil || read.GetId() != "" {
		t.Errorf("a deleted VPC reads as %v, %v", read, err)
	}
}

// The same inputs twice are two objects where AWS generates the id or a part of the ARN.
func TestTwins(t *testing.T) {
	b := newBench(t)
	for tok, inputs := range map[string]map[string]any{
		vpcType:                           {"cidrBlock": "10.0.0.0/16"},
		"aws:acm/certificate:Certificate": {"domainName": "loja.example"},
	} {
		one, _ := b.create(tok, "twin", inputs)
		two, _ := b.create(tok, "twin", inputs)
		if one == two {
			t.Errorf("%s twice is %s", tok, one)
		}
		if err := b.delete(tok, "twin", one); err != nil {
			t.Fatal(err)
		}
		if again, _ := b.create(tok, "twin", inputs); again != one {
			t.Errorf("%s: %s, before it was deleted %s", tok, again, one)
		}
	}
}

func TestUpdateKeepsWhatAWSGave(t *testing.T) {
	b := newBench(t)
	tok := "aws:ec2/launchTemplate:LaunchTemplate"
	id, out := b.create(tok, "lt", map[string]any{"name": "lt", "updateDefaultVersion": true})
	news := b.checked(tok, "lt", map[string]any{"name": "lt", "updateDefaultVersion": true, "imageId": "ami-1"})
	update := func(preview bool) resource.PropertyMap {
		t.Helper()
		r, err := b.p.Update(t.Context(), &pulumirpc.UpdateRequest{
			Urn: urnOf(tok, "lt"), Id: id, Olds: b.proto(out), News: news, Preview: preview,
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.props(r.GetProperties())
	}
	arn := value.Text(out, "arn")
	after := update(false)
	if value.Text(after, "arn") != arn || after["latestVersion"].NumberValue() != 2 || value.Text(after, "imageId") != "ami-1" {
		t.Errorf("%v", after)
	}
	if p := update(true); !p["latestVersion"].IsComputed() || value.Text(p, "arn") != arn {
		t.Errorf("%v", p)
	}
}

func TestInvokes(t *testing.T) {
	b := newBench(t)
	invoke := func(tok string, args map[string]any) (*pulumirpc.InvokeResponse, error) {
		return b.p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: tok, Args: b.proto(args)})
	}
	for _, tc := range []struct{ tok, property, want string }{
		{"aws:index/getPartition:getPartition", "dnsSuffix", "amazonaws.com"},
		{"aws:index/getPartition:getPartition", "reverseDnsPrefix", "com.amazonaws"},
		{"aws:index/getCallerIdentity:getCallerIdentity", "accountId", "123456789012"},
	} {
		r, err := invoke(tc.tok, nil)
		if err != nil || value.Text(b.props(r.GetReturn()), tc.property) != tc.want {
			t.Errorf("%s: %v, %v; want %s %s", tc.tok, r, err, tc.property, tc.want)
		}
	}
	if r, err := invoke("aws:index/getRegion:getRegion", map[string]any{"nme": "x"}); err != nil || len(r.GetFailures()) != 1 {
		t.Errorf("a misspelt argument: %v, %v", r, err)
	}
	const unanswered = "aws:secretsmanager/getRandomPassword"
	if _, err := invoke(unanswered+":getRandomPassword", nil); err == nil || !strings.Contains(err.Error(), "no answer to "+unanswered) {
		t.Errorf("%v", err)
	}
	if _, err := invoke("aws:index/getNothing:getNothing", nil); err == nil {
		t.Error("an unknown function was answered")
	}
}

func TestCreateNeedsAWorld(t *testing.T) {
	b := newBench(t)
	if err := os.Unsetenv(world.DirVariable); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.tryCreate(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
	if err == nil || !strings.Contains(err.Error(), world.DirVariable) {
		t.Errorf("%v", err)
	}
}

// The role may create an address; its boundary lacks what a VPC needs.
func TestACallerMayDoWhatItsRoleAndBoundaryAdmit(t *testing.T) {
	b := newBench(t)
	policy := func(actions string) string {
		return `{"Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}]}`
	}
	const address = `"ec2:AllocateAddress","ec2:CreateTags"`
	boundary, _ := b.create("aws:iam/policy:Policy", "boundary", map[string]any{"name": "boundary", "policy": policy(address)})
	b.create(roleType, "up", map[string]any{"name": "up", "assumeRolePolicy": trust, "permissionsBoundary": boundary})
	b.create("aws:iam/rolePolicy:RolePolicy", "up", map[string]any{"role": "up", "policy": policy(`"ec2:CreateVpc","ec2:ModifyVpcAttribute"`)})
	read, _ := b.create("aws:iam/policy:Policy", "read", map[string]any{"name": "read", "policy": policy(address)})
	b.create(attachType, "read", map[string]any{"role": "up", "policyArn": read})

	try := func(tok string, inputs map[string]any) error {
		_, _, err := b.tryCreate(tok, "x", inputs)
		return err
	}
	t.Setenv(world.CallerVariable, "arn:aws:iam::123456789012:role/up")
	if err := try("aws:ec2/eip:Eip", map[string]any{"domain": "vpc"}); err != nil {
		t.Errorf("an address: %v", err)
	}
	want := "AccessDenied: the role up is not authorized to perform ec2:CreateVpc on arn:aws:ec2:sa-east-1:123456789012:vpc/*"
	if err := try(vpcType, map[string]any{"cidrBlock": "10.0.0.0/16"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a VPC: %v", err)
	}
	if err := try("aws:iam/role:Role", map[string]any{"assumeRolePolicy": trust}); err == nil || !strings.Contains(err.Error(), "iam:CreateRole") {
		t.Errorf("a role: %v", err)
	}
	_, err := b.p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: "aws:eks/getClusters:getClusters", Args: b.proto(map[string]any{})})
	if err == nil || !strings.Contains(err.Error(), "not authorized to perform eks:ListClusters") {
		t.Errorf("a look-up: %v", err)
	}
	t.Setenv(world.CallerVariable, "arn:aws:iam::123456789012:role/nobody")
	p, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	b.p.permissions = p.permissions
	if err := try("aws:ec2/eip:Eip", map[string]any{"domain": "vpc"}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("an unknown role: %v", err)
	}
}

// EKS tags its security group with the cluster's name alone, by which the up role may admit the runner there
// (statement AdmitToCluster of bootstrap).
func TestACallerIsAdmittedToTheGroupOfItsCluster(t *testing.T) {
	b := newBench(t)
	vpc, network := b.create(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
	first, _ := b.create(subnetType, "a", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.0.0/24"})
	second, _ := b.create(subnetType, "b", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.1.0/24", "availabilityZone": "sa-east-1b"})
	_, role := b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust})
	group := func(cluster string) string {
		_, out := b.create(clusterType, cluster, map[string]any{
			"name": cluster, "roleArn": value.Text(role, "arn"), "vpcConfig": map[string]any{"subnetIds": []any{first, second}},
		})
		return value.Text(out["vpcConfig"].ObjectValue(), "clusterSecurityGroupId")
	}
	dev, prod := group("loja-veloz-dev"), group("loja-veloz-prod")
	b.create(roleType, "up", map[string]any{"name": "up", "assumeRolePolicy": trust})
	b.create("aws:iam/rolePolicy:RolePolicy", "up", map[string]any{"role": "up", "policy": `{"Statement": [
		{"Effect": "Allow", "Action": ["ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags"], "Resource": "arn:aws:ec2:sa-east-1:123456789012:security-group-rule/*"},
		{"Effect": "Allow", "Action": ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
		 "Resource": "arn:aws:ec2:sa-east-1:123456789012:security-group/*",
		 "Condition": {"StringEquals": {"aws:ResourceTag/aws:eks:cluster-name": "loja-veloz-dev"}}}]}`})

	t.Setenv(world.CallerVariable, "arn:aws:iam::123456789012:role/up")
	rule := func(group string) map[string]any {
		return map[string]any{"securityGroupId": group, "ipProtocol": "tcp", "fromPort": 443, "toPort": 443, "cidrIpv4": "10.0.0.0/16"}
	}
	const want = "not authorized to perform ec2:AuthorizeSecurityGroupIngress on arn:aws:ec2:sa-east-1:123456789012:security-group/*"
	for name, other := range map[string]string{"another cluster's": prod, "the VPC's default": value.Text(network, "defaultSecurityGroupId")} {
		if _, _, err := b.tryCreate(ruleType, "other", rule(other)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a rule of %s group: %v", name, err)
		}
	}
	id, _, err := b.tryCreate(ruleType, "runner", rule(dev))
	if err != nil {
		t.Fatalf("a rule of the cluster's group: %v", err)
	}
	if err := b.delete(ruleType, "runner", id); err != nil {
		t.Errorf("the deletion of a rule of the cluster's group: %v", err)
	}
}

func TestARecordFitsItsZone(t *testing.T) {
	b := newBench(t)
	zone, _ := b.create("aws:route53/zone:Zone", "zone", map[string]any{"name": "example.com"})
	record := func(name, kind string) error {
		_, _, err := b.tryCreate("aws:route53/record:Record", name+kind, map[string]any{
			"zoneId": zone, "name": name, "type": kind, "ttl": 60, "records": []any{"192.0.2.1"},
		})
		return err
	}
	for _, tc := range []struct{ name, kind, want string }{
		{"example.com", "A", ""},
		{"shop.example.com", "A", ""},
		{"shop.example.com", "AAAA", ""},
		{"shop.example.com", "CNAME", "conflicts with that of type A"},
		{"www.example.com", "CNAME", ""},
		{"example.com", "CNAME", "is not permitted at apex"},
		{"shop.example.org", "A", "is not permitted in zone example.com"},
		{"badexample.com", "A", "is not permitted in zone example.com"},
	} {
		if err := record(tc.name, tc.kind); tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s %s: %v", tc.name, tc.kind, err)
		}
	}
}

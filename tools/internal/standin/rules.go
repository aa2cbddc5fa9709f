package standin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A rule refuses values that the types allow and AWS does not. Paths name
// properties without indices: ingress.cidrBlocks. A path that starts with "*."
// is looked for at any depth.
type rule struct {
	types  []string // tokens; none means every type
	path   string
	refuse func(v resource.PropertyValue) string // why, or ""
	source string                                // AWS documentation page
}

var rules = []rule{
	{path: "*.cidrBlock", refuse: cidr(0, 128), source: "Amazon VPC API, CreateSubnet: CidrBlock"},
	{path: "*.cidrIpv4", refuse: cidr(0, 32), source: "Amazon EC2 API, IpPermission"},
	{path: "*.cidrBlocks", refuse: each(cidr(0, 128)), source: "Amazon EC2 API, IpPermission"},
	{path: "*.destinationCidrBlock", refuse: cidr(0, 32), source: "Amazon EC2 API, CreateRoute"},
	{path: "*.publicAccessCidrs", refuse: each(cidr(0, 128)), source: "Amazon EKS API, VpcConfigRequest"},
	{path: "*.policy", refuse: document, source: "IAM User Guide, JSON policy elements"},
	{path: "*.assumeRolePolicy", refuse: document, source: "IAM User Guide, JSON policy elements"},

	{types: []string{"aws:ec2/vpc:Vpc"}, path: "cidrBlock", refuse: cidr(16, 28), source: "VPC User Guide, VPC CIDR blocks: /16 to /28"},
	{types: []string{"aws:ec2/subnet:Subnet"}, path: "cidrBlock", refuse: cidr(16, 28), source: "VPC User Guide, subnet sizing: /16 to /28"},
	{types: []string{"aws:ec2/securityGroup:SecurityGroup"}, path: "description", refuse: name(255, `[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]*`), source: "Amazon EC2 API, CreateSecurityGroup: GroupDescription"},
	{types: []string{"aws:ec2/securityGroup:SecurityGroup"}, path: "name", refuse: name(255, `[^ ].*`, "sg-"), source: "Amazon EC2 API, CreateSecurityGroup: GroupName"},

	{types: []string{"aws:iam/role:Role"}, path: "name", refuse: name(64, `[\w+=,.@-]+`), source: "IAM User Guide, IAM and AWS STS quotas: role names 64"},
	{types: []string{"aws:iam/policy:Policy", "aws:iam/instanceProfile:InstanceProfile"}, path: "name", refuse: name(128, `[\w+=,.@-]+`), source: "IAM User Guide, IAM and AWS STS quotas: 128"},
	{types: []string{"aws:iam/openIdConnectProvider:OpenIdConnectProvider"}, path: "url", refuse: name(255, `https://.+|[^:]+`), source: "IAM API, CreateOpenIDConnectProvider: Url"},

	{types: []string{"aws:rds/instance:Instance"}, path: "identifier", refuse: name(63, `[a-z](-?[a-z0-9])*`), source: "Amazon RDS API, CreateDBInstance: DBInstanceIdentifier"},
	{types: []string{"aws:rds/instance:Instance"}, path: "backupRetentionPeriod", refuse: between(0, 35), source: "Amazon RDS API, CreateDBInstance: BackupRetentionPeriod"},
	{types: []string{"aws:rds/subnetGroup:SubnetGroup", "aws:rds/parameterGroup:ParameterGroup"}, path: "name", refuse: name(255, `[a-z][a-z0-9. _-]*`), source: "Amazon RDS API, CreateDBSubnetGroup, CreateDBParameterGroup"},

	{types: []string{"aws:ecr/repository:Repository"}, path: "name", refuse: name(256, `(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*`), source: "Amazon ECR API, CreateRepository: repositoryName"},
	{types: []string{"aws:ecr/repository:Repository"}, path: "imageTagMutability", refuse: oneOf("MUTABLE", "IMMUTABLE"), source: "Amazon ECR API, CreateRepository: imageTagMutability"},
	{types: []string{"aws:ecr/pullThroughCacheRule:PullThroughCacheRule"}, path: "ecrRepositoryPrefix", refuse: name(30, `((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)`), source: "Amazon ECR API, CreatePullThroughCacheRule: ecrRepositoryPrefix"},

	{types: []string{"aws:s3/bucketV2:BucketV2"}, path: "bucket", refuse: name(63, `[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`), source: "Amazon S3 User Guide, bucket naming rules"},

	{types: []string{"aws:eks/cluster:Cluster"}, path: "name", refuse: name(100, `[0-9A-Za-z][A-Za-z0-9_-]*`), source: "Amazon EKS API, CreateCluster: name"},
	{types: []string{"aws:eks/cluster:Cluster", "aws:eks/nodeGroup:NodeGroup"}, path: "version", refuse: oneOf("1.29", "1.30", "1.31", "1.32", "1.33", "1.34"), source: "Amazon EKS User Guide, Kubernetes versions, as of pulumi-aws " + schema.Version},
	{types: []string{"aws:eks/nodeGroup:NodeGroup"}, path: "nodeGroupName", refuse: name(63, `[0-9A-Za-z][A-Za-z0-9_-]*`), source: "Amazon EKS API, CreateNodegroup: nodegroupName"},
	{types: []string{"aws:eks/cluster:Cluster"}, path: "enabledClusterLogTypes", refuse: each(oneOf("api", "audit", "authenticator", "controllerManager", "scheduler")), source: "Amazon EKS API, LogSetup"},
	{types: []string{"aws:eks/addon:Addon"}, path: "configurationValues", refuse: document, source: "Amazon EKS API, CreateAddon: configurationValues"},

	{types: []string{"aws:kms/alias:Alias"}, path: "name", refuse: name(256, `alias/[a-zA-Z0-9/_-]+`, "alias/aws/"), source: "AWS KMS API, CreateAlias: AliasName"},
	{types: []string{"aws:kms/key:Key"}, path: "deletionWindowInDays", refuse: between(7, 30), source: "AWS KMS API, ScheduleKeyDeletion: PendingWindowInDays"},
	{types: []string{"aws:cloudwatch/logGroup:LogGroup"}, path: "name", refuse: name(512, `[.\-_/#A-Za-z0-9]+`), source: "CloudWatch Logs API, CreateLogGroup"},
	{types: []string{"aws:cloudwatch/logGroup:LogGroup"}, path: "retentionInDays", refuse: oneOfNumbers(0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653), source: "CloudWatch Logs API, PutRetentionPolicy: retentionInDays"},
	{types: []string{"aws:secretsmanager/secret:Secret"}, path: "name", refuse: name(512, `[A-Za-z0-9/_+=.@-]+`), source: "Secrets Manager API, CreateSecret: Name"},
	{types: []string{"aws:sqs/queue:Queue"}, path: "name", refuse: name(80, `[A-Za-z0-9_-]+(\.fifo)?`), source: "Amazon SQS API, CreateQueue: QueueName"},
}

// arnPattern is the form of an ARN.
//
// Source: IAM User Guide, Amazon Resource Names.
var arnPattern = regexp.MustCompile(`^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}|aws|):.+$`)

// refuse adds what AWS would refuse of a resource's inputs.
func refuse(c *check.Failures, tok string, inputs resource.PropertyMap) {
	walk("", "", resource.NewProperty(inputs), func(path, pattern string, v resource.PropertyValue) {
		last := pattern[strings.LastIndex(pattern, ".")+1:]
		// A tag or label may have any name.
		if root, _, nested := strings.Cut(pattern, "."); nested && (root == "tags" || root == "tagsAll" || root == "labels") {
			return
		}
		if v.IsString() && (last == "arn" || strings.HasSuffix(last, "Arn")) && !arnPattern.MatchString(v.StringValue()) {
			c.Add(path, "%q is not an ARN (IAM User Guide, Amazon Resource Names)", v.StringValue())
		}
		for _, r := range rules {
			if len(r.types) > 0 && !slices.Contains(r.types, tok) {
				continue
			}
			if r.path != pattern && r.path != "*."+last {
				continue
			}
			if why := r.refuse(v); why != "" {
				c.Add(path, "%s (%s)", why, r.source)
			}
		}
	})
}

// walk visits every known value with its path and its path without indices.
func walk(path, pattern string, v resource.PropertyValue, visit func(path, pattern string, v resource.PropertyValue)) {
	v = value.Unmarked(v)
	if pattern != "" && !v.IsComputed() && !v.IsNull() {
		visit(path, pattern, v)
	}
	switch {
	case v.IsArray():
		for i, item := range v.ArrayValue() {
			walkItem(path+"["+strconv.Itoa(i)+"]", pattern, item, visit)
		}
	case v.IsObject():
		for _, key := range v.ObjectValue().StableKeys() {
			if !strings.HasPrefix(string(key), "__") {
				walk(value.JoinKey(path, string(key)), value.Join(pattern, string(key)), v.ObjectValue()[key], visit)
			}
		}
	}
}

// walkItem goes into the objects of a list, whose rules are the list's own.
func walkItem(path, pattern string, v resource.PropertyValue, visit func(path, pattern string, v resource.PropertyValue)) {
	if v = value.Unmarked(v); v.IsObject() {
		for _, key := range v.ObjectValue().StableKeys() {
			walk(value.JoinKey(path, string(key)), value.Join(pattern, string(key)), v.ObjectValue()[key], visit)
		}
	}
}

func cidr(low, high int) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsString() {
			return ""
		}
		p, err := netip.ParsePrefix(v.StringValue())
		switch {
		case err != nil:
			return fmt.Sprintf("%q is not a CIDR block", v.StringValue())
		case p.Masked() != p:
			return fmt.Sprintf("%s has bits beyond its prefix; the block is %s", p, p.Masked())
		case p.Bits() < low || p.Bits() > high:
			return fmt.Sprintf("%s must be between /%d and /%d", p, low, high)
		}
		return ""
	}
}

func each(one func(resource.PropertyValue) string) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsArray() {
			return ""
		}
		var all []string
		for _, item := range v.ArrayValue() {
			if item = value.Unmarked(item); item.IsComputed() {
				continue
			}
			if why := one(item); why != "" {
				all = append(all, why)
			}
		}
		return strings.Join(all, "; ")
	}
}

// document wants a JSON object, as a string.
func document(v resource.PropertyValue) string {
	if !v.IsString() {
		return ""
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(v.StringValue()), &object); err != nil {
		return "is not a JSON object: " + err.Error()
	}
	return ""
}

func name(longest int, pattern string, not ...string) func(resource.PropertyValue) string {
	re := regexp.MustCompile("^(?:" + pattern + ")$")
	return func(v resource.PropertyValue) string {
		if !v.IsString() {
			return ""
		}
		s := v.StringValue()
		switch {
		case len(s) > longest:
			return fmt.Sprintf("%q has %d characters, at most %d are allowed", s, len(s), longest)
		case !re.MatchString(s):
			return fmt.Sprintf("%q does not match %s", s, pattern)
		}
		for _, prefix := range not {
			if strings.HasPrefix(s, prefix) {
				return fmt.Sprintf("%q may not begin with %s", s, prefix)
			}
		}
		return ""
	}
}

func oneOf(allowed ...string) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsString() || slices.Contains(allowed, v.StringValue()) {
			return ""
		}
		return fmt.Sprintf("%q is none of %s", v.StringValue(), strings.Join(allowed, ", "))
	}
}

func oneOfNumbers(allowed ...float64) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsNumber() || slices.Contains(allowed, v.NumberValue()) {
			return ""
		}
		return fmt.Sprintf("%v is none of %v", v.NumberValue(), allowed)
	}
}

func between(low, high float64) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsNumber() || v.NumberValue() >= low && v.NumberValue() <= high {
			return ""
		}
		return fmt.Sprintf("%v must be between %v and %v", v.NumberValue(), low, high)
	}
}

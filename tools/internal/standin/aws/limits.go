package aws

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A limit refuses values that the types allow and AWS does not. Its path names a property
// without indices: ingress.cidrBlocks. One that starts with "*." fits at any depth.
type limit struct {
	types  []string // none: every type
	path   string
	refuse func(v resource.PropertyValue) string // returns the reason, or ""
	source string                                // page of AWS's documentation
}

var limits = []limit{
	{path: "*.cidrBlock", refuse: cidr(0, 128), source: "Amazon VPC API, CreateSubnet: CidrBlock"},
	{path: "*.cidrIpv4", refuse: cidr(0, 32), source: "Amazon EC2 API, IpPermission"},
	{path: "*.cidrBlocks", refuse: each(cidr(0, 128)), source: "Amazon EC2 API, IpPermission"},
	{path: "*.destinationCidrBlock", refuse: cidr(0, 32), source: "Amazon EC2 API, CreateRoute"},
	{path: "*.publicAccessCidrs", refuse: each(cidr(0, 128)), source: "Amazon EKS API, VpcConfigRequest"},
	{path: "*.policy", refuse: document, source: "IAM User Guide, JSON policy elements"},
	{path: "*.assumeRolePolicy", refuse: document, source: "IAM User Guide, JSON policy elements"},

	{types: []string{VPC}, path: "cidrBlock", refuse: cidr(16, 28), source: "VPC User Guide, VPC CIDR blocks: /16 to /28"},
	{types: []string{Subnet}, path: "cidrBlock", refuse: cidr(16, 28), source: "VPC User Guide, subnet sizing: /16 to /28"},
	{
		types: []string{SecurityGroup}, path: "description",
		refuse: name(255, `[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]*`),
		source: "Amazon EC2 API, CreateSecurityGroup: GroupDescription",
	},
	{
		types: []string{SecurityGroup}, path: "name",
		refuse: name(255, `[^ ].*`, "sg-"),
		source: "Amazon EC2 API, CreateSecurityGroup: GroupName",
	},

	{
		types: []string{Role}, path: "name",
		refuse: name(64, `[\w+=,.@-]+`),
		source: "IAM User Guide, IAM and AWS STS quotas: role names 64",
	},
	{
		types: []string{Policy, InstanceProfile}, path: "name",
		refuse: name(128, `[\w+=,.@-]+`),
		source: "IAM User Guide, IAM and AWS STS quotas: 128",
	},
	{
		types: []string{OIDCProvider}, path: "url",
		refuse: name(255, `https://.+|[^:]+`),
		source: "IAM API, CreateOpenIDConnectProvider: Url",
	},

	{
		types: []string{Instance}, path: "identifier",
		refuse: name(63, `[a-z](-?[a-z0-9])*`),
		source: "Amazon RDS API, CreateDBInstance: DBInstanceIdentifier",
	},
	{
		types: []string{Instance}, path: "backupRetentionPeriod",
		refuse: between(0, 35),
		source: "Amazon RDS API, CreateDBInstance: BackupRetentionPeriod",
	},
	{
		types: []string{SubnetGroup, ParameterGroup}, path: "name",
		refuse: name(255, `[a-z][a-z0-9. _-]*`),
		source: "Amazon RDS API, CreateDBSubnetGroup, CreateDBParameterGroup",
	},

	{
		types: []string{ImageRepository}, path: "name",
		refuse: name(256, `(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*`),
		source: "Amazon ECR API, CreateRepository: repositoryName",
	},
	{
		types: []string{ImageRepository}, path: "imageTagMutability",
		refuse: oneOf("MUTABLE", "IMMUTABLE"),
		source: "Amazon ECR API, CreateRepository: imageTagMutability",
	},
	{
		types: []string{LifecyclePolicy}, path: "policy",
		refuse: lifecycle,
		source: "Amazon ECR User Guide, Lifecycle policy properties",
	},
	{
		types: []string{CreationTemplate}, path: "lifecyclePolicy",
		refuse: lifecycle,
		source: "Amazon ECR User Guide, Lifecycle policy properties",
	},
	{
		types: []string{PullThroughCacheRule}, path: "ecrRepositoryPrefix",
		refuse: name(30, `((?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*/?|ROOT)`),
		source: "Amazon ECR API, CreatePullThroughCacheRule: ecrRepositoryPrefix",
	},

	{
		types: []string{Bucket}, path: "bucket",
		refuse: name(63, `[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`),
		source: "Amazon S3 User Guide, bucket naming rules",
	},

	{
		types: []string{Cluster}, path: "name",
		refuse: name(100, `[0-9A-Za-z][A-Za-z0-9_-]*`),
		source: "Amazon EKS API, CreateCluster: name",
	},
	{
		types: []string{NodeGroup}, path: "nodeGroupName",
		refuse: name(63, `[0-9A-Za-z][A-Za-z0-9_-]*`),
		source: "Amazon EKS API, CreateNodegroup: nodegroupName",
	},
	{
		types: []string{Cluster}, path: "enabledClusterLogTypes",
		refuse: each(oneOf("api", "audit", "authenticator", "controllerManager", "scheduler")),
		source: "Amazon EKS API, LogSetup",
	},
	{
		types: []string{Addon}, path: "configurationValues",
		refuse: document,
		source: "Amazon EKS API, CreateAddon: configurationValues",
	},

	{
		types: []string{Alias}, path: "name",
		refuse: name(256, `alias/[a-zA-Z0-9/_-]+`, "alias/aws/"),
		source: "AWS KMS API, CreateAlias: AliasName",
	},
	{
		types: []string{Key}, path: "deletionWindowInDays",
		refuse: between(7, 30),
		source: "AWS KMS API, ScheduleKeyDeletion: PendingWindowInDays",
	},
	{
		types: []string{LogGroup}, path: "name",
		refuse: name(512, `[.\-_/#A-Za-z0-9]+`),
		source: "CloudWatch Logs API, CreateLogGroup",
	},
	{
		types: []string{LogGroup}, path: "retentionInDays",
		refuse: oneOfNumbers(0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
			3288, 3653),
		source: "CloudWatch Logs API, PutRetentionPolicy: retentionInDays",
	},
	{
		types: []string{Secret}, path: "name",
		refuse: name(512, `[A-Za-z0-9/_+=.@-]+`),
		source: "Secrets Manager API, CreateSecret: Name",
	},
	{
		types: []string{MetricAlarm}, path: "comparisonOperator",
		refuse: oneOf("GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold",
			"LessThanLowerOrGreaterThanUpperThreshold", "LessThanLowerThreshold", "GreaterThanUpperThreshold"),
		source: "CloudWatch API, PutMetricAlarm: ComparisonOperator",
	},
	{
		types: []string{MetricAlarm}, path: "statistic",
		refuse: oneOf("SampleCount", "Average", "Sum", "Minimum", "Maximum"),
		source: "CloudWatch API, PutMetricAlarm: Statistic",
	},
	{
		types: []string{MetricAlarm}, path: "treatMissingData",
		refuse: oneOf("breaching", "notBreaching", "ignore", "missing"),
		source: "CloudWatch API, PutMetricAlarm: TreatMissingData",
	},
	{
		types: []string{MetricAlarm}, path: "period",
		refuse: func(v resource.PropertyValue) string {
			if n := v.NumberValue(); n != 10 && n != 20 && n != 30 && (n < 60 || int(n)%60 != 0) {
				return "is not 10, 20, 30 or a multiple of 60"
			}
			return ""
		},
		source: "CloudWatch API, PutMetricAlarm: Period",
	},
	{
		types: []string{MetricAlarm}, path: "evaluationPeriods",
		refuse: between(1, 86400/10),
		source: "CloudWatch API, PutMetricAlarm: EvaluationPeriods",
	},
	{
		types: []string{TopicSubscription}, path: "protocol",
		refuse: oneOf("http", "https", "email", "email-json", "sms", "sqs", "application", "lambda", "firehose"),
		source: "Amazon SNS API, Subscribe: Protocol",
	},
	{
		types: []string{Topic}, path: "name",
		refuse: name(256, `[A-Za-z0-9_-]+(\.fifo)?`),
		source: "Amazon SNS API, CreateTopic: Name",
	},
	{
		types: []string{Budget}, path: "timeUnit",
		refuse: oneOf("DAILY", "MONTHLY", "QUARTERLY", "ANNUALLY"),
		source: "AWS Budgets API, Budget: TimeUnit",
	},
	{
		types: []string{Budget}, path: "budgetType",
		refuse: oneOf("USAGE", "COST", "RI_UTILIZATION", "RI_COVERAGE", "SAVINGS_PLANS_UTILIZATION", "SAVINGS_PLANS_COVERAGE"),
		source: "AWS Budgets API, Budget: BudgetType",
	},
	{
		types: []string{Budget}, path: "notifications.notificationType",
		refuse: oneOf("ACTUAL", "FORECASTED"),
		source: "AWS Budgets API, Notification: NotificationType",
	},
	{
		types: []string{BuildProject}, path: "name",
		refuse: name(150, `[A-Za-z0-9][A-Za-z0-9_-]+`),
		source: "CodeBuild API, CreateProject: name",
	},
	{
		types: []string{BuildProject}, path: "buildTimeout",
		refuse: between(5, 2160),
		source: "CodeBuild API, CreateProject: timeoutInMinutes",
	},
	{
		types: []string{BuildProject}, path: "source.auth.type",
		refuse: oneOf("CODECONNECTIONS", "SECRETS_MANAGER"),
		source: "CodeBuild API, SourceAuth: type; OAUTH is of the console alone",
	},
	{
		types: []string{BuildWebhook}, path: "filterGroups.filters.type",
		refuse: oneOf("EVENT", "BASE_REF", "HEAD_REF", "ACTOR_ACCOUNT_ID", "FILE_PATH", "COMMIT_MESSAGE", "WORKFLOW_NAME", "TAG_NAME",
			"RELEASE_NAME", "REPOSITORY_NAME", "ORGANIZATION_NAME"),
		source: "CodeBuild API, WebhookFilter: type",
	},
	{
		types: []string{Queue}, path: "name",
		refuse: name(80, `[A-Za-z0-9_-]+(\.fifo)?`),
		source: "Amazon SQS API, CreateQueue: QueueName",
	},
}

// arnPattern is the form of an ARN.
//
// Source: IAM User Guide, Amazon Resource Names.
var arnPattern = regexp.MustCompile(`^arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}|aws|):.+$`)

// Refuse adds what AWS would refuse of an object's inputs.
func Refuse(c *check.Failures, token string, inputs resource.PropertyMap) {
	refuseTags(c, inputs)
	walk("", "", resource.NewProperty(inputs), func(path, pattern string, v resource.PropertyValue) {
		root, _, nested := strings.Cut(pattern, ".")
		if nested && (root == "tags" || root == "tagsAll" || root == "labels") {
			return // a tag or label may have any name
		}
		last := pattern[strings.LastIndex(pattern, ".")+1:]
		if v.IsString() && (last == "arn" || strings.HasSuffix(last, "Arn")) && !arnPattern.MatchString(v.StringValue()) {
			c.Add(path, "%q is not an ARN (IAM User Guide, Amazon Resource Names)", v.StringValue())
		}
		for _, l := range limits {
			if !l.covers(token, pattern, last) {
				continue
			}
			if reason := l.refuse(v); reason != "" {
				c.Add(path, "%s (%s)", reason, l.source)
			}
		}
	})
}

func (l limit) covers(token, pattern, last string) bool {
	return (len(l.types) == 0 || slices.Contains(l.types, token)) && (l.path == pattern || l.path == "*."+last)
}

type visitor func(path, pattern string, v resource.PropertyValue)

// walk visits every known value with its path and its path without indices.
func walk(path, pattern string, v resource.PropertyValue, visit visitor) {
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

// walkItem visits the properties of an object in a list. Limits cover the list's scalars
// through the list itself.
func walkItem(path, pattern string, v resource.PropertyValue, visit visitor) {
	if v = value.Unmarked(v); v.IsObject() {
		for _, key := range v.ObjectValue().StableKeys() {
			walk(value.JoinKey(path, string(key)), value.Join(pattern, string(key)), v.ObjectValue()[key], visit)
		}
	}
}

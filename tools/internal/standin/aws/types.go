// Package aws holds the rules of AWS, as tables: what a resource type's id, ARN and
// outputs look like, what a change of an input does, and what is refused. Each row names
// its source. The package knows neither what exists nor Pulumi's plugin protocol.
package aws

import "maps"

// Resource types that code or several rows name.
const (
	AccessEntry            = "aws:eks/accessEntry:AccessEntry"
	AccessPolicy           = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
	Addon                  = "aws:eks/addon:Addon"
	Alias                  = "aws:kms/alias:Alias"
	Bucket                 = "aws:s3/bucketV2:BucketV2"
	BucketPolicy           = "aws:s3/bucketPolicy:BucketPolicy"
	BucketPublicAccess     = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
	Budget                 = "aws:budgets/budget:Budget"
	BuildProject           = "aws:codebuild/project:Project"
	BuildWebhook           = "aws:codebuild/webhook:Webhook"
	BucketVersioning       = "aws:s3/bucketVersioningV2:BucketVersioningV2"
	Certificate            = "aws:acm/certificate:Certificate"
	CertificateValidation  = "aws:acm/certificateValidation:CertificateValidation"
	Cluster                = "aws:eks/cluster:Cluster"
	EgressRule             = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
	EIP                    = "aws:ec2/eip:Eip"
	FlowLog                = "aws:ec2/flowLog:FlowLog"
	ImageRepository        = "aws:ecr/repository:Repository"
	ImageRepositoryPolicy  = "aws:ecr/repositoryPolicy:RepositoryPolicy"
	IngressRule            = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	Instance               = "aws:rds/instance:Instance"
	InstanceProfile        = "aws:iam/instanceProfile:InstanceProfile"
	InternetGateway        = "aws:ec2/internetGateway:InternetGateway"
	Key                    = "aws:kms/key:Key"
	KeyPolicy              = "aws:kms/keyPolicy:KeyPolicy"
	LaunchTemplate         = "aws:ec2/launchTemplate:LaunchTemplate"
	Listener               = "aws:lb/listener:Listener"
	LoadBalancer           = "aws:lb/loadBalancer:LoadBalancer"
	CreationTemplate       = "aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate"
	LifecyclePolicy        = "aws:ecr/lifecyclePolicy:LifecyclePolicy"
	LogGroup               = "aws:cloudwatch/logGroup:LogGroup"
	MetricAlarm            = "aws:cloudwatch/metricAlarm:MetricAlarm"
	NATGateway             = "aws:ec2/natGateway:NatGateway"
	NodeGroup              = "aws:eks/nodeGroup:NodeGroup"
	OIDCProvider           = "aws:iam/openIdConnectProvider:OpenIdConnectProvider"
	ParameterGroup         = "aws:rds/parameterGroup:ParameterGroup"
	Snapshot               = "aws:rds/snapshot:Snapshot"
	PodIdentityAssociation = "aws:eks/podIdentityAssociation:PodIdentityAssociation"
	Policy                 = "aws:iam/policy:Policy"
	PullThroughCacheRule   = "aws:ecr/pullThroughCacheRule:PullThroughCacheRule"
	Queue                  = "aws:sqs/queue:Queue"
	Record                 = "aws:route53/record:Record"
	Role                   = "aws:iam/role:Role"
	RolePolicy             = "aws:iam/rolePolicy:RolePolicy"
	RolePolicyAttachment   = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
	Route                  = "aws:ec2/route:Route"
	RouteTable             = "aws:ec2/routeTable:RouteTable"
	RouteTableAssociation  = "aws:ec2/routeTableAssociation:RouteTableAssociation"
	Secret                 = "aws:secretsmanager/secret:Secret"
	SecretVersion          = "aws:secretsmanager/secretVersion:SecretVersion"
	SecurityGroup          = "aws:ec2/securityGroup:SecurityGroup"
	SecurityGroupRule      = "aws:ec2/securityGroupRule:SecurityGroupRule"
	Subnet                 = "aws:ec2/subnet:Subnet"
	SubnetGroup            = "aws:rds/subnetGroup:SubnetGroup"
	Topic                  = "aws:sns/topic:Topic"
	TopicSubscription      = "aws:sns/topicSubscription:TopicSubscription"
	VPC                    = "aws:ec2/vpc:Vpc"
	VPCEndpoint            = "aws:ec2/vpcEndpoint:VpcEndpoint"
	Zone                   = "aws:route53/zone:Zone"
)

// A resourceType is what is known of one type.
//
// Templates name in braces: an input or output of the object, region, account, partition,
// dns (the partition's domain), id, arn, host (that of the input url), and byte, hexN,
// upperN, digitsN and uuid, which derive from the object's seed. The text after | is used
// for a property that is not set.
//
// Lists of paths are separated by spaces. A path names properties without indices and
// covers what lies below it; the longest that covers a property decides. A property in
// neither list is planned as a replacement: a guard against replacing what holds data must
// err on the safe side. Tags are updated in place everywhere.
type resourceType struct {
	id  string // template of the id
	arn string // template of the ARN; empty: the type has none, or has it as an output

	name  string // the property that gets a generated name if the program gives none; default "name"
	lower bool   // generated names are in lower case

	unique string // template of what may exist once in the account, in addition to the id
	exists string // AWS's error for a second one; default ResourceConflict

	outputs map[string]string // templates of outputs that are not inputs of the object
	answer  func(*rendering)  // sets the outputs that no template can express

	replace string // paths of which a change replaces the object
	update  string // paths of which a change updates it in place
	source  string // of replace and update
}

// Sources of replace and update. They are in Terraform's provider for AWS, version 5,
// which pulumi-aws 6 wraps. The forms of ids and ARNs are from the Service Authorization
// Reference, "Resource types defined by" each service; the errors from its API reference.
const (
	readInSource = ", schema read in its source: ForceNew"
	fromDocs     = ", its registry page: \"Forces new resource\""
)

const (
	ec2ARN = "arn:{partition}:ec2:{region}:{account}:"
	eksARN = "arn:{partition}:eks:{region}:{account}:"
	iamARN = "arn:{partition}:iam::{account}:"
	kmsARN = "arn:{partition}:kms:{region}:{account}:"
	rdsARN = "arn:{partition}:rds:{region}:{account}:"
)

var tables = []map[string]resourceType{
	balancerTypes, cloudformationTypes, codebuildTypes, dnsTypes, ec2Types, ecrTypes, eksTypes, eventsTypes, iamTypes, rdsTypes, s3Types,
	secretsTypes,
}

// types are the rows of all tables, by token.
var types = func() map[string]resourceType {
	all := map[string]resourceType{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}()

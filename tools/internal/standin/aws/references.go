package aws

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A Reference is a property that names another object. An object whose reference names
// nothing is not created; one that is referred to is not deleted.
type Reference struct {
	From, Property string
	To, By         string // By: "id", "id or arn", or an output of the object referred to
	Missing        string // AWS's error when it does not exist; empty: not checked
	InUse          string // AWS's error on deletion; empty: deletion is allowed
}

// References between types. Source of the errors: the API references of EC2, IAM, RDS, EKS, KMS,
// CodeBuild, Route 53, ACM and Elastic Load Balancing, read in 2026-11; what else a row rests on stands
// beside it.
var References = []Reference{
	{Subnet, "vpcId", VPC, "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{SecurityGroup, "vpcId", VPC, "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{InternetGateway, "vpcId", VPC, "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{RouteTable, "vpcId", VPC, "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{VPCEndpoint, "vpcId", VPC, "id", "InvalidVpcId.NotFound", "DependencyViolation"},
	{NATGateway, "subnetId", Subnet, "id", "InvalidSubnetID.NotFound", "DependencyViolation"},
	{NATGateway, "allocationId", EIP, "id", "InvalidAllocationID.NotFound", "InvalidIPAddress.InUse"},
	{VPCEndpoint, "subnetIds", Subnet, "id", "InvalidSubnetId.NotFound", "DependencyViolation"},
	{VPCEndpoint, "securityGroupIds", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{VPCEndpoint, "routeTableIds", RouteTable, "id", "InvalidRouteTableId.NotFound", ""},
	{RouteTableAssociation, "routeTableId", RouteTable, "id", "InvalidRouteTableID.NotFound", "DependencyViolation"},
	{RouteTableAssociation, "subnetId", Subnet, "id", "InvalidSubnetID.NotFound", ""},
	{Route, "routeTableId", RouteTable, "id", "InvalidRouteTableID.NotFound", ""},
	{Route, "gatewayId", InternetGateway, "id", "InvalidGatewayID.NotFound", ""},
	{Route, "natGatewayId", NATGateway, "id", "InvalidNatGatewayID.NotFound", ""},
	{FlowLog, "vpcId", VPC, "id", "InvalidVpcId.NotFound", ""},
	{FlowLog, "iamRoleArn", Role, "arn", "InvalidParameter", ""},
	// EC2 accepts a group that is not there, and the role may create it; those of this platform may not
	// (VPC User Guide, Troubleshoot flow logs: Access error).
	{FlowLog, "logDestination", LogGroup, "arn", "Access error", ""},
	{SecurityGroup, "ingress.securityGroups", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{SecurityGroup, "egress.securityGroups", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{SecurityGroupRule, "securityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", ""},
	{SecurityGroupRule, "sourceSecurityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{IngressRule, "securityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", ""},
	{IngressRule, "referencedSecurityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{EgressRule, "securityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", ""},
	{EgressRule, "referencedSecurityGroupId", SecurityGroup, "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{SubnetGroup, "subnetIds", Subnet, "id", "InvalidSubnet", ""},
	{Instance, "dbSubnetGroupName", SubnetGroup, "id", "DBSubnetGroupNotFoundFault", "InvalidDBSubnetGroupStateFault"},
	{Instance, "parameterGroupName", ParameterGroup, "id", "DBParameterGroupNotFound", "InvalidDBParameterGroupState"},
	{Instance, "vpcSecurityGroupIds", SecurityGroup, "id", "InvalidParameterValue", "DependencyViolation"},
	{Instance, "kmsKeyId", Key, "arn", "KMSKeyNotAccessibleFault", ""},
	{Instance, "masterUserSecretKmsKeyId", Key, "id or arn", "KMSKeyNotAccessibleFault", ""},
	{Instance, "performanceInsightsKmsKeyId", Key, "arn", "KMSKeyNotAccessibleFault", ""},
	{Cluster, "vpcConfig.subnetIds", Subnet, "id", "InvalidParameterException", "DependencyViolation"},
	{Cluster, "vpcConfig.securityGroupIds", SecurityGroup, "id", "InvalidParameterException", "DependencyViolation"},
	{Cluster, "roleArn", Role, "arn", "InvalidParameterException", ""},
	{Cluster, "encryptionConfig.provider.keyArn", Key, "arn", "InvalidParameterException", ""},
	{NodeGroup, "clusterName", Cluster, "id", "ResourceNotFoundException", "ResourceInUseException"},
	{NodeGroup, "subnetIds", Subnet, "id", "InvalidParameterException", "DependencyViolation"},
	{NodeGroup, "nodeRoleArn", Role, "arn", "InvalidParameterException", ""},
	{NodeGroup, "launchTemplate.id", LaunchTemplate, "id", "InvalidParameterException", ""},
	{NodeGroup, "launchTemplate.name", LaunchTemplate, "name", "InvalidParameterException", ""},
	{Addon, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{AccessEntry, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{AccessPolicy, "principalArn", AccessEntry, "principalArn", "ResourceNotFoundException", ""},
	{PodIdentityAssociation, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{PodIdentityAssociation, "roleArn", Role, "arn", "InvalidParameterException", ""},
	{Role, "permissionsBoundary", Policy, "id", "NoSuchEntity", "DeleteConflict"},
	{RolePolicyAttachment, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{RolePolicyAttachment, "policyArn", Policy, "id", "NoSuchEntity", "DeleteConflict"},
	{RolePolicy, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{InstanceProfile, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{ImageRepository, "encryptionConfigurations.kmsKey", Key, "arn", "KmsException", ""},
	{LifecyclePolicy, "repository", ImageRepository, "id", "RepositoryNotFoundException", ""},
	{ImageRepositoryPolicy, "repository", ImageRepository, "id", "RepositoryNotFoundException", ""},
	{BucketVersioning, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{BucketPolicy, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{BucketPublicAccess, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{Alias, "targetKeyId", Key, "id or arn", "NotFoundException", ""},
	{LogGroup, "kmsKeyId", Key, "arn", "InvalidParameterException", ""},
	{Secret, "kmsKeyId", Key, "id or arn", "InvalidParameterException", ""},
	{Topic, "kmsMasterKeyId", Key, "id or arn", "KMSNotFound", ""},
	{TopicSubscription, "topic", Topic, "id or arn", "NotFound", ""},
	{BuildProject, "serviceRole", Role, "arn", "InvalidInputException", ""},
	{BuildProject, "vpcConfig.vpcId", VPC, "id", "InvalidInputException", ""},
	{BuildProject, "vpcConfig.subnets", Subnet, "id", "InvalidInputException", ""},
	{BuildProject, "vpcConfig.securityGroupIds", SecurityGroup, "id", "InvalidInputException", ""},
	{BuildWebhook, "projectName", BuildProject, "name", "ResourceNotFoundException", ""},
	{SecretVersion, "secretId", Secret, "id", "ResourceNotFoundException", ""},
	{Record, "zoneId", Zone, "id", "NoSuchHostedZone", ""},
	{CertificateValidation, "certificateArn", Certificate, "arn", "ResourceNotFoundException", ""},
	{LoadBalancer, "subnets", Subnet, "id", "SubnetNotFound", "DependencyViolation"},
	{LoadBalancer, "securityGroups", SecurityGroup, "id", "InvalidSecurityGroup", "DependencyViolation"},
	{Listener, "loadBalancerArn", LoadBalancer, "arn", "LoadBalancerNotFound", ""},
	{Listener, "certificateArn", Certificate, "arn", "CertificateNotFound", "ResourceInUseException"},
}

// Given are the beginnings of names that AWS itself has in every account.
//
// Source: IAM User Guide, AWS managed policies; RDS User Guide, DB parameter groups; KMS Developer
// Guide, AWS managed keys; read in 2026-11.
var given = map[string][]string{
	Policy:         {"arn:aws:iam::aws:policy/", "arn:aws-cn:iam::aws:policy/", "arn:aws-us-gov:iam::aws:policy/"},
	ParameterGroup: {"default."},
	Key:            {"alias/aws/"},
}

// Given reports whether AWS has what a reference names in every account.
func (r Reference) Given(name string) bool {
	for _, prefix := range given[r.To] {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// A ByProduct is an output by which another object of type Is can be named: AWS makes it along with
// the object, or the object is another name of it.
type ByProduct struct{ Of, Output, Is string }

// ByProducts of objects. Source: EKS User Guide, Amazon EKS security group requirements; VPC User
// Guide, Default security groups and Main route tables; KMS Developer Guide, Aliases; read in 2026-11.
var ByProducts = []ByProduct{
	{Cluster, "vpcConfig.clusterSecurityGroupId", SecurityGroup},
	{VPC, "defaultSecurityGroupId", SecurityGroup},
	{VPC, "mainRouteTableId", RouteTable},
	{Alias, "name", Key},
	{Alias, "arn", Key},
}

// Origins are references to what an object is a copy of, which has to exist at its creation only.
var Origins = []Reference{
	{Instance, "snapshotIdentifier", Snapshot, "id", "DBSnapshotNotFound", ""},
	{Instance, "restoreToPointInTime.sourceDbInstanceIdentifier", Instance, "identifier", "DBInstanceNotFound", ""},
}

// Names are the values of the reference in an object's inputs.
func (r Reference) Names(inputs resource.PropertyMap) []string { return TextsAt(inputs, r.Property) }

// TextsAt are the texts at a path without indices, of every item where it crosses lists.
func TextsAt(properties resource.PropertyMap, path string) []string {
	first, rest, nested := strings.Cut(path, ".")
	if !nested {
		if s := value.Text(properties, first); s != "" {
			return []string{s}
		}
		return value.Texts(properties, first)
	}
	at := value.Plain(properties[resource.PropertyKey(first)])
	items := []resource.PropertyValue{at}
	if at.IsArray() {
		items = at.ArrayValue()
	}
	var all []string
	for _, item := range items {
		if item = value.Plain(item); item.IsObject() {
			all = append(all, TextsAt(item.ObjectValue(), rest)...)
		}
	}
	return all
}

// Fits reports whether a name of the reference is that of an object of type To.
func (r Reference) Fits(name, id string, outputs resource.PropertyMap) bool {
	switch r.By {
	case "id":
		return id == name
	case "id or arn":
		return id == name || value.Text(outputs, "arn") == name
	}
	return value.Text(outputs, r.By) == name
}

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

// References between types. Source of the errors: the EC2, IAM, RDS and EKS API references.
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
	{RouteTableAssociation, "routeTableId", RouteTable, "id", "InvalidRouteTableID.NotFound", "DependencyViolation"},
	{RouteTableAssociation, "subnetId", Subnet, "id", "InvalidSubnetID.NotFound", ""},
	{Route, "routeTableId", RouteTable, "id", "InvalidRouteTableID.NotFound", ""},
	{SubnetGroup, "subnetIds", Subnet, "id", "InvalidSubnet", ""},
	{Instance, "dbSubnetGroupName", SubnetGroup, "id", "DBSubnetGroupNotFoundFault", "InvalidDBSubnetGroupStateFault"},
	{Instance, "vpcSecurityGroupIds", SecurityGroup, "id", "InvalidParameterValue", "DependencyViolation"},
	{Instance, "parameterGroupName", ParameterGroup, "id", "DBParameterGroupNotFound", "InvalidDBParameterGroupState"},
	{Cluster, "vpcConfig.subnetIds", Subnet, "id", "InvalidParameterException", "DependencyViolation"},
	{Cluster, "vpcConfig.securityGroupIds", SecurityGroup, "id", "InvalidParameterException", "DependencyViolation"},
	{Cluster, "roleArn", Role, "arn", "InvalidParameterException", ""},
	{NodeGroup, "clusterName", Cluster, "id", "ResourceNotFoundException", "ResourceInUseException"},
	{NodeGroup, "subnetIds", Subnet, "id", "InvalidParameterException", "DependencyViolation"},
	{NodeGroup, "nodeRoleArn", Role, "arn", "InvalidParameterException", ""},
	{Addon, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{AccessEntry, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{AccessPolicy, "principalArn", AccessEntry, "principalArn", "ResourceNotFoundException", ""},
	{PodIdentityAssociation, "clusterName", Cluster, "id", "ResourceNotFoundException", ""},
	{PodIdentityAssociation, "roleArn", Role, "arn", "InvalidParameterException", ""},
	{RolePolicyAttachment, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{RolePolicyAttachment, "policyArn", Policy, "id", "", "DeleteConflict"},
	{RolePolicy, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{InstanceProfile, "role", Role, "id", "NoSuchEntity", "DeleteConflict"},
	{LifecyclePolicy, "repository", ImageRepository, "id", "RepositoryNotFoundException", ""},
	{ImageRepositoryPolicy, "repository", ImageRepository, "id", "RepositoryNotFoundException", ""},
	{BucketVersioning, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{BucketPolicy, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{BucketPublicAccess, "bucket", Bucket, "id", "NoSuchBucket", ""},
	{Alias, "targetKeyId", Key, "id or arn", "NotFoundException", ""},
	{TopicSubscription, "topic", Topic, "id or arn", "NotFound", ""},
	{SecretVersion, "secretId", Secret, "id", "ResourceNotFoundException", ""},
}

// Origins are references to what an object is a copy of, which has to exist at its creation only.
var Origins = []Reference{
	{Instance, "snapshotIdentifier", Snapshot, "id", "DBSnapshotNotFound", ""},
	{Instance, "restoreToPointInTime.sourceDbInstanceIdentifier", Instance, "identifier", "DBInstanceNotFound", ""},
}

// Names are the values of the reference in an object's inputs.
func (r Reference) Names(inputs resource.PropertyMap) []string {
	at := inputs
	path := strings.Split(r.Property, ".")
	for _, part := range path[:len(path)-1] {
		v := value.Plain(at[resource.PropertyKey(part)])
		if !v.IsObject() {
			return nil
		}
		at = v.ObjectValue()
	}
	last := path[len(path)-1]
	if s := value.Text(at, last); s != "" {
		return []string{s}
	}
	return value.Texts(at, last)
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

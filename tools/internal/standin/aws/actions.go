package aws

import (
	_ "embed"
	"encoding/json"
	"strings"
)

// An Operation is what Pulumi does with a resource.
type Operation string

// The operations of a resource type.
const (
	Create Operation = "create"
	Read   Operation = "read"
	Update Operation = "update"
	Delete Operation = "delete"
	// Restore creates an instance from a snapshot or from another instance.
	Restore Operation = "restore"
)

// calls are the IAM actions that an operation needs, separated by spaces, those of its own API
// call first. A type without an operation's row needs none that a role could lack.
type calls map[Operation]string

const (
	ec2Tags = " ec2:CreateTags ec2:DeleteTags"
	eksTags = " eks:TagResource eks:UntagResource"
	rdsTags = " rds:AddTagsToResource rds:RemoveTagsFromResource"
	// rdsSecret is what RDS does with its caller's permissions for the master user's secret
	// (RDS User Guide, "Password management with Amazon RDS and AWS Secrets Manager").
	rdsSecret = " secretsmanager:CreateSecret secretsmanager:TagResource kms:DescribeKey kms:Decrypt kms:GenerateDataKey kms:CreateGrant"
)

// typeActions are the actions of the types that an environment has. Sources, as of 2026-09-26:
// the Service Authorization Reference for the actions and what they authorize, the API calls in
// the source of Terraform's provider for AWS, version 5, for which of them a type makes, and
// where a comment says so the guide of the service.
var typeActions = map[string]calls{
	"aws:acm/certificate:Certificate": {
		Create: "acm:RequestCertificate", Read: "acm:DescribeCertificate acm:ListTagsForCertificate",
		Update: "acm:AddTagsToCertificate acm:RemoveTagsFromCertificate", Delete: "acm:DeleteCertificate",
	},
	"aws:acm/certificateValidation:CertificateValidation": {Create: "acm:DescribeCertificate", Read: "acm:DescribeCertificate"},
	LogGroup: {
		Create: "logs:CreateLogGroup logs:PutRetentionPolicy logs:TagResource",
		Read:   "logs:DescribeLogGroups logs:ListTagsForResource",
		Update: "logs:PutRetentionPolicy logs:DeleteRetentionPolicy logs:AssociateKmsKey logs:DisassociateKmsKey " +
			"logs:TagResource logs:UntagResource",
		Delete: "logs:DeleteLogGroup",
	},
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": {
		Create: "ec2:RevokeSecurityGroupIngress ec2:RevokeSecurityGroupEgress ec2:CreateTags",
		Read:   "ec2:DescribeSecurityGroups ec2:DescribeSecurityGroupRules", Update: "ec2:CreateTags ec2:DeleteTags",
	},
	EIP: {
		Create: "ec2:AllocateAddress ec2:CreateTags", Read: "ec2:DescribeAddresses ec2:DescribeAddressesAttribute",
		Update: ec2Tags, Delete: "ec2:ReleaseAddress ec2:DisassociateAddress",
	},
	"aws:ec2/flowLog:FlowLog": {
		Create: "ec2:CreateFlowLogs ec2:CreateTags iam:PassRole", Read: "ec2:DescribeFlowLogs", Update: ec2Tags,
		Delete: "ec2:DeleteFlowLogs",
	},
	InternetGateway: {
		Create: "ec2:CreateInternetGateway ec2:AttachInternetGateway ec2:CreateTags", Read: "ec2:DescribeInternetGateways",
		Update: ec2Tags, Delete: "ec2:DeleteInternetGateway ec2:DetachInternetGateway",
	},
	LaunchTemplate: {
		Create: "ec2:CreateLaunchTemplate ec2:CreateTags", Read: "ec2:DescribeLaunchTemplates ec2:DescribeLaunchTemplateVersions",
		Update: "ec2:CreateLaunchTemplateVersion ec2:ModifyLaunchTemplate" + ec2Tags, Delete: "ec2:DeleteLaunchTemplate",
	},
	NATGateway: {
		Create: "ec2:CreateNatGateway ec2:CreateTags", Read: "ec2:DescribeNatGateways", Update: ec2Tags, Delete: "ec2:DeleteNatGateway",
	},
	Route: {
		Create: "ec2:CreateRoute", Read: "ec2:DescribeRouteTables", Update: "ec2:ReplaceRoute", Delete: "ec2:DeleteRoute",
	},
	RouteTable: {
		Create: "ec2:CreateRouteTable ec2:CreateTags", Read: "ec2:DescribeRouteTables", Update: ec2Tags,
		Delete: "ec2:DeleteRouteTable ec2:DisassociateRouteTable",
	},
	RouteTableAssociation: {
		Create: "ec2:AssociateRouteTable", Read: "ec2:DescribeRouteTables", Update: "ec2:ReplaceRouteTableAssociation",
		Delete: "ec2:DisassociateRouteTable",
	},
	SecurityGroup: {
		// Terraform's provider removes the rule that AWS adds to a new group.
		Create: "ec2:CreateSecurityGroup ec2:CreateTags ec2:RevokeSecurityGroupEgress ec2:AuthorizeSecurityGroupIngress " +
			"ec2:AuthorizeSecurityGroupEgress",
		Read: "ec2:DescribeSecurityGroups ec2:DescribeSecurityGroupRules",
		Update: "ec2:AuthorizeSecurityGroupIngress ec2:AuthorizeSecurityGroupEgress ec2:RevokeSecurityGroupIngress " +
			"ec2:RevokeSecurityGroupEgress" + ec2Tags,
		Delete: "ec2:DeleteSecurityGroup ec2:DescribeNetworkInterfaces",
	},
	"aws:ec2/securityGroupRule:SecurityGroupRule": {
		Create: "ec2:AuthorizeSecurityGroupIngress ec2:AuthorizeSecurityGroupEgress", Read: "ec2:DescribeSecurityGroups",
		Update: "ec2:ModifySecurityGroupRules", Delete: "ec2:RevokeSecurityGroupIngress ec2:RevokeSecurityGroupEgress",
	},
	Subnet: {
		Create: "ec2:CreateSubnet ec2:CreateTags ec2:ModifySubnetAttribute", Read: "ec2:DescribeSubnets",
		Update: "ec2:ModifySubnetAttribute" + ec2Tags, Delete: "ec2:DeleteSubnet ec2:DescribeNetworkInterfaces",
	},
	VPC: {
		Create: "ec2:CreateVpc ec2:CreateTags ec2:ModifyVpcAttribute",
		Read:   "ec2:DescribeVpcs ec2:DescribeVpcAttribute ec2:DescribeNetworkAcls ec2:DescribeRouteTables ec2:DescribeSecurityGroups",
		Update: "ec2:ModifyVpcAttribute" + ec2Tags, Delete: "ec2:DeleteVpc",
	},
	VPCEndpoint: {
		// AWS associates the private names of an interface endpoint with the VPC by the caller's
		// permissions (Service Authorization Reference, Amazon EC2, dependent actions).
		Create: "ec2:CreateVpcEndpoint ec2:CreateTags route53:AssociateVPCWithHostedZone",
		Read:   "ec2:DescribeVpcEndpoints ec2:DescribePrefixLists", Update: "ec2:ModifyVpcEndpoint" + ec2Tags,
		Delete: "ec2:DeleteVpcEndpoints",
	},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {
		Create: "ec2:AuthorizeSecurityGroupIngress ec2:CreateTags", Read: "ec2:DescribeSecurityGroupRules",
		Update: "ec2:ModifySecurityGroupRules" + ec2Tags, Delete: "ec2:RevokeSecurityGroupIngress",
	},

	Cluster: {
		Create: "eks:CreateCluster eks:TagResource iam:PassRole iam:CreateServiceLinkedRole kms:CreateGrant kms:DescribeKey",
		Read:   "eks:DescribeCluster",
		Update: "eks:UpdateClusterConfig eks:UpdateClusterVersion eks:AssociateEncryptionConfig eks:DescribeUpdate" + eksTags,
		Delete: "eks:DeleteCluster",
	},
	NodeGroup: {
		// A launch template's machines start with the caller's permissions (EKS User Guide,
		// "Customize managed nodes with launch templates").
		Create: "eks:CreateNodegroup eks:TagResource iam:PassRole iam:GetRole iam:ListAttachedRolePolicies " +
			"iam:CreateServiceLinkedRole ec2:RunInstances ec2:CreateTags ec2:DescribeLaunchTemplateVersions ec2:DescribeSubnets",
		Read:   "eks:DescribeNodegroup",
		Update: "eks:UpdateNodegroupConfig eks:UpdateNodegroupVersion eks:DescribeUpdate ec2:RunInstances ec2:CreateTags" + eksTags,
		Delete: "eks:DeleteNodegroup",
	},
	Addon: {
		Create: "eks:CreateAddon eks:TagResource", Read: "eks:DescribeAddon",
		Update: "eks:UpdateAddon eks:DescribeUpdate" + eksTags, Delete: "eks:DeleteAddon",
	},
	AccessEntry: {
		Create: "eks:CreateAccessEntry eks:TagResource", Read: "eks:DescribeAccessEntry",
		Update: "eks:UpdateAccessEntry" + eksTags, Delete: "eks:DeleteAccessEntry",
	},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
		Create: "eks:AssociateAccessPolicy", Read: "eks:ListAssociatedAccessPolicies", Delete: "eks:DisassociateAccessPolicy",
	},
	PodIdentityAssociation: {
		Create: "eks:CreatePodIdentityAssociation eks:TagResource iam:PassRole iam:GetRole", Read: "eks:DescribePodIdentityAssociation",
		Update: "eks:UpdatePodIdentityAssociation iam:PassRole iam:GetRole" + eksTags, Delete: "eks:DeletePodIdentityAssociation",
	},

	Role: {
		Create: "iam:CreateRole iam:TagRole",
		Read:   "iam:GetRole iam:ListRolePolicies iam:GetRolePolicy iam:ListAttachedRolePolicies iam:ListRoleTags",
		Update: "iam:UpdateAssumeRolePolicy iam:UpdateRoleDescription iam:PutRolePermissionsBoundary iam:TagRole iam:UntagRole",
		Delete: "iam:DeleteRole iam:ListInstanceProfilesForRole iam:ListAttachedRolePolicies iam:ListRolePolicies",
	},
	RolePolicy: {
		Create: "iam:PutRolePolicy", Read: "iam:GetRolePolicy", Update: "iam:PutRolePolicy", Delete: "iam:DeleteRolePolicy",
	},
	RolePolicyAttachment: {
		Create: "iam:AttachRolePolicy", Read: "iam:ListAttachedRolePolicies", Delete: "iam:DetachRolePolicy",
	},

	Instance: {
		Create: "rds:CreateDBInstance rds:AddTagsToResource iam:CreateServiceLinkedRole" + rdsSecret,
		Read:   "rds:DescribeDBInstances rds:ListTagsForResource",
		Update: "rds:ModifyDBInstance rds:RebootDBInstance" + rdsTags + rdsSecret,
		Delete: "rds:DeleteDBInstance rds:CreateDBSnapshot rds:AddTagsToResource",
		// What a restore does not take along, such as the managed password, is set afterwards.
		Restore: "rds:RestoreDBInstanceFromDBSnapshot rds:RestoreDBInstanceToPointInTime rds:ModifyDBInstance rds:AddTagsToResource" + rdsSecret,
	},
	ParameterGroup: {
		Create: "rds:CreateDBParameterGroup rds:ModifyDBParameterGroup rds:AddTagsToResource",
		Read:   "rds:DescribeDBParameterGroups rds:DescribeDBParameters rds:ListTagsForResource",
		Update: "rds:ModifyDBParameterGroup rds:ResetDBParameterGroup" + rdsTags, Delete: "rds:DeleteDBParameterGroup",
	},
	SubnetGroup: {
		Create: "rds:CreateDBSubnetGroup rds:AddTagsToResource", Read: "rds:DescribeDBSubnetGroups rds:ListTagsForResource",
		Update: "rds:ModifyDBSubnetGroup" + rdsTags, Delete: "rds:DeleteDBSubnetGroup",
	},

	MetricAlarm: {
		Create: "cloudwatch:PutMetricAlarm cloudwatch:TagResource", Read: "cloudwatch:DescribeAlarms cloudwatch:ListTagsForResource",
		Update: "cloudwatch:PutMetricAlarm cloudwatch:TagResource cloudwatch:UntagResource", Delete: "cloudwatch:DeleteAlarms",
	},
	Topic: {
		Create: "sns:CreateTopic sns:TagResource sns:SetTopicAttributes", Read: "sns:GetTopicAttributes sns:ListTagsForResource",
		Update: "sns:SetTopicAttributes sns:TagResource sns:UntagResource", Delete: "sns:DeleteTopic",
	},
	TopicSubscription: {Create: "sns:Subscribe", Read: "sns:GetSubscriptionAttributes", Delete: "sns:Unsubscribe"},
	Budget: {
		Create: "budgets:ModifyBudget budgets:TagResource", Read: "budgets:ViewBudget budgets:ListTagsForResource",
		Update: "budgets:ModifyBudget budgets:TagResource budgets:UntagResource", Delete: "budgets:ModifyBudget",
	},

	// CodeBuild tries the connection to GitHub when it creates a project (its user guide, "GitHub App
	// connections"), and reads a webhook as a part of its project.
	BuildProject: {
		Create: "codebuild:CreateProject iam:PassRole codeconnections:GetConnection codeconnections:UseConnection",
		Read:   "codebuild:BatchGetProjects",
		Update: "codebuild:UpdateProject iam:PassRole codeconnections:GetConnection codeconnections:UseConnection",
		Delete: "codebuild:DeleteProject",
	},
	BuildWebhook: {
		Create: "codebuild:CreateWebhook", Read: "codebuild:BatchGetProjects", Update: "codebuild:UpdateWebhook",
		Delete: "codebuild:DeleteWebhook",
	},

	Record: {
		Create: "route53:ChangeResourceRecordSets route53:GetHostedZone route53:GetChange route53:ListResourceRecordSets",
		Read:   "route53:GetHostedZone route53:ListResourceRecordSets",
		Update: "route53:ChangeResourceRecordSets route53:GetChange", Delete: "route53:ChangeResourceRecordSets route53:GetChange",
	},
}

// functionActions are the actions of the functions that the program calls, which only read. Nobody is
// denied sts:GetCallerIdentity, and GetClusterAuth signs a request without sending it.
var functionActions = map[string]calls{
	"aws:index/getCallerIdentity:getCallerIdentity":       {Read: ""},
	"aws:index/getPartition:getPartition":                 {Read: ""},
	"aws:index/getRegion:getRegion":                       {Read: ""},
	"aws:index/getDefaultTags:getDefaultTags":             {Read: ""},
	"aws:index/getAvailabilityZones:getAvailabilityZones": {Read: "ec2:DescribeAvailabilityZones"},
	"aws:ec2/getAmi:getAmi":                               {Read: "ec2:DescribeImages"},
	"aws:ec2/getSubnet:getSubnet":                         {Read: "ec2:DescribeSubnets"},
	"aws:ec2/getSubnets:getSubnets":                       {Read: "ec2:DescribeSubnets"},
	"aws:ec2/getVpc:getVpc":                               {Read: "ec2:DescribeVpcs ec2:DescribeVpcAttribute ec2:DescribeRouteTables"},
	"aws:eks/getCluster:getCluster":                       {Read: "eks:DescribeCluster"},
	"aws:eks/getClusters:getClusters":                     {Read: "eks:ListClusters"},
	"aws:eks/getNodeGroup:getNodeGroup":                   {Read: "eks:DescribeNodegroup"},
	"aws:eks/getNodeGroups:getNodeGroups":                 {Read: "eks:ListNodegroups"},
	"aws:eks/getClusterAuth:getClusterAuth":               {Read: ""},
	"aws:iam/getRole:getRole":                             {Read: "iam:GetRole"},
	"aws:ssm/getParameter:getParameter":                   {Read: "ssm:GetParameter"},
}

// Actions returns the IAM actions that an operation on a type needs, or to Read by a function. known
// is false for a type or function that the tables do not have.
func Actions(token string, operation Operation) (actions []string, known bool) {
	row, known := typeActions[token]
	if !known {
		row, known = functionActions[token]
	}
	return strings.Fields(row[operation]), known
}

// authorizationData has what each action of typeActions authorizes. Source: Service
// Authorization Reference, as of 2026-09-26: the ARNs of the resource types that are required.
//
//go:embed authorization.json
var authorizationData []byte

var authorized = func() map[string][]string {
	var all map[string][]string
	if err := json.Unmarshal(authorizationData, &all); err != nil {
		panic(err) // a test reads the file
	}
	return all
}()

// Authorized returns the ARNs that a policy has to admit for an action, with * for what is not
// known. An action without resource types is authorized for "*" alone: a statement that names
// resources does not admit it. No ARNs means that the action has resource types and requires none
// of them, so that a statement for any resource may admit it.
func Authorized(action, partition, region, account string) (arns []string, known bool) {
	forms, known := authorized[action]
	if known && forms != nil && len(forms) == 0 {
		return []string{anyResource}, true
	}
	replacer := strings.NewReplacer("{partition}", partition, "{region}", region, "{account}", account)
	for _, form := range forms {
		arns = append(arns, replacer.Replace(form))
	}
	return arns, known
}

package identity

import (
	"fmt"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// AWS's own policies that the platform attaches.
const (
	// EBSCSIPolicy is for the EBS CSI driver's controller.
	EBSCSIPolicy = "arn:aws:iam::aws:policy/service-role/AmazonEBSCSIDriverPolicy"
	// VPCCNIPolicy is for the VPC CNI's DaemonSet, aws-node.
	VPCCNIPolicy = "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy"
	// ClusterPolicy is for the control plane of EKS.
	ClusterPolicy = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
	// WorkerNodePolicy and ImagePullPolicy are all that a node needs if its CNI has a separate
	// role.
	WorkerNodePolicy = "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"
	ImagePullPolicy  = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly"
)

// inRegion restricts actions without resource-level permissions to one region.
func inRegion(region string) Condition { return Is(map[string]string{"aws:RequestedRegion": region}) }

// LoadBalancerController lets the AWS Load Balancer Controller manage network load balancers
// (for Services; the platform does not use Ingresses, WAF, Shield or Cognito). It may change
// only what has its cluster's tag. It follows docs/install/iam_policy.json of
// kubernetes-sigs/aws-load-balancer-controller, restricted by ARN and by the tag's value.
func LoadBalancerController(account, region, cluster string) PolicyDocument {
	const tag = "elbv2.k8s.aws/cluster"
	ours := Is(map[string]string{"aws:ResourceTag/" + tag: cluster})
	asked := Is(map[string]string{"aws:RequestTag/" + tag: cluster})
	ec2ARN := func(kind string) string { return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/*", region, account, kind) }
	elbARN := func(kind string) string {
		return fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:%s/*", region, account, kind)
	}
	balancers := ARNs(elbARN("loadbalancer/net"))
	targets := ARNs(elbARN("targetgroup"))
	listeners := ARNs(elbARN("listener/net"))
	all := slices.Concat(balancers, targets, listeners)
	tagOnCreate := func(action ...string) Condition {
		condition := Is(map[string]string{"aws:RequestTag/" + tag: cluster})
		condition["StringEquals"]["elasticloadbalancing:CreateAction"] = action
		return condition
	}
	return PolicyDocument{Statement: []Statement{
		{Sid: "ServiceLinkedRole", Effect: Allow, Action: []string{"iam:CreateServiceLinkedRole"},
			Resource: ARNs(fmt.Sprintf(
				"arn:aws:iam::%s:role/aws-service-role/elasticloadbalancing.amazonaws.com/AWSServiceRoleForElasticLoadBalancing", account)),
			Condition: Is(map[string]string{"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"})},
		// AWS has no resource-level permissions for these actions, which only read.
		{Sid: "Read", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"ec2:DescribeAccountAttributes", "ec2:DescribeAddresses", "ec2:DescribeAvailabilityZones",
			"ec2:DescribeInstances", "ec2:DescribeInternetGateways", "ec2:DescribeNetworkInterfaces",
			"ec2:DescribeRouteTables", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeTags",
			"ec2:DescribeVpcPeeringConnections", "ec2:DescribeVpcs", "ec2:GetSecurityGroupsForVpc",
			"elasticloadbalancing:DescribeCapacityReservation", "elasticloadbalancing:DescribeListenerAttributes",
			"elasticloadbalancing:DescribeListenerCertificates", "elasticloadbalancing:DescribeListeners",
			"elasticloadbalancing:DescribeLoadBalancerAttributes", "elasticloadbalancing:DescribeLoadBalancers",
			"elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeSSLPolicies",
			"elasticloadbalancing:DescribeTags", "elasticloadbalancing:DescribeTargetGroupAttributes",
			"elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
			"elasticloadbalancing:DescribeTrustStores",
		}},
		// Creating a security group needs a permission on the group, which gets the tag, and on its
		// VPC, which does not have it.
		{Sid: "CreateSecurityGroup", Effect: Allow, Action: []string{"ec2:CreateSecurityGroup"}, Resource: ARNs(ec2ARN("security-group")),
			Condition: asked},
		{Sid: "CreateSecurityGroupInVPC", Effect: Allow, Action: []string{"ec2:CreateSecurityGroup"}, Resource: ARNs(ec2ARN("vpc"))},
		{Sid: "TagNewSecurityGroup", Effect: Allow, Action: []string{"ec2:CreateTags"}, Resource: ARNs(ec2ARN("security-group")),
			Condition: Is(map[string]string{"ec2:CreateAction": "CreateSecurityGroup", "aws:RequestTag/" + tag: cluster})},
		{Sid: "ChangeSecurityGroup", Effect: Allow, Resource: ARNs(ec2ARN("security-group")), Condition: ours, Action: []string{
			"ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags", "ec2:DeleteSecurityGroup", "ec2:DeleteTags", "ec2:RevokeSecurityGroupIngress",
		}},
		// The nodes' group, which EKS creates and tags, has to admit the load balancer.
		{Sid: "AdmitToNodes", Effect: Allow, Resource: ARNs(ec2ARN("security-group")),
			Action:    []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"},
			Condition: Is(map[string]string{"aws:ResourceTag/kubernetes.io/cluster/" + cluster: "owned"})},
		{Sid: "Create", Effect: Allow, Action: []string{"elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"},
			Resource: slices.Concat(balancers, targets), Condition: asked},
		{Sid: "CreateListener", Effect: Allow, Action: []string{"elasticloadbalancing:CreateListener"}, Resource: balancers, Condition: ours},
		{Sid: "TagNew", Effect: Allow, Action: []string{"elasticloadbalancing:AddTags"}, Resource: all,
			Condition: tagOnCreate("CreateListener", "CreateLoadBalancer", "CreateTargetGroup")},
		{Sid: "Change", Effect: Allow, Resource: all, Condition: ours, Action: []string{
			"elasticloadbalancing:AddListenerCertificates", "elasticloadbalancing:AddTags", "elasticloadbalancing:DeleteListener",
			"elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteTargetGroup", "elasticloadbalancing:DeregisterTargets",
			"elasticloadbalancing:ModifyListener", "elasticloadbalancing:ModifyListenerAttributes",
			"elasticloadbalancing:ModifyLoadBalancerAttributes",
			"elasticloadbalancing:ModifyTargetGroup", "elasticloadbalancing:ModifyTargetGroupAttributes", "elasticloadbalancing:RegisterTargets",
			"elasticloadbalancing:RemoveListenerCertificates", "elasticloadbalancing:RemoveTags", "elasticloadbalancing:SetIpAddressType",
			"elasticloadbalancing:SetSecurityGroups", "elasticloadbalancing:SetSubnets",
		}},
	}}
}

// ClusterAutoscaler lets the cluster autoscaler resize the cluster's node groups: EKS tags
// their Auto Scaling groups k8s.io/cluster-autoscaler/<cluster>.
func ClusterAutoscaler(account, region, cluster string) PolicyDocument {
	return PolicyDocument{Statement: []Statement{
		// AWS has no resource-level permissions for these actions, which only read.
		{Sid: "Read", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
			"autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags",
			"ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions",
			"ec2:GetInstanceTypesFromInstanceRequirements",
		}},
		{Sid: "ReadNodeGroups", Effect: Allow, Action: []string{"eks:DescribeNodegroup"},
			Resource: ARNs(fmt.Sprintf("arn:aws:eks:%s:%s:nodegroup/%s/*/*", region, account, cluster))},
		{Sid: "Scale", Effect: Allow, Action: []string{"autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"},
			Resource:  ARNs(fmt.Sprintf("arn:aws:autoscaling:%s:%s:autoScalingGroup:*:autoScalingGroupName/*", region, account)),
			Condition: Is(map[string]string{"aws:ResourceTag/k8s.io/cluster-autoscaler/" + cluster: "owned"})},
	}}
}

// ExternalSecrets lets External Secrets read the given secrets, and decrypt them with the given
// keys, only through Secrets Manager.
func ExternalSecrets(region string, secrets, keys []pulumi.StringInput) PolicyDocument {
	document := PolicyDocument{Statement: []Statement{
		{Sid: "Read", Effect: Allow, Action: []string{"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"}, Resource: secrets},
	}}
	if len(keys) > 0 {
		document.Statement = append(document.Statement, Statement{
			Sid: "Decrypt", Effect: Allow, Action: []string{"kms:Decrypt"}, Resource: keys,
			Condition: Is(map[string]string{"kms:ViaService": "secretsmanager." + region + ".amazonaws.com"}),
		})
	}
	return document
}

// registryLogin allows the login that every client of ECR needs; AWS has no resource-level
// permission for it.
func registryLogin(region string) Statement {
	return Statement{Sid: "Login", Effect: Allow, Action: []string{"ecr:GetAuthorizationToken"}, Resource: ARNs("*"),
		Condition: inRegion(region)}
}

// ImageUpdater lets Argo CD Image Updater find new images in the given repositories.
func ImageUpdater(region string, repositories []pulumi.StringInput) PolicyDocument {
	return PolicyDocument{Statement: []Statement{
		registryLogin(region),
		{Sid: "Read", Effect: Allow, Resource: repositories, Action: []string{
			"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:DescribeRepositories",
			"ecr:GetDownloadUrlForLayer", "ecr:ListImages",
		}},
	}}
}

// Signatures lets policy-controller read the signatures of images in the given repositories: their manifests, the list
// of what refers to an image, for which ECR wants ecr:BatchGetImage too (ECR API, ListImageReferrers), and their blobs.
func Signatures(region string, repositories []pulumi.StringInput) PolicyDocument {
	return PolicyDocument{Statement: []Statement{
		registryLogin(region),
		{Sid: "Read", Effect: Allow, Resource: repositories, Action: []string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}},
	}}
}

// ImagePush lets CI push to the given repositories and read back what it pushed, and nothing else:
// make publish verifies each signature after it has signed, and cosign reads a signature's blobs.
func ImagePush(region string, repositories []pulumi.StringInput) PolicyDocument {
	return PolicyDocument{Statement: []Statement{
		registryLogin(region),
		{Sid: "Push", Effect: Allow, Resource: repositories, Action: []string{
			"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
			"ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
		}},
	}}
}

// Runner lets CodeBuild start a runner of GitHub's jobs in a VPC, write its log, and take the token of a
// connection to GitHub. A job can do the same, and nothing else, with the machine's credentials: it can take
// that token whatever its workflow's permissions say. It follows "Allow CodeBuild access to AWS services
// required to create a VPC network interface" and "GitHub App connections" in the CodeBuild user guide.
func Runner(account, region, logGroup, connection string) PolicyDocument {
	ec2ARN := func(kind string) string { return fmt.Sprintf("arn:aws:ec2:%s:%s:%s/*", region, account, kind) }
	return PolicyDocument{Statement: []Statement{
		{Sid: "Log", Effect: Allow, Action: []string{"logs:CreateLogStream", "logs:PutLogEvents"},
			Resource: ARNs(fmt.Sprintf("arn:aws:logs:%s:%s:log-group:%s:*", region, account, logGroup))},
		{Sid: "Connection", Effect: Allow, Resource: ARNs(connection),
			Action: []string{"codeconnections:GetConnection", "codeconnections:GetConnectionToken"}},
		// AWS has no resource-level permissions for these actions, which only read.
		{Sid: "Read", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets",
			"ec2:DescribeVpcs",
		}},
		{Sid: "Interface", Effect: Allow, Action: []string{"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"},
			Resource: ARNs(ec2ARN("network-interface"), ec2ARN("security-group"), ec2ARN("subnet"))},
		// Only CodeBuild may attach the interfaces to its machines.
		{Sid: "Attach", Effect: Allow, Action: []string{"ec2:CreateNetworkInterfacePermission"}, Resource: ARNs(ec2ARN("network-interface")),
			Condition: Is(map[string]string{"ec2:AuthorizedService": "codebuild.amazonaws.com"})},
	}}
}

// Boundary identifies the environment whose roles a permissions boundary limits.
type Boundary struct {
	Account, Region string
	// The names of the environment's secrets begin with Project and Environment
	// (project/environment/...). Environment is also the value of the tag Environment on its
	// resources.
	Project, Environment string
	// Shared is the value of that tag on what all environments use, such as images.
	Shared string
	// Key is the ARN of the environment's KMS key.
	Key pulumi.StringInput
}

// PermissionsBoundary returns the upper limit of what the roles of an environment can do,
// whatever policies they have: what the policies above and AWS's managed ones need, in one
// region. No role can change IAM, including its own boundary, except to create AWS's
// service-linked roles. None can read another environment's secrets, use its key, or act on
// resources with its tag.
func PermissionsBoundary(b Boundary) PolicyDocument {
	account, region := b.Account, b.Region
	const owner = "aws:ResourceTag/Environment"
	readSecret := []string{"secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"}
	secret := func(name string) []pulumi.StringInput {
		return ARNs(fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s", region, account, name))
	}
	return PolicyDocument{Statement: []Statement{
		// A boundary grants nothing: the roles' own policies name the resources.
		{Sid: "Network", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"ec2:AssignPrivateIpAddresses", "ec2:AttachNetworkInterface", "ec2:AuthorizeSecurityGroupEgress",
			"ec2:AuthorizeSecurityGroupIngress", "ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission",
			"ec2:CreateRoute", "ec2:CreateSecurityGroup", "ec2:CreateTags", "ec2:DeleteNetworkInterface", "ec2:DeleteRoute",
			"ec2:DeleteSecurityGroup", "ec2:DeleteTags", "ec2:Describe*", "ec2:DetachNetworkInterface", "ec2:Get*",
			"ec2:ModifyNetworkInterfaceAttribute", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress",
			"ec2:UnassignPrivateIpAddresses",
			"elasticloadbalancing:Add*", "elasticloadbalancing:Create*", "elasticloadbalancing:Delete*",
			"elasticloadbalancing:Deregister*", "elasticloadbalancing:Describe*", "elasticloadbalancing:Modify*",
			"elasticloadbalancing:Register*", "elasticloadbalancing:Remove*", "elasticloadbalancing:Set*",
		}},
		{Sid: "Machines", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"autoscaling:Describe*", "autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup",
			"autoscaling:UpdateAutoScalingGroup",
			"ec2:AttachVolume", "ec2:CreateSnapshot", "ec2:CreateVolume", "ec2:DeleteSnapshot", "ec2:DeleteVolume",
			"ec2:DetachVolume", "ec2:EnableFastSnapshotRestores", "ec2:ModifyInstanceAttribute", "ec2:ModifyVolume",
			"eks-auth:AssumeRoleForPodIdentity", "eks:Describe*",
		}},
		{Sid: "Images", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository",
			"ecr:Describe*", "ecr:Get*", "ecr:ListImages", "ecr:ReplicateImage", "ecr:TagResource",
		}},
		{Sid: "Logs", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region), Action: []string{
			"logs:CreateLogDelivery", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DeleteLogDelivery", "logs:Describe*",
			"logs:GetLogEvents", "logs:PutLogEvents", "logs:PutRetentionPolicy",
		}},
		{Sid: "GitHub", Effect: Allow, Resource: ARNs("*"), Condition: inRegion(region),
			Action: []string{"codeconnections:GetConnection", "codeconnections:GetConnectionToken"}},
		{Sid: "Key", Effect: Allow, Resource: []pulumi.StringInput{b.Key}, Action: []string{
			"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*", "kms:RetireGrant",
		}},
		{Sid: "Secrets", Effect: Allow, Action: readSecret, Resource: secret(b.Project + "/" + b.Environment + "/*")},
		// RDS chooses the name of the master user's secret, and gives it the instance's tags.
		{Sid: "MasterSecret", Effect: Allow, Action: readSecret, Resource: secret("rds!*"),
			Condition: Is(map[string]string{owner: b.Environment})},
		{Sid: "ServiceLinkedRoles", Effect: Allow, Action: []string{"iam:CreateServiceLinkedRole"},
			Resource: ARNs(fmt.Sprintf("arn:aws:iam::%s:role/aws-service-role/*", account))},
		// What EKS, Auto Scaling and controllers create has no Environment tag and stays allowed: a
		// condition that requires the tag would refuse it to its own cluster.
		{Sid: "OtherEnvironments", Effect: Deny, Action: []string{"*"}, Resource: ARNs("*"), Condition: Condition{
			"Null":            {owner: {"false"}},
			"StringNotEquals": {owner: {b.Environment, b.Shared}},
		}},
	}}
}

// KeyPolicy returns the policy of an environment's KMS key. It leaves people and roles to the
// account's IAM policies. CloudWatch Logs, which calls KMS itself, may use the key only for log
// groups of the account. In this resource policy "*" is the key itself.
func KeyPolicy(account, region string) PolicyDocument {
	return PolicyDocument{Statement: []Statement{
		{Sid: "Account", Effect: Allow, Action: []string{"kms:*"}, Resource: ARNs("*"),
			Principal: &Principal{AWS: ARNs(fmt.Sprintf("arn:aws:iam::%s:root", account))}},
		{Sid: "Logs", Effect: Allow, Resource: ARNs("*"),
			Principal: &Principal{Service: []string{"logs." + region + ".amazonaws.com"}},
			Action:    []string{"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"},
			Condition: Condition{"ArnLike": {"kms:EncryptionContext:aws:logs:arn": {fmt.Sprintf("arn:aws:logs:%s:%s:log-group:*", region,
				account)}}}},
	}}
}

package main

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/identity"
)

// ciRoles are the roles that GitHub's jobs assume by OIDC, without a stored secret.
type ciRoles struct {
	pulumi.ResourceState

	ProviderARN, Push pulumi.StringOutput
	// Preview, Up and Boundary are ARNs by environment.
	Preview, Up, Boundary map[string]pulumi.StringOutput
}

// access builds the policy documents of the roles.
type access struct {
	*config
	accountKey pulumi.StringInput
}

func boundaryName(environment string) string { return environmentName(environment) + "-boundary" }

func (a *access) boundaryARN(environment string) string {
	return fmt.Sprintf("arn:aws:iam::%s:policy/%s", a.AccountID, boundaryName(environment))
}

// boundary returns the upper limit of what roles of an environment can do.
func (a *access) boundary(key pulumi.StringInput, environment string) identity.PolicyDocument {
	return identity.PermissionsBoundary(identity.Boundary{
		Account: a.AccountID, Region: a.Region, Project: project, Environment: environment, Shared: shared, Key: key,
	})
}

// arn returns the ARN of a resource of the account in its region.
func (a *access) arn(service, resource string) string {
	return fmt.Sprintf("arn:aws:%s:%s:%s:%s", service, a.Region, a.AccountID, resource)
}

// inRegion restricts actions without resource-level permissions to the region.
func (a *access) inRegion() identity.Condition {
	return identity.Is(map[string]string{"aws:RequestedRegion": a.Region})
}

// environmentName returns the prefix of the names of an environment's resources.
func environmentName(environment string) string { return project + "-" + environment }

// pushPolicy lets CI push images.
func (a *access) pushPolicy() identity.PolicyDocument {
	var repositories []string
	for _, name := range a.Repositories {
		repositories = append(repositories, a.arn("ecr", "repository/"+repository(name)))
	}
	return identity.ImagePush(a.Region, identity.ARNs(repositories...))
}

// readState lets a job read what a preview needs: the environment's state, this stack's
// outputs, and the keys that encrypt both. The paths are those of Pulumi's object storage
// backends.
func (a *access) readState(key pulumi.StringInput, environment string) []identity.Statement {
	return []identity.Statement{
		{Sid: "ListState", Effect: identity.Allow, Action: []string{"s3:ListBucket"}, Resource: identity.ARNs(stateARN(a.StateBucket, ""))},
		{Sid: "ReadState", Effect: identity.Allow, Action: []string{"s3:GetObject"}, Resource: identity.ARNs(
			stateARN(a.StateBucket, "/.pulumi/meta.yaml"),
			stateARN(a.StateBucket, "/.pulumi/stacks/"+namespace+"/*"),
			stateARN(a.StateBucket, "/.pulumi/stacks/"+project+"/"+environment+".json*"),
			stateARN(a.StateBucket, "/.pulumi/history/"+project+"/"+environment+"/*"),
			stateARN(a.StateBucket, "/.pulumi/locks/organization/"+project+"/"+environment+"/*"),
		)},
		{Sid: "Decrypt", Effect: identity.Allow, Action: []string{"kms:Decrypt", "kms:DescribeKey"},
			Resource: []pulumi.StringInput{a.accountKey, key}},
	}
}

// describe lets a job read the description of an environment's resources, and no data.
func (a *access) describe(environment string) []identity.Statement {
	name := environmentName(environment)
	statements := []identity.Statement{
		// AWS has no resource-level permissions for most of these actions, which read no data.
		{Sid: "Describe", Effect: identity.Allow, Resource: identity.ARNs("*"), Condition: a.inRegion(), Action: []string{
			"acm:DescribeCertificate", "acm:ListTagsForCertificate", "autoscaling:Describe*",
			"cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource", "ec2:Describe*",
			"ecr:Describe*", "ecr:ListTagsForResource", "eks:Describe*", "eks:List*", "elasticloadbalancing:Describe*",
			"kms:DescribeKey", "kms:ListAliases", "logs:Describe*", "logs:ListTagsForResource", "rds:Describe*", "rds:ListTagsForResource",
			"sns:GetSubscriptionAttributes", "sns:GetTopicAttributes", "sns:ListTagsForResource",
		}},
		// The image that AWS recommends for nodes, which previews compare with cluster.nodeRelease.
		{Sid: "ReadNodeRelease", Effect: identity.Allow, Action: []string{"ssm:GetParameter"},
			Resource: identity.ARNs(fmt.Sprintf("arn:aws:ssm:%s::parameter/aws/service/eks/*", a.Region))},
		{Sid: "DescribeBudget", Effect: identity.Allow, Action: []string{"budgets:ListTagsForResource", "budgets:ViewBudget"},
			Resource: identity.ARNs(a.budget(name))},
		{Sid: "DescribeRunner", Effect: identity.Allow, Action: []string{"codebuild:BatchGetProjects"},
			Resource: a.arns("codebuild", "project/"+name+"-*")},
		{Sid: "DescribeSecrets", Effect: identity.Allow, Action: []string{"secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy"},
			Resource: identity.ARNs(
				a.arn("secretsmanager", "secret:"+name+"*"), a.arn("secretsmanager", "secret:"+project+"/"+environment+"/*"),
				a.arn("secretsmanager", "secret:rds!*"))},
		{Sid: "DescribeRoles", Effect: identity.Allow,
			Action: []string{
				"iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole",
				"iam:ListRolePolicies", "iam:ListRoleTags",
			},
			Resource: identity.ARNs(
				fmt.Sprintf("arn:aws:iam::%s:role/%s-*", a.AccountID, name),
				fmt.Sprintf("arn:aws:iam::%s:role/%s-%s-%s-*", a.AccountID, project, pipeline, environment),
			)},
		// What make aws-check asks besides: the caller's role with its path, GitHub's provider and quotas.
		{Sid: "CheckRoles", Effect: identity.Allow, Action: []string{"iam:GetRole"},
			Resource: identity.ARNs(fmt.Sprintf("arn:aws:iam::%s:role/*", a.AccountID))},
		{Sid: "CheckProvider", Effect: identity.Allow, Action: []string{"iam:GetOpenIDConnectProvider"},
			Resource: identity.ARNs(identity.GitHubProviderARN(a.AccountID))},
		{Sid: "CheckQuotas", Effect: identity.Allow, Action: []string{"servicequotas:GetServiceQuota"},
			Resource: a.arns("servicequotas", "ec2/*", "vpc/*")},
	}
	if zones := a.zones(); len(zones) > 0 {
		statements = append(statements, identity.Statement{Sid: "DescribeRecords", Effect: identity.Allow, Resource: zones,
			Action: []string{"route53:GetHostedZone", "route53:ListResourceRecordSets"}})
	}
	return statements
}

// budget returns the ARN of an environment's budgets, which belong to no region.
func (a *access) budget(name string) string {
	return fmt.Sprintf("arn:aws:budgets::%s:budget/%s*", a.AccountID, name)
}

// zones returns the ARNs of the hosted zones in which environments create records.
func (a *access) zones() []pulumi.StringInput {
	var arns []string
	for _, zone := range a.HostedZones {
		arns = append(arns, "arn:aws:route53:::hostedzone/"+zone)
	}
	return identity.ARNs(arns...)
}

// readPolicy returns what both a preview and an update need. It is a separate policy, because
// all permissions of an update exceed the 10,240 characters that IAM allows for the inline
// policies of a role.
func (a *access) readPolicy(key pulumi.StringInput, environment string) identity.PolicyDocument {
	return identity.PolicyDocument{Statement: append(a.readState(key, environment), a.describe(environment)...)}
}

// networkPolicy lets a job create, change and delete the network of one environment. Like
// readPolicy it is a separate policy.
func (a *access) networkPolicy(environment string) identity.PolicyDocument {
	ours, asked := a.ours(environment), a.asked(environment)
	return identity.PolicyDocument{Statement: []identity.Statement{
		// A call that creates something in a VPC needs two permissions: for the new resource, by the
		// tag in the request, and for the VPC, subnet or group that contains it, by the tag that this
		// has (ChangeNetwork). The resource types in these three statements are those that the calls
		// create, so none of them admits existing resources.
		{Sid: "MakeVPC", Effect: identity.Allow, Condition: asked, Action: []string{
			"ec2:AllocateAddress", "ec2:CreateInternetGateway", "ec2:CreateLaunchTemplate", "ec2:CreateVpc",
		}, Resource: a.arns("ec2", "elastic-ip/*", "internet-gateway/*", "launch-template/*", "vpc/*")},
		{Sid: "MakeInVPC", Effect: identity.Allow, Condition: asked, Action: []string{
			"ec2:CreateNetworkAcl", "ec2:CreateRouteTable", "ec2:CreateSecurityGroup", "ec2:CreateSubnet",
		}, Resource: a.arns("ec2", "network-acl/*", "route-table/*", "security-group/*", "subnet/*")},
		{Sid: "MakeInSubnets", Effect: identity.Allow, Condition: asked, Action: []string{
			"ec2:CreateFlowLogs", "ec2:CreateNatGateway", "ec2:CreateVpcEndpoint",
		}, Resource: a.arns("ec2", "natgateway/*", "vpc-endpoint/*", "vpc-flow-log/*")},
		// An endpoint's private DNS names are in a hosted zone of AWS's own, whose id nobody knows
		// beforehand: CreateVpcEndpoint associates it with the VPC by the caller's permissions
		// (Service Authorization Reference, Amazon EC2, dependent actions).
		{Sid: "EndpointNames", Effect: identity.Allow, Action: []string{"route53:AssociateVPCWithHostedZone"},
			Resource: identity.ARNs("arn:aws:route53:::hostedzone/*")},
		{Sid: "TagNew", Effect: identity.Allow, Action: []string{"ec2:CreateTags"}, Resource: a.arns("ec2", "*/*"),
			Condition: identity.Condition{
				"StringEquals": {"aws:RequestTag/Environment": {environment}},
				"StringLike":   {"ec2:CreateAction": {"AllocateAddress", "AuthorizeSecurityGroup*", "Create*", "RunInstances"}},
			}},
		{Sid: "ChangeNetwork", Effect: identity.Allow, Resource: a.arns("ec2", "*/*"), Condition: ours, Action: []string{
			"ec2:AssociateRouteTable", "ec2:AttachInternetGateway", "ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress",
			"ec2:CreateFlowLogs", "ec2:CreateLaunchTemplateVersion", "ec2:CreateNatGateway", "ec2:CreateNetworkAcl", "ec2:CreateRoute",
			"ec2:CreateRouteTable", "ec2:CreateSecurityGroup", "ec2:CreateSubnet", "ec2:CreateTags", "ec2:CreateVpcEndpoint",
			"ec2:DeleteFlowLogs", "ec2:DeleteInternetGateway", "ec2:DeleteLaunchTemplate", "ec2:DeleteLaunchTemplateVersions",
			"ec2:DeleteNatGateway", "ec2:DeleteNetworkAcl", "ec2:DeleteRoute", "ec2:DeleteRouteTable", "ec2:DeleteSecurityGroup",
			"ec2:DeleteSubnet", "ec2:DeleteTags", "ec2:DeleteVpc", "ec2:DeleteVpcEndpoints", "ec2:DetachInternetGateway",
			"ec2:DisassociateAddress", "ec2:DisassociateRouteTable", "ec2:ModifyLaunchTemplate", "ec2:ModifySecurityGroupRules",
			"ec2:ModifySubnetAttribute", "ec2:ModifyVpcAttribute", "ec2:ModifyVpcEndpoint", "ec2:ReleaseAddress", "ec2:ReplaceRoute",
			"ec2:ReplaceRouteTableAssociation", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress", "ec2:RunInstances",
		}},
		// This admits the rule; ChangeNetwork admits its group.
		{Sid: "MakeRules", Effect: identity.Allow, Condition: asked, Resource: a.arns("ec2", "security-group-rule/*"),
			Action: []string{"ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress"}},
		// EKS's group has no Environment tag, but the cluster's name: the runner of GitHub's jobs is admitted there.
		{Sid: "AdmitToCluster", Effect: identity.Allow, Resource: a.arns("ec2", "security-group/*"),
			Action:    []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:ModifySecurityGroupRules", "ec2:RevokeSecurityGroupIngress"},
			Condition: identity.Is(map[string]string{"aws:ResourceTag/aws:eks:cluster-name": environmentName(environment)})},
		// AWS creates a VPC's default group without tags; the update removes its rules and tags it.
		// Groups of EKS and of the load balancer controller have no Environment tag either, but other
		// tags, which exclude them.
		{Sid: "AdoptDefaultGroup", Effect: identity.Allow, Resource: a.arns("ec2", "security-group/*"),
			Action: []string{"ec2:CreateTags", "ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"},
			Condition: identity.Condition{
				"Null": {
					"aws:ResourceTag/Environment": {"true"}, "aws:ResourceTag/aws:eks:cluster-name": {"true"},
					"aws:ResourceTag/elbv2.k8s.aws/cluster": {"true"},
				},
				"StringEqualsIfExists": {"aws:RequestTag/Environment": {environment}},
			}},
		// EKS starts the nodes with the caller's permissions on the launch template. Subnet and
		// template have to be the environment's (ChangeNetwork). The group is not restricted: EKS's
		// has no Environment tag, and AWS refuses one outside the subnet's VPC.
		{Sid: "StartNodes", Effect: identity.Allow, Action: []string{"ec2:RunInstances"},
			Resource: append(identity.ARNs(fmt.Sprintf("arn:aws:ec2:%s::image/*", a.Region)),
				a.arns("ec2", "instance/*", "network-interface/*", "security-group/*", "volume/*")...),
			Condition: identity.Condition{"StringEqualsIfExists": {"aws:ResourceTag/Environment": {environment}}}},
	}}
}

// ours restricts to resources with the environment's tag.
func (a *access) ours(environment string) identity.Condition {
	return identity.Is(map[string]string{"aws:ResourceTag/Environment": environment, "aws:RequestedRegion": a.Region})
}

// asked restricts to calls that create something with the environment's tag.
func (a *access) asked(environment string) identity.Condition {
	return identity.Is(map[string]string{"aws:RequestTag/Environment": environment, "aws:RequestedRegion": a.Region})
}

// arns returns the ARNs of several resources of a service.
func (a *access) arns(service string, resources ...string) []pulumi.StringInput {
	var arns []string
	for _, resource := range resources {
		arns = append(arns, a.arn(service, resource))
	}
	return identity.ARNs(arns...)
}

// upPolicy lets a job create, change and delete one environment, in addition to readPolicy and
// networkPolicy. It restricts actions by ARN where possible, otherwise by the Environment tag
// that the AWS provider adds to everything, and otherwise by region.
func (a *access) upPolicy(key pulumi.StringInput, environment string) identity.PolicyDocument {
	name := environmentName(environment)
	roles := identity.ARNs(fmt.Sprintf("arn:aws:iam::%s:role/%s-*", a.AccountID, name))
	ours, asked := a.ours(environment), a.asked(environment)
	bounded := identity.Is(map[string]string{"iam:PermissionsBoundary": a.boundaryARN(environment)})
	statements := []identity.Statement{
		{Sid: "WriteState", Effect: identity.Allow, Action: []string{"s3:DeleteObject", "s3:PutObject"}, Resource: identity.ARNs(
			stateARN(a.StateBucket, "/.pulumi/stacks/"+project+"/"+environment+".json*"),
			stateARN(a.StateBucket, "/.pulumi/history/"+project+"/"+environment+"/*"),
			stateARN(a.StateBucket, "/.pulumi/backups/"+project+"/"+environment+"/*"),
			stateARN(a.StateBucket, "/.pulumi/locks/organization/"+project+"/"+environment+"/*"),
		)},
		{Sid: "Encrypt", Effect: identity.Allow, Action: []string{"kms:Encrypt", "kms:GenerateDataKey"},
			Resource: []pulumi.StringInput{a.accountKey, key}},
		// RDS, EKS, EBS and ECR encrypt by grants. kms:GrantIsForAWSResource cannot
		// narrow this: it is not supported for EKS's CreateCluster with encryptionConfig.
		{Sid: "Grant", Effect: identity.Allow, Action: []string{"kms:CreateGrant"}, Resource: []pulumi.StringInput{key}},

		// AWS authorizes CreateCluster for no resource (Service Authorization Reference, Amazon EKS).
		{Sid: "MakeCluster", Effect: identity.Allow, Action: []string{"eks:CreateCluster"}, Resource: identity.ARNs("*"), Condition: asked},
		{Sid: "Cluster", Effect: identity.Allow, Action: []string{
			"eks:AssociateAccessPolicy", "eks:AssociateEncryptionConfig", "eks:CreateAccessEntry", "eks:CreateAddon", "eks:CreateNodegroup",
			"eks:CreatePodIdentityAssociation", "eks:DeleteAccessEntry", "eks:DeleteAddon", "eks:DeleteCluster",
			"eks:DeleteNodegroup", "eks:DeletePodIdentityAssociation", "eks:DisassociateAccessPolicy", "eks:TagResource", "eks:UntagResource",
			"eks:UpdateAccessEntry", "eks:UpdateAddon", "eks:UpdateClusterConfig", "eks:UpdateClusterVersion", "eks:UpdateNodegroupConfig",
			"eks:UpdateNodegroupVersion", "eks:UpdatePodIdentityAssociation",
		}, Resource: a.arns("eks", "cluster/"+name+"*", "nodegroup/"+name+"*/*/*", "addon/"+name+"*/*/*",
			"access-entry/"+name+"*/*", "podidentityassociation/"+name+"*/*")},
		{Sid: "Database", Effect: identity.Allow, Action: []string{
			"rds:AddTagsToResource", "rds:CreateDBInstance", "rds:CreateDBParameterGroup", "rds:CreateDBSnapshot", "rds:CreateDBSubnetGroup",
			"rds:DeleteDBInstance", "rds:DeleteDBParameterGroup", "rds:DeleteDBSubnetGroup", "rds:ModifyDBInstance", "rds:ModifyDBParameterGroup",
			"rds:ModifyDBSubnetGroup", "rds:RebootDBInstance", "rds:RemoveTagsFromResource", "rds:ResetDBParameterGroup",
			"rds:RestoreDBInstanceFromDBSnapshot", "rds:RestoreDBInstanceToPointInTime",
		}, Resource: a.arns("rds", "db:"+name+"*", "pg:"+name+"*", "subgrp:"+name+"*", "snapshot:"+name+"*",
			"snapshot:rds:"+name+"*", "og:default*")}, // the names of automatic snapshots begin with rds:
		{Sid: "Logs", Effect: identity.Allow, Action: []string{
			"logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteRetentionPolicy", "logs:DisassociateKmsKey",
			"logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource",
		}, Resource: a.arns("logs", "log-group:*"+name+"*")},
		{Sid: "Alarms", Effect: identity.Allow, Action: []string{
			"cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource",
			"sns:CreateTopic", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource", "sns:Unsubscribe",
			"sns:UntagResource",
		}, Resource: append(a.arns("cloudwatch", "alarm:"+name+"*"), a.arns("sns", name+"*")...)},
		{Sid: "Budget", Effect: identity.Allow, Action: []string{"budgets:ModifyBudget", "budgets:TagResource", "budgets:UntagResource"},
			Resource: identity.ARNs(a.budget(name))},
		{Sid: "Runner", Effect: identity.Allow, Action: []string{
			"codebuild:CreateProject", "codebuild:CreateWebhook", "codebuild:DeleteProject", "codebuild:DeleteWebhook",
			"codebuild:UpdateProject", "codebuild:UpdateWebhook",
		}, Resource: a.arns("codebuild", "project/"+name+"-*")},
		// The project names the connection to GitHub; its token is for the project's role alone.
		{Sid: "RunnerConnection", Effect: identity.Allow, Action: []string{"codeconnections:GetConnection", "codeconnections:UseConnection"},
			Resource: a.arns("codeconnections", "connection/*")},
		{Sid: "Secrets", Effect: identity.Allow, Action: []string{
			"secretsmanager:CreateSecret", "secretsmanager:DeleteSecret", "secretsmanager:PutResourcePolicy", "secretsmanager:TagResource",
			"secretsmanager:UntagResource", "secretsmanager:UpdateSecret",
		}, Resource: a.arns("secretsmanager", "secret:"+name+"*", "secret:"+project+"/"+environment+"/*")},
		// RDS creates the master password's secret with its caller's permissions. The boundary lets
		// roles read it by its tag, so an update may tag no other secret.
		{Sid: "MasterSecret", Effect: identity.Allow, Action: []string{"secretsmanager:CreateSecret", "secretsmanager:TagResource"},
			Resource:  a.arns("secretsmanager", "secret:rds!*"),
			Condition: identity.Condition{"StringEqualsIfExists": {"aws:ResourceTag/Environment": {environment}}}},
		{Sid: "Certificates", Effect: identity.Allow, Action: []string{"acm:RequestCertificate"}, Resource: identity.ARNs("*"),
			Condition: asked},
		{Sid: "ChangeCertificates", Effect: identity.Allow, Condition: ours, Resource: a.arns("acm", "certificate/*"),
			Action: []string{"acm:AddTagsToCertificate", "acm:DeleteCertificate", "acm:RemoveTagsFromCertificate"}},

		// A role without the boundary could do what this role cannot, so roles can only be created
		// with it, and it cannot be removed.
		{Sid: "MakeRoles", Effect: identity.Allow, Resource: roles, Condition: bounded, Action: []string{
			"iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
		}},
		{Sid: "AttachPolicies", Effect: identity.Allow, Resource: roles, Action: []string{"iam:AttachRolePolicy", "iam:DetachRolePolicy"},
			Condition: identity.Condition{
				"StringEquals": {"iam:PermissionsBoundary": {a.boundaryARN(environment)}},
				"ArnEquals": {"iam:PolicyARN": {
					identity.ClusterPolicy, identity.EBSCSIPolicy, identity.ImagePullPolicy, identity.VPCCNIPolicy,
					identity.WorkerNodePolicy,
				}},
			}},
		{Sid: "ChangeRoles", Effect: identity.Allow, Resource: roles, Action: []string{
			"iam:DeleteRole", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRoleDescription",
		}},
		{Sid: "PassRoles", Effect: identity.Allow, Action: []string{"iam:PassRole"}, Resource: roles,
			Condition: identity.Condition{"StringEquals": {"iam:PassedToService": {
				"codebuild.amazonaws.com", "ec2.amazonaws.com", "eks.amazonaws.com", "pods.eks.amazonaws.com", "vpc-flow-logs.amazonaws.com",
			}}}},
		{Sid: "ServiceLinkedRoles", Effect: identity.Allow, Action: []string{"iam:CreateServiceLinkedRole"},
			Resource: identity.ARNs(fmt.Sprintf("arn:aws:iam::%s:role/aws-service-role/*", a.AccountID)),
			Condition: identity.Condition{"StringEquals": {"iam:AWSServiceName": {
				"autoscaling.amazonaws.com", "eks-nodegroup.amazonaws.com", "eks.amazonaws.com",
				"elasticloadbalancing.amazonaws.com", "rds.amazonaws.com",
			}}}},
	}
	if zones := a.zones(); len(zones) > 0 {
		statements = append(statements,
			identity.Statement{Sid: "Records", Effect: identity.Allow, Resource: zones, Action: []string{"route53:ChangeResourceRecordSets"}},
			identity.Statement{Sid: "RecordChanges", Effect: identity.Allow, Resource: identity.ARNs("arn:aws:route53:::change/*"),
				Action: []string{"route53:GetChange"}},
		)
	}
	return identity.PolicyDocument{Statement: statements}
}

// newCIRoles creates GitHub's identity provider, the boundaries, and the roles.
func newCIRoles(ctx *pulumi.Context, name string, c *config, k *keys, opts ...pulumi.ResourceOption) (*ciRoles, error) {
	r := &ciRoles{
		Preview: map[string]pulumi.StringOutput{}, Up: map[string]pulumi.StringOutput{}, Boundary: map[string]pulumi.StringOutput{},
	}
	if err := ctx.RegisterComponentResource("loja-veloz:bootstrap:CIRoles", name, r, opts...); err != nil {
		return nil, fmt.Errorf("registering CI's roles: %w", err)
	}
	r.ProviderARN = pulumi.String(identity.GitHubProviderARN(c.AccountID)).ToStringOutput()
	if !c.GitHub.ExistingProvider {
		// No thumbprints: AWS verifies GitHub's issuer by its certificate authority.
		provider, err := iam.NewOpenIdConnectProvider(ctx, name+"-github", &iam.OpenIdConnectProviderArgs{
			Url:           pulumi.String("https://" + identity.GitHubIssuer),
			ClientIdLists: pulumi.StringArray{pulumi.String(identity.GitHubAudience)},
			Tags:          pulumi.StringMap{"Name": pulumi.String(project + "-github")},
		}, pulumi.Parent(r))
		if err != nil {
			return nil, fmt.Errorf("trusting GitHub's issuer: %w", err)
		}
		r.ProviderARN = provider.Arn
	}

	b := &ciBuilder{ctx: ctx, name: name, roles: r, access: &access{config: c, accountKey: k.Account}, keys: k}
	push, err := b.role("push", "GitHub pushes images from "+c.GitHub.Branch, b.access.pushPolicy(), ":ref:refs/heads/"+c.GitHub.Branch)
	if err != nil {
		return nil, err
	}
	r.Push = push.Arn
	outputs := pulumi.Map{"push": r.Push}
	for _, environment := range c.Environments {
		if err := b.environment(environment); err != nil {
			return nil, err
		}
		outputs[environment] = pulumi.Map{
			"preview": r.Preview[environment], "up": r.Up[environment], "boundary": r.Boundary[environment],
		}
	}
	if err := ctx.RegisterResourceOutputs(r, outputs); err != nil {
		return nil, fmt.Errorf("registering the outputs of CI's roles: %w", err)
	}
	return r, nil
}

// ciBuilder creates the roles and policies of CI as children of roles.
type ciBuilder struct {
	ctx    *pulumi.Context
	name   string
	roles  *ciRoles
	access *access
	keys   *keys
}

// role creates a role for GitHub's jobs. The provider's ARN is derived from the account, so
// that the trust policy is plain and visible in a preview.
func (b *ciBuilder) role(part, description string, policy identity.PolicyDocument, suffixes ...string) (*iam.Role, error) {
	trust, err := identity.GitHubTrust(pulumi.String(identity.GitHubProviderARN(b.access.AccountID)),
		b.access.GitHub.Org, b.access.GitHub.Repo, b.access.GitHub.OrgID, b.access.GitHub.RepoID, suffixes...)
	if err != nil {
		return nil, fmt.Errorf("role %s: %w", part, err)
	}
	if len(policy.Statement) > 0 {
		if err := policy.Validate(); err != nil {
			return nil, fmt.Errorf("policy of role %s: %w", part, err)
		}
	}
	role, _, err := identity.NewRole(b.ctx, b.roles, b.name+"-"+part, &identity.RoleArgs{
		Name: ciName(part), Description: description, Trust: trust, Policy: policy,
	})
	return role, err
}

func (b *ciBuilder) policy(part, description string, document identity.PolicyDocument) (*iam.Policy, error) {
	if err := document.Validate(); err != nil {
		return nil, fmt.Errorf("policy %s: %w", part, err)
	}
	policy, err := iam.NewPolicy(b.ctx, b.name+"-"+part, &iam.PolicyArgs{
		Name: pulumi.String(ciName(part)), Description: pulumi.String(description), Policy: document.JSON(),
	}, pulumi.Parent(b.roles))
	if err != nil {
		return nil, fmt.Errorf("creating policy %s: %w", part, err)
	}
	return policy, nil
}

// environment creates the boundary, the policies and the roles of one environment.
func (b *ciBuilder) environment(environment string) error {
	key := b.keys.ByEnvironment[environment]
	bounds := b.access.boundary(key, environment)
	if err := bounds.Validate(); err != nil {
		return fmt.Errorf("permissions boundary of %s: %w", environment, err)
	}
	boundary, err := iam.NewPolicy(b.ctx, b.name+"-"+environment+"-boundary", &iam.PolicyArgs{
		Name:        pulumi.String(boundaryName(environment)),
		Description: pulumi.String("Upper limit of what roles of " + environment + " can do"),
		Policy:      bounds.JSON(),
	}, pulumi.Parent(b.roles))
	if err != nil {
		return fmt.Errorf("creating the permissions boundary of %s: %w", environment, err)
	}
	read, err := b.policy(environment+"-read", "Reads the state and the description of "+environment, b.access.readPolicy(key, environment))
	if err != nil {
		return err
	}
	network, err := b.policy(environment+"-network", "Creates and changes the network of "+environment, b.access.networkPolicy(environment))
	if err != nil {
		return err
	}
	// A nightly comparison runs in an environment of its own, because nobody approves it.
	preview, err := b.role(environment+"-preview", "GitHub previews "+environment, identity.PolicyDocument{},
		":environment:preview-"+environment, ":environment:drift-"+environment)
	if err != nil {
		return err
	}
	up, err := b.role(environment+"-up", "GitHub updates "+environment, b.access.upPolicy(key, environment), ":environment:"+environment)
	if err != nil {
		return err
	}
	for _, attached := range []struct {
		part   string
		role   *iam.Role
		policy *iam.Policy
	}{
		{"preview-read", preview, read}, {"up-read", up, read}, {"up-network", up, network},
	} {
		name := fmt.Sprintf("%s-%s-%s", b.name, environment, attached.part)
		if _, err := iam.NewRolePolicyAttachment(b.ctx, name, &iam.RolePolicyAttachmentArgs{
			Role: attached.role.Name, PolicyArn: attached.policy.Arn,
		}, pulumi.Parent(b.roles)); err != nil {
			return fmt.Errorf("attaching %s of %s: %w", attached.part, environment, err)
		}
	}
	b.roles.Preview[environment], b.roles.Up[environment], b.roles.Boundary[environment] = preview.Arn, up.Arn, boundary.Arn
	return nil
}

// ciName returns the name of a role or policy of CI.
func ciName(part string) string { return project + "-" + pipeline + "-" + part }

// Package runner creates a CodeBuild project in an environment's private subnets that runs the jobs
// of a GitHub repository's workflows. From there a job reaches the cluster's API server, whose public
// endpoint admits only known addresses, which GitHub's own runners do not have.
//
// The project's role gives a job no rights in AWS: a job assumes a role of bootstrap by GitHub's OIDC,
// as on GitHub's own runners.
package runner

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/codebuild"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	https = 443
	// minutes ends a job that hangs: an upgrade of the control plane and of all nodes takes less.
	minutes = 120
	// machine has 2 processors and 4 GB of memory, for 0.005 US dollars a minute ("Build environment
	// compute modes and types" in the CodeBuild user guide, and aws.amazon.com/codebuild/pricing).
	machine = "BUILD_GENERAL1_SMALL"
	// image is CodeBuild's own, which it has cached ("Docker images provided by CodeBuild"). Workflows
	// install the Go and Node.js that they pin.
	image = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
)

// Spec describes the runner of an environment.
type Spec struct {
	// Name is the environment's prefix of names, such as loja-veloz-dev.
	Name              string
	Region, AccountID string
	// Repository is the address of the GitHub repository, https://github.com/OWNER/NAME.
	Repository string
	// ConnectionARN is the connection of AWS CodeConnections to GitHub, in the account and region of
	// the spec. A person creates and confirms it in the console: docs/aws/ci.md.
	ConnectionARN string
	// LogDays is how long the jobs' logs are kept; see network.ValidLogDays.
	LogDays int
}

// Inputs are what other resources produce for a runner. All are required.
type Inputs struct {
	VPCID pulumi.StringInput
	// Subnets are private, with a route to the internet by a NAT gateway.
	Subnets pulumi.StringArrayInput
	// ClusterSecurityGroupID is the group of the control plane, which gets a rule that admits the runner.
	ClusterSecurityGroupID pulumi.StringInput
	// KeyARN is the KMS key of the logs.
	KeyARN pulumi.StringInput
	// PermissionsBoundary is the ARN of the policy that bounds the project's role.
	PermissionsBoundary string
}

// Runner is a CodeBuild project that waits for jobs.
type Runner struct {
	pulumi.ResourceState

	// Project is the project's name; see Spec.Project.
	Project pulumi.StringOutput
}

var (
	// repository follows GitHub's rules for the names of owners and repositories.
	repository = regexp.MustCompile(`^https://github\.com/[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/[A-Za-z0-9._-]{1,100}$`)
	connection = regexp.MustCompile(`^arn:aws[a-z-]*:codeconnections:([a-z0-9-]+):([0-9]{12}):connection/[0-9a-f-]{36}$`)
)

// Project is the name of the CodeBuild project. A workflow's job gets this runner by
// runs-on: codebuild-PROJECT-${{ github.run_id }}-${{ github.run_attempt }}.
func (s *Spec) Project() string { return s.Name + "-runner" }

func (s *Spec) logGroup() string { return "/aws/codebuild/" + s.Project() }

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !validate.AWSPrefix(s.Name) {
		errs.Add("Name", "is %q: use 2 to 40 lower-case letters, digits and dashes", s.Name)
	}
	errs.Account("AccountID", s.AccountID, "Region", s.Region)
	if !repository.MatchString(s.Repository) {
		errs.Add("Repository", "is %q: use https://github.com/OWNER/NAME", s.Repository)
	}
	switch match := connection.FindStringSubmatch(s.ConnectionARN); {
	case match == nil:
		errs.Add("ConnectionARN", "is %q: create a connection to GitHub in AWS's console, confirm it, and use its ARN, "+
			"arn:aws:codeconnections:REGION:ACCOUNT:connection/ID", s.ConnectionARN)
	case match[1] != s.Region || match[2] != s.AccountID:
		errs.Add("ConnectionARN", "is %s: use a connection of the environment's region and account, %s and %s",
			s.ConnectionARN, s.Region, s.AccountID)
	}
	if !network.ValidLogDays(s.LogDays) {
		errs.Add("LogDays", "is %d, which CloudWatch Logs does not accept: use 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365 or more",
			s.LogDays)
	}
	return errs.Err()
}

func (in Inputs) validate() error {
	var errs validate.Errors
	errs.Input("VPCID", in.VPCID)
	errs.Input("Subnets", in.Subnets)
	errs.Input("ClusterSecurityGroupID", in.ClusterSecurityGroupID)
	errs.Input("KeyARN", in.KeyARN)
	errs.Boundary("PermissionsBoundary", in.PermissionsBoundary)
	return errs.Err()
}

// builder creates a runner's resources.
type builder struct {
	ctx  *pulumi.Context
	name string
	spec *Spec
	in   Inputs
	out  *Runner
}

// New creates the runner, and the rule by which the cluster's API server admits it.
func New(ctx *pulumi.Context, name string, spec *Spec, in Inputs, opts ...pulumi.ResourceOption) (*Runner, error) {
	if err := errors.Join(spec.Validate(), in.validate()); err != nil {
		return nil, fmt.Errorf("runner %s: %w", name, err)
	}
	r := &Runner{}
	return r, component.Register(ctx, "runner", "loja-veloz:runner:Runner", name, r, opts, func() (pulumi.Map, error) {
		b := &builder{ctx: ctx, name: name, spec: spec, in: in, out: r}
		group, err := b.securityGroup()
		if err != nil {
			return nil, err
		}
		logs, err := cloudwatch.NewLogGroup(ctx, name+"-logs", &cloudwatch.LogGroupArgs{
			Name: pulumi.String(spec.logGroup()), RetentionInDays: pulumi.Int(spec.LogDays),
			KmsKeyId: in.KeyARN.ToStringOutput().ToStringPtrOutput(), Tags: b.tags(),
		}, b.child())
		if err != nil {
			return nil, fmt.Errorf("creating the log group: %w", err)
		}
		role, policies, err := identity.NewRole(ctx, r, name, &identity.RoleArgs{
			Name: spec.Project(), Description: "Machines of the runner of " + spec.Name,
			Trust: identity.ServiceTrust("codebuild.amazonaws.com", identity.Condition{
				"StringEquals": {"aws:SourceAccount": {spec.AccountID}},
				"ArnEquals":    {"aws:SourceArn": {fmt.Sprintf("arn:aws:codebuild:%s:%s:project/%s", spec.Region, spec.AccountID, spec.Project())}},
			}),
			Policy:              identity.Runner(spec.AccountID, spec.Region, spec.logGroup(), spec.ConnectionARN),
			PermissionsBoundary: in.PermissionsBoundary,
		})
		if err != nil {
			return nil, err
		}
		project, err := b.project(group, logs, role, policies)
		if err != nil {
			return nil, err
		}
		r.Project = project.Name
		return pulumi.Map{"project": r.Project}, nil
	})
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

func (b *builder) tags() pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(b.spec.Project())}
}

// securityGroup creates the runner's group and the cluster's rule. Nobody reaches a runner, and it
// reaches HTTPS servers alone. Security groups do not filter queries to the VPC's own DNS server.
func (b *builder) securityGroup() (*ec2.SecurityGroup, error) {
	group, err := ec2.NewSecurityGroup(b.ctx, b.name+"-group", &ec2.SecurityGroupArgs{
		Name: pulumi.String(b.spec.Project()), Description: pulumi.String("Jobs of GitHub"),
		VpcId: b.in.VPCID.ToStringOutput().ToStringPtrOutput(),
		Egress: ec2.SecurityGroupEgressArray{ec2.SecurityGroupEgressArgs{
			Description: pulumi.String("GitHub, AWS and registries"), Protocol: pulumi.String("tcp"),
			FromPort: pulumi.Int(https), ToPort: pulumi.Int(https), CidrBlocks: pulumi.ToStringArray([]string{"0.0.0.0/0"}),
		}},
		Tags: b.tags(),
	}, b.child())
	if err != nil {
		return nil, fmt.Errorf("creating the security group: %w", err)
	}
	if _, err := vpc.NewSecurityGroupIngressRule(b.ctx, b.name+"-to-cluster", &vpc.SecurityGroupIngressRuleArgs{
		SecurityGroupId: b.in.ClusterSecurityGroupID, Description: pulumi.String("API server from the runner of GitHub's jobs"),
		ReferencedSecurityGroupId: group.ID().ToStringOutput().ToStringPtrOutput(),
		IpProtocol:                pulumi.String("tcp"), FromPort: pulumi.Int(https), ToPort: pulumi.Int(https), Tags: b.tags(),
	}, b.child()); err != nil {
		return nil, fmt.Errorf("admitting the runner to the cluster: %w", err)
	}
	return group, nil
}

// project creates the project and the webhook by which GitHub tells it of jobs. CodeBuild tries the
// connection with the project's role when the project is created (aws/aws-cdk issue 38504), so the
// role has its policy before.
func (b *builder) project(group *ec2.SecurityGroup, logs *cloudwatch.LogGroup, role *iam.Role,
	policies []pulumi.Resource) (*codebuild.Project, error) {
	project, err := codebuild.NewProject(b.ctx, b.name+"-project", &codebuild.ProjectArgs{
		Name: pulumi.String(b.spec.Project()), Description: pulumi.String("Runs jobs of " + b.spec.Repository),
		ServiceRole: role.Arn, BuildTimeout: pulumi.Int(minutes),
		Source: codebuild.ProjectSourceArgs{
			Type: pulumi.String("GITHUB"), Location: pulumi.String(b.spec.Repository + ".git"), GitCloneDepth: pulumi.Int(1),
			Auth: codebuild.ProjectSourceAuthArgs{Type: pulumi.String("CODECONNECTIONS"), Resource: pulumi.String(b.spec.ConnectionARN)},
		},
		Artifacts: codebuild.ProjectArtifactsArgs{Type: pulumi.String("NO_ARTIFACTS")},
		// Without privileges a job cannot start containers; ko builds images without.
		Environment: codebuild.ProjectEnvironmentArgs{
			Type: pulumi.String("LINUX_CONTAINER"), ComputeType: pulumi.String(machine), Image: pulumi.String(image),
			PrivilegedMode: pulumi.Bool(false),
		},
		VpcConfig: codebuild.ProjectVpcConfigArgs{
			VpcId: b.in.VPCID, Subnets: b.in.Subnets, SecurityGroupIds: pulumi.StringArray{group.ID()},
		},
		LogsConfig: codebuild.ProjectLogsConfigArgs{
			CloudwatchLogs: codebuild.ProjectLogsConfigCloudwatchLogsArgs{GroupName: logs.Name},
		},
		Tags: b.tags(),
	}, b.child(), pulumi.DependsOn(policies))
	if err != nil {
		return nil, fmt.Errorf("creating the project: %w", err)
	}
	// The event has no secret of ours: CodeBuild agrees on one with GitHub.
	if _, err := codebuild.NewWebhook(b.ctx, b.name+"-webhook", &codebuild.WebhookArgs{
		ProjectName: project.Name, BuildType: pulumi.String("BUILD"),
		FilterGroups: codebuild.WebhookFilterGroupArray{codebuild.WebhookFilterGroupArgs{
			Filters: codebuild.WebhookFilterGroupFilterArray{codebuild.WebhookFilterGroupFilterArgs{
				Type: pulumi.String("EVENT"), Pattern: pulumi.String("WORKFLOW_JOB_QUEUED"),
			}},
		}},
	}, b.child()); err != nil {
		return nil, fmt.Errorf("creating the webhook: %w", err)
	}
	return project, nil
}

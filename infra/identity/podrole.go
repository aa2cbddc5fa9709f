package identity

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/validate"
)

// maxRoleName is IAM's limit for the name of a role.
const maxRoleName = 64

var (
	roleName  = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]+$`)
	policyARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[A-Za-z0-9+=,.@_/-]+$`)
)

// PodRoleSpec describes what the pods of one service account may do in AWS.
type PodRoleSpec struct {
	// RoleName is the role's name in IAM, 64 characters at most.
	RoleName string
	// Cluster is the plain name of the only cluster whose pods may assume the role; AccountID and
	// Region complete its ARN. If it is empty, the pods of every cluster of the account may, once
	// the role is associated there.
	Cluster, AccountID, Region string
	// Namespace and ServiceAccount identify the pods that get the role. They need not exist.
	Namespace, ServiceAccount string
	// ManagedPolicies are ARNs of AWS's managed policies.
	ManagedPolicies []string
}

// PodRoleInputs are what other resources produce for a pod role. All fields except Policy are
// required.
type PodRoleInputs struct {
	// ClusterName is the cluster's output, so that the association waits for the cluster.
	ClusterName pulumi.StringInput
	// Policy is the role's inline policy, which may name other resources; empty adds none.
	Policy PolicyDocument
	// PermissionsBoundary is the ARN of the policy that bounds the role.
	PermissionsBoundary string
}

// PodRole is a role and its association with a service account.
type PodRole struct {
	pulumi.ResourceState

	// ARN is the role's ARN. Pods can use the role once Association exists.
	ARN  pulumi.StringOutput
	Name pulumi.StringOutput
	// Association is the association, for which pods have to wait: a pod that starts earlier has
	// no credentials until it is replaced.
	Association pulumi.Resource
}

// Validate reports everything that is wrong with the arguments.
func (s *PodRoleSpec) Validate() error {
	var errs validate.Errors
	switch {
	case !roleName.MatchString(s.RoleName):
		errs.Add("RoleName", "is %q: use letters, digits and +=,.@_-", s.RoleName)
	case len(s.RoleName) > maxRoleName:
		errs.Add("RoleName", "has %d characters: use at most %d", len(s.RoleName), maxRoleName)
	}
	if s.Cluster != "" {
		errs.Account("AccountID", s.AccountID, "Region", s.Region)
	}
	if !validate.DNSLabel(s.Namespace) {
		errs.Add("Namespace", "is %q, which is not the name of a namespace", s.Namespace)
	}
	if !validate.DNSLabel(s.ServiceAccount) {
		errs.Add("ServiceAccount", "is %q, which is not the name of a service account", s.ServiceAccount)
	}
	for i, arn := range s.ManagedPolicies {
		if !policyARN.MatchString(arn) {
			errs.Add(fmt.Sprintf("ManagedPolicies[%d]", i), "is %q, which is not the ARN of a policy", arn)
		}
	}
	return errs.Err()
}

func (in PodRoleInputs) validate(spec *PodRoleSpec) error {
	var errs validate.Errors
	errs.Input("ClusterName", in.ClusterName)
	if !policyARN.MatchString(in.PermissionsBoundary) {
		errs.Add("PermissionsBoundary", "is %q, which is not the ARN of a policy", in.PermissionsBoundary)
	}
	if len(in.Policy.Statement) > 0 {
		if err := in.Policy.Validate(); err != nil {
			errs.Add("Policy", "is refused: %s", err)
		}
	} else if len(spec.ManagedPolicies) == 0 {
		errs.Add("Policy", "is empty, and so is ManagedPolicies: the role could do nothing")
	}
	return errs.Err()
}

// PodTrust lets EKS Pod Identity give a role to pods; with the name of a cluster, only to pods
// of that cluster.
func PodTrust(cluster, account, region string) PolicyDocument {
	statement := Statement{
		Sid: "Pods", Effect: Allow,
		Principal: &Principal{Service: []string{"pods.eks.amazonaws.com"}},
		// The agent tags the session with cluster, namespace and service account.
		Action: []string{"sts:AssumeRole", "sts:TagSession"},
	}
	if cluster != "" {
		statement.Condition = Condition{
			"StringEquals": {"aws:SourceAccount": {account}},
			"ArnEquals":    {"aws:SourceArn": {ClusterARN(account, region, cluster)}},
		}
	}
	return PolicyDocument{Statement: []Statement{statement}}
}

// ServiceTrust lets an AWS service, such as ec2.amazonaws.com, assume a role. condition may be
// nil.
func ServiceTrust(service string, condition Condition) PolicyDocument {
	return PolicyDocument{Statement: []Statement{{
		Sid: "Service", Effect: Allow,
		Principal: &Principal{Service: []string{service}},
		Action:    []string{"sts:AssumeRole"},
		Condition: condition,
	}}}
}

// ClusterARN returns the ARN of an EKS cluster.
func ClusterARN(account, region, cluster string) string {
	return fmt.Sprintf("arn:aws:eks:%s:%s:cluster/%s", region, account, cluster)
}

// NewPodRole creates the role, its policies and, last, its association with the
// service account.
func NewPodRole(ctx *pulumi.Context, name string, spec *PodRoleSpec, in PodRoleInputs,
	opts ...pulumi.ResourceOption) (*PodRole, error) {
	if err := errors.Join(spec.Validate(), in.validate(spec)); err != nil {
		return nil, fmt.Errorf("pod role %s: %w", name, err)
	}
	r := &PodRole{}
	return r, component.Register(ctx, "pod role", "loja-veloz:identity:PodRole", name, r, opts, func() (pulumi.Map, error) {
		role, policies, err := NewRole(ctx, r, name, &RoleArgs{
			Name:                spec.RoleName,
			Description:         fmt.Sprintf("Pods of service account %s in namespace %s", spec.ServiceAccount, spec.Namespace),
			Trust:               PodTrust(spec.Cluster, spec.AccountID, spec.Region),
			Policy:              in.Policy,
			ManagedPolicies:     spec.ManagedPolicies,
			PermissionsBoundary: in.PermissionsBoundary,
		})
		if err != nil {
			return nil, err
		}
		association, err := eks.NewPodIdentityAssociation(ctx, name+"-association", &eks.PodIdentityAssociationArgs{
			ClusterName:    in.ClusterName,
			Namespace:      pulumi.String(spec.Namespace),
			ServiceAccount: pulumi.String(spec.ServiceAccount),
			RoleArn:        role.Arn,
		}, pulumi.Parent(r), pulumi.DependsOn(policies))
		if err != nil {
			return nil, fmt.Errorf("associating the role: %w", err)
		}
		r.ARN, r.Name, r.Association = role.Arn, role.Name, association
		return pulumi.Map{"arn": r.ARN, "name": r.Name}, nil
	})
}

// RoleArgs describes a role of any kind, for NewRole.
type RoleArgs struct {
	Name, Description   string
	Trust               PolicyDocument
	Policy              PolicyDocument
	ManagedPolicies     []string
	PermissionsBoundary string
}

// NewRole creates a role below parent, its inline policy if it has one, and one attachment per
// managed policy. They are called <name>-role, <name>-policy and <name>-managed-<policy>.
// Resources that use the role have to wait for the returned policies too.
func NewRole(ctx *pulumi.Context, parent pulumi.Resource, name string, args *RoleArgs) (*iam.Role, []pulumi.Resource, error) {
	roleArgs := &iam.RoleArgs{
		Name:             pulumi.String(args.Name),
		Description:      pulumi.String(args.Description),
		AssumeRolePolicy: args.Trust.JSON(),
	}
	if args.PermissionsBoundary != "" {
		roleArgs.PermissionsBoundary = pulumi.String(args.PermissionsBoundary)
	}
	role, err := iam.NewRole(ctx, name+"-role", roleArgs, pulumi.Parent(parent))
	if err != nil {
		return nil, nil, fmt.Errorf("creating role %s: %w", args.Name, err)
	}
	var policies []pulumi.Resource
	if len(args.Policy.Statement) > 0 {
		policy, err := iam.NewRolePolicy(ctx, name+"-policy", &iam.RolePolicyArgs{
			Name: pulumi.String(args.Name), Role: role.Name, Policy: args.Policy.JSON(),
		}, pulumi.Parent(parent))
		if err != nil {
			return nil, nil, fmt.Errorf("creating the policy of role %s: %w", args.Name, err)
		}
		policies = append(policies, policy)
	}
	for _, arn := range args.ManagedPolicies {
		attachment, err := iam.NewRolePolicyAttachment(ctx, name+"-managed-"+policyName(arn), &iam.RolePolicyAttachmentArgs{
			Role: role.Name, PolicyArn: pulumi.String(arn),
		}, pulumi.Parent(parent))
		if err != nil {
			return nil, nil, fmt.Errorf("attaching %s to role %s: %w", arn, args.Name, err)
		}
		policies = append(policies, attachment)
	}
	return role, policies, nil
}

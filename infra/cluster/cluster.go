// Package cluster creates an EKS cluster: control plane, managed nodes and the
// add-ons without which nothing else runs.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	awseks "github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-eks/sdk/v2/go/eks"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// adminPolicy and viewPolicy are EKS's access policies; the second shows no secrets.
	adminPolicy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
	viewPolicy  = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"

	// widestAllowed is the prefix length of the widest range that may reach the API server.
	// Without such a limit two /1 ranges would admit the whole internet.
	widestAllowed = 8

	overwrite = "OVERWRITE"
)

// logTypes are all of the control plane's logs.
var logTypes = []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}

// Spec describes a cluster.
type Spec struct {
	// Name is the cluster's name, and the prefix of the names of its roles.
	Name string
	// Version of Kubernetes, one of Versions.
	Version string
	// ExtendedSupport keeps the cluster on a version whose standard support has ended, for more money:
	// see Support. Otherwise EKS upgrades it then. EKS does not take it back before the next upgrade
	// ("Disable EKS extended support" in the EKS user guide).
	ExtendedSupport   bool
	Region, AccountID string

	// PublicAccessCIDRs are the IPv4 ranges that may reach the API server from outside the VPC.
	// With an empty list the API server is private. A range wider than a /8 is refused.
	PublicAccessCIDRs []string
	// Admins and Viewers are ARNs of roles, in addition to those of Inputs. A role can move from one
	// to the other, and out of both.
	Admins, Viewers []string

	// LogDays is how long the control plane's logs are kept; see network.ValidLogDays.
	LogDays int

	Nodes  Nodes
	Addons Addons
	// VolumeDriver installs the EBS CSI driver, which PersistentVolumeClaims need.
	VolumeDriver bool
	// NodeTags are the tags of nodes and their volumes, in addition to Name. Auto Scaling creates
	// both, and the provider's default tags do not reach them.
	NodeTags map[string]string

	// Protect keeps Pulumi from deleting the control plane and its logs. What only gives access, such
	// as access entries, is not protected, so that it can be withdrawn.
	Protect bool
}

// Inputs are what other resources produce for a cluster. All fields except Routes and Viewers
// are required.
type Inputs struct {
	VPCID                         pulumi.StringInput
	PublicSubnets, PrivateSubnets pulumi.StringArrayInput
	// Routes are what nodes need before they can reach AWS: Network.Routes.
	Routes []pulumi.Resource
	// KeyARN is the KMS key of Kubernetes' secrets and of the control plane's logs.
	KeyARN pulumi.StringInput
	// Admins and Viewers are ARNs of roles, in addition to those of Spec; a repeated one counts
	// once. The role that creates the cluster has to be among the Admins of one of them, or it is
	// locked out.
	Admins, Viewers []string
	// Scaling is what the node group has now; nil if there is none, or nobody asked.
	Scaling *Scaling
	// PermissionsBoundary is the ARN of the policy that bounds every role of the cluster.
	PermissionsBoundary string
}

func (in Inputs) validate() error {
	var errs validate.Errors
	errs.Input("VPCID", in.VPCID)
	errs.Input("PublicSubnets", in.PublicSubnets)
	errs.Input("PrivateSubnets", in.PrivateSubnets)
	errs.Input("KeyARN", in.KeyARN)
	errs.Boundary("PermissionsBoundary", in.PermissionsBoundary)
	return errs.Err()
}

// with returns a copy of the spec that contains the roles of the inputs too.
func (s Spec) with(in Inputs) *Spec {
	union := func(roles, more []string) []string {
		all := slices.Clone(roles)
		for _, role := range more {
			if !slices.Contains(all, role) {
				all = append(all, role)
			}
		}
		return all
	}
	s.Admins, s.Viewers = union(s.Admins, in.Admins), union(s.Viewers, in.Viewers)
	return &s
}

// Cluster is an EKS cluster with nodes that are ready for pods.
type Cluster struct {
	pulumi.ResourceState

	Name, Endpoint pulumi.StringOutput
	// SecurityGroupID is the group that EKS creates; the nodes and the control plane are its
	// members.
	SecurityGroupID pulumi.StringOutput
	// CertificateAuthority is in base64.
	CertificateAuthority pulumi.StringOutput
	// Kubeconfig is a secret; see the function of that name.
	Kubeconfig pulumi.StringOutput
	// NodeGroup is the node group. A Kubernetes provider has to depend on it: without nodes no pod
	// runs.
	NodeGroup pulumi.Resource
	// Ready is everything that pods need: nodes, DNS, service routing, volumes.
	Ready []pulumi.Resource
}

var (
	clusterName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,39}$`)
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):role/([A-Za-z0-9+=,.@_/-]+)$`)
)

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !clusterName.MatchString(s.Name) {
		errs.Add("Name", "is %q: use at most 40 letters, digits and dashes, beginning with a letter", s.Name)
	}
	if _, supported := kubernetes[s.Version]; !supported {
		errs.Add("Version", "is %q: supported are %s", s.Version, strings.Join(Versions(), ", "))
	}
	errs.Account("AccountID", s.AccountID, "Region", s.Region)
	for i, cidr := range s.PublicAccessCIDRs {
		if err := validateAllowed(cidr); err != nil {
			errs.Add(fmt.Sprintf("PublicAccessCIDRs[%d]", i), "%s", err)
		}
	}
	s.validateAccess(&errs)
	if !network.ValidLogDays(s.LogDays) {
		errs.Add("LogDays", "is %d, which CloudWatch Logs does not accept: use 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365 or more",
			s.LogDays)
	}
	if err := s.Nodes.validate(s.Version); err != nil {
		errs.Join(err)
	}
	if err := s.Addons.validate(s.Version); err != nil {
		errs.Join(err)
	}
	return errs.Err()
}

// validateAllowed checks a range of the public endpoint's allow-list. EKS refuses private
// ranges too: no caller arrives at the public endpoint from one.
func validateAllowed(cidr string) error {
	prefix, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil:
		return fmt.Errorf("is %q, which is not a range of addresses", cidr)
	case prefix.Bits() == 0:
		return fmt.Errorf("is %s: the API server is not for the whole internet", cidr)
	case !prefix.Addr().Is4():
		return fmt.Errorf("is %s: the endpoint has IPv4 addresses only", cidr)
	case prefix != prefix.Masked():
		return fmt.Errorf("is %s: the range begins at %s", cidr, prefix.Masked().Addr())
	case prefix.Bits() < widestAllowed:
		return fmt.Errorf("is %s: the widest range accepted is a /%d", cidr, widestAllowed)
	case prefix.Addr().IsPrivate() || prefix.Addr().IsLoopback() || prefix.Addr().IsLinkLocalUnicast():
		return fmt.Errorf("is %s: callers from a private range never reach the public endpoint", cidr)
	}
	return nil
}

func (s *Spec) validateAccess(errs *validate.Errors) {
	seen, named := map[string]string{}, map[string]string{}
	for _, list := range []struct {
		field string
		arns  []string
	}{{"Admins", s.Admins}, {"Viewers", s.Viewers}} {
		for i, arn := range list.arns {
			field := fmt.Sprintf("%s[%d]", list.field, i)
			if !roleARN.MatchString(arn) {
				errs.Add(field, "is %q, which is not the ARN of a role", arn)
				continue
			}
			// EKS has one entry per role.
			if other, found := seen[arn]; found {
				errs.Add(field, "repeats %s", other)
			} else if other, found := named[entryName(arn)]; found {
				errs.Add(field, "is %s, whose access entry would have the same name in Pulumi as that of %s, %s: give one of the roles another name",
					arn, other, entryName(arn))
			}
			seen[arn], named[entryName(arn)] = field, arn
		}
	}
}

// entryName names an access entry after its role: <account>-<path and name>.
func entryName(arn string) string {
	match := roleARN.FindStringSubmatch(arn)
	return match[1] + "-" + strings.ReplaceAll(match[2], "/", "-")
}

// association is the name of the policy of every access entry.
const association = "access"

// accessEntries returns the access entries of people and CI, by role: EKS has one entry per role,
// and what the role may do is a property of it. pulumi-eks creates the nodes' entry.
func (s *Spec) accessEntries() map[string]eks.AccessEntryArgs {
	entries := map[string]eks.AccessEntryArgs{}
	add := func(arns []string, policy string, groups pulumi.StringArray) {
		for _, arn := range arns {
			entries[entryName(arn)] = eks.AccessEntryArgs{
				PrincipalArn: pulumi.String(arn), KubernetesGroups: groups,
				AccessPolicies: map[string]eks.AccessPolicyAssociationInput{association: eks.AccessPolicyAssociationArgs{
					PolicyArn:   pulumi.String(policy),
					AccessScope: awseks.AccessPolicyAssociationAccessScopeArgs{Type: pulumi.String("cluster")},
				}},
			}
		}
	}
	add(s.Admins, adminPolicy, nil)
	add(s.Viewers, viewPolicy, pulumi.StringArray{pulumi.String(viewersGroup)})
	return entries
}

// builder creates a cluster's resources in order.
type builder struct {
	ctx      *pulumi.Context
	name     string
	spec     *Spec
	in       Inputs
	out      *Cluster
	nodeRole *iam.Role
	// nodePolicies and network are what nodes need before they start.
	nodePolicies, network []pulumi.Resource
}

// New creates the cluster: control plane, then the network add-ons, nodes, and the
// add-ons that run on them.
func New(ctx *pulumi.Context, name string, spec *Spec, in Inputs, opts ...pulumi.ResourceOption) (*Cluster, error) {
	spec = spec.with(in)
	if err := errors.Join(spec.Validate(), in.validate()); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	c := &Cluster{}
	return c, component.Register(ctx, "cluster", "loja-veloz:cluster:Cluster", name, c, opts, func() (pulumi.Map, error) {
		b := &builder{ctx: ctx, name: name, spec: spec, in: in, out: c}
		for _, step := range []func() error{b.createNodeRole, b.createControlPlane, b.installNetwork, b.createNodes, b.installRest} {
			if err := step(); err != nil {
				return nil, err
			}
		}
		return pulumi.Map{
			"name": c.Name, "endpoint": c.Endpoint, "securityGroupId": c.SecurityGroupID, "kubeconfig": c.Kubeconfig,
		}, nil
	})
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

func (b *builder) tags(part string) pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(b.spec.Name + "-" + part)}
}

func (b *builder) createNodeRole() error {
	args := &identity.RoleArgs{
		Name: b.spec.Name + "-node", Description: "Nodes of cluster " + b.spec.Name,
		Trust:               identity.ServiceTrust("ec2.amazonaws.com", nil),
		ManagedPolicies:     []string{identity.WorkerNodePolicy, identity.ImagePullPolicy},
		PermissionsBoundary: b.in.PermissionsBoundary,
	}
	var err error
	b.nodeRole, b.nodePolicies, err = identity.NewRole(b.ctx, b.out, b.name+"-node", args)
	return err
}

func (b *builder) createControlPlane() error {
	key := b.in.KeyARN.ToStringOutput().ToStringPtrOutput()
	// Otherwise EKS creates this group, without a retention and without the key.
	group, err := cloudwatch.NewLogGroup(b.ctx, b.name+"-logs", &cloudwatch.LogGroupArgs{
		Name:            pulumi.String("/aws/eks/" + b.spec.Name + "/cluster"),
		RetentionInDays: pulumi.Int(b.spec.LogDays),
		KmsKeyId:        key,
		Tags:            b.tags("logs"),
	}, b.child(), pulumi.Protect(b.spec.Protect))
	if err != nil {
		return fmt.Errorf("creating the control plane's log group: %w", err)
	}
	role, policies, err := identity.NewRole(b.ctx, b.out, b.name+"-control-plane", &identity.RoleArgs{
		Name: b.spec.Name + "-control-plane", Description: "Control plane of cluster " + b.spec.Name,
		Trust:               identity.ServiceTrust("eks.amazonaws.com", nil),
		ManagedPolicies:     []string{identity.ClusterPolicy},
		PermissionsBoundary: b.in.PermissionsBoundary,
	})
	if err != nil {
		return err
	}
	// A packaged component does not pass DependsOn on to its children, so DependsOn does not order
	// deletions: a cluster that outlives its role's policy cannot be deleted, and one that
	// outlives its log group creates it again. Dependencies of the cluster's own inputs do order
	// deletions.
	name := group.Name.ApplyT(func(string) string { return b.spec.Name }).(pulumi.StringOutput)
	waits := []any{role}
	for _, policy := range policies {
		if attachment, ok := policy.(*iam.RolePolicyAttachment); ok {
			waits = append(waits, attachment.PolicyArn)
		}
	}
	serviceRole := pulumi.All(waits...).ApplyT(func(resolved []any) (*iam.Role, error) {
		ready, ok := resolved[0].(*iam.Role)
		if !ok {
			return nil, fmt.Errorf("the control plane's role is a %T", resolved[0])
		}
		return ready, nil
	}).(iam.RoleOutput)

	public := len(b.spec.PublicAccessCIDRs) > 0
	mode, off, on := eks.AuthenticationModeApi, false, true
	inputs := &eks.ClusterArgs{
		Name: name, Version: pulumi.String(b.spec.Version),
		VpcId: b.in.VPCID.ToStringOutput(), PublicSubnetIds: b.in.PublicSubnets, PrivateSubnetIds: b.in.PrivateSubnets,
		EndpointPrivateAccess: pulumi.Bool(true), EndpointPublicAccess: pulumi.Bool(public),
		EnabledClusterLogTypes: pulumi.ToStringArray(logTypes),
		EncryptionConfigKeyArn: key,
		AuthenticationMode:     &mode, AccessEntries: b.spec.accessEntries(),
		ServiceRole: serviceRole, InstanceRole: b.nodeRole,
		// Controllers are identified by pod, not by an OIDC provider of the cluster.
		CreateOidcProvider: pulumi.Bool(off),
		// Nodes and the CNI are created below: the defaults of pulumi-eks are for Amazon Linux 2.
		SkipDefaultNodeGroup: &on, UseDefaultVpcCni: &on,
		// Set although it is empty: otherwise the plan depends on AWS_PROFILE.
		ProviderCredentialOpts: eks.KubeconfigOptionsArgs{},
	}
	if public {
		inputs.PublicAccessCidrs = pulumi.ToStringArray(b.spec.PublicAccessCIDRs)
	}
	options := []pulumi.ResourceOption{b.child(), pulumi.DependsOn(slices.Concat([]pulumi.Resource{group}, policies))}
	if !b.ctx.RunningWithMocks() { // mocks run no transforms
		options = append(options, pulumi.Transforms([]pulumi.ResourceTransform{b.corrected}))
	}
	packaged, err := eks.NewCluster(b.ctx, b.name+"-eks", inputs, options...)
	if err != nil {
		return fmt.Errorf("creating the control plane: %w", err)
	}
	b.read(packaged)
	return nil
}

// corrected changes what pulumi-eks has no inputs for.
func (b *builder) corrected(_ context.Context, args *pulumi.ResourceTransformArgs) *pulumi.ResourceTransformResult {
	switch args.Type {
	case "aws:eks/cluster:Cluster":
		// EKS would add an access entry that makes the role which creates the cluster an administrator;
		// it collides with the role's entry among Spec.Admins.
		args.Props["accessConfig"] = pulumi.Map{
			"authenticationMode": pulumi.String("API"), "bootstrapClusterCreatorAdminPermissions": pulumi.Bool(false),
		}
		support := "STANDARD"
		if b.spec.ExtendedSupport {
			support = "EXTENDED"
		}
		args.Props["upgradePolicy"] = pulumi.Map{"supportType": pulumi.String(support)}
		// All children would inherit the component's protection.
		args.Opts.Protect = args.Opts.Protect || b.spec.Protect
	case "aws:eks/accessEntry:AccessEntry", "aws:eks/accessPolicyAssociation:AccessPolicyAssociation":
		args.Opts.Aliases = append(args.Opts.Aliases, b.formerNames(args.Name)...)
	case "pulumi:providers:kubernetes":
		// The component's own Kubernetes providers would hold their kubeconfig in plain text. It contains
		// no credential, but marked as a secret, like ours, it needs no review.
		if kubeconfig := args.Props["kubeconfig"]; kubeconfig != nil {
			args.Props["kubeconfig"] = pulumi.ToSecret(kubeconfig)
		}
	default:
		return nil
	}
	return &pulumi.ResourceTransformResult{Props: args.Props, Opts: args.Opts}
}

// formerNames are the names that an access entry, or the policy of one, had until November 2026:
// with what the role may do in them. A move between admins and viewers then was a second entry for
// the role, which EKS refuses.
func (b *builder) formerNames(name string) []pulumi.Alias {
	prefix := b.name + "-eks-"
	entry, isPolicy := strings.CutSuffix(strings.TrimPrefix(name, prefix), "-"+association)
	var former []pulumi.Alias
	for _, kind := range []string{"admin", "viewer"} {
		old := prefix + kind + "-" + entry
		if isPolicy {
			old += "-" + kind
		}
		former = append(former, pulumi.Alias{Name: pulumi.String(old)})
	}
	return former
}

// read sets the outputs from the component.
func (b *builder) read(packaged *eks.Cluster) {
	property := func(get func(*awseks.Cluster) pulumi.StringOutput) pulumi.StringOutput {
		return packaged.EksCluster.ApplyT(func(created *awseks.Cluster) (pulumi.StringOutput, error) {
			if created == nil {
				return pulumi.StringOutput{}, fmt.Errorf("the component of cluster %s returned no cluster", b.spec.Name)
			}
			return get(created), nil
		}).(pulumi.StringOutput)
	}
	b.out.Name = property(func(created *awseks.Cluster) pulumi.StringOutput { return created.Name })
	b.out.Endpoint = property(func(created *awseks.Cluster) pulumi.StringOutput { return created.Endpoint })
	b.out.CertificateAuthority = property(func(created *awseks.Cluster) pulumi.StringOutput {
		return nested(created, created.CertificateAuthority.Data())
	})
	b.out.SecurityGroupID = property(func(created *awseks.Cluster) pulumi.StringOutput {
		return nested(created, created.VpcConfig.ClusterSecurityGroupId())
	})
	text := pulumi.All(b.out.Endpoint, b.out.CertificateAuthority).ApplyT(func(parts []any) (string, error) {
		endpoint, isText := parts[0].(string)
		authority, alsoText := parts[1].(string)
		if !isText || !alsoText {
			return "", fmt.Errorf("endpoint and certificate authority are a %T and a %T", parts[0], parts[1])
		}
		return Kubeconfig(b.spec.Name, b.spec.Region, endpoint, authority)
	}).(pulumi.StringOutput)
	b.out.Kubeconfig = pulumi.ToSecret(text).(pulumi.StringOutput)
}

// nested reads a field of an object in the control plane's outputs. Before the control plane
// exists, the component returns such an object without its unknown fields, as if they were
// empty. The endpoint does stay unknown, so a result that depends on it is unknown too.
func nested(created *awseks.Cluster, field pulumi.StringPtrOutput) pulumi.StringOutput {
	return pulumi.All(created.Endpoint, field).ApplyT(func(parts []any) string {
		if text, _ := parts[1].(*string); text != nil {
			return *text
		}
		return ""
	}).(pulumi.StringOutput)
}

// podRole creates the role of the add-on's service account in kube-system.
func (b *builder) podRole(addon, serviceAccount, policy string) (pulumi.Resource, error) {
	role, err := identity.NewPodRole(b.ctx, b.name+"-"+addon, &identity.PodRoleSpec{
		RoleName: b.spec.Name + "-" + addon,
		Cluster:  b.spec.Name, AccountID: b.spec.AccountID, Region: b.spec.Region,
		Namespace: "kube-system", ServiceAccount: serviceAccount,
		ManagedPolicies: []string{policy},
	}, identity.PodRoleInputs{ClusterName: b.out.Name, PermissionsBoundary: b.in.PermissionsBoundary}, b.child())
	if err != nil {
		return nil, err
	}
	return role.Association, nil
}

func (b *builder) install(a addon) (pulumi.Resource, error) {
	args := &awseks.AddonArgs{
		ClusterName: b.out.Name, AddonName: pulumi.String(a.name), AddonVersion: pulumi.String(a.version),
		// EKS installs default versions of these add-ons in a new cluster; overwrite them.
		ResolveConflictsOnCreate: pulumi.String(overwrite), ResolveConflictsOnUpdate: pulumi.String(overwrite),
		Tags: b.tags(a.name),
	}
	if a.configuration != "" {
		args.ConfigurationValues = pulumi.String(a.configuration)
	}
	installed, err := awseks.NewAddon(b.ctx, b.name+"-addon-"+a.name, args, b.child(), pulumi.DependsOn(a.after))
	if err != nil {
		return nil, fmt.Errorf("installing %s: %w", a.name, err)
	}
	return installed, nil
}

// installNetwork installs the network add-ons. It runs before the node group: a DaemonSet may
// have zero nodes, but a node without CNI never becomes Ready.
func (b *builder) installNetwork() error {
	versions := b.spec.Addons.or(kubernetes[b.spec.Version].Addons)
	configuration, err := b.spec.Nodes.cniConfiguration()
	if err != nil {
		return err
	}
	association, err := b.podRole("vpc-cni", "aws-node", identity.VPCCNIPolicy)
	if err != nil {
		return err
	}
	for _, a := range []addon{
		{name: "eks-pod-identity-agent", version: versions.PodIdentityAgent},
		{name: "vpc-cni", version: versions.VPCCNI, configuration: configuration, after: []pulumi.Resource{association}},
	} {
		installed, err := b.install(a)
		if err != nil {
			return err
		}
		b.network = append(b.network, installed)
	}
	return nil
}

func (b *builder) createNodes() error {
	userData, err := b.spec.Nodes.UserData()
	if err != nil {
		return err
	}
	nodeTags := b.tags("node")
	for key, value := range b.spec.NodeTags {
		nodeTags[key] = pulumi.String(value)
	}
	var specifications ec2.LaunchTemplateTagSpecificationArray
	for _, resource := range []string{"instance", "volume", "network-interface"} {
		specifications = append(specifications, ec2.LaunchTemplateTagSpecificationArgs{ResourceType: pulumi.String(resource), Tags: nodeTags})
	}
	// Without an ImageId EKS chooses the image for its version and completes the user data.
	template, err := ec2.NewLaunchTemplate(b.ctx, b.name+"-nodes-template", &ec2.LaunchTemplateArgs{
		Name: pulumi.String(b.spec.Name + "-nodes"), UpdateDefaultVersion: pulumi.Bool(true),
		UserData: pulumi.String(userData), EbsOptimized: pulumi.String("true"),
		// Pods are one hop further away than the node, so they cannot use the node's role.
		MetadataOptions: ec2.LaunchTemplateMetadataOptionsArgs{
			HttpEndpoint: pulumi.String("enabled"), HttpTokens: pulumi.String("required"), HttpPutResponseHopLimit: pulumi.Int(1),
		},
		BlockDeviceMappings: ec2.LaunchTemplateBlockDeviceMappingArray{ec2.LaunchTemplateBlockDeviceMappingArgs{
			DeviceName: pulumi.String("/dev/xvda"),
			// Encrypted with AWS's own EBS key: the policy of another key would have to admit Auto
			// Scaling.
			Ebs: ec2.LaunchTemplateBlockDeviceMappingEbsArgs{
				Encrypted: pulumi.String("true"), VolumeType: pulumi.String("gp3"), VolumeSize: pulumi.Int(int(b.spec.Nodes.DiskGiB)),
				DeleteOnTermination: pulumi.String("true"),
			},
		}},
		TagSpecifications: specifications, Tags: b.tags("nodes"),
	}, b.child())
	if err != nil {
		return fmt.Errorf("creating the nodes' launch template: %w", err)
	}
	version := template.LatestVersion.ApplyT(func(number int) string { return fmt.Sprint(number) }).(pulumi.StringOutput)
	tags := b.tags("nodes")
	// The autoscaler finds Auto Scaling groups by these tags. EKS sets them on the groups itself;
	// on the node group they only inform people.
	tags["k8s.io/cluster-autoscaler/enabled"] = pulumi.String("true")
	tags["k8s.io/cluster-autoscaler/"+b.spec.Name] = pulumi.String("owned")
	// Pulumi chooses the group's name: nothing refers to it, and when machines or disks change,
	// the new group can be created before the old one is deleted.
	scaling, ignored := b.spec.Nodes.scaling(b.in.Scaling)
	args := &awseks.NodeGroupArgs{
		ClusterName: b.out.Name, NodeRoleArn: b.nodeRole.Arn, SubnetIds: b.in.PrivateSubnets,
		AmiType: pulumi.String(b.spec.Nodes.amiType()), Version: pulumi.String(b.spec.Version),
		InstanceTypes:  pulumi.StringArray{pulumi.String(b.spec.Nodes.InstanceType)},
		LaunchTemplate: awseks.NodeGroupLaunchTemplateArgs{Id: template.ID(), Version: version},
		ScalingConfig: awseks.NodeGroupScalingConfigArgs{
			MinSize: pulumi.Int(int(scaling.Min)), MaxSize: pulumi.Int(int(scaling.Max)), DesiredSize: pulumi.Int(int(scaling.Desired)),
		},
		UpdateConfig:     awseks.NodeGroupUpdateConfigArgs{MaxUnavailable: pulumi.Int(1)},
		NodeRepairConfig: awseks.NodeGroupNodeRepairConfigArgs{Enabled: pulumi.Bool(true)},
		Tags:             tags,
	}
	if b.spec.Nodes.Release != "" {
		args.ReleaseVersion = pulumi.String(b.spec.Nodes.Release)
	}
	group, err := awseks.NewNodeGroup(b.ctx, NodeGroup(b.name), args, b.child(),
		pulumi.DependsOn(slices.Concat(b.network, b.nodePolicies, b.in.Routes)), pulumi.IgnoreChanges(ignored))
	if err != nil {
		return fmt.Errorf("creating the node group: %w", err)
	}
	b.out.NodeGroup, b.out.Ready = group, append(slices.Clone(b.network), group)
	return nil
}

// installRest installs the add-ons that run on nodes. It runs after the node group: EKS reports
// an add-on without a running pod as degraded.
func (b *builder) installRest() error {
	versions := b.spec.Addons.or(kubernetes[b.spec.Version].Addons)
	nodes := []pulumi.Resource{b.out.NodeGroup}
	addons := []addon{
		{name: "coredns", version: versions.CoreDNS, after: nodes},
		{name: "kube-proxy", version: versions.KubeProxy, after: nodes},
	}
	if b.spec.VolumeDriver {
		role, err := b.podRole("ebs-csi", "ebs-csi-controller-sa", identity.EBSCSIPolicy)
		if err != nil {
			return err
		}
		addons = append(addons, addon{name: "aws-ebs-csi-driver", version: versions.EBSCSI, after: append(nodes[:1:1], role)})
	}
	for _, a := range addons {
		installed, err := b.install(a)
		if err != nil {
			return err
		}
		b.out.Ready = append(b.out.Ready, installed)
	}
	return nil
}

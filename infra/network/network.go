// Package network creates the VPC of an environment: public, private and isolated database
// subnets in three zones, NAT gateways, endpoints of AWS's services, and flow logs.
package network

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/validate"
)

// Spec describes a network.
type Spec struct {
	// Name is the prefix of the names of all resources, such as loja-veloz-dev.
	Name              string
	Region, AccountID string
	// CIDR is the VPC's range, a /16 or /17; see Plan.
	CIDR string
	// Taken are the ranges of networks to which this one may be connected later; CIDR may not
	// overlap them.
	Taken []string
	// Zones are the three availability zones. They are not read from AWS, whose answer could
	// change and replace every subnet.
	Zones []string
	// NATPerZone creates a NAT gateway in each zone instead of one in the first. It costs three
	// times as much, and the failure of a zone does not affect the others.
	NATPerZone bool
	// InterfaceEndpoints are AWS services, by short name such as ecr.api, that are reached without
	// NAT, for a price per zone and hour. S3 always has an endpoint, which is free.
	InterfaceEndpoints []string
	// FlowLogDays is how long flow logs are kept; see ValidLogDays.
	FlowLogDays int
	// ClusterName is the EKS cluster that finds its subnets by tag.
	ClusterName string
	// Protect keeps Pulumi from deleting or replacing the VPC, which contains everything else.
	Protect bool
}

// Inputs are what other resources produce for a network. All fields are required.
type Inputs struct {
	// KeyARN is the KMS key of the flow logs; its policy has to admit CloudWatch Logs.
	KeyARN pulumi.StringInput
	// PermissionsBoundary is the ARN of the policy that bounds the flow logs' role.
	PermissionsBoundary string
}

func (in Inputs) validate() error {
	var errs validate.Errors
	errs.Input("KeyARN", in.KeyARN)
	errs.Boundary("PermissionsBoundary", in.PermissionsBoundary)
	return errs.Err()
}

// Network is the VPC. Its subnets are in the order of Spec.Zones.
type Network struct {
	pulumi.ResourceState

	VPCID           pulumi.StringOutput
	PublicSubnets   pulumi.StringArrayOutput
	PrivateSubnets  pulumi.StringArrayOutput
	DatabaseSubnets pulumi.StringArrayOutput
	// NATGateways are the ids of the NAT gateways: one, or one per zone.
	NATGateways []pulumi.StringOutput
	// EndpointSecurityGroup is the group of the interface endpoints.
	EndpointSecurityGroup pulumi.StringOutput
	// Routes are the resources that the private subnets need to reach AWS. Nodes have to wait for
	// them: nodes that start earlier fail to join their cluster. Pulumi deletes them after
	// everything that waits for them.
	Routes []pulumi.Resource
}

// endpointServices are the services that may have an interface endpoint.
var endpointServices = []string{
	"autoscaling", "ec2", "ec2messages", "ecr.api", "ecr.dkr", "eks", "eks-auth", "elasticloadbalancing", "kms",
	"logs", "monitoring", "rds", "secretsmanager", "ssm", "ssmmessages", "sts", "xray",
}

// logDays are the retentions, in days, that CloudWatch Logs accepts
// (PutRetentionPolicy in its API reference).
var logDays = []int{
	1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
}

// ValidLogDays tells whether CloudWatch Logs can keep logs for so many days.
func ValidLogDays(days int) bool { return slices.Contains(logDays, days) }

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
)

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !validate.AWSPrefix(s.Name) {
		errs.Add("Name", "is %q: use 2 to 40 lower-case letters, digits and dashes", s.Name)
	}
	errs.Account("AccountID", s.AccountID, "Region", s.Region)
	if !clusterName.MatchString(s.ClusterName) {
		errs.Add("ClusterName", "is %q: use at most 100 letters, digits, dashes and underscores, beginning with a letter or a digit",
			s.ClusterName)
	}
	for i, zone := range s.Zones {
		field := fmt.Sprintf("Zones[%d]", i)
		if letter, found := strings.CutPrefix(zone, s.Region); !found || len(letter) != 1 || letter < "a" || letter > "z" {
			errs.Add(field, "is %q, which is not a zone of %s", zone, s.Region)
		}
		if slices.Contains(s.Zones[:i], zone) {
			errs.Add(field, "repeats %s", zone)
		}
	}
	if _, err := Plan(s.CIDR, s.Zones, s.Taken...); err != nil {
		errs.Join(err)
	}
	for i, service := range s.InterfaceEndpoints {
		field := fmt.Sprintf("InterfaceEndpoints[%d]", i)
		if !slices.Contains(endpointServices, service) {
			errs.Add(field, "is %q: known are %s", service, strings.Join(endpointServices, ", "))
		}
		if slices.Contains(s.InterfaceEndpoints[:i], service) {
			errs.Add(field, "repeats %s", service)
		}
	}
	if !ValidLogDays(s.FlowLogDays) {
		errs.Add("FlowLogDays", "is %d: CloudWatch Logs accepts only %v", s.FlowLogDays, logDays)
	}
	return errs.Err()
}

// builder creates a network's resources; the first error stops it.
type builder struct {
	ctx  *pulumi.Context
	name string
	spec *Spec
	in   Inputs
	out  *Network
	vpc  *ec2.Vpc
}

// New creates the network.
func New(ctx *pulumi.Context, name string, spec *Spec, in Inputs, opts ...pulumi.ResourceOption) (*Network, error) {
	if err := errors.Join(spec.Validate(), in.validate()); err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	zones, err := Plan(spec.CIDR, spec.Zones, spec.Taken...)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", name, err)
	}
	n := &Network{}
	return n, component.Register(ctx, "network", "loja-veloz:network:Network", name, n, opts, func() (pulumi.Map, error) {
		b := &builder{ctx: ctx, name: name, spec: spec, in: in, out: n}
		for _, step := range []func() error{
			b.createVPC,
			b.createFlowLogs,
			func() error { return b.createSubnets(zones) },
		} {
			if err := step(); err != nil {
				return nil, err
			}
		}
		return pulumi.Map{
			"vpcId": n.VPCID, "publicSubnets": n.PublicSubnets, "privateSubnets": n.PrivateSubnets, "databaseSubnets": n.DatabaseSubnets,
		}, nil
	})
}

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

// tags names a resource after the environment and its part.
func (b *builder) tags(part string) pulumi.StringMap {
	return pulumi.StringMap{"Name": pulumi.String(b.spec.Name + "-" + part)}
}

func (b *builder) createVPC() error {
	network, err := ec2.NewVpc(b.ctx, b.name+"-vpc", &ec2.VpcArgs{
		CidrBlock: pulumi.String(b.spec.CIDR),
		// The private DNS names of endpoints, RDS and nodes need both.
		EnableDnsSupport: pulumi.Bool(true), EnableDnsHostnames: pulumi.Bool(true),
		Tags: b.tags("vpc"),
	}, b.child(), pulumi.Protect(b.spec.Protect))
	if err != nil {
		return fmt.Errorf("creating the VPC: %w", err)
	}
	b.vpc, b.out.VPCID = network, network.ID().ToStringOutput()
	// The default group gets no rules: an instance that is started without a group reaches
	// nothing.
	if _, err := ec2.NewDefaultSecurityGroup(b.ctx, b.name+"-default", &ec2.DefaultSecurityGroupArgs{
		VpcId: network.ID(), Tags: b.tags("default-locked"),
	}, b.child()); err != nil {
		return fmt.Errorf("removing the rules of the default security group: %w", err)
	}
	return nil
}

func (b *builder) createFlowLogs() error {
	groupName := "/aws/vpc/" + b.spec.Name + "/flow-logs"
	group, err := cloudwatch.NewLogGroup(b.ctx, b.name+"-flow-logs", &cloudwatch.LogGroupArgs{
		Name:            pulumi.String(groupName),
		RetentionInDays: pulumi.Int(b.spec.FlowLogDays),
		KmsKeyId:        b.in.KeyARN.ToStringOutput().ToStringPtrOutput(),
		Tags:            b.tags("flow-logs"),
	}, b.child())
	if err != nil {
		return fmt.Errorf("creating the flow logs' group: %w", err)
	}
	groupARN := fmt.Sprintf("arn:aws:logs:%s:%s:log-group:%s", b.spec.Region, b.spec.AccountID, groupName)
	role, policies, err := identity.NewRole(b.ctx, b.out, b.name+"-flow-logs", &identity.RoleArgs{
		Name:        b.spec.Name + "-flow-logs",
		Description: "VPC flow logs to their group",
		Trust: identity.ServiceTrust("vpc-flow-logs.amazonaws.com",
			identity.Is(map[string]string{"aws:SourceAccount": b.spec.AccountID})),
		// The log group exists, so the role needs no permission to create one.
		Policy: identity.PolicyDocument{Statement: []identity.Statement{{
			Sid: "Write", Effect: identity.Allow,
			Action:   []string{"logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams", "logs:PutLogEvents"},
			Resource: identity.ARNs(groupARN, groupARN+":*"),
		}}},
		PermissionsBoundary: b.in.PermissionsBoundary,
	})
	if err != nil {
		return err
	}
	if _, err := ec2.NewFlowLog(b.ctx, b.name+"-flow-log", &ec2.FlowLogArgs{
		VpcId: b.vpc.ID(), TrafficType: pulumi.String("ALL"),
		LogDestinationType: pulumi.String("cloud-watch-logs"), LogDestination: group.Arn,
		IamRoleArn: role.Arn, MaxAggregationInterval: pulumi.Int(600),
		Tags: b.tags("flow-log"),
	}, b.child(), pulumi.DependsOn(policies)); err != nil {
		return fmt.Errorf("turning flow logs on: %w", err)
	}
	return nil
}

// kind is one of the three kinds of subnets.
type kind struct {
	name string
	cidr func(Zone) string
	tags map[string]string
}

func (b *builder) createSubnets(zones []Zone) error {
	// The load balancer controller finds subnets by these tags. No subnet, including the public
	// ones, assigns public addresses to instances: NAT gateways and load balancers have their own.
	shared := "kubernetes.io/cluster/" + b.spec.ClusterName
	public, err := b.subnets(zones, kind{name: "public", cidr: func(z Zone) string { return z.Public.String() },
		tags: map[string]string{"kubernetes.io/role/elb": "1", shared: "shared"}})
	if err != nil {
		return err
	}
	privates, err := b.subnets(zones, kind{name: "private", cidr: func(z Zone) string { return z.Private.String() },
		tags: map[string]string{"kubernetes.io/role/internal-elb": "1", shared: "shared"}})
	if err != nil {
		return err
	}
	databases, err := b.subnets(zones, kind{name: "database", cidr: func(z Zone) string { return z.Database.String() }})
	if err != nil {
		return err
	}
	b.out.PublicSubnets, b.out.PrivateSubnets, b.out.DatabaseSubnets = ids(public), ids(privates), ids(databases)

	nats, err := b.createPublicRoutes(zones, public)
	if err != nil {
		return err
	}
	tables, err := b.createPrivateRoutes(zones, privates, nats)
	if err != nil {
		return err
	}
	// The database's subnets have no default route, so nothing in them reaches the internet.
	isolated, err := b.table("database", zones, databases)
	if err != nil {
		return err
	}
	return b.createEndpoints(append(tables, isolated), privates)
}

func (b *builder) subnets(zones []Zone, k kind) ([]*ec2.Subnet, error) {
	created := make([]*ec2.Subnet, len(zones))
	for i, zone := range zones {
		part := k.name + "-" + b.letter(zone)
		tags := b.tags(part)
		for key, value := range k.tags {
			tags[key] = pulumi.String(value)
		}
		subnet, err := ec2.NewSubnet(b.ctx, b.name+"-"+part, &ec2.SubnetArgs{
			VpcId: b.vpc.ID(), CidrBlock: pulumi.String(k.cidr(zone)), AvailabilityZone: pulumi.String(zone.Name),
			MapPublicIpOnLaunch: pulumi.Bool(false), Tags: tags,
		}, b.child())
		if err != nil {
			return nil, fmt.Errorf("creating subnet %s: %w", part, err)
		}
		created[i] = subnet
	}
	return created, nil
}

// letter returns the letter of a zone within its region.
func (b *builder) letter(zone Zone) string { return strings.TrimPrefix(zone.Name, b.spec.Region) }

// table creates a route table and associates subnets with it.
func (b *builder) table(part string, zones []Zone, subnets []*ec2.Subnet) (*ec2.RouteTable, error) {
	table, err := ec2.NewRouteTable(b.ctx, b.name+"-"+part+"-routes", &ec2.RouteTableArgs{VpcId: b.vpc.ID(), Tags: b.tags(part)}, b.child())
	if err != nil {
		return nil, fmt.Errorf("creating the %s route table: %w", part, err)
	}
	for i, subnet := range subnets {
		association := b.name + "-" + part + "-association"
		if len(subnets) > 1 {
			association += "-" + b.letter(zones[i])
		}
		associated, err := ec2.NewRouteTableAssociation(b.ctx, association, &ec2.RouteTableAssociationArgs{
			RouteTableId: table.ID(), SubnetId: subnet.ID(),
		}, b.child())
		if err != nil {
			return nil, fmt.Errorf("associating the %s route table: %w", part, err)
		}
		b.out.Routes = append(b.out.Routes, associated)
	}
	return table, nil
}

func (b *builder) createPublicRoutes(zones []Zone, public []*ec2.Subnet) ([]*ec2.NatGateway, error) {
	internet, err := ec2.NewInternetGateway(b.ctx, b.name+"-internet", &ec2.InternetGatewayArgs{VpcId: b.vpc.ID(), Tags: b.tags("internet")},
		b.child())
	if err != nil {
		return nil, fmt.Errorf("creating the internet gateway: %w", err)
	}
	table, err := b.table("public", zones, public)
	if err != nil {
		return nil, err
	}
	route, err := ec2.NewRoute(b.ctx, b.name+"-public-default", &ec2.RouteArgs{
		RouteTableId: table.ID(), DestinationCidrBlock: pulumi.String("0.0.0.0/0"), GatewayId: internet.ID(),
	}, b.child())
	if err != nil {
		return nil, fmt.Errorf("routing the public subnets to the internet: %w", err)
	}
	b.out.Routes = append(b.out.Routes, route)
	count := 1
	if b.spec.NATPerZone {
		count = len(zones)
	}
	nats := make([]*ec2.NatGateway, count)
	for i := range nats {
		part := "nat-" + b.letter(zones[i])
		address, err := ec2.NewEip(b.ctx, b.name+"-"+part+"-address", &ec2.EipArgs{Domain: pulumi.String("vpc"), Tags: b.tags(part)}, b.child())
		if err != nil {
			return nil, fmt.Errorf("reserving the address of %s: %w", part, err)
		}
		// A NAT gateway fails to start without a route to the internet.
		nats[i], err = ec2.NewNatGateway(b.ctx, b.name+"-"+part, &ec2.NatGatewayArgs{
			AllocationId: address.ID(), SubnetId: public[i].ID(), Tags: b.tags(part),
		}, b.child(), pulumi.DependsOn([]pulumi.Resource{internet, route}))
		if err != nil {
			return nil, fmt.Errorf("creating %s: %w", part, err)
		}
		b.out.NATGateways = append(b.out.NATGateways, nats[i].ID().ToStringOutput())
	}
	return nats, nil
}

func (b *builder) createPrivateRoutes(zones []Zone, privates []*ec2.Subnet, nats []*ec2.NatGateway) ([]*ec2.RouteTable, error) {
	tables := make([]*ec2.RouteTable, len(zones))
	for i, zone := range zones {
		part := "private-" + b.letter(zone)
		table, err := b.table(part, zones[i:i+1], privates[i:i+1])
		if err != nil {
			return nil, err
		}
		route, err := ec2.NewRoute(b.ctx, b.name+"-"+part+"-default", &ec2.RouteArgs{
			RouteTableId: table.ID(), DestinationCidrBlock: pulumi.String("0.0.0.0/0"), NatGatewayId: nats[min(i, len(nats)-1)].ID(),
		}, b.child())
		if err != nil {
			return nil, fmt.Errorf("routing %s to its NAT gateway: %w", part, err)
		}
		b.out.Routes = append(b.out.Routes, route)
		tables[i] = table
	}
	return tables, nil
}

func (b *builder) createEndpoints(tables []*ec2.RouteTable, privates []*ec2.Subnet) error {
	service := func(short string) pulumi.String { return pulumi.String("com.amazonaws." + b.spec.Region + "." + short) }
	tableIDs := make(pulumi.StringArray, len(tables))
	for i, table := range tables {
		tableIDs[i] = table.ID()
	}
	// The layers of ECR's images come from S3.
	if _, err := ec2.NewVpcEndpoint(b.ctx, b.name+"-endpoint-s3", &ec2.VpcEndpointArgs{
		VpcId: b.vpc.ID(), ServiceName: service("s3"), VpcEndpointType: pulumi.String("Gateway"),
		RouteTableIds: tableIDs, Tags: b.tags("endpoint-s3"),
	}, b.child()); err != nil {
		return fmt.Errorf("creating the endpoint of s3: %w", err)
	}
	group, err := ec2.NewSecurityGroup(b.ctx, b.name+"-endpoints", &ec2.SecurityGroupArgs{
		Name: pulumi.String(b.spec.Name + "-endpoints"), Description: pulumi.String("Endpoints of AWS services"),
		VpcId: b.vpc.ID(), Tags: b.tags("endpoints"),
	}, b.child())
	if err != nil {
		return fmt.Errorf("creating the endpoints' security group: %w", err)
	}
	b.out.EndpointSecurityGroup = group.ID().ToStringOutput()
	if _, err := vpc.NewSecurityGroupIngressRule(b.ctx, b.name+"-endpoints-https", &vpc.SecurityGroupIngressRuleArgs{
		SecurityGroupId: group.ID(), Description: pulumi.String("HTTPS from the VPC"), IpProtocol: pulumi.String("tcp"),
		FromPort: pulumi.Int(443), ToPort: pulumi.Int(443), CidrIpv4: pulumi.String(b.spec.CIDR), Tags: b.tags("endpoints-https"),
	}, b.child()); err != nil {
		return fmt.Errorf("admitting the VPC to the endpoints: %w", err)
	}
	for _, short := range b.spec.InterfaceEndpoints {
		part := "endpoint-" + strings.ReplaceAll(short, ".", "-")
		if _, err := ec2.NewVpcEndpoint(b.ctx, b.name+"-"+part, &ec2.VpcEndpointArgs{
			VpcId: b.vpc.ID(), ServiceName: service(short), VpcEndpointType: pulumi.String("Interface"),
			SubnetIds: stringArray(privates), SecurityGroupIds: pulumi.StringArray{group.ID()},
			PrivateDnsEnabled: pulumi.Bool(true), Tags: b.tags(part),
		}, b.child()); err != nil {
			return fmt.Errorf("creating the endpoint of %s: %w", short, err)
		}
	}
	return nil
}

func stringArray(subnets []*ec2.Subnet) pulumi.StringArray {
	array := make(pulumi.StringArray, len(subnets))
	for i, subnet := range subnets {
		array[i] = subnet.ID()
	}
	return array
}

func ids(subnets []*ec2.Subnet) pulumi.StringArrayOutput {
	return stringArray(subnets).ToStringArrayOutput()
}

package network_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/network"
)

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

func args() *network.Spec {
	return &network.Spec{
		Name: "loja-veloz-dev", Region: "us-east-1", AccountID: "123456789012",
		CIDR: "10.20.0.0/16", Taken: []string{"10.30.0.0/16"}, Zones: zones,
		InterfaceEndpoints: []string{"ecr.api", "sts"}, FlowLogDays: 30,
		ClusterName: "loja-veloz-dev",
	}
}

func inputs() network.Inputs {
	return network.Inputs{
		KeyARN:              pulumi.String("arn:aws:kms:us-east-1:123456789012:key/k"),
		PermissionsBoundary: "arn:aws:iam::123456789012:policy/loja-veloz-boundary",
	}
}

func TestPlan(t *testing.T) {
	got, err := network.Plan("10.20.0.0/16", zones, "10.30.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	want := []network.Zone{
		{Name: "us-east-1a", Private: netip.MustParsePrefix("10.20.0.0/19"), Public: netip.MustParsePrefix("10.20.96.0/24"),
			Database: netip.MustParsePrefix("10.20.104.0/24")},
		{Name: "us-east-1b", Private: netip.MustParsePrefix("10.20.32.0/19"), Public: netip.MustParsePrefix("10.20.97.0/24"),
			Database: netip.MustParsePrefix("10.20.105.0/24")},
		{Name: "us-east-1c", Private: netip.MustParsePrefix("10.20.64.0/19"), Public: netip.MustParsePrefix("10.20.98.0/24"),
			Database: netip.MustParsePrefix("10.20.106.0/24")},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// The subnets of every accepted range are in it and do not overlap.
func TestPlannedSubnetsAreDisjoint(t *testing.T) {
	for _, cidr := range []string{"10.0.0.0/16", "10.0.128.0/17", "172.16.0.0/16", "172.31.128.0/17", "192.168.0.0/17", "192.168.0.0/16",
		"100.127.0.0/16", "10.255.0.0/16"} {
		planned, err := network.Plan(cidr, zones)
		if err != nil {
			t.Errorf("%s: %v", cidr, err)
			continue
		}
		whole := netip.MustParsePrefix(cidr)
		var seen []netip.Prefix
		for _, zone := range planned {
			for _, subnet := range []netip.Prefix{zone.Public, zone.Private, zone.Database} {
				if !whole.Contains(subnet.Addr()) || subnet != subnet.Masked() {
					t.Errorf("%s: %s is not a part of it", cidr, subnet)
				}
				for _, other := range seen {
					if subnet.Overlaps(other) {
						t.Errorf("%s: %s overlaps %s", cidr, subnet, other)
					}
				}
				seen = append(seen, subnet)
			}
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for cidr, want := range map[string]string{
		"":                "not an IPv4 range",
		"fd00::/16":       "not an IPv4 range",
		"10.0.1.0/16":     "begins at 10.0.0.0",
		"10.0.0.0/18":     "too small",
		"10.0.0.0/15":     "too large",
		"8.8.0.0/16":      "not private",
		"172.17.0.0/16":   "overlaps 172.17.0.0/16",
		"172.20.128.0/17": "overlaps 172.20.0.0/16",
		"10.100.0.0/16":   "overlaps 10.100.0.0/16",
		"10.30.128.0/17":  "overlaps 10.30.0.0/16 (Taken[0])",
	} {
		_, err := network.Plan(cidr, zones, "10.30.0.0/16")
		infratest.Refused(t, err, want)
	}
	_, err := network.Plan("10.0.0.0/16", zones[:2], "nonsense")
	infratest.Refused(t, err, "Zones has 2", "Taken[0]")
}

// refused returns the error of New.
func refused(spec *network.Spec, in network.Inputs) error {
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := network.New(ctx, "net", spec, in)
		return err
	})
	return err
}

func TestValidateReportsAllErrorsAtOnce(t *testing.T) {
	err := refused(&network.Spec{
		Name: "X", Region: "mars", AccountID: "12", CIDR: "10.0.0.0/24", Zones: []string{"us-east-1a", "us-east-1a"},
		InterfaceEndpoints: []string{"ecr", "sts", "sts"}, FlowLogDays: 31,
	}, network.Inputs{PermissionsBoundary: "b"})
	infratest.Refused(t, err,
		`Name is "X"`, "Region is", "AccountID is", "ClusterName is", "Zones[0] is", "Zones[1] repeats", "Zones has 2", "too small",
		"InterfaceEndpoints[0]", "InterfaceEndpoints[2] repeats sts", "FlowLogDays is 31", "KeyARN is missing", "PermissionsBoundary")
	if err := args().Validate(); err != nil {
		t.Errorf("a valid spec is refused: %v", err)
	}
}

func run(t *testing.T, s *network.Spec) *infratest.Recorder {
	t.Helper()
	return infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := network.New(ctx, "net", s, inputs())
		return err
	})
}

func ofType(r *infratest.Recorder, token string) []infratest.Resource {
	return slices.DeleteFunc(r.Resources(), func(found infratest.Resource) bool { return found.Type != token })
}

func TestNetwork(t *testing.T) {
	recorder := run(t, args())
	for token, want := range map[string]int{
		"aws:ec2/vpc:Vpc": 1, "aws:ec2/subnet:Subnet": 9, "aws:ec2/natGateway:NatGateway": 1, "aws:ec2/routeTable:RouteTable": 5,
		"aws:ec2/routeTableAssociation:RouteTableAssociation": 9, "aws:ec2/route:Route": 4, "aws:ec2/vpcEndpoint:VpcEndpoint": 3,
		"aws:ec2/flowLog:FlowLog": 1, "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": 1,
	} {
		if got := len(ofType(recorder, token)); got != want {
			t.Errorf("%d of %s, want %d", got, token, want)
		}
	}
	for _, subnet := range ofType(recorder, "aws:ec2/subnet:Subnet") {
		tags, _ := subnet.Inputs["tags"].(map[string]any)
		_, shared := tags["kubernetes.io/cluster/loja-veloz-dev"]
		public, internal := tags["kubernetes.io/role/elb"] == "1", tags["kubernetes.io/role/internal-elb"] == "1"
		wantPublic, wantInternal := strings.Contains(subnet.Name, "-public-"), strings.Contains(subnet.Name, "-private-")
		if public != wantPublic || internal != wantInternal || shared != (wantPublic || wantInternal) {
			t.Errorf("%s is tagged %v", subnet.Name, tags)
		}
		if subnet.Inputs["mapPublicIpOnLaunch"] != false {
			t.Errorf("%s assigns public addresses", subnet.Name)
		}
	}
	// Only the public table routes to the internet, and the database's has no route.
	for _, route := range ofType(recorder, "aws:ec2/route:Route") {
		public := route.Name == "net-public-default"
		if (route.Inputs["gatewayId"] != nil) != public || (route.Inputs["natGatewayId"] == "net-nat-a-id") == public ||
			route.Inputs["routeTableId"] == "net-database-routes-id" {
			t.Errorf("%s is %v", route.Name, route.Inputs)
		}
	}
	locked := recorder.Named(t, "net-default")
	if locked.Inputs["ingress"] != nil || locked.Inputs["egress"] != nil {
		t.Errorf("the default security group has rules: %v", locked.Inputs)
	}
	group := recorder.Named(t, "net-flow-logs")
	if group.Inputs["retentionInDays"] != 30.0 || group.Inputs["kmsKeyId"] != "arn:aws:kms:us-east-1:123456789012:key/k" {
		t.Errorf("the flow logs' group is %v", group.Inputs)
	}
	if policy := recorder.Named(t, "net-flow-logs-policy").Inputs["policy"].(string); strings.Contains(policy, `"*"`) {
		t.Errorf("the flow logs' role may write anywhere: %s", policy)
	}
	if tables := recorder.Named(t, "net-endpoint-s3").Inputs["routeTableIds"].([]any); len(tables) != 4 {
		t.Errorf("S3 is reached from %v", tables)
	}
	if endpoint := recorder.Named(t, "net-endpoint-ecr-api").Inputs; endpoint["serviceName"] != "com.amazonaws.us-east-1.ecr.api" ||
		endpoint["privateDnsEnabled"] != true {
		t.Errorf("the endpoint of ECR is %v", endpoint)
	}
	if rule := recorder.Named(t, "net-endpoints-https").Inputs; rule["cidrIpv4"] != "10.20.0.0/16" || rule["fromPort"] != 443.0 ||
		rule["toPort"] != 443.0 {
		t.Errorf("endpoints admit %v", rule)
	}
	recorder.InOrder(t, map[string][]string{
		"net-nat-a": {"net-internet", "net-public-default"}, "net-flow-log": {"net-flow-logs-policy"},
	})
}

func TestNATPerZone(t *testing.T) {
	a := args()
	a.NATPerZone = true
	recorder := run(t, a)
	for _, letter := range []string{"a", "b", "c"} {
		if nat := recorder.Named(t, "net-nat-"+letter).Inputs["subnetId"]; nat != "net-public-"+letter+"-id" {
			t.Errorf("the NAT gateway of zone %s is in %v", letter, nat)
		}
		if route := recorder.Named(t, "net-private-"+letter+"-default").Inputs["natGatewayId"]; route != "net-nat-"+letter+"-id" {
			t.Errorf("zone %s routes to %v", letter, route)
		}
	}
}

package awscheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	route53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
)

// Quotas, by the codes that Service Quotas lists for ec2 and vpc. A new account has 5 of each.
const (
	cpuQuota     = "L-1216C47A" // vCPUs of running on-demand standard instances (A, C, D, H, I, M, R, T, Z)
	addressQuota = "L-0263D0A3" // elastic IP addresses of a region
	vpcQuota     = "L-F678F1CE" // VPCs of a region
)

// name is the prefix of the environment's resources.
func (a *Account) name() string { return project + "-" + a.stack.Environment }

// own reports whether a resource is the environment's.
func (a *Account) own(tags []ec2types.Tag) bool {
	has := map[string]string{}
	for _, tag := range tags {
		has[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return has["Project"] == project && has["Environment"] == a.stack.Environment
}

// checkEnvironment finds out whether the environment exists, so that what it has is its own.
func (a *Account) checkEnvironment(ctx context.Context) (string, error) {
	found, err := a.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	if err != nil {
		return "", err
	}
	for _, vpc := range found.Vpcs {
		if a.own(vpc.Tags) {
			a.exists = true
			return "exists, in " + aws.ToString(vpc.VpcId) + ": names that are taken are its own", nil
		}
	}
	return "does not exist yet", nil
}

// room compares what is used and needed with a quota.
func (a *Account) room(ctx context.Context, service, code string, used, needed int, what string) (string, error) {
	quota, err := a.quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{
		ServiceCode: aws.String(service), QuotaCode: aws.String(code),
	})
	if err != nil {
		return "", err
	}
	limit := int(aws.ToFloat64(quota.Quota.Value))
	text := fmt.Sprintf("%s needs %d %s; others use %d of %d", a.stack.Environment, needed, what, used, limit)
	if used+needed > limit {
		return "", fmt.Errorf("%s: aws service-quotas request-service-quota-increase --service-code %s --quota-code %s --desired-value %d",
			text, service, code, used+needed)
	}
	return text, nil
}

// checkCPUs counts the nodes at rest and one more: an upgrade starts it before it ends another.
func (a *Account) checkCPUs(ctx context.Context) (string, error) {
	kind, err := a.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{
		InstanceTypes: []ec2types.InstanceType{ec2types.InstanceType(a.stack.Cluster.InstanceType)},
	})
	if err != nil || len(kind.InstanceTypes) == 0 {
		return "", fmt.Errorf("loja-veloz:cluster.instanceType %s is unknown in %s: %w", a.stack.Cluster.InstanceType, a.stack.Cloud.Region, err)
	}
	used := 0
	pages := ec2.NewDescribeInstancesPaginator(a.ec2, &ec2.DescribeInstancesInput{Filters: []ec2types.Filter{
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}},
	}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, reservation := range page.Reservations {
			for _, machine := range reservation.Instances {
				if !a.own(machine.Tags) && machine.CpuOptions != nil {
					used += int(aws.ToInt32(machine.CpuOptions.CoreCount) * aws.ToInt32(machine.CpuOptions.ThreadsPerCore))
				}
			}
		}
	}
	needed := (a.stack.Cluster.MinNodes + 1) * int(aws.ToInt32(kind.InstanceTypes[0].VCpuInfo.DefaultVCpus))
	what := fmt.Sprintf("vCPUs, for %d nodes and one more in an upgrade", a.stack.Cluster.MinNodes)
	return a.room(ctx, "ec2", cpuQuota, used, needed, what)
}

// checkAddresses counts an address for each NAT gateway. The load balancer's are not elastic.
func (a *Account) checkAddresses(ctx context.Context) (string, error) {
	found, err := a.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{})
	if err != nil {
		return "", err
	}
	used, needed := 0, 1
	for _, address := range found.Addresses {
		if !a.own(address.Tags) {
			used++
		}
	}
	if a.stack.Cloud.NATPerZone {
		needed = len(a.stack.Cloud.Zones)
	}
	return a.room(ctx, "ec2", addressQuota, used, needed, "elastic IP addresses")
}

// zonesWithoutEKS are the ids of the zones in which EKS has no control plane.
//
// Source: EKS User Guide, Amazon EKS networking requirements for VPC and subnets, read in 2026-11.
var zonesWithoutEKS = []string{"use1-az3", "usw1-az2", "cac1-az3"}

// checkZones refuses zones in which EKS takes no subnets. Every account has a zone behind another letter.
func (a *Account) checkZones(ctx context.Context) (string, error) {
	zones := a.stack.Cloud.Zones
	if len(zones) == 0 {
		return "", errors.New("loja-veloz:cloud.zones is empty: name three availability zones of " + a.stack.Cloud.Region)
	}
	found, err := a.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{ZoneNames: zones})
	if err != nil {
		return "", fmt.Errorf("loja-veloz:cloud.zones is %s: %w", strings.Join(zones, ", "), err)
	}
	var named, refused []string
	for _, zone := range found.AvailabilityZones {
		name, id := aws.ToString(zone.ZoneName), aws.ToString(zone.ZoneId)
		named = append(named, name+" is "+id)
		if slices.Contains(zonesWithoutEKS, id) {
			refused = append(refused, fmt.Sprintf("%s is %s, in which EKS takes no subnets: name another in loja-veloz:cloud.zones", name, id))
		}
	}
	if len(refused) > 0 {
		return "", errors.New(strings.Join(refused, "\n"))
	}
	return strings.Join(named, ", "), nil
}

func (a *Account) checkVPCs(ctx context.Context) (string, error) {
	found, err := a.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	if err != nil {
		return "", err
	}
	used := 0
	for _, vpc := range found.Vpcs {
		if !a.own(vpc.Tags) {
			used++
		}
	}
	return a.room(ctx, "vpc", vpcQuota, used, 1, "VPCs")
}

// logGroups are the names that the program gives its log groups, by resource.
func (a *Account) logGroups() [][2]string {
	return [][2]string{
		{"cluster-logs", "/aws/eks/" + a.name() + "/cluster"},
		{"database-logs-postgresql", "/aws/rds/instance/" + a.name() + "/postgresql"},
		{"database-logs-upgrade", "/aws/rds/instance/" + a.name() + "/upgrade"},
		{"network-flow-logs", "/aws/vpc/" + a.name() + "/flow-logs"},
	}
}

// checkLogGroups looks for log groups that an earlier environment left behind.
func (a *Account) checkLogGroups(ctx context.Context) (string, error) {
	if a.exists {
		return "the environment's own", nil
	}
	var taken []string
	for _, group := range a.logGroups() {
		found, err := a.logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String(group[1])})
		if err != nil {
			return "", err
		}
		for _, other := range found.LogGroups {
			if aws.ToString(other.LogGroupName) == group[1] && a.stack.Cloud.Adopt[group[0]] == "" {
				taken = append(taken, fmt.Sprintf("%s exists: %s, or delete it", group[1], a.set("cloud.adopt."+group[0], group[1])))
			}
		}
	}
	if len(taken) > 0 {
		return "", errors.New(strings.Join(taken, "\n"))
	}
	return "free", nil
}

// checkZone refuses a zone that does not hold the host, or that the internet does not know.
func (a *Account) checkZone(ctx context.Context) (string, error) {
	id, host := a.stack.Gateway.ZoneID, a.stack.Gateway.Host
	found, err := a.dns.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String(id)})
	if err != nil {
		return "", fmt.Errorf("loja-veloz:gateway.zoneID is %q: %w", id, err)
	}
	zone := strings.TrimSuffix(aws.ToString(found.HostedZone.Name), ".")
	if host != zone && !strings.HasSuffix(host, "."+zone) {
		return "", fmt.Errorf("loja-veloz:gateway.host is %s, which is outside the zone %s of loja-veloz:gateway.zoneID", host, zone)
	}
	if found.HostedZone.Config != nil && found.HostedZone.Config.PrivateZone {
		return "", fmt.Errorf("loja-veloz:gateway.zoneID is the private zone %s: ACM and customers read public ones alone", zone)
	}
	var own []string
	if found.DelegationSet != nil {
		own = found.DelegationSet.NameServers
	}
	servers, err := a.nameServers(ctx, zone)
	if err != nil {
		return "", fmt.Errorf("DNS knows no name servers of %s: delegate it, with NS records in the parent zone: %s (%w)",
			zone, strings.Join(own, " "), err)
	}
	if lacking := missing(own, servers); len(lacking) > 0 {
		return "", fmt.Errorf("%s is delegated to %s: delegate it, with NS records in the parent zone: %s",
			zone, strings.Join(servers, " "), strings.Join(own, " "))
	}
	return zone + " is delegated to " + strings.Join(own, " "), nil
}

// checkRecord looks for a record that has the host's name already.
func (a *Account) checkRecord(ctx context.Context) (string, error) {
	id, host := a.stack.Gateway.ZoneID, a.stack.Gateway.Host
	if a.exists {
		return "the environment's own", nil
	}
	found, err := a.dns.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
		HostedZoneId: aws.String(id), StartRecordName: aws.String(host),
	})
	if err != nil {
		return "", err
	}
	for _, record := range found.ResourceRecordSets {
		if strings.TrimSuffix(aws.ToString(record.Name), ".") != host {
			continue
		}
		switch {
		case record.Type == route53types.RRTypeCname:
			return "", fmt.Errorf("%s has a CNAME, beside which no other record may exist: delete it", host)
		case record.Type == route53types.RRTypeA && a.stack.Cloud.Adopt["record-alias"] == "":
			return "", fmt.Errorf("%s has an A record: %s, or delete it", host, a.set("cloud.adopt.record-alias", id+"_"+host+"_A"))
		}
	}
	return host + " is free", nil
}

package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// everywhere tells whether a range is the whole internet, or so large a part that a few ranges
// cover it: 0.0.0.0/1 and 128.0.0.0/1 do.
func everywhere(cidr string) bool {
	prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
	return err == nil && prefix.Bits() < 8
}

func openRanges(fields ...field) []finding {
	var found []finding
	for _, f := range fields {
		ranges := f.items()
		if _, single := f.text(); single {
			ranges = []field{f}
		}
		for _, cidr := range ranges {
			if text, ok := cidr.text(); ok && everywhere(text) {
				found = append(found, finding{cidr.path, fmt.Sprintf("is %s: only the gateway may be public", text)})
			}
		}
	}
	return found
}

func publicIngress(_ *Options, r Resource) []finding {
	props := in(r)
	var found []finding
	if isKubernetes(r) {
		return publicObject(props)
	}
	switch r.Type {
	case "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule":
		return openRanges(props.at("cidrIpv4"), props.at("cidrIpv6"))
	case "aws:ec2/securityGroupRule:SecurityGroupRule":
		if direction, _ := props.at("type").text(); direction != "egress" {
			return openRanges(props.at("cidrBlocks"), props.at("ipv6CidrBlocks"))
		}
	case "aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":
		for _, rule := range props.at("ingress").items() {
			found = append(found, openRanges(rule.at("cidrBlocks"), rule.at("ipv6CidrBlocks"))...)
		}
	case "aws:rds/instance:Instance", "aws:rds/clusterInstance:ClusterInstance":
		if public := props.at("publiclyAccessible"); public.there && !public.is(false) {
			found = append(found, finding{public.path, "is true: databases may be reached only from the cluster"})
		}
	case "aws:eks/cluster:Cluster":
		vpc := props.at("vpcConfig")
		return publicCluster(vpc.at("endpointPublicAccess"), vpc.at("publicAccessCidrs"), true)
	case "eks:index:Cluster":
		return publicCluster(props.at("endpointPublicAccess"), props.at("publicAccessCidrs"), true)
	case "aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer":
		if internal := props.at("internal"); !internal.is(true) {
			found = append(found, finding{internal.path, "is not true: only the gateway's load balancer may be public"})
		}
	case "aws:ec2/launchTemplate:LaunchTemplate":
		for _, nic := range props.at("networkInterfaces").items() {
			if public := nic.at("associatePublicIpAddress"); public.there && !public.is(false) {
				found = append(found, finding{public.path, "is true: nodes may have only private addresses"})
			}
		}
	case "aws:ec2/instance:Instance":
		if public := props.at("associatePublicIpAddress"); public.there && !public.is(false) {
			found = append(found, finding{public.path, "is true: machines may have only private addresses"})
		}
	case "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":
		for _, key := range []string{"blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"} {
			if !props.at(key).is(true) {
				found = append(found, finding{key, "is not true: no bucket may be public"})
			}
		}
	case "aws:s3/bucketAclV2:BucketAclV2", "aws:s3/bucketV2:BucketV2", "aws:s3/bucket:Bucket":
		if acl, _ := props.at("acl").text(); strings.HasPrefix(acl, "public-") || acl == "authenticated-read" {
			found = append(found, finding{"acl", fmt.Sprintf("is %s: no bucket may be public", acl)})
		}
	}
	return found
}

// publicCluster checks an EKS endpoint. AWS makes it public by default.
func publicCluster(access, ranges field, openByDefault bool) []finding {
	if access.is(false) || !access.there && !openByDefault {
		return nil
	}
	if !ranges.unknown() && len(ranges.items()) == 0 {
		return []finding{{ranges.path, "is empty, which means 0.0.0.0/0 in AWS: list the ranges that may reach the cluster's endpoint"}}
	}
	return openRanges(ranges)
}

const schemeAnnotation = "service.beta.kubernetes.io/aws-load-balancer-scheme"

// publicObject checks Services, and the values of Helm releases that become Services.
func publicObject(props field) []finding {
	var found []finding
	props.walk(func(f field) {
		if text, ok := f.text(); ok && text == "internet-facing" && strings.HasSuffix(f.path, "scheme") {
			found = append(found, finding{f.path, "is internet-facing: only the gateway may be"})
		}
		if !f.value.IsObject() {
			return
		}
		if typ, _ := f.at("type").text(); typ != "LoadBalancer" {
			return
		}
		// A Service has its annotations in metadata, a chart's values next to the type.
		annotations := f.at("annotations")
		if f.path == "spec" {
			annotations = props.at("metadata").at("annotations")
		}
		switch scheme, _ := annotations.at(schemeAnnotation).text(); {
		case scheme == "internal" || annotations.unknown() || scheme == "internet-facing": // found above
		default:
			found = append(found, finding{f.at("type").path,
				"is LoadBalancer without the annotation " + schemeAnnotation + ": internal: only the gateway may be public"})
		}
	})
	return found
}

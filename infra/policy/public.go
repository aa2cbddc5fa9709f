package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// everywhere tells whether a range is the whole internet, or so much of it that
// a few such ranges are: 0.0.0.0/1 twice is 0.0.0.0/0.
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
				found = append(found, finding{cidr.path, fmt.Sprintf("is %s: only the gateway may be reached from everywhere", text)})
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
			found = append(found, finding{public.path, "is true: databases are reached from the cluster only"})
		}
	case "aws:eks/cluster:Cluster":
		vpc := props.at("vpcConfig")
		return publicCluster(vpc.at("endpointPublicAccess"), vpc.at("publicAccessCidrs"), true)
	case "eks:index:Cluster":
		return publicCluster(props.at("endpointPublicAccess"), props.at("publicAccessCidrs"), true)
	case "aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer":
		if internal := props.at("internal"); !internal.is(true) {
			found = append(found, finding{internal.path, "is not true: the gateway is the only public load balancer"})
		}
	case "aws:ec2/launchTemplate:LaunchTemplate":
		for _, nic := range props.at("networkInterfaces").items() {
			if public := nic.at("associatePublicIpAddress"); public.there && !public.is(false) {
				found = append(found, finding{public.path, "is true: nodes have private addresses only"})
			}
		}
	case "aws:ec2/instance:Instance":
		if public := props.at("associatePublicIpAddress"); public.there && !public.is(false) {
			found = append(found, finding{public.path, "is true: machines have private addresses only"})
		}
	case "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":
		for _, key := range []string{"blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"} {
			if !props.at(key).is(true) {
				found = append(found, finding{key, "is not true: no bucket is public"})
			}
		}
	case "aws:s3/bucketAclV2:BucketAclV2", "aws:s3/bucketV2:BucketV2", "aws:s3/bucket:Bucket":
		if acl, _ := props.at("acl").text(); strings.HasPrefix(acl, "public-") || acl == "authenticated-read" {
			found = append(found, finding{"acl", fmt.Sprintf("is %s: no bucket is public", acl)})
		}
	}
	return found
}

// publicCluster judges an EKS endpoint. AWS opens it to everywhere unless told
// otherwise.
func publicCluster(access, ranges field, openByDefault bool) []finding {
	if access.is(false) || !access.there && !openByDefault {
		return nil
	}
	if !ranges.unknown() && len(ranges.items()) == 0 {
		return []finding{{ranges.path, "is empty, which AWS takes for 0.0.0.0/0: list who may reach the cluster's endpoint"}}
	}
	return openRanges(ranges)
}

const schemeAnnotation = "service.beta.kubernetes.io/aws-load-balancer-scheme"

// publicObject judges Services, and the values of Helm releases, which become
// Services.
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

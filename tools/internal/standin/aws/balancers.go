package aws

// balancerTypes are load balancers. Here the program has none: the AWS Load Balancer Controller makes
// them, whom a test plays.
var balancerTypes = map[string]resourceType{
	LoadBalancer: {
		id:     "{arn}",
		arn:    "arn:{partition}:elasticloadbalancing:{region}:{account}:loadbalancer/net/{name}/{hex16}",
		unique: "{name}",
		exists: "DuplicateLoadBalancerName",
		outputs: map[string]string{
			"dnsName": "{name}-{hex16}.elb.{region}.{dns}", "loadBalancerType": "network", "zoneId": "Z{upper13}",
		},
		replace: "name namePrefix internal loadBalancerType customerOwnedIpv4Pool",
		update:  "securityGroups subnets ipAddressType enableDeletionProtection enableCrossZoneLoadBalancing",
		source:  "aws_lb" + fromDocs,
	},
	Listener: {
		id:      "{arn}",
		arn:     "arn:{partition}:elasticloadbalancing:{region}:{account}:listener/net/{hex16}/{hex16}",
		replace: "loadBalancerArn",
		update:  "alpnPolicy certificateArn defaultActions port protocol sslPolicy",
		source:  "aws_lb_listener" + fromDocs,
	},
}

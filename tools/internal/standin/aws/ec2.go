package aws

// ec2Types are networks, their addresses and rules, and launch templates.
var ec2Types = map[string]resourceType{
	"aws:ec2/vpc:Vpc": {
		id:  "vpc-{hex17}",
		arn: ec2ARN + "vpc/{id}",
		outputs: map[string]string{
			"defaultNetworkAclId": "acl-{hex17}", "defaultRouteTableId": "rtb-{hex17}", "defaultSecurityGroupId": "sg-{hex17}",
			"dhcpOptionsId": "dopt-{hex17}", "enableDnsSupport": "true", "instanceTenancy": "default",
			"mainRouteTableId": "rtb-{hex17}", "ownerId": "{account}",
		},
		replace: "cidrBlock ipv4IpamPoolId ipv4NetmaskLength",
		update:  "enableDnsHostnames enableDnsSupport enableNetworkAddressUsageMetrics instanceTenancy",
		source:  "aws_vpc" + fromDocs,
	},
	"aws:ec2/subnet:Subnet": {
		id:  "subnet-{hex17}",
		arn: ec2ARN + "subnet/{id}",
		outputs: map[string]string{
			"availabilityZone": "{region}a", "ownerId": "{account}", "privateDnsHostnameTypeOnLaunch": "ip-name",
		},
		answer:  answerSubnet,
		replace: "vpcId cidrBlock availabilityZone availabilityZoneId ipv6Native outpostArn",
		update: "mapPublicIpOnLaunch assignIpv6AddressOnCreation enableDns64 enableResourceNameDnsARecordOnLaunch " +
			"enableResourceNameDnsAaaaRecordOnLaunch privateDnsHostnameTypeOnLaunch",
		source: "aws_subnet" + readInSource,
	},
	"aws:ec2/internetGateway:InternetGateway": {
		id:      "igw-{hex17}",
		arn:     ec2ARN + "internet-gateway/{id}",
		outputs: map[string]string{"ownerId": "{account}"},
		update:  "vpcId",
		source:  "aws_internet_gateway, its registry page",
	},
	"aws:ec2/eip:Eip": {
		id:  "eipalloc-{hex17}",
		arn: ec2ARN + "elastic-ip/{id}",
		outputs: map[string]string{
			"allocationId": "{id}", "domain": "vpc", "networkBorderGroup": "{region}",
			"publicDns": "ec2-203-0-113-{byte}.{region}.compute.{dns}", "publicIp": "203.0.113.{byte}", "publicIpv4Pool": "amazon",
		},
		replace: "domain vpc networkBorderGroup publicIpv4Pool customerOwnedIpv4Pool address",
		update:  "instance networkInterface associateWithPrivateIp",
		source:  "aws_eip" + fromDocs,
	},
	"aws:ec2/natGateway:NatGateway": {
		id: "nat-{hex17}",
		outputs: map[string]string{
			"associationId": "eipassoc-{hex17}", "connectivityType": "public", "networkInterfaceId": "eni-{hex17}",
			"privateIp": "10.0.0.{byte}", "publicIp": "203.0.113.{byte}",
		},
		replace: "subnetId allocationId connectivityType privateIp",
		update:  "secondaryAllocationIds secondaryPrivateIpAddresses",
		source:  "aws_nat_gateway" + fromDocs,
	},
	"aws:ec2/routeTable:RouteTable": {
		id:      "rtb-{hex17}",
		arn:     ec2ARN + "route-table/{id}",
		outputs: map[string]string{"ownerId": "{account}"},
		replace: "vpcId",
		update:  "routes propagatingVgws",
		source:  "aws_route_table" + fromDocs,
	},
	"aws:ec2/route:Route": {
		id:      "r-{routeTableId}{hex10}",
		unique:  "{routeTableId} {destinationCidrBlock|}{destinationIpv6CidrBlock|}{destinationPrefixListId|}",
		exists:  "RouteAlreadyExists",
		outputs: map[string]string{"origin": "CreateRoute", "state": "active"},
		replace: "routeTableId destinationCidrBlock destinationIpv6CidrBlock destinationPrefixListId",
		update: "gatewayId natGatewayId networkInterfaceId transitGatewayId vpcEndpointId vpcPeeringConnectionId " +
			"egressOnlyGatewayId",
		source: "aws_route" + fromDocs,
	},
	"aws:ec2/routeTableAssociation:RouteTableAssociation": {
		id:      "rtbassoc-{hex17}",
		unique:  "{subnetId|}{gatewayId|}",
		exists:  "Resource.AlreadyAssociated",
		replace: "subnetId gatewayId",
		update:  "routeTableId",
		source:  "aws_route_table_association" + fromDocs,
	},
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": {
		id:      "sg-{hex17}",
		arn:     ec2ARN + "security-group/{id}",
		unique:  "{vpcId|}",
		exists:  "InvalidGroup.Duplicate",
		outputs: map[string]string{"description": "default VPC security group", "name": "default", "ownerId": "{account}"},
		replace: "vpcId",
		update:  "ingress egress revokeRulesOnDelete",
		source:  "aws_default_security_group" + fromDocs,
	},
	"aws:ec2/securityGroup:SecurityGroup": {
		id:      "sg-{hex17}",
		arn:     ec2ARN + "security-group/{id}",
		unique:  "{vpcId|} {name}",
		exists:  "InvalidGroup.Duplicate",
		outputs: map[string]string{"description": "Managed by Pulumi", "ownerId": "{account}", "vpcId": "vpc-{hex17}"},
		replace: "name namePrefix description vpcId",
		update:  "ingress egress revokeRulesOnDelete",
		source:  "aws_security_group" + fromDocs,
	},
	"aws:ec2/securityGroupRule:SecurityGroupRule": {
		id:      "sgrule-{digits10}",
		outputs: map[string]string{"securityGroupRuleId": "sgr-{hex17}"},
		replace: "type fromPort toPort protocol cidrBlocks ipv6CidrBlocks prefixListIds securityGroupId self " +
			"sourceSecurityGroupId",
		update: "description",
		source: "aws_security_group_rule" + fromDocs,
	},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {
		id:      "sgr-{hex17}",
		arn:     ec2ARN + "security-group-rule/{id}",
		outputs: map[string]string{"securityGroupRuleId": "{id}"},
		replace: "securityGroupId",
		update:  "cidrIpv4 cidrIpv6 description fromPort toPort ipProtocol prefixListId referencedSecurityGroupId",
		source:  "aws_vpc_security_group_ingress_rule, its registry page",
	},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": {
		id:      "sgr-{hex17}",
		arn:     ec2ARN + "security-group-rule/{id}",
		outputs: map[string]string{"securityGroupRuleId": "{id}"},
		replace: "securityGroupId",
		update:  "cidrIpv4 cidrIpv6 description fromPort toPort ipProtocol prefixListId referencedSecurityGroupId",
		source:  "aws_vpc_security_group_egress_rule, its registry page",
	},
	"aws:ec2/vpcEndpoint:VpcEndpoint": {
		id:  "vpce-{hex17}",
		arn: ec2ARN + "vpc-endpoint/{id}",
		outputs: map[string]string{
			"ipAddressType": "ipv4", "ownerId": "{account}", "prefixListId": "pl-{hex8}", "serviceRegion": "{region}",
			"state": "available",
		},
		replace: "vpcId serviceName vpcEndpointType serviceRegion resourceConfigurationArn serviceNetworkArn",
		update: "policy routeTableIds subnetIds securityGroupIds privateDnsEnabled autoAccept ipAddressType " +
			"dnsOptions.dnsRecordIpType",
		source: "aws_vpc_endpoint" + readInSource,
	},
	"aws:ec2/flowLog:FlowLog": {
		id:      "fl-{hex17}",
		arn:     ec2ARN + "vpc-flow-log/{id}",
		outputs: map[string]string{"logFormat": "", "logGroupName": ""},
		replace: "deliverCrossAccountRole destinationOptions eniId iamRoleArn logDestination logDestinationType " +
			"logFormat logGroupName maxAggregationInterval subnetId trafficType transitGatewayAttachmentId " +
			"transitGatewayId vpcId",
		source: "aws_flow_log" + fromDocs,
	},
	"aws:ec2/launchTemplate:LaunchTemplate": {
		id:      "lt-{hex17}",
		arn:     ec2ARN + "launch-template/{id}",
		unique:  "{name}",
		exists:  "InvalidLaunchTemplateName.AlreadyExistsException",
		answer:  answerLaunchTemplate,
		replace: "name namePrefix",
		update: "blockDeviceMappings capacityReservationSpecification cpuOptions creditSpecification defaultVersion " +
			"description disableApiStop disableApiTermination ebsOptimized enclaveOptions hibernationOptions " +
			"iamInstanceProfile imageId instanceInitiatedShutdownBehavior instanceMarketOptions " +
			"instanceRequirements instanceType kernelId keyName licenseSpecifications maintenanceOptions " +
			"metadataOptions monitoring networkInterfaces placement privateDnsNameOptions ramDiskId " +
			"securityGroupNames tagSpecifications updateDefaultVersion userData vpcSecurityGroupIds",
		source: "aws_launch_template, its registry page: a change creates a new version",
	},
}

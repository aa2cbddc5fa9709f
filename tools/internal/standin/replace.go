package standin

import (
	"strings"
)

// changes says what a change of an input does to a resource of a type. What is
// in neither list may replace, and is planned as a replacement: a guard
// against replacing what holds data must err on the safe side. Tags are
// updated in place everywhere. Paths name properties without indices; a path
// covers what lies below it, and the longest that covers wins.
type changes struct {
	replace string // paths, separated by spaces
	update  string
	source  string
}

// Terraform's provider for AWS, version 5, which pulumi-aws 6.83.0 is made
// from: arguments marked ForceNew in its schemas, "Forces new resource" in its
// documentation.
const (
	readInSource = ", schema read in its source: ForceNew"
	fromDocs     = ", its registry page: \"Forces new resource\""
)

var changesOf = map[string]changes{
	"aws:ec2/vpc:Vpc": {
		replace: "cidrBlock ipv4IpamPoolId ipv4NetmaskLength",
		update:  "enableDnsHostnames enableDnsSupport enableNetworkAddressUsageMetrics instanceTenancy",
		source:  "aws_vpc" + fromDocs,
	},
	"aws:ec2/subnet:Subnet": {
		replace: "vpcId cidrBlock availabilityZone availabilityZoneId ipv6Native outpostArn",
		update:  "mapPublicIpOnLaunch assignIpv6AddressOnCreation enableDns64 enableResourceNameDnsARecordOnLaunch enableResourceNameDnsAaaaRecordOnLaunch privateDnsHostnameTypeOnLaunch",
		source:  "aws_subnet" + readInSource,
	},
	"aws:ec2/internetGateway:InternetGateway": {update: "vpcId", source: "aws_internet_gateway, its registry page"},
	"aws:ec2/eip:Eip": {
		replace: "domain vpc networkBorderGroup publicIpv4Pool customerOwnedIpv4Pool address",
		update:  "instance networkInterface associateWithPrivateIp",
		source:  "aws_eip" + fromDocs,
	},
	"aws:ec2/natGateway:NatGateway": {
		replace: "subnetId allocationId connectivityType privateIp",
		update:  "secondaryAllocationIds secondaryPrivateIpAddresses",
		source:  "aws_nat_gateway" + fromDocs,
	},
	"aws:ec2/routeTable:RouteTable": {replace: "vpcId", update: "routes propagatingVgws", source: "aws_route_table" + fromDocs},
	"aws:ec2/route:Route": {
		replace: "routeTableId destinationCidrBlock destinationIpv6CidrBlock destinationPrefixListId",
		update:  "gatewayId natGatewayId networkInterfaceId transitGatewayId vpcEndpointId vpcPeeringConnectionId egressOnlyGatewayId",
		source:  "aws_route" + fromDocs,
	},
	"aws:ec2/routeTableAssociation:RouteTableAssociation": {replace: "subnetId gatewayId", update: "routeTableId", source: "aws_route_table_association" + fromDocs},
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":   {replace: "vpcId", update: "ingress egress revokeRulesOnDelete", source: "aws_default_security_group" + fromDocs},
	"aws:ec2/securityGroup:SecurityGroup": {
		replace: "name namePrefix description vpcId",
		update:  "ingress egress revokeRulesOnDelete",
		source:  "aws_security_group" + fromDocs,
	},
	"aws:ec2/securityGroupRule:SecurityGroupRule": {
		replace: "type fromPort toPort protocol cidrBlocks ipv6CidrBlocks prefixListIds securityGroupId self sourceSecurityGroupId",
		update:  "description",
		source:  "aws_security_group_rule" + fromDocs,
	},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {
		replace: "securityGroupId",
		update:  "cidrIpv4 cidrIpv6 description fromPort toPort ipProtocol prefixListId referencedSecurityGroupId",
		source:  "aws_vpc_security_group_ingress_rule, its registry page",
	},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": {
		replace: "securityGroupId",
		update:  "cidrIpv4 cidrIpv6 description fromPort toPort ipProtocol prefixListId referencedSecurityGroupId",
		source:  "aws_vpc_security_group_egress_rule, its registry page",
	},
	"aws:ec2/vpcEndpoint:VpcEndpoint": {
		replace: "vpcId serviceName vpcEndpointType serviceRegion resourceConfigurationArn serviceNetworkArn",
		update:  "policy routeTableIds subnetIds securityGroupIds privateDnsEnabled autoAccept ipAddressType dnsOptions.dnsRecordIpType",
		source:  "aws_vpc_endpoint" + readInSource,
	},
	"aws:ec2/flowLog:FlowLog": {
		replace: "deliverCrossAccountRole destinationOptions eniId iamRoleArn logDestination logDestinationType logFormat logGroupName maxAggregationInterval subnetId trafficType transitGatewayAttachmentId transitGatewayId vpcId",
		source:  "aws_flow_log" + fromDocs,
	},
	"aws:ec2/launchTemplate:LaunchTemplate": {
		replace: "name namePrefix",
		update: "blockDeviceMappings capacityReservationSpecification cpuOptions creditSpecification defaultVersion description disableApiStop disableApiTermination ebsOptimized " +
			"enclaveOptions hibernationOptions iamInstanceProfile imageId instanceInitiatedShutdownBehavior instanceMarketOptions instanceRequirements instanceType kernelId keyName " +
			"licenseSpecifications maintenanceOptions metadataOptions monitoring networkInterfaces placement privateDnsNameOptions ramDiskId securityGroupNames tagSpecifications updateDefaultVersion userData vpcSecurityGroupIds",
		source: "aws_launch_template, its registry page: a change makes a new version",
	},

	"aws:eks/cluster:Cluster": {
		replace: "name roleArn bootstrapSelfManagedAddons accessConfig.bootstrapClusterCreatorAdminPermissions kubernetesNetworkConfig.ipFamily kubernetesNetworkConfig.serviceIpv4Cidr remoteNetworkConfig encryptionConfig",
		update:  "version vpcConfig enabledClusterLogTypes accessConfig.authenticationMode upgradePolicy.supportType zonalShiftConfig.enabled defaultAddonsToRemoves forceUpdateVersion",
		source:  "aws_eks_cluster" + readInSource + " (a key added to encryptionConfig does not replace; its removal does)",
	},
	"aws:eks/nodeGroup:NodeGroup": {
		replace: "amiType capacityType clusterName diskSize instanceTypes nodeGroupName nodeGroupNamePrefix nodeRoleArn remoteAccess subnetIds launchTemplate.id launchTemplate.name",
		update:  "forceUpdateVersion labels launchTemplate.version nodeRepairConfig releaseVersion scalingConfig taints updateConfig version",
		source:  "aws_eks_node_group" + readInSource,
	},
	"aws:eks/addon:Addon": {
		replace: "clusterName addonName",
		update:  "addonVersion configurationValues podIdentityAssociations preserve resolveConflicts resolveConflictsOnCreate resolveConflictsOnUpdate serviceAccountRoleArn",
		source:  "aws_eks_addon" + fromDocs,
	},
	"aws:eks/accessEntry:AccessEntry": {replace: "clusterName principalArn type", update: "kubernetesGroups userName", source: "aws_eks_access_entry" + fromDocs},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
		replace: "clusterName principalArn policyArn accessScope", source: "aws_eks_access_policy_association" + fromDocs,
	},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": {replace: "clusterName namespace serviceAccount", update: "roleArn", source: "aws_eks_pod_identity_association" + fromDocs},

	"aws:iam/role:Role": {
		replace: "name namePrefix path",
		update:  "assumeRolePolicy description forceDetachPolicies inlinePolicies managedPolicyArns maxSessionDuration permissionsBoundary",
		source:  "aws_iam_role" + fromDocs,
	},
	"aws:iam/rolePolicy:RolePolicy":                     {replace: "name namePrefix role", update: "policy", source: "aws_iam_role_policy" + fromDocs},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {replace: "role policyArn", source: "aws_iam_role_policy_attachment" + fromDocs},
	"aws:iam/policy:Policy":                             {replace: "name namePrefix path description", update: "policy", source: "aws_iam_policy" + fromDocs},
	"aws:iam/openIdConnectProvider:OpenIdConnectProvider": {
		replace: "url", update: "clientIdLists thumbprintLists", source: "aws_iam_openid_connect_provider" + fromDocs,
	},
	"aws:iam/instanceProfile:InstanceProfile": {replace: "name namePrefix path", update: "role", source: "aws_iam_instance_profile" + fromDocs},

	"aws:rds/instance:Instance": {
		replace: "availabilityZone characterSetName customIamInstanceProfile dbName name engine identifierPrefix kmsKeyId ncharCharacterSetName restoreToPointInTime s3Import snapshotIdentifier storageEncrypted timezone username",
		update: "allocatedStorage allowMajorVersionUpgrade applyImmediately autoMinorVersionUpgrade backupRetentionPeriod backupWindow caCertIdentifier copyTagsToSnapshot dbSubnetGroupName deleteAutomatedBackups " +
			"deletionProtection enabledCloudwatchLogsExports engineVersion finalSnapshotIdentifier iamDatabaseAuthenticationEnabled instanceClass iops licenseModel maintenanceWindow manageMasterUserPassword " +
			"masterUserSecretKmsKeyId maxAllocatedStorage monitoringInterval monitoringRoleArn multiAz networkType optionGroupName parameterGroupName password performanceInsightsEnabled performanceInsightsKmsKeyId " +
			"performanceInsightsRetentionPeriod port publiclyAccessible skipFinalSnapshot storageThroughput storageType vpcSecurityGroupIds blueGreenUpdate databaseInsightsMode",
		source: "aws_db_instance" + readInSource,
	},
	"aws:rds/subnetGroup:SubnetGroup":       {replace: "name namePrefix", update: "description subnetIds", source: "aws_db_subnet_group" + fromDocs},
	"aws:rds/parameterGroup:ParameterGroup": {replace: "name namePrefix family description", update: "parameters skipDestroy", source: "aws_db_parameter_group" + fromDocs},
	"aws:kms/alias:Alias":                   {replace: "name namePrefix", update: "targetKeyId", source: "aws_kms_alias" + fromDocs},
	"aws:kms/keyPolicy:KeyPolicy":           {replace: "keyId", update: "policy bypassPolicyLockoutSafetyCheck", source: "aws_kms_key_policy" + fromDocs},
	"aws:kms/key:Key": {
		replace: "customKeyStoreId customerMasterKeySpec keyUsage multiRegion xksKeyId",
		update:  "bypassPolicyLockoutSafetyCheck deletionWindowInDays description enableKeyRotation isEnabled policy rotationPeriodInDays",
		source:  "aws_kms_key" + fromDocs,
	},

	"aws:ecr/repository:Repository": {
		replace: "name encryptionConfigurations", update: "forceDelete imageScanningConfiguration imageTagMutability", source: "aws_ecr_repository" + readInSource,
	},
	"aws:ecr/lifecyclePolicy:LifecyclePolicy":           {replace: "repository policy", source: "aws_ecr_lifecycle_policy" + fromDocs},
	"aws:ecr/repositoryPolicy:RepositoryPolicy":         {replace: "repository", update: "policy", source: "aws_ecr_repository_policy" + fromDocs},
	"aws:ecr/pullThroughCacheRule:PullThroughCacheRule": {replace: "ecrRepositoryPrefix upstreamRegistryUrl upstreamRepositoryPrefix", update: "credentialArn customRoleArn", source: "aws_ecr_pull_through_cache_rule" + fromDocs},
	"aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": {
		replace: "prefix", update: "appliedFors customRoleArn description encryptionConfigurations imageTagMutability lifecyclePolicy repositoryPolicy resourceTags", source: "aws_ecr_repository_creation_template" + fromDocs,
	},

	"aws:s3/bucketV2:BucketV2":                               {replace: "bucket bucketPrefix objectLockEnabled", update: "forceDestroy", source: "aws_s3_bucket" + fromDocs},
	"aws:s3/bucketVersioningV2:BucketVersioningV2":           {replace: "bucket expectedBucketOwner", update: "mfa versioningConfiguration", source: "aws_s3_bucket_versioning" + fromDocs},
	"aws:s3/bucketPolicy:BucketPolicy":                       {replace: "bucket", update: "policy", source: "aws_s3_bucket_policy" + fromDocs},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls": {replace: "bucket", update: "rule", source: "aws_s3_bucket_ownership_controls" + fromDocs},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {
		replace: "bucket expectedBucketOwner", update: "rules", source: "aws_s3_bucket_server_side_encryption_configuration" + fromDocs,
	},
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": {
		replace: "bucket", update: "blockPublicAcls blockPublicPolicy ignorePublicAcls restrictPublicBuckets", source: "aws_s3_bucket_public_access_block" + fromDocs,
	},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": {
		replace: "bucket expectedBucketOwner", update: "rules transitionDefaultMinimumObjectSize", source: "aws_s3_bucket_lifecycle_configuration" + fromDocs,
	},

	"aws:cloudwatch/logGroup:LogGroup":   {replace: "name namePrefix logGroupClass", update: "kmsKeyId retentionInDays skipDestroy", source: "aws_cloudwatch_log_group" + fromDocs},
	"aws:cloudwatch/eventRule:EventRule": {replace: "name namePrefix eventBusName", update: "description eventPattern forceDestroy isEnabled roleArn scheduleExpression state", source: "aws_cloudwatch_event_rule" + fromDocs},
	"aws:cloudwatch/eventTarget:EventTarget": {
		replace: "rule targetId eventBusName", update: "arn roleArn input inputPath inputTransformer deadLetterConfig retryPolicy", source: "aws_cloudwatch_event_target" + fromDocs,
	},
	"aws:sqs/queue:Queue": {
		replace: "name namePrefix fifoQueue",
		update:  "contentBasedDeduplication deduplicationScope delaySeconds fifoThroughputLimit kmsDataKeyReusePeriodSeconds kmsMasterKeyId maxMessageSize messageRetentionSeconds policy receiveWaitTimeSeconds redriveAllowPolicy redrivePolicy sqsManagedSseEnabled visibilityTimeoutSeconds",
		source:  "aws_sqs_queue" + fromDocs,
	},
	"aws:secretsmanager/secret:Secret": {
		replace: "name namePrefix", update: "description forceOverwriteReplicaSecret kmsKeyId policy recoveryWindowInDays replicas", source: "aws_secretsmanager_secret" + fromDocs,
	},
	"aws:secretsmanager/secretVersion:SecretVersion": {replace: "secretId secretString secretBinary", update: "versionStages", source: "aws_secretsmanager_secret_version" + fromDocs},
	"aws:route53/zone:Zone":                          {replace: "name delegationSetId", update: "comment forceDestroy vpcs", source: "aws_route53_zone" + fromDocs},
	"aws:route53/record:Record": {
		replace: "name zoneId setIdentifier",
		update:  "type ttl records aliases allowOverwrite healthCheckId weightedRoutingPolicies latencyRoutingPolicies failoverRoutingPolicies geolocationRoutingPolicies multivalueAnswerRoutingPolicy cidrRoutingPolicy",
		source:  "aws_route53_record" + fromDocs,
	},
	"aws:acm/certificate:Certificate": {
		replace: "domainName subjectAlternativeNames validationMethod certificateAuthorityArn keyAlgorithm validationOptions",
		update:  "options privateKey certificateBody certificateChain earlyRenewalDuration",
		source:  "aws_acm_certificate" + fromDocs,
	},
	"aws:acm/certificateValidation:CertificateValidation": {replace: "certificateArn validationRecordFqdns", source: "aws_acm_certificate_validation" + fromDocs},
	"aws:cloudformation/stack:Stack": {
		replace: "name disableRollback onFailure timeoutInMinutes",
		update:  "capabilities iamRoleArn notificationArns parameters policyBody policyUrl templateBody templateUrl",
		source:  "aws_cloudformation_stack" + fromDocs,
	},
}

// An effect is what a change of a property does.
type effect int

const (
	updates effect = iota
	replaces
	mayReplace // not in the table
)

// effectOf a change at a path, whose indices it ignores.
func effectOf(tok, path string) effect {
	path = withoutIndices(path)
	root, _, _ := strings.Cut(path, ".")
	if root == "tags" || root == "tagsAll" {
		return updates
	}
	c, ok := changesOf[tok]
	if !ok {
		return mayReplace
	}
	result, longest := mayReplace, -1
	for _, list := range []struct {
		paths  string
		effect effect
	}{{c.replace, replaces}, {c.update, updates}} {
		for _, p := range strings.Fields(list.paths) {
			if (p == path || strings.HasPrefix(path, p+".")) && len(p) > longest {
				result, longest = list.effect, len(p)
			}
		}
	}
	// A whole object added or removed does what the worst of its parts does.
	if longest < 0 {
		for _, p := range strings.Fields(c.replace) {
			if strings.HasPrefix(p, path+".") {
				return replaces
			}
		}
		for _, p := range strings.Fields(c.update) {
			if strings.HasPrefix(p, path+".") {
				return updates
			}
		}
	}
	return result
}

// withoutIndices turns ingress[0].cidrBlocks[1] into ingress.cidrBlocks.
func withoutIndices(path string) string {
	var b strings.Builder
	depth := 0
	for _, r := range path {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

package aws

// eksTypes are clusters, their nodes, add-ons and access.
var eksTypes = map[string]resourceType{
	"aws:eks/cluster:Cluster": {
		id:     "{name}",
		arn:    eksARN + "cluster/{id}",
		exists: "ResourceInUseException",
		outputs: map[string]string{
			"createdAt": "2026-01-01T00:00:00Z", "platformVersion": "eks.1", "status": "ACTIVE", "version": "1.35",
		},
		answer: answerCluster,
		replace: "name roleArn bootstrapSelfManagedAddons accessConfig.bootstrapClusterCreatorAdminPermissions " +
			"kubernetesNetworkConfig.ipFamily kubernetesNetworkConfig.serviceIpv4Cidr remoteNetworkConfig " +
			"encryptionConfig",
		update: "version vpcConfig enabledClusterLogTypes accessConfig.authenticationMode upgradePolicy.supportType " +
			"zonalShiftConfig.enabled defaultAddonsToRemoves forceUpdateVersion",
		source: "aws_eks_cluster" + readInSource + " (a key added to encryptionConfig does not replace; its removal does)",
	},
	"aws:eks/nodeGroup:NodeGroup": {
		id:     "{clusterName}:{nodeGroupName}",
		arn:    eksARN + "nodegroup/{clusterName}/{nodeGroupName}/{uuid}",
		name:   "nodeGroupName",
		exists: "ResourceInUseException",
		outputs: map[string]string{
			"amiType": "AL2023_x86_64_STANDARD", "capacityType": "ON_DEMAND", "releaseVersion": "1.35.6-20260818",
			"status": "ACTIVE", "version": "1.35",
		},
		answer: answerNodeGroup,
		replace: "amiType capacityType clusterName diskSize instanceTypes nodeGroupName nodeGroupNamePrefix " +
			"nodeRoleArn remoteAccess subnetIds launchTemplate.id launchTemplate.name",
		update: "forceUpdateVersion labels launchTemplate.version nodeRepairConfig releaseVersion scalingConfig " +
			"taints updateConfig version",
		source: "aws_eks_node_group" + readInSource,
	},
	"aws:eks/addon:Addon": {
		id:     "{clusterName}:{addonName}",
		arn:    eksARN + "addon/{clusterName}/{addonName}/{uuid}",
		exists: "ResourceInUseException",
		outputs: map[string]string{
			"addonVersion": "v1.0.0-eksbuild.1", "createdAt": "2026-01-01T00:00:00Z", "modifiedAt": "2026-01-01T00:00:00Z",
		},
		replace: "clusterName addonName",
		update: "addonVersion configurationValues podIdentityAssociations preserve resolveConflicts " +
			"resolveConflictsOnCreate resolveConflictsOnUpdate serviceAccountRoleArn",
		source: "aws_eks_addon" + fromDocs,
	},
	"aws:eks/accessEntry:AccessEntry": {
		id:     "{clusterName}:{principalArn}",
		exists: "ResourceInUseException",
		outputs: map[string]string{
			"accessEntryArn": eksARN + "access-entry/{clusterName}/{uuid}", "createdAt": "2026-01-01T00:00:00Z",
			"modifiedAt": "2026-01-01T00:00:00Z", "type": "STANDARD", "userName": "{principalArn}",
		},
		replace: "clusterName principalArn type",
		update:  "kubernetesGroups userName",
		source:  "aws_eks_access_entry" + fromDocs,
	},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {
		id:      "{clusterName}#{principalArn}#{policyArn}",
		exists:  "ResourceInUseException",
		outputs: map[string]string{"associatedAt": "2026-01-01T00:00:00Z", "modifiedAt": "2026-01-01T00:00:00Z"},
		replace: "clusterName principalArn policyArn accessScope",
		source:  "aws_eks_access_policy_association" + fromDocs,
	},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": {
		id:      "a-{hex17}",
		unique:  "{clusterName} {namespace} {serviceAccount}",
		exists:  "ResourceInUseException",
		outputs: map[string]string{"associationArn": eksARN + "podidentityassociation/{clusterName}/{id}", "associationId": "{id}"},
		replace: "clusterName namespace serviceAccount",
		update:  "roleArn",
		source:  "aws_eks_pod_identity_association" + fromDocs,
	},
}

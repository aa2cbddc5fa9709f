package aws

// codebuildTypes are projects that build, or run jobs of others, and their webhooks.
var codebuildTypes = map[string]resourceType{
	BuildProject: {
		id:      "{arn}",
		arn:     "arn:{partition}:codebuild:{region}:{account}:project/{name}",
		exists:  "ResourceAlreadyExistsException",
		outputs: map[string]string{"encryptionKey": "arn:{partition}:kms:{region}:{account}:alias/aws/s3"},
		replace: "name",
		update: "artifacts badgeEnabled buildBatchConfig buildTimeout cache concurrentBuildLimit description encryptionKey environment " +
			"fileSystemLocations logsConfig projectVisibility queuedTimeout resourceAccessRole secondaryArtifacts " +
			"secondarySourceVersions secondarySources serviceRole source sourceVersion vpcConfig",
		source: "aws_codebuild_project" + fromDocs,
	},
	BuildWebhook: {
		id:      "{projectName}",
		exists:  "ResourceAlreadyExistsException",
		outputs: map[string]string{"url": "https://api.github.com/repos/OWNER/NAME/hooks/{digits9}"},
		replace: "projectName manualCreation scopeConfiguration",
		update:  "branchFilter buildType filterGroups",
		source:  "aws_codebuild_webhook" + fromDocs,
	},
}

package aws

// ecrTypes are image repositories.
var ecrTypes = map[string]resourceType{
	"aws:ecr/repository:Repository": {
		id:      "{name}",
		arn:     "arn:{partition}:ecr:{region}:{account}:repository/{name}",
		lower:   true,
		exists:  "RepositoryAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}", "repositoryUrl": "{account}.dkr.ecr.{region}.{dns}/{name}"},
		replace: "name encryptionConfigurations",
		update:  "forceDelete imageScanningConfiguration imageTagMutability",
		source:  "aws_ecr_repository" + readInSource,
	},
	"aws:ecr/lifecyclePolicy:LifecyclePolicy": {
		id:      "{repository}",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "repository policy",
		source:  "aws_ecr_lifecycle_policy" + fromDocs,
	},
	"aws:ecr/repositoryPolicy:RepositoryPolicy": {
		id:      "{repository}",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "repository",
		update:  "policy",
		source:  "aws_ecr_repository_policy" + fromDocs,
	},
	"aws:ecr/pullThroughCacheRule:PullThroughCacheRule": {
		id:      "{ecrRepositoryPrefix}",
		exists:  "PullThroughCacheRuleAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "ecrRepositoryPrefix upstreamRegistryUrl upstreamRepositoryPrefix",
		update:  "credentialArn customRoleArn",
		source:  "aws_ecr_pull_through_cache_rule" + fromDocs,
	},
	"aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": {
		id:      "{prefix}",
		exists:  "TemplateAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "prefix",
		update: "appliedFors customRoleArn description encryptionConfigurations imageTagMutability lifecyclePolicy " +
			"repositoryPolicy resourceTags",
		source: "aws_ecr_repository_creation_template" + fromDocs,
	},
}

package aws

// secretsTypes are keys and secrets.
var secretsTypes = map[string]resourceType{
	"aws:kms/alias:Alias": {
		id:      "{name}",
		arn:     kmsARN + "{name}",
		exists:  "AlreadyExistsException",
		answer:  answerAlias,
		replace: "name namePrefix",
		update:  "targetKeyId",
		source:  "aws_kms_alias" + fromDocs,
	},
	"aws:kms/keyPolicy:KeyPolicy": {
		id:      "{keyId}",
		replace: "keyId",
		update:  "policy bypassPolicyLockoutSafetyCheck",
		source:  "aws_kms_key_policy" + fromDocs,
	},
	"aws:kms/key:Key": {
		id:      "{uuid}",
		arn:     kmsARN + "key/{id}",
		outputs: map[string]string{"keyId": "{id}"},
		replace: "customKeyStoreId customerMasterKeySpec keyUsage multiRegion xksKeyId",
		update: "bypassPolicyLockoutSafetyCheck deletionWindowInDays description enableKeyRotation isEnabled policy " +
			"rotationPeriodInDays",
		source: "aws_kms_key" + fromDocs,
	},
	"aws:secretsmanager/secret:Secret": {
		id:      "{arn}",
		arn:     "arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{hex6}",
		unique:  "{name}",
		exists:  "ResourceExistsException",
		replace: "name namePrefix",
		update:  "description forceOverwriteReplicaSecret kmsKeyId policy recoveryWindowInDays replicas",
		source:  "aws_secretsmanager_secret" + fromDocs,
	},
	"aws:secretsmanager/secretVersion:SecretVersion": {
		id:      "{secretId}|{uuid}",
		outputs: map[string]string{"arn": "{secretId}", "versionId": "{uuid}"},
		answer:  answerSecretVersion,
		replace: "secretId secretString secretBinary",
		update:  "versionStages",
		source:  "aws_secretsmanager_secret_version" + fromDocs,
	},
}

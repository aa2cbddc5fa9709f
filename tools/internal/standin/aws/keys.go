package aws

// A KeyUse is a property with a KMS key that somebody other than the caller uses: the key's policy has to
// admit him. Services that use a key with the permissions of their caller need what the policy of every
// key of this platform has, the account's own IAM policies.
type KeyUse struct {
	From, Property string
	// Principal is a template: of a service, an account's root or a role.
	Principal string
	Actions   []string
	// Context is the key of the encryption context and a template of its value; "" for none.
	Context, ContextValue string
	Error                 string
	source, read          string
}

// by the account's IAM policies: what a service does with a grant, for its caller.
var byGrant = []string{"kms:CreateGrant", "kms:DescribeKey"}

const accountRoot = "arn:{partition}:iam::{account}:root"

// KeyUses are those of the types that an environment has.
var KeyUses = []KeyUse{
	{
		LogGroup, "kmsKeyId", "logs.{region}.{dns}",
		[]string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:DescribeKey"},
		"aws:logs:arn", "arn:{partition}:logs:{region}:{account}:log-group:{name}",
		"InvalidParameterException", "CloudWatch Logs User Guide, Encrypt log data in CloudWatch Logs using AWS KMS", "2026-11",
	},
	{
		LaunchTemplate, "blockDeviceMappings.ebs.kmsKeyId",
		"arn:{partition}:iam::{account}:role/aws-service-role/autoscaling.{dns}/AWSServiceRoleForAutoScaling",
		append([]string{"kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"}, byGrant...), "", "",
		"Client.InvalidKMSKey.InvalidState", "EC2 Auto Scaling User Guide, Required AWS KMS key policy for use with encrypted volumes", "2026-11",
	},
	{
		Topic, "kmsMasterKeyId", "cloudwatch.{dns}", []string{"kms:Decrypt", "kms:GenerateDataKey"}, "", "",
		"KMSAccessDenied", "CloudWatch User Guide, Notifying users on alarm changes: an encrypted topic; only alarms publish here", "2026-11",
	},
	{
		Cluster, "encryptionConfig.provider.keyArn", accountRoot, byGrant, "", "",
		"InvalidParameterException", "EKS User Guide, Encrypt Kubernetes secrets with KMS on existing clusters: prerequisites", "2026-11",
	},
	{
		Instance, "kmsKeyId", accountRoot, byGrant, "", "",
		"KMSKeyNotAccessibleFault", "RDS User Guide, AWS KMS key management: authorizing use", "2026-11",
	},
	{
		Secret, "kmsKeyId", accountRoot, []string{"kms:Decrypt", "kms:GenerateDataKey"}, "", "",
		"InvalidParameterException", "Secrets Manager User Guide, Secret encryption and decryption: permissions for the key", "2026-11",
	},
	{
		ImageRepository, "encryptionConfigurations.kmsKey", accountRoot, byGrant, "", "",
		"KmsException", "Amazon ECR User Guide, Encryption at rest: required IAM policies", "2026-11",
	},
}

// Fill fills a template of the use for the object that has the key.
func (u KeyUse) Fill(template string, place Place, o Object) string {
	return (&rendering{place: place, object: o}).expand(template)
}

package aws

// s3Types are buckets and their settings.
var s3Types = map[string]resourceType{
	"aws:s3/bucketV2:BucketV2": {
		id:     "{bucket}",
		arn:    "arn:{partition}:s3:::{bucket}",
		name:   "bucket",
		lower:  true,
		exists: "BucketAlreadyOwnedByYou",
		outputs: map[string]string{
			"bucketDomainName": "{bucket}.s3.{dns}", "bucketRegionalDomainName": "{bucket}.s3.{region}.{dns}",
			"hostedZoneId": "Z{upper13}", "region": "{region}",
		},
		replace: "bucket bucketPrefix objectLockEnabled",
		update:  "forceDestroy",
		source:  "aws_s3_bucket" + fromDocs,
	},
	"aws:s3/bucketVersioningV2:BucketVersioningV2": {
		id:      "{bucket}",
		replace: "bucket expectedBucketOwner",
		update:  "mfa versioningConfiguration",
		source:  "aws_s3_bucket_versioning" + fromDocs,
	},
	"aws:s3/bucketPolicy:BucketPolicy": {
		id:      "{bucket}",
		replace: "bucket",
		update:  "policy",
		source:  "aws_s3_bucket_policy" + fromDocs,
	},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls": {
		id:      "{bucket}",
		replace: "bucket",
		update:  "rule",
		source:  "aws_s3_bucket_ownership_controls" + fromDocs,
	},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {
		id:      "{bucket}",
		replace: "bucket expectedBucketOwner",
		update:  "rules",
		source:  "aws_s3_bucket_server_side_encryption_configuration" + fromDocs,
	},
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": {
		id:      "{bucket}",
		replace: "bucket",
		update:  "blockPublicAcls blockPublicPolicy ignorePublicAcls restrictPublicBuckets",
		source:  "aws_s3_bucket_public_access_block" + fromDocs,
	},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": {
		id:      "{bucket}",
		replace: "bucket expectedBucketOwner",
		update:  "rules transitionDefaultMinimumObjectSize",
		source:  "aws_s3_bucket_lifecycle_configuration" + fromDocs,
	},
}

package main

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/s3"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/identity"
)

// state is the bucket for Pulumi's state of every project of the account.
type state struct {
	pulumi.ResourceState

	// BackendURL is the argument of `pulumi login`.
	BackendURL string
}

// stateARN returns the ARN of objects of the state bucket.
func stateARN(bucket, path string) string { return "arn:aws:s3:::" + bucket + path }

// newState creates the bucket: versioned, encrypted with key, closed to the public and to plain
// HTTP.
func newState(ctx *pulumi.Context, name string, c *config, key pulumi.StringInput, opts ...pulumi.ResourceOption) (*state, error) {
	s := &state{BackendURL: fmt.Sprintf("s3://%s?region=%s", c.StateBucket, c.Region)}
	if err := ctx.RegisterComponentResource("loja-veloz:bootstrap:State", name, s, opts...); err != nil {
		return nil, fmt.Errorf("registering the state: %w", err)
	}
	in := pulumi.Parent(s)
	bucket, err := s3.NewBucketV2(ctx, name+"-bucket", &s3.BucketV2Args{
		Bucket: pulumi.String(c.StateBucket),
		Tags:   pulumi.StringMap{"Name": pulumi.String(c.StateBucket)},
	}, in, pulumi.Protect(true))
	if err != nil {
		return nil, fmt.Errorf("creating the state bucket: %w", err)
	}
	id := bucket.ID().ToStringOutput()
	// S3 accepts a bucket's settings only one at a time, and answers 409 to some concurrent
	// requests.
	versioning, err := s3.NewBucketVersioningV2(ctx, name+"-versioning", &s3.BucketVersioningV2Args{
		Bucket:                  id,
		VersioningConfiguration: s3.BucketVersioningV2VersioningConfigurationArgs{Status: pulumi.String("Enabled")},
	}, in)
	if err != nil {
		return nil, fmt.Errorf("versioning the state bucket: %w", err)
	}
	encrypted, err := s3.NewBucketServerSideEncryptionConfigurationV2(
		ctx,
		name+"-encryption",
		&s3.BucketServerSideEncryptionConfigurationV2Args{
			Bucket: id,
			Rules: s3.BucketServerSideEncryptionConfigurationV2RuleArray{s3.BucketServerSideEncryptionConfigurationV2RuleArgs{
				BucketKeyEnabled: pulumi.Bool(true), // one KMS call for many objects
				ApplyServerSideEncryptionByDefault: s3.BucketServerSideEncryptionConfigurationV2RuleApplyServerSideEncryptionByDefaultArgs{
					SseAlgorithm: pulumi.String("aws:kms"), KmsMasterKeyId: key,
				},
			}},
		},
		in,
		pulumi.DependsOn([]pulumi.Resource{versioning}),
	)
	if err != nil {
		return nil, fmt.Errorf("encrypting the state bucket: %w", err)
	}
	blocked, err := s3.NewBucketPublicAccessBlock(ctx, name+"-public-access", &s3.BucketPublicAccessBlockArgs{
		Bucket:          id,
		BlockPublicAcls: pulumi.Bool(true), BlockPublicPolicy: pulumi.Bool(true),
		IgnorePublicAcls: pulumi.Bool(true), RestrictPublicBuckets: pulumi.Bool(true),
	}, in, pulumi.DependsOn([]pulumi.Resource{encrypted}))
	if err != nil {
		return nil, fmt.Errorf("closing the state bucket to the public: %w", err)
	}
	owned, err := s3.NewBucketOwnershipControls(ctx, name+"-ownership", &s3.BucketOwnershipControlsArgs{
		Bucket: id,
		Rule:   s3.BucketOwnershipControlsRuleArgs{ObjectOwnership: pulumi.String("BucketOwnerEnforced")},
	}, in, pulumi.DependsOn([]pulumi.Resource{blocked}))
	if err != nil {
		return nil, fmt.Errorf("turning the state bucket's ACLs off: %w", err)
	}
	policy, err := bucketPolicy(c.StateBucket).Text()
	if err != nil {
		return nil, fmt.Errorf("encoding the state bucket's policy: %w", err)
	}
	if _, err := s3.NewBucketPolicy(ctx, name+"-policy", &s3.BucketPolicyArgs{
		Bucket: id, Policy: pulumi.String(policy),
	}, in, pulumi.DependsOn([]pulumi.Resource{owned})); err != nil {
		return nil, fmt.Errorf("attaching the state bucket's policy: %w", err)
	}
	if _, err := s3.NewBucketLifecycleConfigurationV2(ctx, name+"-lifecycle", &s3.BucketLifecycleConfigurationV2Args{
		Bucket: id,
		Rules: s3.BucketLifecycleConfigurationV2RuleArray{s3.BucketLifecycleConfigurationV2RuleArgs{
			Id: pulumi.String("old-versions"), Status: pulumi.String("Enabled"),
			Filter: s3.BucketLifecycleConfigurationV2RuleFilterArgs{Prefix: pulumi.String("")},
			NoncurrentVersionExpiration: s3.BucketLifecycleConfigurationV2RuleNoncurrentVersionExpirationArgs{
				NoncurrentDays: pulumi.Int(c.StateVersionDays),
			},
			AbortIncompleteMultipartUpload: s3.BucketLifecycleConfigurationV2RuleAbortIncompleteMultipartUploadArgs{
				DaysAfterInitiation: pulumi.Int(7),
			},
		}},
	}, in, pulumi.DependsOn([]pulumi.Resource{versioning})); err != nil {
		return nil, fmt.Errorf("expiring old versions of state: %w", err)
	}
	if c.AccessLogBucket != "" {
		if _, err := s3.NewBucketLoggingV2(ctx, name+"-access-log", &s3.BucketLoggingV2Args{
			Bucket: id, TargetBucket: pulumi.String(c.AccessLogBucket), TargetPrefix: pulumi.String(c.StateBucket + "/"),
		}, in); err != nil {
			return nil, fmt.Errorf("logging access to the state bucket: %w", err)
		}
	}
	if err := ctx.RegisterResourceOutputs(s, pulumi.Map{"backendURL": pulumi.String(s.BackendURL)}); err != nil {
		return nil, fmt.Errorf("registering the state's outputs: %w", err)
	}
	return s, nil
}

// bucketPolicy returns a policy that denies requests without TLS 1.2 or later, and grants
// nothing.
func bucketPolicy(bucket string) identity.PolicyDocument {
	everyone := &identity.Principal{AWS: identity.ARNs("*")}
	all := identity.ARNs(stateARN(bucket, ""), stateARN(bucket, "/*"))
	return identity.PolicyDocument{Statement: []identity.Statement{
		{Sid: "OnlyTLS", Effect: identity.Deny, Principal: everyone, Action: []string{"s3:*"}, Resource: all,
			Condition: identity.Condition{"Bool": {"aws:SecureTransport": {"false"}}}},
		{Sid: "OnlyTLS12", Effect: identity.Deny, Principal: everyone, Action: []string{"s3:*"}, Resource: all,
			Condition: identity.Condition{"NumericLessThan": {"s3:TlsVersion": {"1.2"}}}},
	}}
}

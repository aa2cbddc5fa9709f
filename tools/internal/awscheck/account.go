package awscheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/loja-veloz/platform/tools/internal/publish"
	standin "github.com/loja-veloz/platform/tools/internal/standin/aws"
)

const (
	issuer   = "token.actions.githubusercontent.com"
	audience = "sts.amazonaws.com"
)

// checkBootstrap finds out whether the account's stack has created the environment's role.
func (a *Account) checkBootstrap(ctx context.Context) (string, error) {
	_, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(a.upRole())})
	var absent *iamtypes.NoSuchEntityException
	switch {
	case errors.As(err, &absent):
		return "not applied yet: docs/aws/bootstrap.md", nil
	case err != nil:
		return "", err
	}
	a.bootstrapped = true
	return "has created " + a.upRole(), nil
}

// checkProvider compares GitHub's identity provider with bootstrap's configuration.
func (a *Account) checkProvider(ctx context.Context) (string, error) {
	const field = "loja-veloz-bootstrap:github.existingProvider"
	arn := fmt.Sprintf("arn:aws:iam::%s:oidc-provider/%s", a.stack.Cloud.AccountID, issuer)
	found, err := a.iam.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: aws.String(arn)})
	var absent *iamtypes.NoSuchEntityException
	existing := a.stack.Bootstrap.ExistingProvider
	switch {
	case errors.As(err, &absent) && existing:
		return "", fmt.Errorf("%s is true, and the account has no provider for %s: remove it, so that bootstrap creates one", field, issuer)
	case errors.As(err, &absent):
		return "none yet: bootstrap creates it", nil
	case err != nil:
		return "", err
	case !existing && !a.bootstrapped:
		return "", fmt.Errorf("the account has one for %s already, and allows no second: "+
			"pulumi -C stacks/bootstrap config set -s account --path '%s' true", issuer, field)
	case !slices.Contains(found.ClientIDList, audience):
		return "", fmt.Errorf("it does not trust tokens for %s: aws iam add-client-id-to-open-id-connect-provider "+
			"--open-id-connect-provider-arn %s --client-id %s", audience, arn, audience)
	case existing:
		return "exists and is used, as " + field + " says", nil
	}
	return "exists, by bootstrap", nil
}

// checkPullThrough looks for rules of others with bootstrap's prefixes.
func (a *Account) checkPullThrough(ctx context.Context) (string, error) {
	if a.bootstrapped {
		return "bootstrap has its own", nil
	}
	var taken []string
	pages := ecr.NewDescribePullThroughCacheRulesPaginator(a.ecr, &ecr.DescribePullThroughCacheRulesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", err
		}
		for _, rule := range page.PullThroughCacheRules {
			prefix := aws.ToString(rule.EcrRepositoryPrefix)
			wanted := slices.ContainsFunc(a.stack.Bootstrap.PullThrough, func(u Upstream) bool { return u.Prefix == prefix })
			if wanted && a.stack.Bootstrap.Adopt["images-cache-"+prefix] == "" {
				taken = append(taken, prefix)
			}
		}
	}
	if len(taken) > 0 {
		return "", fmt.Errorf("the account has a rule for %s already: choose another loja-veloz-bootstrap:pullThrough[].prefix, "+
			"or take it over: pulumi -C stacks/bootstrap config set -s account --path 'loja-veloz-bootstrap:adopt.images-cache-%s' %s",
			strings.Join(taken, ", "), taken[0], taken[0])
	}
	return "free", nil
}

// indexes are the media types of images for several processors.
var indexes = []string{"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}

// checkImages refuses images that do not exist, and those that cleanup may delete while they run.
func (a *Account) checkImages(ctx context.Context) (string, error) {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.stack.Images)) {
		if err := a.checkImage(ctx, a.stack.Images[name]); err != nil {
			errs = append(errs, fmt.Errorf("loja-veloz:images.%s %w", name, err))
		}
	}
	return fmt.Sprintf("%d, each with a tag %s*", len(a.stack.Images), publish.ReleasePrefix), errors.Join(errs...)
}

func (a *Account) checkImage(ctx context.Context, image string) error {
	registry, rest, _ := strings.Cut(image, "/")
	repository, digest, found := strings.Cut(rest, "@")
	if !found || !strings.HasPrefix(registry, a.stack.Cloud.AccountID+".dkr.ecr.") {
		return fmt.Errorf("is %q: use an image of the account's ECR, by digest", image)
	}
	images, err := a.ecr.DescribeImages(ctx, &ecr.DescribeImagesInput{
		RepositoryName: aws.String(repository), ImageIds: []ecrtypes.ImageIdentifier{{ImageDigest: aws.String(digest)}},
	})
	if err != nil {
		return fmt.Errorf("is not in ECR: push it (docs/aws/setup.md, step 4): %w", err)
	}
	for _, detail := range images.ImageDetails {
		kind := aws.ToString(detail.ImageManifestMediaType)
		if standin.ARM(a.stack.Cluster.InstanceType) && kind != "" && !slices.Contains(indexes, kind) {
			return fmt.Errorf("is an image for one processor, and cluster.instanceType is %s, of arm64: "+
				"push one for both (docs/aws/costs.md), or use nodes of amd64", a.stack.Cluster.InstanceType)
		}
		if slices.ContainsFunc(detail.ImageTags, func(tag string) bool { return strings.HasPrefix(tag, publish.ReleasePrefix) }) {
			return nil
		}
	}
	return fmt.Errorf("has no tag %[1]s*, so cleanup may delete it: aws ecr put-image --repository-name %[2]s --image-tag %[1]s$(date +%%s) "+
		"--image-digest %[3]s --image-manifest \"$(aws ecr batch-get-image --repository-name %[2]s --image-ids imageDigest=%[3]s "+
		"--query images[0].imageManifest --output text)\"", publish.ReleasePrefix, repository, digest)
}

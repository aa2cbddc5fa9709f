// Package registry creates the account's image repositories in ECR and its cache of
// public registries.
package registry

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ecr"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// untaggedDays is how long untagged images of the cache are kept.
	untaggedDays = 7
	// minKept is the minimum of KeepImages: if a repository kept fewer images than a Rollout keeps
	// revisions, the image to which an abort returns could be gone.
	minKept = 20

	// ReleasePrefix is the prefix of the tags of images that environments run or may return to.
	// Cleanup never deletes an image with such a tag.
	ReleasePrefix = "release-"
	// signaturePrefix is the prefix of the tags of cosign's signatures by a key, sha256-DIGEST.sig. One that
	// is deleted before its image would keep the image from running.
	signaturePrefix = "sha256-"
	// keptReleases is more images than a repository may have, 20,000 unless AWS raises it (ECR
	// User Guide, "Amazon ECR service quotas"). A rule has to name a number.
	keptReleases = 100_000

	encryption = "KMS"
	// credentialPrefix is the prefix of the names of the secrets that ECR reads.
	credentialPrefix = "ecr-pullthroughcache/"
)

// Spec describes a registry.
type Spec struct {
	// Name is the prefix of the names of roles, such as loja-veloz.
	Name              string
	Region, AccountID string
	// Repositories are the names of the repositories to create, such as loja-veloz/sample-web-app.
	Repositories []string
	// KeepImages is how many images a repository keeps, including those of the cache.
	KeepImages int
	// PullThrough are the registries that are cached.
	PullThrough []Upstream
	// Protect keeps Pulumi from deleting repositories. ECR never deletes one that contains images.
	Protect bool
}

// Upstream is a public registry behind the cache.
type Upstream struct {
	// Host is the registry's host, such as quay.io.
	Host string
	// Prefix is the prefix of the repositories that cache it: with quay, quay.io/argoproj/argocd
	// is cached as <account>.dkr.ecr.<region>.amazonaws.com/quay/argoproj/argocd.
	Prefix string
	// CredentialARN is a secret whose name begins with ecr-pullthroughcache/. ghcr.io and Docker
	// Hub need one; for the others it has to be empty.
	CredentialARN string
}

// upstreams are the registries that ECR can cache, and whether it needs credentials for them
// ("Sync an upstream registry" in the ECR user guide).
var upstreams = map[string]bool{
	"quay.io": false, "registry.k8s.io": false, "public.ecr.aws": false,
	"ghcr.io": true, "registry-1.docker.io": true,
}

// Registry is the repositories and the cache.
type Registry struct {
	pulumi.ResourceState

	// URLs are the addresses of the repositories, for push and pull, by repository.
	URLs pulumi.StringMap
	// ARNs are the ARNs of the repositories, by repository.
	ARNs pulumi.StringMap
}

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$`)
	secretARN      = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:(.+)$`)
)

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !validate.AWSPrefix(s.Name) {
		errs.Add("Name", "is %q: use 2 to 40 lower-case letters, digits and dashes", s.Name)
	}
	errs.Account("AccountID", s.AccountID, "Region", s.Region)
	if len(s.Repositories) == 0 {
		errs.Add("Repositories", "is empty")
	}
	for i, repository := range s.Repositories {
		field := fmt.Sprintf("Repositories[%d]", i)
		if !repositoryName.MatchString(repository) || len(repository) < 2 || len(repository) > 256 {
			errs.Add(field, "is %q: use 2 to 256 lower-case letters, digits, and . _ - / between them", repository)
		}
		for _, other := range s.Repositories[:i] {
			switch {
			case other == repository:
				errs.Add(field, "repeats %s", other)
			case childName(other) == childName(repository):
				errs.Add(field, "is %s, whose resources would have the same names as those of %s", repository, other)
			}
		}
	}
	if s.KeepImages < minKept {
		errs.Add("KeepImages", "is %d: use at least %d, to be able to roll back", s.KeepImages, minKept)
	}
	for i, upstream := range s.PullThrough {
		s.validateUpstream(i, upstream, &errs)
	}
	return errs.Err()
}

func (s *Spec) validateUpstream(i int, upstream Upstream, errs *validate.Errors) {
	field := fmt.Sprintf("PullThrough[%d].", i)
	needsCredential, known := upstreams[upstream.Host]
	match := secretARN.FindStringSubmatch(upstream.CredentialARN)
	switch {
	case !known:
		errs.Add(field+"Host", "is %q: known are ghcr.io, public.ecr.aws, quay.io, registry-1.docker.io (Docker Hub), registry.k8s.io",
			upstream.Host)
	case needsCredential && upstream.CredentialARN == "":
		errs.Add(field+"CredentialARN", "is empty: ECR needs credentials to cache %s", upstream.Host)
	case !needsCredential && upstream.CredentialARN != "":
		errs.Add(field+"CredentialARN", "is set: leave it empty for %s", upstream.Host)
	case needsCredential && match == nil:
		errs.Add(field+"CredentialARN", "is %q, which is not the ARN of a secret", upstream.CredentialARN)
	case needsCredential && !strings.HasPrefix(match[1], credentialPrefix):
		errs.Add(field+"CredentialARN", "names the secret %s: use one whose name begins with %s", match[1], credentialPrefix)
	}
	if !validate.CachePrefix(upstream.Prefix) || len(upstream.Prefix) < 2 || len(upstream.Prefix) > 30 {
		errs.Add(field+"Prefix", "is %q: use 2 to 30 lower-case letters, digits, and . _ - between them", upstream.Prefix)
	}
	for _, other := range s.PullThrough[:i] {
		if other.Prefix == upstream.Prefix {
			errs.Add(field+"Prefix", "repeats %s", other.Prefix)
		}
		if other.Host == upstream.Host {
			errs.Add(field+"Host", "repeats %s", other.Host)
		}
	}
	for _, repository := range s.Repositories {
		if strings.HasPrefix(repository, upstream.Prefix+"/") {
			errs.Add(field+"Prefix", "is also the prefix of repository %s, which is not cached: use another prefix", repository)
		}
	}
}

// ECR's lifecycle policy language.
type (
	lifecycle struct {
		Rules []lifecycleRule `json:"rules"`
	}
	lifecycleRule struct {
		RulePriority int       `json:"rulePriority"`
		Description  string    `json:"description"`
		Selection    selection `json:"selection"`
		Action       action    `json:"action"`
	}
	selection struct {
		TagStatus      string   `json:"tagStatus"`
		TagPrefixList  []string `json:"tagPrefixList,omitempty"`
		TagPatternList []string `json:"tagPatternList,omitempty"`
		CountType      string   `json:"countType"`
		CountUnit      string   `json:"countUnit,omitempty"`
		CountNumber    int      `json:"countNumber"`
	}
	action struct {
		Type string `json:"type"`
	}
)

// Lifecycle returns the policy of our repositories. It keeps released images and signatures with a tag, and of all other
// images with a tag the newest. ECR does not know what runs, but an image that a rule selects by its tag cannot be
// deleted by a rule of lower priority, a higher number (ECR User Guide, "Lifecycle policy evaluation rules").
//
// No rule selects what has no tag: an image for one processor, and the bundles with signatures, SBOM and provenance,
// without which an image no longer runs. ECR counts bundles as images (ECR User Guide, "Private images in Amazon ECR"),
// and its documents do not say that a rule spares them while their image is there.
func Lifecycle(keep int) (string, error) {
	tagged := func(description string, prefix string) lifecycleRule {
		return lifecycleRule{Description: description, Selection: selection{
			TagStatus: "tagged", TagPrefixList: []string{prefix}, CountType: "imageCountMoreThan", CountNumber: keptReleases,
		}}
	}
	return encode(
		tagged("Released images stay", ReleasePrefix),
		tagged("Signatures stay", signaturePrefix),
		lifecycleRule{Description: fmt.Sprintf("The newest %d images with a tag stay", keep), Selection: selection{
			TagStatus: "tagged", TagPatternList: []string{"*"}, CountType: "imageCountMoreThan", CountNumber: keep,
		}},
	)
}

// cacheLifecycle returns the policy of cached repositories, whose images can be fetched again: untagged ones go after a
// week, and of all the oldest beyond keep. ECR requires the rule for any tag to be the last.
func cacheLifecycle(keep int) (string, error) {
	return encode(
		lifecycleRule{Description: fmt.Sprintf("Untagged images go after %d days", untaggedDays), Selection: selection{
			TagStatus: "untagged", CountType: "sinceImagePushed", CountUnit: "days", CountNumber: untaggedDays,
		}},
		lifecycleRule{Description: fmt.Sprintf("The newest %d images stay", keep), Selection: selection{
			TagStatus: "any", CountType: "imageCountMoreThan", CountNumber: keep,
		}},
	)
}

// encode numbers the rules by their priority.
func encode(rules ...lifecycleRule) (string, error) {
	for i := range rules {
		rules[i].RulePriority, rules[i].Action = i+1, action{Type: "expire"}
	}
	text, err := json.Marshal(lifecycle{Rules: rules})
	if err != nil {
		return "", fmt.Errorf("encoding a lifecycle policy: %w", err)
	}
	return string(text), nil
}

// builder creates a registry's resources.
type builder struct {
	ctx       *pulumi.Context
	name      string
	spec      *Spec
	keyARN    pulumi.StringInput
	out       *Registry
	lifecycle pulumi.String
	// cacheLifecycle is that of repositories which ECR creates.
	cacheLifecycle pulumi.String
}

// New creates the repositories and the cache. KeyARN is the KMS key of the images, including
// cached ones.
func New(ctx *pulumi.Context, name string, spec *Spec, keyARN pulumi.StringInput, opts ...pulumi.ResourceOption) (*Registry, error) {
	var errs validate.Errors
	errs.Join(spec.Validate())
	errs.Input("KeyARN", keyARN)
	if err := errs.Err(); err != nil {
		return nil, fmt.Errorf("registry %s: %w", name, err)
	}
	policy, err := Lifecycle(spec.KeepImages)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", name, err)
	}
	cached, err := cacheLifecycle(spec.KeepImages)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", name, err)
	}
	r := &Registry{URLs: pulumi.StringMap{}, ARNs: pulumi.StringMap{}}
	return r, component.Register(ctx, "registry", "loja-veloz:registry:Registry", name, r, opts, func() (pulumi.Map, error) {
		b := &builder{
			ctx: ctx, name: name, spec: spec, keyARN: keyARN, out: r, lifecycle: pulumi.String(policy), cacheLifecycle: pulumi.String(cached),
		}
		for _, repository := range spec.Repositories {
			if err := b.createRepository(repository); err != nil {
				return nil, err
			}
		}
		if err := b.createCache(); err != nil {
			return nil, err
		}
		return pulumi.Map{"urls": r.URLs, "arns": r.ARNs}, nil
	})
}

// childName returns a repository's part of the names of its resources.
func childName(repository string) string { return strings.ReplaceAll(repository, "/", "-") }

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

func (b *builder) createRepository(repository string) error {
	child := b.name + "-" + childName(repository)
	created, err := ecr.NewRepository(b.ctx, child, &ecr.RepositoryArgs{
		Name: pulumi.String(repository),
		// Images are named by digest. Their tags, the commits, never move either.
		ImageTagMutability:         pulumi.String("IMMUTABLE"),
		ImageScanningConfiguration: ecr.RepositoryImageScanningConfigurationArgs{ScanOnPush: pulumi.Bool(true)},
		EncryptionConfigurations: ecr.RepositoryEncryptionConfigurationArray{ecr.RepositoryEncryptionConfigurationArgs{
			EncryptionType: pulumi.String(encryption), KmsKey: b.keyARN.ToStringOutput().ToStringPtrOutput(),
		}},
		ForceDelete: pulumi.Bool(false),
		Tags:        pulumi.StringMap{"Name": pulumi.String(repository)},
	}, b.child(), pulumi.Protect(b.spec.Protect))
	if err != nil {
		return fmt.Errorf("creating repository %s: %w", repository, err)
	}
	if _, err := ecr.NewLifecyclePolicy(b.ctx, child+"-lifecycle", &ecr.LifecyclePolicyArgs{
		Repository: created.Name, Policy: b.lifecycle,
	}, b.child()); err != nil {
		return fmt.Errorf("creating the lifecycle policy of repository %s: %w", repository, err)
	}
	b.out.URLs[repository], b.out.ARNs[repository] = created.RepositoryUrl, created.Arn
	return nil
}

// createCache creates a rule per upstream, and before it the template for its repositories:
// without a template, ECR encrypts them with AWS's key and keeps all images.
func (b *builder) createCache() error {
	if len(b.spec.PullThrough) == 0 {
		return nil
	}
	repositories := make([]string, len(b.spec.PullThrough))
	for i, upstream := range b.spec.PullThrough {
		repositories[i] = fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s/*", b.spec.Region, b.spec.AccountID, upstream.Prefix)
	}
	// ECR needs a role if a template names a key.
	role, policies, err := identity.NewRole(b.ctx, b.out, b.name+"-cache", &identity.RoleArgs{
		Name: b.spec.Name + "-ecr-cache", Description: "ECR creates repositories for cached images",
		Trust: identity.ServiceTrust("ecr.amazonaws.com", identity.Is(map[string]string{"aws:SourceAccount": b.spec.AccountID})),
		Policy: identity.PolicyDocument{Statement: []identity.Statement{
			{Sid: "Repositories", Effect: identity.Allow, Action: []string{"ecr:CreateRepository", "ecr:ReplicateImage", "ecr:TagResource"},
				Resource: identity.ARNs(repositories...)},
			{Sid: "Key", Effect: identity.Allow, Action: []string{"kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"},
				Resource: []pulumi.StringInput{b.keyARN}},
		}},
	})
	if err != nil {
		return err
	}
	for _, upstream := range b.spec.PullThrough {
		child := b.name + "-cache-" + upstream.Prefix
		template, err := ecr.NewRepositoryCreationTemplate(b.ctx, child+"-template", &ecr.RepositoryCreationTemplateArgs{
			Prefix: pulumi.String(upstream.Prefix), Description: pulumi.String("Images of " + upstream.Host),
			AppliedFors: pulumi.StringArray{pulumi.String("PULL_THROUGH_CACHE")},
			// Tags are mutable: upstream may move them.
			ImageTagMutability: pulumi.String("MUTABLE"),
			EncryptionConfigurations: ecr.RepositoryCreationTemplateEncryptionConfigurationArray{
				ecr.RepositoryCreationTemplateEncryptionConfigurationArgs{
					EncryptionType: pulumi.String(encryption), KmsKey: b.keyARN.ToStringOutput().ToStringPtrOutput(),
				},
			},
			LifecyclePolicy: b.cacheLifecycle, CustomRoleArn: role.Arn,
		}, b.child(), pulumi.DependsOn(policies))
		if err != nil {
			return fmt.Errorf("creating the template of the cache of %s: %w", upstream.Host, err)
		}
		rule := &ecr.PullThroughCacheRuleArgs{
			EcrRepositoryPrefix: pulumi.String(upstream.Prefix), UpstreamRegistryUrl: pulumi.String(upstream.Host),
		}
		if upstream.CredentialARN != "" {
			rule.CredentialArn = pulumi.String(upstream.CredentialARN)
		}
		if _, err := ecr.NewPullThroughCacheRule(b.ctx, child, rule, b.child(), pulumi.DependsOn([]pulumi.Resource{template})); err != nil {
			return fmt.Errorf("caching %s: %w", upstream.Host, err)
		}
	}
	return nil
}

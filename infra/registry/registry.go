// Package registry makes the account's image repositories in ECR and its cache of
// public registries.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ecr"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/form"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// untaggedDays is how long images live that nothing names any more.
	untaggedDays = 7
	// minKept leaves room to roll back: a lifecycle that keeps fewer images than a
	// Rollout keeps revisions deletes what an abort returns to.
	minKept = 20

	encryption = "KMS"
	// credentialPrefix begins the name of every secret that ECR reads.
	credentialPrefix = "ecr-pullthroughcache/"
)

// Spec describes a registry.
type Spec struct {
	// Name is the prefix of the names of roles, loja-veloz.
	Name              string
	Region, AccountID string
	// Repositories are made as they are named, loja-veloz/sample-web-app.
	Repositories []string
	// KeepImages is how many images a repository keeps, cached ones too.
	KeepImages int
	// PullThrough are the registries that are cached.
	PullThrough []Upstream
	// Protect keeps Pulumi from deleting repositories. With images in it ECR does
	// not delete one anyway.
	Protect bool
}

// Upstream is a public registry behind the cache.
type Upstream struct {
	// Host is the registry's, quay.io.
	Host string
	// Prefix begins the names of the repositories that cache it: quay makes
	// quay.io/argoproj/argocd <account>.dkr.ecr.<region>.amazonaws.com/quay/argoproj/argocd.
	Prefix string
	// CredentialARN is a secret whose name begins with ecr-pullthroughcache/. ghcr.io
	// and Docker Hub need one, the others take none.
	CredentialARN string
}

// upstreams are the registries that ECR can cache here, and whether it needs
// credentials for them ("Sync an upstream registry" in the ECR user guide).
var upstreams = map[string]bool{
	"quay.io": false, "registry.k8s.io": false, "public.ecr.aws": false,
	"ghcr.io": true, "registry-1.docker.io": true,
}

// Registry is the repositories.
type Registry struct {
	pulumi.ResourceState

	// URLs are what images are pushed to and pulled from, by repository.
	URLs pulumi.StringMap
	// ARNs are for policies, by repository.
	ARNs pulumi.StringMap
}

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$`)
	cachePrefix    = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)
	prefixName     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,38}[a-z0-9]$`)
	secretARN      = regexp.MustCompile(`^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:(.+)$`)
)

// Validate reports everything that is wrong with the arguments.
func (s *Spec) Validate() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s %s", field, fmt.Sprintf(format, args...)))
	}
	if !prefixName.MatchString(s.Name) {
		fault("Name", "is %q: use 2 to 40 lower-case letters, digits and dashes", s.Name)
	}
	if !form.ValidRegion(s.Region) {
		fault("Region", "is %q, which is no region's name", s.Region)
	}
	if !form.ValidAccount(s.AccountID) {
		fault("AccountID", "is %q: an account has 12 digits", s.AccountID)
	}
	if len(s.Repositories) == 0 {
		fault("Repositories", "is empty")
	}
	for i, repository := range s.Repositories {
		field := fmt.Sprintf("Repositories[%d]", i)
		if !repositoryName.MatchString(repository) || len(repository) < 2 || len(repository) > 256 {
			fault(field, "is %q: use 2 to 256 lower-case letters, digits, and . _ - / between them", repository)
		}
		for _, other := range s.Repositories[:i] {
			switch {
			case other == repository:
				fault(field, "repeats %s", other)
			case childName(other) == childName(repository):
				fault(field, "is %s, which Pulumi cannot tell from %s", repository, other)
			}
		}
	}
	if s.KeepImages < minKept {
		fault("KeepImages", "is %d: keep at least %d, to roll back to", s.KeepImages, minKept)
	}
	for i, upstream := range s.PullThrough {
		s.validateUpstream(i, upstream, fault)
	}
	return errors.Join(faults...)
}

func (s *Spec) validateUpstream(i int, upstream Upstream, fault func(field, format string, args ...any)) {
	field := fmt.Sprintf("PullThrough[%d].", i)
	needsCredential, known := upstreams[upstream.Host]
	match := secretARN.FindStringSubmatch(upstream.CredentialARN)
	switch {
	case !known:
		fault(field+"Host", "is %q: known are ghcr.io, public.ecr.aws, quay.io, registry-1.docker.io (Docker Hub), registry.k8s.io", upstream.Host)
	case needsCredential && upstream.CredentialARN == "":
		fault(field+"CredentialARN", "is empty: %s is cached with credentials only", upstream.Host)
	case !needsCredential && upstream.CredentialARN != "":
		fault(field+"CredentialARN", "is given: %s takes none", upstream.Host)
	case needsCredential && match == nil:
		fault(field+"CredentialARN", "is %q, which is no secret's ARN", upstream.CredentialARN)
	case needsCredential && !strings.HasPrefix(match[1], credentialPrefix):
		fault(field+"CredentialARN", "names the secret %s: ECR reads those that begin with %s", match[1], credentialPrefix)
	}
	if !cachePrefix.MatchString(upstream.Prefix) || len(upstream.Prefix) < 2 || len(upstream.Prefix) > 30 {
		fault(field+"Prefix", "is %q: use 2 to 30 lower-case letters, digits, and . _ - between them", upstream.Prefix)
	}
	for _, other := range s.PullThrough[:i] {
		if other.Prefix == upstream.Prefix {
			fault(field+"Prefix", "repeats %s", other.Prefix)
		}
		if other.Host == upstream.Host {
			fault(field+"Host", "repeats %s", other.Host)
		}
	}
	for _, repository := range s.Repositories {
		if strings.HasPrefix(repository, upstream.Prefix+"/") {
			fault(field+"Prefix", "is that of repository %s, which is no cache", repository)
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
		TagStatus   string `json:"tagStatus"`
		CountType   string `json:"countType"`
		CountUnit   string `json:"countUnit,omitempty"`
		CountNumber int    `json:"countNumber"`
	}
	action struct {
		Type string `json:"type"`
	}
)

// Lifecycle is the policy that drops untagged images after a week, and of all
// others the oldest beyond keep. ECR wants the rule for any tag to come last.
func Lifecycle(keep int) (string, error) {
	text, err := json.Marshal(lifecycle{Rules: []lifecycleRule{
		{RulePriority: 1, Description: fmt.Sprintf("Untagged images go after %d days", untaggedDays), Action: action{Type: "expire"},
			Selection: selection{TagStatus: "untagged", CountType: "sinceImagePushed", CountUnit: "days", CountNumber: untaggedDays}},
		{RulePriority: 2, Description: fmt.Sprintf("The newest %d images stay", keep), Action: action{Type: "expire"},
			Selection: selection{TagStatus: "any", CountType: "imageCountMoreThan", CountNumber: keep}},
	}})
	if err != nil {
		return "", fmt.Errorf("encoding a lifecycle policy: %w", err)
	}
	return string(text), nil
}

// builder makes a registry's resources.
type builder struct {
	ctx       *pulumi.Context
	name      string
	spec      *Spec
	keyARN    pulumi.StringInput
	out       *Registry
	lifecycle pulumi.String
}

// New makes the repositories and the cache. KeyARN is the KMS key of the images, of
// both kinds.
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
	r := &Registry{URLs: pulumi.StringMap{}, ARNs: pulumi.StringMap{}}
	if err := ctx.RegisterComponentResource("loja-veloz:registry:Registry", name, r, opts...); err != nil {
		return nil, fmt.Errorf("registering registry %s: %w", name, err)
	}
	b := &builder{ctx: ctx, name: name, spec: spec, keyARN: keyARN, out: r, lifecycle: pulumi.String(policy)}
	for _, repository := range spec.Repositories {
		if err := b.makeRepository(repository); err != nil {
			return nil, fmt.Errorf("registry %s: %w", name, err)
		}
	}
	if err := b.makeCache(); err != nil {
		return nil, fmt.Errorf("registry %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(r, pulumi.Map{"urls": r.URLs, "arns": r.ARNs}); err != nil {
		return nil, fmt.Errorf("registering the outputs of registry %s: %w", name, err)
	}
	return r, nil
}

// childName is a repository's part of the names of its resources.
func childName(repository string) string { return strings.ReplaceAll(repository, "/", "-") }

func (b *builder) child() pulumi.ResourceOption { return pulumi.Parent(b.out) }

func (b *builder) makeRepository(repository string) error {
	child := b.name + "-" + childName(repository)
	made, err := ecr.NewRepository(b.ctx, child, &ecr.RepositoryArgs{
		Name: pulumi.String(repository),
		// Images are named by digest; a tag, the commit's, never moves either.
		ImageTagMutability:         pulumi.String("IMMUTABLE"),
		ImageScanningConfiguration: ecr.RepositoryImageScanningConfigurationArgs{ScanOnPush: pulumi.Bool(true)},
		EncryptionConfigurations: ecr.RepositoryEncryptionConfigurationArray{ecr.RepositoryEncryptionConfigurationArgs{
			EncryptionType: pulumi.String(encryption), KmsKey: b.keyARN.ToStringOutput().ToStringPtrOutput(),
		}},
		ForceDelete: pulumi.Bool(false),
		Tags:        pulumi.StringMap{"Name": pulumi.String(repository)},
	}, b.child(), pulumi.Protect(b.spec.Protect))
	if err != nil {
		return fmt.Errorf("making repository %s: %w", repository, err)
	}
	if _, err := ecr.NewLifecyclePolicy(b.ctx, child+"-lifecycle", &ecr.LifecyclePolicyArgs{
		Repository: made.Name, Policy: b.lifecycle,
	}, b.child()); err != nil {
		return fmt.Errorf("giving repository %s its lifecycle: %w", repository, err)
	}
	b.out.URLs[repository], b.out.ARNs[repository] = made.RepositoryUrl, made.Arn
	return nil
}

// makeCache makes a rule per upstream, and before it the template after which ECR
// makes its repositories: without one they are encrypted by AWS's key and keep
// everything.
func (b *builder) makeCache() error {
	if len(b.spec.PullThrough) == 0 {
		return nil
	}
	repositories := make([]string, len(b.spec.PullThrough))
	for i, upstream := range b.spec.PullThrough {
		repositories[i] = fmt.Sprintf("arn:aws:ecr:%s:%s:repository/%s/*", b.spec.Region, b.spec.AccountID, upstream.Prefix)
	}
	// ECR asks for a role where a template names a key.
	role, policies, err := identity.NewRole(b.ctx, b.out, b.name+"-cache", &identity.RoleArgs{
		Name: b.spec.Name + "-ecr-cache", Description: "ECR makes repositories for cached images",
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
			// What upstream moves has to move here.
			ImageTagMutability: pulumi.String("MUTABLE"),
			EncryptionConfigurations: ecr.RepositoryCreationTemplateEncryptionConfigurationArray{ecr.RepositoryCreationTemplateEncryptionConfigurationArgs{
				EncryptionType: pulumi.String(encryption), KmsKey: b.keyARN.ToStringOutput().ToStringPtrOutput(),
			}},
			LifecyclePolicy: b.lifecycle, CustomRoleArn: role.Arn,
		}, b.child(), pulumi.DependsOn(policies))
		if err != nil {
			return fmt.Errorf("making the template of the cache of %s: %w", upstream.Host, err)
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

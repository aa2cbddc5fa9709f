// Package policy defines the rules that no stack of the platform may break, and enforces them
// inside the program, so that they apply to a manual `pulumi up` as in CI. Rules check each
// resource when it is registered, before the engine acts on it. What a preview does not know
// yet is checked by the update.
package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

// Resource is a registered resource, as rules see it.
type Resource struct {
	// Type is the type token, for example aws:rds/instance:Instance.
	Type string
	// Name is the resource's name in the program, not in the cloud.
	Name string
	// Custom is false for components, which have no object in a cloud.
	Custom bool
	// Provider is a reference to the provider; empty is Pulumi's default provider.
	Provider string
	Protect  bool
	// Inputs mark what is secret and what is not known yet.
	Inputs resource.PropertyMap
}

// Recorded builds a Resource from the arguments of Pulumi's mocks.
func Recorded(args pulumi.MockResourceArgs) Resource {
	return Resource{
		Type: args.TypeToken, Name: args.Name, Custom: args.Custom, Provider: args.Provider,
		Protect: args.RegisterRPC.GetProtect(), Inputs: args.Inputs,
	}
}

// Options are the settings of an environment.
type Options struct {
	// Protected requires that the program protects its stateful resources in its own code. In
	// other environments Enforce protects them.
	Protected bool
	// AllowReplace names the stateful resources that this update may replace or
	// delete: their protection is lifted. "*" is every one; a Protected
	// environment has to name them.
	AllowReplace []string
	// DefaultTags are the tags that the AWS provider adds to every resource; nil without AWS.
	DefaultTags map[string]string
	// Exempt lists what a rule does not check.
	Exempt []Exemption
}

// Exemption exempts a resource, or the pods of a namespace, from a rule.
type Exemption struct {
	// Rule is the name of the rule.
	Rule string
	// Resource is the resource's name in the program. Either it or Namespace is set.
	Resource string
	// Namespace is a Kubernetes namespace, for the rules about pods.
	Namespace string
	// Reason says why. It is required.
	Reason string
}

// Names of the rules.
const (
	PublicIngress = "public-ingress"
	WildcardIAM   = "wildcard-iam"
	Encryption    = "encryption"
	Protected     = "protected"
	Tags          = "tags"
	ImageDigest   = "image-digest"
	RestrictedPod = "restricted-pod"
	PlainSecret   = "plain-secret"
)

// RequiredTags are on every AWS resource that can carry tags.
var RequiredTags = []string{"Project", "Environment", "ManagedBy"}

// Rule is a rule that every resource has to satisfy.
type Rule struct {
	Name string
	// Why is the reason for the rule, and Source where it comes from.
	Why, Source string
	// Except is what the rule does not check; empty if it checks everything.
	Except string
	check  func(*Options, Resource) []finding
}

// finding is a property, and what is wrong with it.
type finding struct{ property, message string }

// Violation is a rule broken by a resource.
type Violation struct {
	Rule, Type, Name, Property, Message string
}

// String returns the violation as one sentence.
func (v Violation) String() string {
	return fmt.Sprintf("policy %s: %s %q: %s %s", v.Rule, v.Type, v.Name, v.Property, v.Message)
}

// chartImages is the exception of the rules about pods; see pods.
const chartImages = "the pods of a Helm release: they run the images whose tags infra/charts pins, " +
	"with the pod specification of the chart"

// Rules is the table of all rules, in the order in which they are checked.
func Rules() []Rule {
	return []Rule{
		{PublicIngress, "only the gateway is public", "AWS Security Hub EC2.18, RDS.2, EKS.1, S3.8", "", publicIngress},
		{WildcardIAM, "a role has only the permissions that it needs", "AWS Security Hub IAM.1, IAM.21; IAM User Guide, policy elements", "",
			wildcardIAM},
		{Encryption, "stored data is encrypted with a key that we can revoke",
			"AWS Security Hub RDS.3, EC2.7, ECR.5, EKS.3, KMS.4, S3.17", "", encryption},
		{Protected, "data survives a mistake in a diff", "Pulumi's protect option", "", protected},
		{Tags, "every cost can be assigned to an environment", "DefaultTags of the AWS provider", "", tags},
		{ImageDigest, "the image that was tested is the image that runs",
			"Kubernetes documentation, Images: an image by digest never changes", chartImages, imageDigest},
		{RestrictedPod, "a compromised service cannot affect others",
			"Kubernetes Pod Security Standards, restricted, and a read-only root file system", chartImages, restrictedPod},
		{PlainSecret, "state, logs and diffs show no credential", "Pulumi encrypts only what is marked secret", "", plainSecret},
	}
}

// Validate reports everything that is wrong with the options, one error per line.
func (o *Options) Validate() error {
	var errs validate.Errors
	known := map[string]bool{}
	for _, rule := range Rules() {
		known[rule.Name] = true
	}
	if o.DefaultTags != nil {
		for _, tag := range RequiredTags {
			if o.DefaultTags[tag] == "" {
				errs.Add("DefaultTags", "has no %s: every AWS resource needs it", tag)
			}
		}
	}
	if o.Protected && slices.Contains(o.AllowReplace, "*") {
		errs.Add("AllowReplace", `has "*": a protected environment names each resource that may be replaced`)
	}
	if slices.Contains(o.AllowReplace, "") {
		errs.Add("AllowReplace", "has an empty name")
	}
	for i, exempt := range o.Exempt {
		field := fmt.Sprintf("Exempt[%d]", i)
		if !known[exempt.Rule] {
			errs.Add(field+".Rule", "is %q: use one of %s", exempt.Rule, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if exempt.Rule == Protected {
			errs.Add(field+".Rule", "is %s: use AllowReplace", Protected)
		}
		if (exempt.Resource == "") == (exempt.Namespace == "") {
			errs.Add(field, "needs either Resource or Namespace")
		}
		if exempt.Namespace != "" && exempt.Rule != ImageDigest && exempt.Rule != RestrictedPod {
			errs.Add(field+".Namespace", "is for the rules %s and %s only, not for %s", ImageDigest, RestrictedPod, exempt.Rule)
		}
		if strings.TrimSpace(exempt.Reason) == "" {
			errs.Add(field+".Reason", "is empty")
		}
	}
	return errs.Err()
}

// Check returns every violation of one resource.
func Check(o *Options, r Resource) []Violation {
	var all []Violation
	for _, rule := range Rules() {
		if o.exempts(rule.Name, r) {
			continue
		}
		for _, f := range rule.check(o, r) {
			all = append(all, Violation{Rule: rule.Name, Type: r.Type, Name: r.Name, Property: f.property, Message: f.message})
		}
	}
	return all
}

// Audit returns every violation of recorded resources, as in a test with mocks, one per line.
func Audit(o *Options, resources []Resource) error {
	var errs validate.Errors
	errs.Join(o.Validate())
	for _, r := range resources {
		errs.Join(violated(o, r))
	}
	return errs.Err()
}

// violated returns the violations of one resource, one per line, or nil.
func violated(o *Options, r Resource) error {
	var errs []error
	for _, violation := range Check(o, r) {
		errs = append(errs, errors.New(violation.String()))
	}
	return errors.Join(errs...)
}

func (o *Options) exempts(rule string, r Resource) bool {
	namespace, _ := in(r).at("metadata").at("namespace").text()
	if kind := strings.TrimPrefix(r.Type, "kubernetes:core/v1:"); kind == "Namespace" {
		namespace, _ = in(r).at("metadata").at("name").text()
	}
	return slices.ContainsFunc(o.Exempt, func(e Exemption) bool {
		return e.Rule == rule && (e.Resource == r.Name && e.Resource != "" ||
			e.Namespace == namespace && e.Namespace != "" && strings.HasPrefix(r.Type, "kubernetes:"))
	})
}

func (o *Options) mayReplace(name string) bool {
	return slices.Contains(o.AllowReplace, name) || slices.Contains(o.AllowReplace, "*")
}

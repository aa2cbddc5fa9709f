// Package policy holds the rules that no stack of the platform may break, and
// enforces them inside the program: a `pulumi up` typed by hand meets them as CI
// does. Rules judge what is registered, resource by resource, before the engine
// acts on it; what a preview cannot know yet is judged by the update.
package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Resource is a registration, as a rule sees it.
type Resource struct {
	// Type is the type token, for example aws:rds/instance:Instance.
	Type string
	// Name is the resource's name in the program, not the cloud's.
	Name string
	// Custom is false for components, which have no object in a cloud.
	Custom bool
	// Provider is a reference to the provider; empty is Pulumi's default one.
	Provider string
	Protect  bool
	// Inputs keep what is secret and what is not known yet.
	Inputs resource.PropertyMap
}

// Recorded builds a Resource from what Pulumi's mocks are told.
func Recorded(args pulumi.MockResourceArgs) Resource {
	return Resource{
		Type: args.TypeToken, Name: args.Name, Custom: args.Custom, Provider: args.Provider,
		Protect: args.RegisterRPC.GetProtect(), Inputs: args.Inputs,
	}
}

// Options are an environment's.
type Options struct {
	// Protected environments have to protect their stateful resources in their
	// own code; in others Enforce protects them.
	Protected bool
	// AllowReplace names the stateful resources that this update may replace or
	// delete: their protection is lifted. "*" is every one; a Protected
	// environment has to name them.
	AllowReplace []string
	// DefaultTags are what the AWS provider lays on every resource; none where an
	// environment has no AWS.
	DefaultTags map[string]string
	// Exempt lists what a rule is not to judge.
	Exempt []Exemption
}

// Exemption takes a resource, or the pods of a namespace, out of a rule.
type Exemption struct {
	// Rule is the name of the rule.
	Rule string
	// Resource is the resource's name in the program; or
	Resource string
	// Namespace is a Kubernetes namespace, for the rules about pods.
	Namespace string
	// Reason says why; it is not optional.
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

// Rule is one thing that no resource may do.
type Rule struct {
	Name string
	// Why it is a rule, and Source where it comes from.
	Why, Source string
	// Except is what the rule cannot see, or leaves to something else; empty where
	// there is nothing of the kind.
	Except string
	check  func(*Options, Resource) []finding
}

// finding is a property and what is wrong with it.
type finding struct{ property, message string }

// Violation is a rule broken by a resource.
type Violation struct {
	Rule, Type, Name, Property, Message string
}

// String says what is wrong, in one sentence.
func (v Violation) String() string {
	return fmt.Sprintf("policy %s: %s %q: %s %s", v.Rule, v.Type, v.Name, v.Property, v.Message)
}

// chartImages is said of the rules about pods: see pods.
const chartImages = "the pods of a Helm release: a chart's own images run by the tags that infra/charts pins, " +
	"with the pod specification of the chart's version"

// Rules is the table of all rules, in the order in which they are checked.
func Rules() []Rule {
	return []Rule{
		{PublicIngress, "only the gateway is reached from everywhere", "issue 3; AWS Security Hub EC2.18, RDS.2, EKS.1, S3.8", "", publicIngress},
		{WildcardIAM, "a role can do what it is for and no more", "issue 3; AWS Security Hub IAM.1, IAM.21; IAM User Guide, policy elements", "",
			wildcardIAM},
		{Encryption, "what is stored is encrypted, with a key that is ours to revoke",
			"issue 3; AWS Security Hub RDS.3, EC2.7, ECR.5, EKS.3, KMS.4, S3.17", "", encryption},
		{Protected, "data survives a wrong diff", "issue 3; Pulumi's protect option", "", protected},
		{Tags, "what costs money says whose it is", "issue 3; infra's provider sets DefaultTags", "", tags},
		{ImageDigest, "what was tested is what runs", "issue 3; docs of Kubernetes, Images: an image by digest never changes", chartImages,
			imageDigest},
		{RestrictedPod, "a broken service breaks nothing else",
			"issue 3; Kubernetes Pod Security Standards, restricted, and a read-only root file system", chartImages, restrictedPod},
		{PlainSecret, "state, logs and diffs show no credential", "issue 3; Pulumi encrypts only what is marked secret", "", plainSecret},
	}
}

// Validate reports every fault of the options at once.
func (o *Options) Validate() error {
	var faults []error
	known := map[string]bool{}
	for _, rule := range Rules() {
		known[rule.Name] = true
	}
	if o.DefaultTags != nil {
		for _, tag := range RequiredTags {
			if o.DefaultTags[tag] == "" {
				faults = append(faults, fmt.Errorf("DefaultTags has no %s: every AWS resource needs it", tag))
			}
		}
	}
	if o.Protected && slices.Contains(o.AllowReplace, "*") {
		faults = append(faults, errors.New(`AllowReplace has "*": a protected environment names each resource that may be replaced`))
	}
	if slices.Contains(o.AllowReplace, "") {
		faults = append(faults, errors.New("AllowReplace has an empty name"))
	}
	for i, exempt := range o.Exempt {
		field := fmt.Sprintf("Exempt[%d]", i)
		if !known[exempt.Rule] {
			faults = append(faults, fmt.Errorf("%s.Rule is %q: there are %s", field, exempt.Rule,
				strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		}
		if exempt.Rule == Protected {
			faults = append(faults, fmt.Errorf("%s.Rule is %s: use AllowReplace", field, Protected))
		}
		if (exempt.Resource == "") == (exempt.Namespace == "") {
			faults = append(faults, fmt.Errorf("%s: give either Resource or Namespace", field))
		}
		if exempt.Namespace != "" && exempt.Rule != ImageDigest && exempt.Rule != RestrictedPod {
			faults = append(faults, fmt.Errorf("%s.Namespace is for %s and %s, not for %s", field, ImageDigest, RestrictedPod, exempt.Rule))
		}
		if strings.TrimSpace(exempt.Reason) == "" {
			faults = append(faults, fmt.Errorf("%s.Reason is empty", field))
		}
	}
	return errors.Join(faults...)
}

// Check gives every violation of one resource.
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

// Audit checks resources that were recorded, as in a test with mocks, and joins
// every violation.
func Audit(o *Options, resources []Resource) error {
	faults := []error{o.Validate()}
	for _, r := range resources {
		for _, violation := range Check(o, r) {
			faults = append(faults, errors.New(violation.String()))
		}
	}
	return errors.Join(faults...)
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

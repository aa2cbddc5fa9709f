package policy

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

// credentials are texts that are secrets whatever the property's name. Sources: AWS's IAM
// identifiers, RFC 7468, RFC 7519, GitHub's and Slack's token formats.
var credentials = []struct {
	what string
	form *regexp.Regexp
}{
	{"an AWS access key id", regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`)},
	{"a private key", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----`)},
	{"a JSON web token", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`)},
	{"a GitHub token", regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{40,})`)},
	{"a Slack token", regexp.MustCompile(`\bxox[abprs]-[A-Za-z0-9-]{10,}`)},
	{"a kubeconfig's client key", regexp.MustCompile(`client-key-data["']?\s*:\s*["']?[A-Za-z0-9+/=]{16,}`)},
	{"an address with a password", regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@]+@`)},
}

// secretName matches the names of properties and environment variables that hold a secret and
// not a secret's name.
var secretName = regexp.MustCompile(`(?i)(pass(word|wd|phrase)|secret[_-]?(string|binary|access[_-]?key)|` +
	`api[_-]?key|app[_-]?key|private[_-]?key|client[_-]?secret|(auth|access|refresh|bearer|session)[_-]?token|^token|[a-z]Token|[_-]token)$`)

// references are kinds whose properties name secrets and never contain them.
var references = []string{"ExternalSecret", "SecretStore", "ClusterSecretStore", "CustomResourceDefinition"}

func plainSecret(_ *Options, r Resource) []finding {
	named := !isKubernetes(r) || !slices.Contains(references, kind(r.Type))
	var found []finding
	add := func(f field, what string) {
		found = append(found, finding{f.path, what + " and not marked secret: state and diffs would show it"})
	}
	in(r).walk(func(f field) {
		if f.secret {
			return
		}
		if text, ok := f.text(); ok {
			if what := credential(text); what != "" {
				add(f, "is "+what)
			} else if named && text != "" && secretName.MatchString(f.name()) {
				add(f, fmt.Sprintf("is named %s", f.name()))
			}
			return
		}
		// An environment variable: {name: DB_PASSWORD, value: ...}.
		if name, ok := f.at("name").text(); ok && secretName.MatchString(name) {
			if text, plain := f.at("value").text(); plain && text != "" && !f.at("value").secret {
				add(f.at("value"), fmt.Sprintf("is the value of %s", name))
			}
		}
	})
	if r.Type == "kubernetes:core/v1:Secret" {
		for _, key := range []string{"data", "stringData"} {
			for _, name := range in(r).at(key).keys() {
				f := in(r).at(key).at(name)
				if text, _ := f.text(); text != "" && !f.secret && !slices.ContainsFunc(found, func(x finding) bool { return x.property == f.path }) {
					add(f, "is a Secret's value")
				}
			}
		}
	}
	if r.Type == "aws:ssm/parameter:Parameter" {
		if typ, _ := in(r).at("type").text(); typ == "SecureString" && in(r).at("value").there && !in(r).at("value").secret {
			add(in(r).at("value"), "is a SecureString")
		}
	}
	return found
}

func credential(text string) string {
	for _, known := range credentials {
		if known.form.MatchString(text) {
			return known.what
		}
	}
	return ""
}

// Export exports value as the stack's output called name, and fails the program if it contains
// a credential that is not marked secret: transforms do not see outputs.
func Export(ctx *pulumi.Context, name string, value pulumi.Input) {
	output := pulumi.ToOutput(value)
	ctx.Export(name, output.ApplyT(func(resolved any) (any, error) {
		if pulumi.IsSecret(output) {
			return resolved, nil
		}
		return resolved, checkOutput(name, resolved)
	}))
}

// checkOutput checks a plain output that has become known.
func checkOutput(name string, value any) error {
	found := plainSecret(nil, Resource{
		Type: string(resource.RootStackType), Name: "outputs",
		Inputs: resource.PropertyMap{resource.PropertyKey(name): resource.NewPropertyValue(value)},
	})
	errs := validate.Errors{Prefix: "policy " + PlainSecret + ": the stack's output "}
	for _, f := range found {
		errs.Add(f.property, "%s", f.message)
	}
	return errs.Err()
}

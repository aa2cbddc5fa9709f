// Package identity defines who may do what in AWS: typed policy documents, roles that pods
// assume through EKS Pod Identity, and the trust policy for GitHub's jobs.
package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// policyVersion is the policy language's only current version.
	policyVersion = "2012-10-17"

	// Allow is the effect of a statement that grants.
	Allow = "Allow"
	// Deny is the effect of a statement that no other overrides.
	Deny = "Deny"
)

// PolicyDocument is an IAM policy. Its zero value grants nothing.
type PolicyDocument struct {
	Statement []Statement
}

// Statement is one rule of a policy. Resources and principals may be outputs of other
// resources; everything else is plain.
type Statement struct {
	// Sid names the statement within its document. It has letters and digits only.
	Sid string
	// Effect is Allow or Deny.
	Effect string
	// Principal is set in trust and resource policies only.
	Principal *Principal
	Action    []string
	// Resource holds ARNs. It is empty in trust policies.
	Resource  []pulumi.StringInput
	Condition Condition
}

// Principal is the subject of a statement in a trust or resource policy.
type Principal struct {
	Service []string
	// AWS holds ARNs of roles or accounts.
	AWS []pulumi.StringInput
	// Federated holds ARNs of identity providers.
	Federated []pulumi.StringInput
}

// Condition holds values by operator, such as StringEquals, and key, such as
// aws:RequestedRegion. One of the values of a key has to match.
type Condition map[string]map[string][]string

// Is returns the condition StringEquals with one value for each key.
func Is(pairs map[string]string) Condition {
	keys := map[string][]string{}
	for key, value := range pairs {
		keys[key] = []string{value}
	}
	return Condition{"StringEquals": keys}
}

// ARNs converts plain strings into the resources of a statement.
func ARNs(plain ...string) []pulumi.StringInput {
	inputs := make([]pulumi.StringInput, len(plain))
	for i, arn := range plain {
		inputs[i] = pulumi.String(arn)
	}
	return inputs
}

// The encoded form: encoding/json sorts the keys of maps and keeps the order of
// fields and lists, so a document is the same on every run.
type (
	encodedDocument struct {
		Version   string
		Statement []encodedStatement
	}
	encodedStatement struct {
		Sid       string `json:",omitempty"`
		Effect    string
		Principal *encodedPrincipal `json:",omitempty"`
		Action    []string
		Resource  []string  `json:",omitempty"`
		Condition Condition `json:",omitempty"`
	}
	encodedPrincipal struct {
		Service   []string `json:",omitempty"`
		AWS       []string `json:",omitempty"`
		Federated []string `json:",omitempty"`
	}
)

// inputs returns the document's Inputs in the order in which encode expects their values.
func (d PolicyDocument) inputs() []any {
	var inputs []any
	add := func(list []pulumi.StringInput) {
		for _, input := range list {
			inputs = append(inputs, input)
		}
	}
	for _, s := range d.Statement {
		if s.Principal != nil {
			add(s.Principal.AWS)
			add(s.Principal.Federated)
		}
		add(s.Resource)
	}
	return inputs
}

func (d PolicyDocument) encode(values []string) (string, error) {
	take := func(list []pulumi.StringInput) []string {
		taken := values[:len(list)]
		values = values[len(list):]
		return taken
	}
	document := encodedDocument{Version: policyVersion, Statement: []encodedStatement{}}
	for _, s := range d.Statement {
		encoded := encodedStatement{Sid: s.Sid, Effect: s.Effect, Action: s.Action, Condition: s.Condition}
		if s.Principal != nil {
			encoded.Principal = &encodedPrincipal{
				Service: s.Principal.Service, AWS: take(s.Principal.AWS), Federated: take(s.Principal.Federated),
			}
		}
		encoded.Resource = take(s.Resource)
		document.Statement = append(document.Statement, encoded)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	// A policy may contain "<" and "&".
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return "", fmt.Errorf("encoding a policy document: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// JSON returns the document in IAM's format. It is known once every ARN in it is.
func (d PolicyDocument) JSON() pulumi.StringOutput {
	return pulumi.All(d.inputs()...).ApplyT(func(resolved []any) (string, error) {
		values := make([]string, len(resolved))
		for i, value := range resolved {
			text, ok := value.(string)
			if !ok {
				return "", fmt.Errorf("an ARN of a policy is a %T", value)
			}
			values[i] = text
		}
		return d.encode(values)
	}).(pulumi.StringOutput)
}

// Text returns the document if all of its ARNs are plain strings, and an error otherwise.
func (d PolicyDocument) Text() (string, error) {
	var values []string
	for _, input := range d.inputs() {
		plain, ok := input.(pulumi.String)
		if !ok {
			return "", errors.New("the policy names a resource that is not known yet")
		}
		values = append(values, string(plain))
	}
	return d.encode(values)
}

// Validate reports statements that IAM refuses, and statements that grant too much: an Allow on
// every resource needs a condition, and may not cover a whole service.
func (d PolicyDocument) Validate() error {
	var errs validate.Errors
	if len(d.Statement) == 0 {
		errs.Add("Statement", "is empty: the policy grants nothing")
	}
	sids := map[string]bool{}
	for i, s := range d.Statement {
		of := fmt.Sprintf("Statement[%d] (%s): ", i, s.Sid)
		if s.Effect != Allow && s.Effect != Deny {
			errs.Add(of+"Effect", "is %q: use Allow or Deny", s.Effect)
		}
		if s.Sid != "" && sids[s.Sid] {
			errs.Add(of+"Sid", "repeats that of an earlier statement")
		}
		sids[s.Sid] = true
		if strings.ContainsFunc(s.Sid, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
		}) {
			errs.Add(of+"Sid", "is %q: use letters and digits", s.Sid)
		}
		if len(s.Action) == 0 {
			errs.Add(of+"Action", "is empty")
		}
		if len(s.Resource) == 0 && s.Principal == nil {
			errs.Add(of+"Resource", "is empty")
		}
		everything := slices.ContainsFunc(s.Resource, func(r pulumi.StringInput) bool { return r == pulumi.String("*") })
		for _, action := range s.Action {
			service, verb, found := strings.Cut(action, ":")
			switch {
			case action == "*" && s.Effect == Allow:
				errs.Add(of+"Action", "is \"*\": name the actions")
			case action != "*" && (!found || service == "" || verb == ""):
				errs.Add(of+"Action", "contains %q: use the form service:Action", action)
			case everything && verb == "*" && s.Effect == Allow && s.Principal == nil:
				// In a resource policy, which has a Principal, "*" is that one resource.
				errs.Add(of+"Action", "contains %s on every resource: name the actions or the resources", action)
			}
		}
		if everything && s.Effect == Allow && s.Principal == nil && len(s.Condition) == 0 {
			errs.Add(of+"Resource", "is \"*\" without a Condition")
		}
	}
	return errs.Err()
}

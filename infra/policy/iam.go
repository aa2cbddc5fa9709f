package policy

import (
	"encoding/json"
	"fmt"
	"strings"
)

// document is the part of an IAM policy document that can be too wide. IAM accepts a single
// string or statement in place of a list.
type document struct {
	Statement list[statement]
}

type statement struct {
	Effect                  string
	Action, NotAction       list[string]
	Resource, NotResource   list[string]
	Principal, NotPrincipal json.RawMessage
	Condition               map[string]map[string]any
}

type list[T any] []T

func (l *list[T]) UnmarshalJSON(raw []byte) error {
	var many []T
	if err := json.Unmarshal(raw, &many); err == nil {
		*l = many
		return nil
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*l = list[T]{one}
	return nil
}

// keyPolicies are the types with a KMS key policy, whose Resource "*" is the key itself.
var keyPolicies = map[string]bool{
	"aws:kms/key:Key": true, "aws:kms/keyPolicy:KeyPolicy": true,
	"aws:kms/replicaKey:ReplicaKey": true, "aws:kms/externalKey:ExternalKey": true,
}

func wildcardIAM(_ *Options, r Resource) []finding {
	if !isAWS(r) {
		return nil
	}
	var found []finding
	// Every text with a Statement is a policy, whatever the property's name.
	in(r).walk(func(f field) {
		raw, ok := f.text()
		if !ok || !strings.HasPrefix(strings.TrimSpace(raw), "{") || !strings.Contains(raw, `"Statement"`) {
			return
		}
		var policy document
		if err := json.Unmarshal([]byte(raw), &policy); err != nil {
			found = append(found, finding{f.path, "is not a valid policy: " + err.Error()})
			return
		}
		for i, s := range policy.Statement {
			for _, message := range s.violations(keyPolicies[r.Type]) {
				found = append(found, finding{fmt.Sprintf("%s Statement[%d]", f.path, i), message})
			}
		}
	})
	return found
}

// violations returns what is wrong with a statement. In a key policy, ofKey, Resource "*" is the key.
func (s *statement) violations(ofKey bool) []string {
	if s.Effect == "Deny" {
		return nil // a denial cannot be too wide
	}
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if len(s.NotAction) > 0 {
		add("allows by NotAction: name what is allowed")
	}
	if len(s.NotResource) > 0 {
		add("allows by NotResource: name what is allowed")
	}
	if len(s.NotPrincipal) > 0 {
		add("allows by NotPrincipal: name who is allowed")
	}
	if anyone(s.Principal) && !s.namesCaller() {
		add("allows any Principal: name who is allowed, or the account in a condition")
	}
	wide, whole := false, ""
	for _, resource := range s.Resource {
		wide = wide || wildResource(resource)
		if wholeType(resource) {
			whole = resource
		}
	}
	for _, action := range s.Action {
		service, operation, _ := strings.Cut(strings.ToLower(action), ":")
		switch {
		case service == "*" || operation == "" && strings.Contains(action, "*"):
			add("allows the Action %s: name the actions", action)
		case service == "iam" && operation == "*":
			add("allows the Action %s, with which a caller can grant itself any other: name the actions", action)
		case ofKey:
		case !wide && strings.Trim(operation, "*?") == "" && whole != "":
			add("allows %s on %s, every resource of a type: name the actions or the resources", action, whole)
		case !wide:
		case operation == "passrole" && s.has("iam:PassedToService"):
		case service == "iam" && operation == "passrole", service == "sts" && strings.HasPrefix(operation, "assumerole"):
			add("allows %s on every resource: name the roles", action)
		case strings.ContainsAny(operation, "*?") && !strings.HasPrefix(operation, "describe") && !strings.HasPrefix(operation, "list"):
			add("allows %s on every resource: name the actions or the resources", action)
		}
	}
	return found
}

// anyone tells whether a Principal is "*", alone or in the list of AWS principals.
func anyone(raw json.RawMessage) bool {
	if len(raw) == 0 {
		return false
	}
	var all string
	if json.Unmarshal(raw, &all) == nil {
		return all == "*"
	}
	var by map[string]list[string]
	if json.Unmarshal(raw, &by) != nil {
		return false
	}
	for _, principals := range by {
		for _, principal := range principals {
			if principal == "*" {
				return true
			}
		}
	}
	return false
}

// namesCaller tells whether a condition restricts who "*" is.
func (s *statement) namesCaller() bool {
	for operator, keys := range s.Condition {
		if !strings.HasPrefix(operator, "StringEquals") && !strings.HasPrefix(operator, "ArnEquals") && !strings.HasPrefix(operator, "ArnLike") {
			continue
		}
		for key := range keys {
			switch strings.ToLower(key) {
			case "aws:principalaccount", "aws:principalorgid", "aws:principalarn", "aws:sourceaccount", "aws:sourcearn", "kms:calleraccount":
				return true
			}
		}
	}
	return false
}

func (s *statement) has(condition string) bool {
	for _, keys := range s.Condition {
		for key := range keys {
			if strings.EqualFold(key, condition) {
				return true
			}
		}
	}
	return false
}

// wildResource tells whether an ARN matches every resource.
func wildResource(arn string) bool {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return strings.HasSuffix(arn, "*")
	}
	return onlyWildcards(parts[5])
}

// wholeType tells whether an ARN matches every resource of a type, such as key/* and secret:*.
// S3's ARNs have no type: bucket/* matches the objects of one bucket.
func wholeType(arn string) bool {
	if wildResource(arn) {
		return true
	}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 || parts[2] == "s3" {
		return false
	}
	at := strings.IndexAny(parts[5], "/:")
	return at >= 0 && onlyWildcards(parts[5][at+1:])
}

// onlyWildcards is true for *, */*, *:* and the like, and false for an empty text.
func onlyWildcards(text string) bool {
	return strings.ContainsAny(text, "*?") && strings.Trim(text, "*?/:-") == ""
}

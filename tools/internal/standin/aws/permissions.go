package aws

import (
	"encoding/json"
	"fmt"
	"strings"
)

// anyResource is the resource of an action that AWS authorizes for no particular one.
const anyResource = "*"

// Permissions are what the Allow statements of a policy document admit. They know no conditions, so they
// admit more than AWS, and no Deny: those of this platform have conditions.
type Permissions []allowed

type allowed struct{ Actions, Resources []string }

// texts is a string or a list of them.
type texts []string

func (t *texts) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(t))
}

// ParsePolicy reads a policy document.
func ParsePolicy(document string) (Permissions, error) {
	var read struct {
		Statement []struct {
			Effect           string
			Action, Resource texts
		}
	}
	if err := json.Unmarshal([]byte(document), &read); err != nil {
		return nil, fmt.Errorf("reading a policy: %w", err)
	}
	var p Permissions
	for _, s := range read.Statement {
		if s.Effect == "Allow" {
			p = append(p, allowed{s.Action, s.Resource})
		}
	}
	return p, nil
}

// Allows reports whether a statement admits an action for a resource, an ARN whose unknown parts
// are *. No resource means any.
func (p Permissions) Allows(action, resource string) bool {
	for _, s := range p {
		for _, pattern := range s.Actions {
			if !overlap(strings.ToLower(pattern), strings.ToLower(action)) {
				continue
			}
			for _, named := range s.Resources {
				if resource == "" || named == anyResource || resource != anyResource && overlap(named, resource) {
					return true
				}
			}
		}
	}
	return false
}

// Missing returns what the policies lack for an operation on a type: the actions, each with the
// resource that no statement admits it for. Known is false for a type without a row.
func (p Permissions) Missing(token string, operation Operation, place Place) (missing []string, known bool) {
	actions, known := Actions(token, operation)
	for _, action := range actions {
		arns, _ := Authorized(action, place.Partition(), place.Region, place.Account)
		if len(arns) == 0 && !p.Allows(action, "") {
			missing = append(missing, action)
		}
		for _, arn := range arns {
			if !p.Allows(action, arn) {
				missing = append(missing, action+" on "+arn)
			}
		}
	}
	return missing, known
}

// overlap reports whether two patterns with * and ? have a text in common.
func overlap(a, b string) bool {
	switch {
	case a == "" && b == "":
		return true
	case a != "" && a[0] == '*':
		return overlap(a[1:], b) || b != "" && overlap(a, b[1:])
	case b != "" && b[0] == '*':
		return overlap(a, b[1:]) || a != "" && overlap(a[1:], b)
	case a == "" || b == "":
		return false
	}
	return (a[0] == b[0] || a[0] == '?' || b[0] == '?') && overlap(a[1:], b[1:])
}

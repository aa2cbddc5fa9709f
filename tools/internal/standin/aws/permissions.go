package aws

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// anyResource is the resource of an action that AWS authorizes for no particular one.
const anyResource = "*"

// Permissions are the statements of policies.
type Permissions []statement

type statement struct {
	Effect             string
	Principal          principals
	Actions, Resources texts
	Condition          map[string]map[string]texts
}

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

// principals are whom a statement of a resource's policy is about.
type principals []string

func (p *principals) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*p = principals{one}
		return nil
	}
	var kinds map[string]texts
	err := json.Unmarshal(raw, &kinds)
	for _, named := range kinds {
		*p = append(*p, named...)
	}
	return err
}

// ParsePolicy reads a policy document.
func ParsePolicy(document string) (Permissions, error) {
	var read struct {
		Statement []struct {
			Effect           string
			Principal        principals
			Action, Resource texts
			Condition        map[string]map[string]texts
		}
	}
	if err := json.Unmarshal([]byte(document), &read); err != nil {
		return nil, fmt.Errorf("reading a policy: %w", err)
	}
	var p Permissions
	for _, s := range read.Statement {
		p = append(p, statement{s.Effect, s.Principal, s.Action, s.Resource, s.Condition})
	}
	return p, nil
}

// For returns the statements of a resource's policy that are about a principal: a service, an
// account's root, or a role.
func (p Permissions) For(principal string) Permissions {
	var about Permissions
	for _, s := range p {
		if slices.Contains(s.Principal, principal) || slices.Contains(s.Principal, anyResource) {
			about = append(about, s)
		}
	}
	return about
}

// Allows reports whether the policies admit an action for a resource, an ARN whose unknown parts
// are *. No resource means any. A condition on a key that keys do not have is taken for met where
// a statement allows, and for unmet where it denies: more is admitted than by AWS, and never less.
func (p Permissions) Allows(action, on string, keys Keys) bool {
	allowed := false
	for _, s := range p {
		if !slices.ContainsFunc(s.Actions, func(pattern string) bool { return overlap(strings.ToLower(pattern), strings.ToLower(action)) }) {
			continue
		}
		met := keys.judge(s.Condition)
		switch s.Effect {
		case "Allow":
			allowed = allowed || met != unmet && slices.ContainsFunc(s.Resources, func(named string) bool {
				return on == "" || named == anyResource || on != anyResource && overlap(named, on)
			})
		case "Deny":
			// What is denied for a part of the resources that are meant may be admitted for others.
			if met == isMet && slices.ContainsFunc(s.Resources, func(named string) bool { return covers(named, on) }) {
				return false
			}
		}
	}
	return allowed
}

// A Request is an operation on an object, as a caller's permissions are judged. What is not known is nil.
type Request struct {
	Type      string
	Operation Operation
	Place     Place
	// Inputs are the object's, and Before the outputs that it had.
	Inputs, Before resource.PropertyMap
	// Find returns the outputs of the object that a reference names, nil if it is not known.
	Find func(r Reference, name string) resource.PropertyMap
}

// Missing returns what the policies lack for a request: the actions, each with the resource that they
// do not admit it for. Known is false for a type without a row.
func (p Permissions) Missing(r Request) (missing []string, known bool) {
	actions, known := Actions(r.Type, r.Operation)
	for _, action := range actions {
		arns, _ := Authorized(action, r.Place.Partition(), r.Place.Region, r.Place.Account)
		if len(arns) == 0 && !p.Allows(action, "", r.keys(actions[0], action, "")) {
			missing = append(missing, action)
		}
		for _, arn := range arns {
			if !p.Allows(action, arn, r.keys(actions[0], action, arn)) {
				missing = append(missing, action+" on "+arn)
			}
		}
	}
	return missing, known
}

// keys are the condition keys of one call among those of the request, of which first is the one that
// creates the object.
//
// Source: IAM User Guide, AWS global condition context keys; Service Authorization Reference, condition
// keys of Amazon EC2 and of IAM; read in 2026-11.
func (r Request) keys(first, action, arn string) Keys {
	k := Keys{}
	switch service, _, _ := strings.Cut(action, ":"); service {
	case "iam", "route53", "budgets": // global: their region is not the caller's
	default:
		k["aws:RequestedRegion"] = []string{r.Place.Region}
	}
	creates := r.Operation == Create && action == first
	if creates || r.Operation == Create && action == "ec2:CreateTags" && r.Type != NodeGroup { // whose machines it tags
		k.tags("aws:RequestTag/", r.Inputs)
		k["ec2:CreateAction"] = []string{strings.TrimPrefix(first, "ec2:")}
	}
	if arn != "" && arn != anyResource {
		r.resourceTags(k, creates, arn)
	}
	switch r.Type {
	case Role:
		k.optional("iam:PermissionsBoundary", r.Inputs, "permissionsBoundary")
	case RolePolicy, RolePolicyAttachment:
		k.optional("iam:PermissionsBoundary", r.referred(Role), "permissionsBoundary")
		k.optional("iam:PolicyARN", r.Inputs, "policyArn")
	}
	return k
}

// resourceTags adds the tags of the resource that an ARN names: of the object itself, which has none
// while it is created, or of one that it refers to.
func (r Request) resourceTags(k Keys, creates bool, arn string) {
	const prefix = "aws:ResourceTag/"
	switch {
	case !isARNOf(r.Type, r.Place, arn):
		for _, ref := range References {
			if ref.From == r.Type && isARNOf(ref.To, r.Place, arn) {
				k.tags(prefix, r.referred(ref.To))
				return
			}
		}
	case creates:
		k.tags(prefix, resource.PropertyMap{})
	case r.Operation == Create:
		k.tags(prefix, r.Inputs)
	default:
		k.tags(prefix, r.Before)
	}
}

// referred are the outputs of the first object of a type that the request's object refers to.
func (r Request) referred(to string) resource.PropertyMap {
	if r.Find == nil {
		return nil
	}
	for _, ref := range References {
		if ref.From != r.Type || ref.To != to {
			continue
		}
		for _, name := range ref.Names(r.Inputs) {
			if found := r.Find(ref, name); found != nil {
				return found
			}
		}
	}
	return nil
}

// isARNOf reports whether an ARN whose unknown parts are * is that of a type's objects.
func isARNOf(token string, place Place, arn string) bool {
	template := types[token].arn
	if token == NATGateway {
		template = ec2ARN + "natgateway/{id}"
	}
	replacer := strings.NewReplacer("{partition}", place.Partition(), "{region}", place.Region, "{account}", place.Account)
	form := templatePart.ReplaceAllString(replacer.Replace(template), "*")
	return form != "" && covers(form, arn)
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

// covers reports whether a pattern with * and ? matches a text, in which * is a letter like others.
func covers(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] == '*':
		return covers(pattern[1:], text) || text != "" && covers(pattern, text[1:])
	case text == "":
		return false
	}
	return (pattern[0] == text[0] || pattern[0] == '?') && covers(pattern[1:], text[1:])
}

// Keys are the condition keys of a request. One that is not there is not known; one without values is
// absent from the request.
type Keys map[string][]string

// absentTags marks that an object's tags are known, so that those that it does not have are absent.
const absentTags = "*"

// tags adds the tags of an object, if they are known.
func (k Keys) tags(prefix string, properties resource.PropertyMap) {
	if properties == nil {
		return
	}
	property := resource.PropertyKey("tagsAll")
	if !properties.HasValue(property) {
		property = "tags"
	}
	v := properties[property]
	if v.ContainsUnknowns() {
		return
	}
	k[prefix+absentTags] = nil
	if v = value.Plain(v); v.IsObject() {
		for key, tag := range v.ObjectValue() {
			if tag.IsString() {
				k[prefix+string(key)] = []string{tag.StringValue()}
			}
		}
	}
}

// optional adds the value of a property, or its absence, if the object is known.
func (k Keys) optional(key string, properties resource.PropertyMap, property string) {
	v := properties[resource.PropertyKey(property)]
	if properties == nil || v.ContainsUnknowns() {
		return
	}
	k[key] = nil
	if text := value.Text(properties, property); text != "" {
		k[key] = []string{text}
	}
}

// values of a key: those that the request has, and whether that is known.
func (k Keys) values(key string) (values []string, known bool) {
	if values, known = k[key]; known {
		return values, true
	}
	service, name, _ := strings.Cut(key, "/")
	_, known = k[service+"/"+absentTags]
	return nil, known && name != ""
}

type verdict int

const (
	unknown verdict = iota
	isMet
	unmet
)

// judge judges a statement's condition: all of its operators and keys have to be met.
func (k Keys) judge(condition map[string]map[string]texts) verdict {
	all := isMet
	for operator, keys := range condition {
		for key, wanted := range keys {
			switch k.judgeOne(operator, key, wanted) {
			case unmet:
				return unmet
			case unknown:
				all = unknown
			}
		}
	}
	return all
}

// operators compare a request's value with one that a condition wants. Negated ones are met if none
// of the values fits.
//
// Source: IAM User Guide, IAM JSON policy elements: Condition operators, read in 2026-11.
var operators = map[string]struct {
	fits    func(wanted, is string) bool
	negated bool
}{
	"StringEquals":    {func(wanted, is string) bool { return wanted == is }, false},
	"StringNotEquals": {func(wanted, is string) bool { return wanted == is }, true},
	"StringLike":      {covers, false},
	"StringNotLike":   {covers, true},
	"ArnEquals":       {covers, false},
	"ArnNotEquals":    {covers, true},
	"ArnLike":         {covers, false},
	"ArnNotLike":      {covers, true},
}

func (k Keys) judgeOne(operator, key string, wanted []string) verdict {
	values, known := k.values(key)
	if !known {
		return unknown
	}
	if operator == "Null" {
		return met(slices.Contains(wanted, fmt.Sprint(len(values) == 0)))
	}
	base, ifExists := strings.CutSuffix(operator, "IfExists")
	compare, known := operators[base]
	switch {
	case !known:
		return unknown
	case len(values) == 0:
		return met(ifExists || compare.negated)
	}
	fits := slices.ContainsFunc(wanted, func(w string) bool { return compare.fits(w, values[0]) })
	return met(fits != compare.negated)
}

func met(is bool) verdict {
	if is {
		return isMet
	}
	return unmet
}

package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// DefaultsKey lists the inputs that the plugin chose, as in pulumi-aws.
const DefaultsKey = "__defaults"

// Chosen reports whether the plugin chose the value of a property.
func Chosen(inputs resource.PropertyMap, property string) bool {
	return slices.Contains(value.Texts(inputs, DefaultsKey), property)
}

// NameProperty is the property that the plugin generates if the program does not set it,
// if the type has one.
func NameProperty(known *schema.Resource) (property string, ok bool) {
	property = types[known.Token].name
	if property == "" {
		property = "name"
	}
	field, has := known.Inputs[property]
	return property, has && field.Optional && field.Type.Kind == schema.String
}

// GeneratedName is the name of a resource that the program does not name. The real
// plugin's suffix is random, but a plan must be the same on every run: this one derives
// from the URN and n, which counts the names that were taken.
func GeneratedName(urn resource.URN, n int) string {
	name := urn.Name()
	if types[string(urn.Type())].lower {
		name = strings.ToLower(name)
	}
	if len(name) > 55 {
		name = name[:55]
	}
	name += "-" + Digest(string(urn), fmt.Sprint(n))[:7]
	if urn.Type() == Alias {
		name = "alias/" + name
	}
	return name
}

// Identify returns the id of an object, which is its name where AWS names it so and
// derives from the seed elsewhere, and what no second object may have.
func Identify(place Place, o Object) (id, unique string, err error) {
	t, ok := types[o.Type]
	if !ok {
		t.id = "{name|" + lowerName(o.Type) + "-{hex17}}"
	}
	r := &rendering{place: place, object: o, out: resource.PropertyMap{}}
	if strings.Contains(t.id, "{arn}") {
		r.out["arn"] = r.text(t.arn)
	}
	if id = r.expand(t.id); id == "" {
		return "", "", fmt.Errorf("%s: the inputs name no id: %s", o.Type, t.id)
	}
	return id, Unique(place, o), nil
}

// Unique returns what no second object of the type may have, "" if only the id is unique.
func Unique(place Place, o Object) string {
	return (&rendering{place: place, object: o}).expand(types[o.Type].unique)
}

// ExistsError is AWS's error code for an object that exists already.
func ExistsError(token string) string {
	if code := types[token].exists; code != "" {
		return code
	}
	return "ResourceConflict"
}

// templatePart is what a template has in braces, without alternatives of its own.
var templatePart = regexp.MustCompile(`\{[^{}]*\}`)

var derivedPart = regexp.MustCompile(`\{(hex|upper|digits)[0-9]+\}|\{uuid\}`)

// GeneratesID reports whether AWS generates the id of a type's objects, so that two objects
// with the same inputs have different ids.
func GeneratesID(token string) bool {
	t := types[token]
	return derivedPart.MatchString(strings.ReplaceAll(t.id, "{arn}", t.arn))
}

// DeleteFirst reports whether an object is deleted before its replacement is created.
//
// Where the plugin can name an object, it is when the program chose the name: pulumi-aws
// does so even if the name changes, and even if AWS would accept the name twice.
//
// Elsewhere it is when AWS would refuse the replacement because of what it has in common
// with the old object; with an id that AWS generates, that is nothing.
//
// Source: https://github.com/pulumi/pulumi-terraform/pull/465.
func DeleteFirst(place Place, known *schema.Resource, olds, news resource.PropertyMap) bool {
	if property, ok := NameProperty(known); ok {
		return news.HasValue(resource.PropertyKey(property)) && !Chosen(news, property)
	}
	t, ok := types[known.Token]
	if !ok {
		return false
	}
	template := t.unique
	if template == "" {
		if GeneratesID(known.Token) {
			return false
		}
		template = t.id
	}
	before := &rendering{place: place, object: Object{Type: known.Token, Inputs: olds}}
	after := &rendering{place: place, object: Object{Type: known.Token, Inputs: news}}
	return before.expand(template) == after.expand(template)
}

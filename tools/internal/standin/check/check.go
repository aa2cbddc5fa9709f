// Package check compares values with the types of package schema.
package check

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A Failure is an error in an input, with the property's path as Pulumi writes it:
// ingress[0].fromPort.
type Failure struct {
	Path, Reason string
}

// Failures collects every error of a check.
type Failures []Failure

// Add adds one error.
func (c *Failures) Add(path, format string, args ...any) {
	*c = append(*c, Failure{path, fmt.Sprintf(format, args...)})
}

// Properties checks values against fields. It returns them with numbers and booleans that
// are given as strings parsed, as the bridge of the released plugin does.
func (c *Failures) Properties(
	path, of string, values resource.PropertyMap, fields map[string]schema.Field, required []string,
) (resource.PropertyMap, error) {
	result := resource.PropertyMap{}
	for _, key := range values.StableKeys() {
		name := string(key)
		if value.Internal(key) {
			result[key] = values[key]
			continue
		}
		field, ok := fields[name]
		if !ok {
			c.Add(value.Join(path, name), "%s has no such property%s", of, suggestion(name, fields))
			continue
		}
		v, err := c.check(value.Join(path, name), values[key], field.Type)
		if err != nil {
			return nil, err
		}
		if !v.IsNull() {
			result[key] = v
		}
	}
	for _, name := range required {
		if v, ok := values[resource.PropertyKey(name)]; !ok || v.IsNull() {
			c.Add(value.Join(path, name), "is required by %s", of)
		}
	}
	return result, nil
}

func (c *Failures) check(path string, v resource.PropertyValue, t *schema.Type) (resource.PropertyValue, error) {
	switch {
	case v.IsNull() || v.IsComputed():
		return v, nil
	case v.IsSecret():
		inner, err := c.check(path, v.SecretValue().Element, t)
		return resource.MakeSecret(inner), err
	case v.IsOutput():
		o := v.OutputValue()
		if !o.Known {
			return v, nil
		}
		inner, err := c.check(path, o.Element, t)
		if o.Secret {
			inner = resource.MakeSecret(inner)
		}
		return inner, err
	}
	checked, ok, err := c.known(path, v, t)
	if !ok && err == nil {
		c.Add(path, "wants %s, has %s", t.Kind, describe(v))
		return v, nil
	}
	return checked, err
}

// known checks a value that is known and has no mark. It is not ok when the value is of
// another kind than the type's.
func (c *Failures) known(path string, v resource.PropertyValue, t *schema.Type) (checked resource.PropertyValue, ok bool, err error) {
	switch t.Kind {
	case schema.Any:
		checked, err = document(path, v)
		return checked, true, err
	case schema.String:
		return v, v.IsString(), nil
	case schema.Integer, schema.Number:
		n := v
		if v.IsString() {
			f, err := strconv.ParseFloat(v.StringValue(), 64)
			if err != nil {
				return v, false, nil //nolint:nilerr // it is not a number
			}
			n = resource.NewProperty(f)
		}
		return n, n.IsNumber() && (t.Kind == schema.Number || n.NumberValue() == float64(int64(n.NumberValue()))), nil
	case schema.Boolean:
		if v.IsString() && (v.StringValue() == "true" || v.StringValue() == "false") {
			return resource.NewProperty(v.StringValue() == "true"), true, nil
		}
		return v, v.IsBool(), nil
	case schema.List:
		if v.IsArray() {
			checked, err = c.list(path, v.ArrayValue(), t.Elem)
			return checked, true, err
		}
	case schema.Map:
		if v.IsObject() {
			checked, err = c.entries(path, v.ObjectValue(), t.Elem)
			return checked, true, err
		}
	case schema.Nested:
		if v.IsObject() {
			checked, err = c.object(path, v.ObjectValue(), t)
			return checked, true, err
		}
	case schema.File:
		return v, v.IsAsset() || v.IsArchive(), nil
	}
	return v, false, nil
}

// document turns an object into its JSON: the SDKs let a policy document be either.
func document(path string, v resource.PropertyValue) (resource.PropertyValue, error) {
	switch {
	case !v.IsObject():
		return v, nil
	case v.ContainsUnknowns():
		return value.Unknown(), nil
	}
	b, err := json.Marshal(value.Plain(v).Mappable())
	if err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	text := resource.NewProperty(string(b))
	if v.ContainsSecrets() {
		text = resource.MakeSecret(text)
	}
	return text, nil
}

func (c *Failures) list(path string, values []resource.PropertyValue, t *schema.Type) (resource.PropertyValue, error) {
	items := make([]resource.PropertyValue, len(values))
	for i, item := range values {
		checked, err := c.check(value.JoinIndex(path, i), item, t)
		if err != nil {
			return resource.PropertyValue{}, err
		}
		items[i] = checked
	}
	return resource.NewProperty(items), nil
}

func (c *Failures) entries(path string, values resource.PropertyMap, t *schema.Type) (resource.PropertyValue, error) {
	items := resource.PropertyMap{}
	for _, key := range values.StableKeys() {
		checked, err := c.check(value.JoinKey(path, string(key)), values[key], t)
		if err != nil {
			return resource.PropertyValue{}, err
		}
		items[key] = checked
	}
	return resource.NewProperty(items), nil
}

func (c *Failures) object(path string, values resource.PropertyMap, t *schema.Type) (resource.PropertyValue, error) {
	fields, err := t.Fields()
	if err != nil {
		return resource.PropertyValue{}, err
	}
	checked, err := c.Properties(path, t.Name(), values, fields, Required(fields))
	return resource.NewProperty(checked), err
}

// Required are the fields that are not optional.
func Required(fields map[string]schema.Field) []string {
	var required []string
	for name, f := range fields {
		if !f.Optional {
			required = append(required, name)
		}
	}
	sort.Strings(required)
	return required
}

func describe(v resource.PropertyValue) string {
	switch {
	case v.IsString():
		return fmt.Sprintf("the string %q", v.StringValue())
	case v.IsNumber():
		return "the number " + strconv.FormatFloat(v.NumberValue(), 'g', -1, 64)
	case v.IsBool():
		return "the boolean " + strconv.FormatBool(v.BoolValue())
	case v.IsArray():
		return "a list"
	case v.IsObject():
		return "an object"
	case v.IsResourceReference():
		return "a resource"
	default:
		return "a " + v.TypeString()
	}
}

// suggestion names a property that differs in case or by a plural only, the usual mistake
// in a translation from another language.
func suggestion(name string, fields map[string]schema.Field) string {
	norm := func(s string) string {
		return strings.TrimSuffix(strings.ToLower(strings.ReplaceAll(s, "_", "")), "s")
	}
	var near []string
	for f := range fields {
		if norm(f) == norm(name) {
			near = append(near, f)
		}
	}
	if len(near) == 0 {
		return ""
	}
	sort.Strings(near)
	return "; it has " + strings.Join(near, ", ")
}

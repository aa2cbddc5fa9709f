package standin

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// A Failure is one fault of an input, with the property's path as Pulumi
// writes it: ingress[0].fromPort.
type Failure struct {
	Path, Reason string
}

type checker struct {
	failures []Failure
}

func (c *checker) fail(path, format string, args ...any) {
	c.failures = append(c.failures, Failure{path, fmt.Sprintf(format, args...)})
}

// checkProperties checks values against fields and returns them with numbers
// and booleans given as strings turned into what they say, as the bridge of
// the released plugin does.
func (c *checker) checkProperties(path, of string, values resource.PropertyMap, fields map[string]Field, required []string) (resource.PropertyMap, error) {
	result := resource.PropertyMap{}
	for _, key := range values.StableKeys() {
		name := string(key)
		if strings.HasPrefix(name, "__") {
			result[key] = values[key]
			continue
		}
		field, ok := fields[name]
		if !ok {
			c.fail(join(path, name), "%s has no such property%s", of, suggestion(name, fields))
			continue
		}
		v, err := c.check(join(path, name), values[key], field.Type)
		if err != nil {
			return nil, err
		}
		if !v.IsNull() {
			result[key] = v
		}
	}
	for _, name := range required {
		if v, ok := values[resource.PropertyKey(name)]; !ok || v.IsNull() {
			c.fail(join(path, name), "is required by %s", of)
		}
	}
	return result, nil
}

func (c *checker) check(path string, v resource.PropertyValue, t *Type) (resource.PropertyValue, error) {
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
	wrong := func() (resource.PropertyValue, error) {
		c.fail(path, "wants %s, has %s", t.Kind, describe(v))
		return v, nil
	}
	switch t.Kind {
	case Any:
		// A policy document may be given as an object: the SDKs' type says so.
		if v.IsObject() && !v.ContainsUnknowns() {
			b, err := json.Marshal(plain(v).Mappable())
			if err != nil {
				return v, fmt.Errorf("%s: %w", path, err)
			}
			if v.ContainsSecrets() {
				return resource.MakeSecret(resource.NewProperty(string(b))), nil
			}
			return resource.NewProperty(string(b)), nil
		}
		if v.IsObject() {
			return resource.MakeComputed(resource.NewProperty("")), nil
		}
		return v, nil
	case String:
		if !v.IsString() {
			return wrong()
		}
	case Integer, Number:
		n := v
		if v.IsString() {
			f, err := strconv.ParseFloat(v.StringValue(), 64)
			if err != nil {
				return wrong()
			}
			n = resource.NewProperty(f)
		}
		if !n.IsNumber() || t.Kind == Integer && n.NumberValue() != float64(int64(n.NumberValue())) {
			return wrong()
		}
		return n, nil
	case Boolean:
		if v.IsString() && (v.StringValue() == "true" || v.StringValue() == "false") {
			return resource.NewProperty(v.StringValue() == "true"), nil
		}
		if !v.IsBool() {
			return wrong()
		}
	case List:
		if !v.IsArray() {
			return wrong()
		}
		items := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, item := range v.ArrayValue() {
			checked, err := c.check(path+"["+strconv.Itoa(i)+"]", item, t.Elem)
			if err != nil {
				return v, err
			}
			items[i] = checked
		}
		return resource.NewProperty(items), nil
	case Map:
		if !v.IsObject() {
			return wrong()
		}
		items := resource.PropertyMap{}
		for _, key := range v.ObjectValue().StableKeys() {
			checked, err := c.check(joinKey(path, string(key)), v.ObjectValue()[key], t.Elem)
			if err != nil {
				return v, err
			}
			items[key] = checked
		}
		return resource.NewProperty(items), nil
	case Nested:
		if !v.IsObject() {
			return wrong()
		}
		fields, err := t.Fields()
		if err != nil {
			return v, err
		}
		var required []string
		for name, f := range fields {
			if !f.Optional {
				required = append(required, name)
			}
		}
		sort.Strings(required)
		checked, err := c.checkProperties(path, t.object.name, v.ObjectValue(), fields, required)
		return resource.NewProperty(checked), err
	case File:
		if !v.IsAsset() && !v.IsArchive() {
			return wrong()
		}
	}
	return v, nil
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

// suggestion names a property that differs in the case of its letters or by a
// plural only, the commonest slip between languages.
func suggestion(name string, fields map[string]Field) string {
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

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func joinKey(path, key string) string {
	if strings.ContainsAny(key, `.[]"/:`) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return join(path, key)
}

// plain is a value without the marks of secrets.
func plain(v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return plain(v.SecretValue().Element)
	case v.IsOutput() && v.OutputValue().Known:
		return plain(v.OutputValue().Element)
	case v.IsArray():
		items := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, item := range v.ArrayValue() {
			items[i] = plain(item)
		}
		return resource.NewProperty(items)
	case v.IsObject():
		return resource.NewProperty(plainMap(v.ObjectValue()))
	}
	return v
}

func plainMap(m resource.PropertyMap) resource.PropertyMap {
	items := resource.PropertyMap{}
	for k, item := range m {
		items[k] = plain(item)
	}
	return items
}

// text is a string property's value if it is known, with or without a mark of
// a secret.
func text(m resource.PropertyMap, name string) string {
	v, ok := m[resource.PropertyKey(name)]
	if !ok {
		return ""
	}
	if v = plain(v); v.IsString() {
		return v.StringValue()
	}
	return ""
}

// flag is a boolean property's value; unknown counts as false.
func flag(m resource.PropertyMap, name string) bool {
	v := plain(m[resource.PropertyKey(name)])
	return v.IsBool() && v.BoolValue()
}

// texts are the known strings of a list property.
func texts(m resource.PropertyMap, name string) []string {
	v := plain(m[resource.PropertyKey(name)])
	if !v.IsArray() {
		return nil
	}
	var all []string
	for _, item := range v.ArrayValue() {
		if item.IsString() {
			all = append(all, item.StringValue())
		}
	}
	return all
}

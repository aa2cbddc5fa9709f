package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// field is a property in a resource's inputs, with or without a value.
type field struct {
	path   string
	value  resource.PropertyValue
	there  bool
	secret bool // it, or what contains it, is marked
}

// in returns the root of a resource's inputs.
func in(r Resource) field {
	return field{value: resource.NewObjectProperty(r.Inputs), there: true}
}

// newField unwraps a value.
func newField(path string, value resource.PropertyValue, secret bool) field {
	for {
		switch {
		case value.IsSecret():
			value, secret = value.SecretValue().Element, true
		case value.IsOutput():
			output := value.OutputValue()
			secret = secret || output.Secret
			if !output.Known {
				return field{path: path, value: resource.MakeComputed(resource.NewStringProperty("")), there: true, secret: secret}
			}
			value = output.Element
		default:
			return field{path: path, value: value, there: !value.IsNull(), secret: secret}
		}
	}
}

// at returns the field called key; in a list or in nothing it has no value.
func (f field) at(key string) field {
	path := key
	if f.path != "" {
		path = f.path + "." + key
	}
	if f.unknown() {
		return field{path: path, value: f.value, there: true, secret: f.secret}
	}
	if !f.there || !f.value.IsObject() {
		return field{path: path}
	}
	return newField(path, f.value.ObjectValue()[resource.PropertyKey(key)], f.secret)
}

// items returns the elements of a list. A single object counts as a list of one, because the
// AWS provider flattens lists with at most one element.
func (f field) items() []field {
	switch {
	case f.unknown() || !f.there:
		return nil
	case f.value.IsObject():
		return []field{f}
	case !f.value.IsArray():
		return nil
	}
	list := make([]field, 0, len(f.value.ArrayValue()))
	for i, value := range f.value.ArrayValue() {
		list = append(list, newField(fmt.Sprintf("%s[%d]", f.path, i), value, f.secret))
	}
	return list
}

// unknown tells whether only the update knows the value.
func (f field) unknown() bool { return f.there && f.value.IsComputed() }

func (f field) text() (string, bool) {
	if !f.there || !f.value.IsString() {
		return "", false
	}
	return f.value.StringValue(), true
}

// set tells whether the field has a value or will have one.
func (f field) set() bool {
	text, isText := f.text()
	return f.there && (!isText || text != "")
}

// is tells whether the value is want, as a boolean or a text, or is not known yet.
func (f field) is(want bool) bool {
	if f.unknown() {
		return true
	}
	text, isText := f.text()
	return isText && text == fmt.Sprint(want) || f.there && f.value.IsBool() && f.value.BoolValue() == want
}

// keys returns the sorted keys of an object, so that findings have the same order on every run.
func (f field) keys() []string {
	if !f.there || !f.value.IsObject() {
		return nil
	}
	var keys []string
	for key := range f.value.ObjectValue() {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	return keys
}

// walk visits f and everything below it.
func (f field) walk(visit func(field)) {
	if !f.there {
		return
	}
	visit(f)
	for _, key := range f.keys() {
		f.at(key).walk(visit)
	}
	if f.value.IsArray() {
		for _, item := range f.items() {
			item.walk(visit)
		}
	}
}

// name is the last part of the path, without an index.
func (f field) name() string {
	name := f.path[strings.LastIndex(f.path, ".")+1:]
	name, _, _ = strings.Cut(name, "[")
	return name
}

// kind returns the last part of a type token: Instance for aws:rds/instance:Instance.
func kind(token string) string { return token[strings.LastIndex(token, ":")+1:] }

func isAWS(r Resource) bool        { return r.Custom && strings.HasPrefix(r.Type, "aws:") }
func isKubernetes(r Resource) bool { return strings.HasPrefix(r.Type, "kubernetes:") }

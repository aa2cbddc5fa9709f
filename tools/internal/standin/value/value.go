// Package value reads and writes Pulumi's property values.
package value

import (
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"google.golang.org/protobuf/types/known/structpb"
)

// Unknown returns a value that only an update can tell.
func Unknown() resource.PropertyValue { return resource.MakeComputed(resource.NewProperty("")) }

// List returns a list of items.
func List(items ...resource.PropertyValue) resource.PropertyValue {
	return resource.NewProperty(append([]resource.PropertyValue{}, items...))
}

// Unmarked returns a value without the mark of a secret around it; marks inside stay.
func Unmarked(v resource.PropertyValue) resource.PropertyValue {
	for v.IsSecret() {
		v = v.SecretValue().Element
	}
	return v
}

// Plain returns a value without any mark of a secret.
func Plain(v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return Plain(v.SecretValue().Element)
	case v.IsOutput() && v.OutputValue().Known:
		return Plain(v.OutputValue().Element)
	case v.IsArray():
		items := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, item := range v.ArrayValue() {
			items[i] = Plain(item)
		}
		return resource.NewProperty(items)
	case v.IsObject():
		return resource.NewProperty(PlainMap(v.ObjectValue()))
	}
	return v
}

// PlainMap returns values without any mark of a secret.
func PlainMap(m resource.PropertyMap) resource.PropertyMap {
	items := resource.PropertyMap{}
	for k, item := range m {
		items[k] = Plain(item)
	}
	return items
}

// Text returns a property's string, or "" if it is unknown or not a string.
func Text(m resource.PropertyMap, name string) string {
	if v := Plain(m[resource.PropertyKey(name)]); v.IsString() {
		return v.StringValue()
	}
	return ""
}

// Flag returns a property's boolean; unknown counts as false.
func Flag(m resource.PropertyMap, name string) bool {
	v := Plain(m[resource.PropertyKey(name)])
	return v.IsBool() && v.BoolValue()
}

// Texts returns the known strings of a list property.
func Texts(m resource.PropertyMap, name string) []string {
	v := Plain(m[resource.PropertyKey(name)])
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

// Public returns the values without Pulumi's own, whose names begin with "__".
func Public(m resource.PropertyMap) resource.PropertyMap {
	result := resource.PropertyMap{}
	for k, v := range m {
		if !Internal(k) {
			result[k] = v
		}
	}
	return result
}

// Internal reports whether a property is Pulumi's own.
func Internal(key resource.PropertyKey) bool { return strings.HasPrefix(string(key), "__") }

// Join returns the path of a property below another one.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// JoinKey returns the path of a map's entry, as Pulumi writes it.
func JoinKey(path, key string) string {
	if strings.ContainsAny(key, `.[]"/:`) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	return Join(path, key)
}

// JoinIndex returns the path of a list's item.
func JoinIndex(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// Marshal turns values into Pulumi's protocol. The label is for errors.
func Marshal(label string, m resource.PropertyMap) (*structpb.Struct, error) {
	return plugin.MarshalProperties(m, options(label))
}

// Unmarshal reads values of Pulumi's protocol.
func Unmarshal(label string, s *structpb.Struct) (resource.PropertyMap, error) {
	if s == nil {
		return resource.PropertyMap{}, nil
	}
	return plugin.UnmarshalProperties(s, options(label))
}

func options(label string) plugin.MarshalOptions {
	return plugin.MarshalOptions{Label: label, KeepUnknowns: true, KeepSecrets: true, SkipNulls: true}
}

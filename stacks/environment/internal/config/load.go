package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// Namespace is the prefix of our keys. Keys in other namespaces, such as the providers', are
// ignored.
const Namespace = "loja-veloz"

// Load reads Pulumi's raw configuration, which maps full keys to values; structured values are
// JSON. It reports every unknown key, every value of a wrong type and everything that validate
// finds, one error per line. It also returns the configuration that it could read, so that the
// caller can report more errors.
func Load(values map[string]string, programs *catalogue.Catalogue) (*Config, error) {
	c := Defaults(services(programs))
	r := &reader{}
	root := reflect.ValueOf(c).Elem()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, ours := strings.CutPrefix(key, Namespace+":")
		if !ours {
			continue
		}
		field, ok := fieldNamed(root, name)
		if !ok {
			r.add("%s is unknown; known are %s", key, strings.Join(names(root.Type()), ", "))
			continue
		}
		r.top(key, values[key], field)
	}
	return c, errors.Join(errors.Join(r.errs...), c.validate(programs))
}

// reader decodes and collects errors.
type reader struct{ errs []error }

func (r *reader) add(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// top decodes the value of a full key. Pulumi passes scalars as plain text and other values as
// JSON.
func (r *reader) top(path, raw string, into reflect.Value) {
	switch into.Kind() {
	case reflect.String:
		into.SetString(raw)
		return
	case reflect.Bool, reflect.Int32:
		r.value(path, scalar(raw), into)
		return
	}
	decoder := json.NewDecoder(strings.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		r.add("%s is %q: %s is expected; set parts of it with pulumi config set --path", path, raw, expected(into))
		return
	}
	r.value(path, value, into)
}

// scalar reads text as YAML does.
func scalar(raw string) any {
	if b, err := strconv.ParseBool(raw); err == nil && (raw == "true" || raw == "false") {
		return b
	}
	if _, err := strconv.ParseInt(raw, 10, 64); err == nil {
		return json.Number(raw)
	}
	return raw
}

// value decodes a JSON value into into, over its current value.
func (r *reader) value(path string, value any, into reflect.Value) {
	ok := false
	switch into.Kind() {
	case reflect.String:
		var s string
		if s, ok = value.(string); ok {
			into.SetString(s)
		}
	case reflect.Bool:
		var b bool
		if b, ok = value.(bool); ok {
			into.SetBool(b)
		}
	case reflect.Int32:
		var n json.Number
		if n, ok = value.(json.Number); ok {
			i, err := strconv.ParseInt(n.String(), 10, 64)
			if ok = err == nil && i >= math.MinInt32 && i <= math.MaxInt32; ok {
				into.SetInt(i)
			}
		}
	case reflect.Slice:
		var items []any
		if items, ok = value.([]any); ok {
			list := reflect.MakeSlice(into.Type(), len(items), len(items))
			for i, item := range items {
				r.value(fmt.Sprintf("%s[%d]", path, i), item, list.Index(i))
			}
			into.Set(list)
		}
	case reflect.Map:
		var entries map[string]any
		if entries, ok = value.(map[string]any); ok {
			r.entries(path, entries, into)
		}
	case reflect.Struct:
		var fields map[string]any
		if fields, ok = value.(map[string]any); ok {
			r.fields(path, fields, into)
		}
	}
	if !ok {
		r.add("%s is %s: %s is expected", path, shown(value), expected(into))
	}
}

func (r *reader) entries(path string, entries map[string]any, into reflect.Value) {
	merged := reflect.MakeMap(into.Type())
	for _, key := range into.MapKeys() {
		merged.SetMapIndex(key, into.MapIndex(key))
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		name := reflect.ValueOf(key)
		// An entry is decoded over its default, so that one setting leaves the others.
		entry := reflect.New(into.Type().Elem()).Elem()
		if known := merged.MapIndex(name); known.IsValid() {
			entry.Set(known)
		}
		r.value(path+"."+key, entries[key], entry)
		merged.SetMapIndex(name, entry)
	}
	into.Set(merged)
}

func (r *reader) fields(path string, fields map[string]any, into reflect.Value) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		field, ok := fieldNamed(into, key)
		if !ok {
			r.add("%s.%s is unknown; known are %s", path, key, strings.Join(names(into.Type()), ", "))
			continue
		}
		r.value(path+"."+key, fields[key], field)
	}
}

func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("json") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func names(t reflect.Type) []string {
	list := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		list = append(list, t.Field(i).Tag.Get("json"))
	}
	return list
}

// expected describes a field's type for people.
func expected(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int32:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	default:
		return "a string"
	}
}

func shown(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%v", value)
	}
	return string(raw)
}

// Provider reads only cloud.provider. It is empty for a configuration that Load refuses.
func Provider(values map[string]string) string {
	var cloud struct{ Provider string }
	if json.Unmarshal([]byte(values[Namespace+":cloud"]), &cloud) != nil {
		return ""
	}
	return cloud.Provider
}

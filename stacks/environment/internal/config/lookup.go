package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// Lookup returns the value of a key, such as shop.auth, as text. It reports false for a key
// that does not exist or has no single value.
func (c *Config) Lookup(key string) (string, bool) {
	value := reflect.ValueOf(c).Elem()
	for name := range strings.SplitSeq(key, ".") {
		if value.Kind() != reflect.Struct {
			return "", false
		}
		field, known := fieldNamed(value, name)
		if !known {
			return "", false
		}
		value = field
	}
	switch value.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32:
		return fmt.Sprint(value.Interface()), true
	default:
		return "", false
	}
}

// Value is Lookup for a key that is known to exist.
func (c *Config) Value(key string) string {
	value, _ := c.Lookup(key)
	return value
}

// checkReferences refuses every configuration key of a declaration that does not exist.
func (c *Config) checkReferences(programs *catalogue.Catalogue) error {
	var errs []error
	for _, p := range programs.Programs() {
		check := func(field, key string) {
			if _, known := c.Lookup(key); !known {
				errs = append(errs, fmt.Errorf("apps/%s/%s: %s: %s is not a key of docs/parameters.md with a single value",
					p.Name, catalogue.File, field, key))
			}
		}
		for _, setting := range p.Settings {
			if setting.Config != "" {
				check("settings."+setting.Name+".config", setting.Config)
			}
		}
		for _, secret := range p.Secrets {
			for _, key := range slices.Sorted(maps.Keys(secret.When)) {
				check("secrets."+secret.Name+".when", key)
			}
		}
		if p.Internet != nil {
			for _, key := range slices.Sorted(maps.Keys(*p.Internet)) {
				check("internet.when", key)
			}
		}
	}
	return errors.Join(errs...)
}

// services returns the default sizes of all programs of the shop that run in a stack, by name.
func services(programs *catalogue.Catalogue) map[string]Service {
	all := map[string]Service{}
	for _, p := range programs.Programs() {
		if p.Kind == catalogue.Service || p.Kind == catalogue.CronJob {
			all[p.Name] = Service{
				MinReplicas: p.Size.MinReplicas, MaxReplicas: p.Size.MaxReplicas, MilliCPU: p.Size.MilliCPU,
				MemoryMiB: p.Size.MemoryMiB, MemoryLimitMiB: p.Size.MemoryLimitMiB, LogFormat: "json",
			}
		}
	}
	return all
}

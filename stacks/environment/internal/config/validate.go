package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// validate reports what only the configuration can know: services that are not
// there, and images that are missing. Ranges are the components' to judge, which
// know what they are for.
func (c *Config) validate(services map[string]Service) error {
	var faults []error
	known := strings.Join(slices.Sorted(maps.Keys(services)), ", ")
	for _, name := range slices.Sorted(maps.Keys(c.Images)) {
		if _, there := services[name]; !there {
			faults = append(faults, fmt.Errorf("%s:images.%s is for no service of this environment; there are %s", Namespace, name, known))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		if _, there := services[name]; !there {
			faults = append(faults, fmt.Errorf("%s:services.%s is for no service of this environment; there are %s", Namespace, name, known))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if c.Images[name] == "" {
			faults = append(faults, fmt.Errorf("%s:images.%s is missing: run make deploy, or "+
				"pulumi config set --path '%s:images.%s' REGISTRY/%s@sha256:DIGEST", Namespace, name, Namespace, name, name))
		}
	}
	if c.RolloutTimeoutSeconds < 0 {
		faults = append(faults, fmt.Errorf("%s:rolloutTimeoutSeconds is %d: it cannot be negative", Namespace, c.RolloutTimeoutSeconds))
	}
	return errors.Join(faults...)
}

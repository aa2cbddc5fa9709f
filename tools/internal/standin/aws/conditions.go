package aws

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// cidr wants a CIDR block whose prefix length is from low to high.
func cidr(low, high int) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsString() {
			return ""
		}
		p, err := netip.ParsePrefix(v.StringValue())
		switch {
		case err != nil:
			return fmt.Sprintf("%q is not a CIDR block", v.StringValue())
		case p.Masked() != p:
			return fmt.Sprintf("%s has bits beyond its prefix; the block is %s", p, p.Masked())
		case p.Bits() < low || p.Bits() > high:
			return fmt.Sprintf("%s must be between /%d and /%d", p, low, high)
		}
		return ""
	}
}

// each wants that every known item of a list passes.
func each(one func(resource.PropertyValue) string) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsArray() {
			return ""
		}
		var all []string
		for _, item := range v.ArrayValue() {
			if item = value.Unmarked(item); item.IsComputed() {
				continue
			}
			if reason := one(item); reason != "" {
				all = append(all, reason)
			}
		}
		return strings.Join(all, "; ")
	}
}

// document wants a JSON object, as a string.
func document(v resource.PropertyValue) string {
	if !v.IsString() {
		return ""
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(v.StringValue()), &object); err != nil {
		return "is not a JSON object: " + err.Error()
	}
	return ""
}

// name wants a text of at most maxLength bytes that matches a pattern and has none of the
// prefixes.
func name(maxLength int, pattern string, prefixes ...string) func(resource.PropertyValue) string {
	re := regexp.MustCompile("^(?:" + pattern + ")$")
	return func(v resource.PropertyValue) string {
		if !v.IsString() {
			return ""
		}
		s := v.StringValue()
		switch {
		case len(s) > maxLength:
			return fmt.Sprintf("%q has %d characters, at most %d are allowed", s, len(s), maxLength)
		case !re.MatchString(s):
			return fmt.Sprintf("%q does not match %s", s, pattern)
		}
		for _, prefix := range prefixes {
			if strings.HasPrefix(s, prefix) {
				return fmt.Sprintf("%q may not begin with %s", s, prefix)
			}
		}
		return ""
	}
}

func oneOf(allowed ...string) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsString() || slices.Contains(allowed, v.StringValue()) {
			return ""
		}
		return fmt.Sprintf("%q is not one of %s", v.StringValue(), strings.Join(allowed, ", "))
	}
}

func oneOfNumbers(allowed ...float64) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsNumber() || slices.Contains(allowed, v.NumberValue()) {
			return ""
		}
		return fmt.Sprintf("%v is not one of %v", v.NumberValue(), allowed)
	}
}

func between(low, high float64) func(resource.PropertyValue) string {
	return func(v resource.PropertyValue) string {
		if !v.IsNumber() || v.NumberValue() >= low && v.NumberValue() <= high {
			return ""
		}
		return fmt.Sprintf("%v must be between %v and %v", v.NumberValue(), low, high)
	}
}

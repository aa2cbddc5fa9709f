package policy

import (
	"encoding/json"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

func tags(o *Options, r Resource) []finding {
	var found []finding
	if r.Type == "pulumi:providers:aws" {
		defaults := in(r).at("defaultTags")
		// The structured inputs of a provider are encoded as JSON.
		if raw, ok := defaults.text(); ok {
			var decoded map[string]any
			if json.Unmarshal([]byte(raw), &decoded) == nil {
				defaults = newField(defaults.path, resource.NewPropertyValue(decoded), defaults.secret)
			}
		}
		for _, tag := range RequiredTags {
			if f := defaults.at("tags").at(tag); !f.set() {
				found = append(found, finding{f.path, "is missing: the provider tags every resource with it"})
			}
		}
		return found
	}
	if !isAWS(r) {
		return nil
	}
	if r.Provider == "" {
		found = append(found, finding{"provider", "is Pulumi's default provider, which adds no tags: use the AWS provider of the stack"})
	}
	own := in(r).at("tags")
	for _, tag := range RequiredTags {
		f := own.at(tag)
		text, known := f.text()
		if !f.there || f.unknown() || known && text != "" && (o.DefaultTags == nil || text == o.DefaultTags[tag]) {
			continue
		}
		found = append(found, finding{f.path, fmt.Sprintf("is %q: a resource may not override the provider's tag (%q)", text,
			o.DefaultTags[tag])})
	}
	return found
}

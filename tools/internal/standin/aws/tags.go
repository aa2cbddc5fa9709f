package aws

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// maxTags are the tags that an object may have; other services allow more, none fewer.
//
// Source: Tagging AWS Resources User Guide, Tag naming limits and requirements; Amazon S3 User Guide,
// Using cost allocation S3 bucket tags; read in 2026-11.
const maxTags = 50

// A tagRule refuses a tag.
type tagRule struct {
	name   string
	refuse func(key, text string) string // returns the reason, or ""
	source string                        // document
	read   string                        // when it was read
}

const taggingGuide = "Tagging AWS Resources User Guide, Tag naming limits and requirements"

// tagText is what every service accepts in a key or a value.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

var tagRules = []tagRule{
	{"a key's length", func(key, _ string) string {
		if n := utf8.RuneCountInString(key); n < 1 || n > 128 {
			return fmt.Sprintf("the key %q has %d characters, 1 to 128 are allowed", key, n)
		}
		return ""
	}, taggingGuide, "2026-11"},
	{"a value's length", func(key, text string) string {
		if n := utf8.RuneCountInString(text); n > 256 {
			return fmt.Sprintf("the value of %q has %d characters, at most 256 are allowed", key, n)
		}
		return ""
	}, taggingGuide, "2026-11"},
	{"AWS's own prefix", func(key, _ string) string {
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return fmt.Sprintf("the key %q begins with aws:, which is AWS's own", key)
		}
		return ""
	}, taggingGuide, "2026-11"},
	{"characters", func(key, text string) string {
		if !tagText.MatchString(key) || !tagText.MatchString(text) {
			return fmt.Sprintf("%q = %q: letters, digits, spaces and _ . : / = + - @ are allowed", key, text)
		}
		return ""
	}, taggingGuide, "2026-11"},
}

// refuseTags adds what AWS would refuse of an object's tags: its own with the provider's default tags,
// and those that it gives to what it starts.
func refuseTags(c *check.Failures, inputs resource.PropertyMap) {
	property := resource.PropertyKey("tagsAll")
	if !inputs.HasValue(property) {
		property = "tags"
	}
	refuseTagMap(c, "tags", inputs[property])
	if specifications := value.Plain(inputs["tagSpecifications"]); specifications.IsArray() {
		for i, item := range specifications.ArrayValue() {
			if item = value.Plain(item); item.IsObject() {
				refuseTagMap(c, value.JoinIndex("tagSpecifications", i)+".tags", item.ObjectValue()["tags"])
			}
		}
	}
}

func refuseTagMap(c *check.Failures, path string, v resource.PropertyValue) {
	if v = value.Plain(v); !v.IsObject() {
		return
	}
	tags := v.ObjectValue()
	if len(tags) > maxTags {
		c.Add(path, "%d tags, at most %d are allowed (%s)", len(tags), maxTags, taggingGuide)
	}
	for _, key := range tags.StableKeys() {
		if value.Internal(key) {
			continue
		}
		text := ""
		if tag := value.Plain(tags[key]); tag.IsString() {
			text = tag.StringValue()
		}
		for _, rule := range tagRules {
			if reason := rule.refuse(string(key), text); reason != "" {
				c.Add(path, "%s (%s)", reason, rule.source)
			}
		}
	}
}

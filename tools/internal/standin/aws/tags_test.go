package aws

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
)

// tagCases have a tag that each rule accepts, and one that it refuses.
var tagCases = map[string]struct{ accepted, refused, want string }{
	"a key's length":   {strings.Repeat("k", 128), strings.Repeat("k", 129), "has 129 characters"},
	"a value's length": {"k=" + strings.Repeat("ü", 256), "k=" + strings.Repeat("v", 257), "has 257 characters"},
	"AWS's own prefix": {"awsome", "AWS:name", "begins with aws:"},
	"characters":       {"kubernetes.io/cluster/loja-veloz=shared @ +_-", "a=b?", "letters, digits"},
}

func refusedTags(v inputs) string {
	var c check.Failures
	refuseTags(&c, resource.NewPropertyMapFromMap(v))
	var all []string
	for _, f := range c {
		all = append(all, f.Path+": "+f.Reason)
	}
	return strings.Join(all, "\n")
}

func TestTagRules(t *testing.T) {
	tag := func(text string) inputs {
		key, v, _ := strings.Cut(text, "=")
		return inputs{key: v}
	}
	for _, rule := range tagRules {
		tc, ok := tagCases[rule.name]
		if !ok || rule.source == "" || rule.read == "" {
			t.Errorf("%s: no case, source or date", rule.name)
		}
		if got := refusedTags(inputs{"tags": tag(tc.accepted)}); got != "" {
			t.Errorf("%s: %q is refused: %s", rule.name, tc.accepted, got)
		}
		if got := refusedTags(inputs{"tags": tag(tc.refused)}); !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q: %q, want %q", rule.name, tc.refused, got, tc.want)
		}
	}
	if len(tagCases) != len(tagRules) {
		t.Errorf("there are %d rules, and cases of %d", len(tagRules), len(tagCases))
	}
}

// The provider's default tags count, and what a launch template gives to machines.
func TestTagsAreCountedWithTheDefaults(t *testing.T) {
	many := inputs{}
	for i := range maxTags {
		many[fmt.Sprint("k", i)] = "v"
	}
	if got := refusedTags(inputs{"tags": inputs{"k0": "v"}, "tagsAll": many}); got != "" {
		t.Errorf("%d tags: %s", maxTags, got)
	}
	many["one more"] = "v"
	if got := refusedTags(inputs{"tags": inputs{"k0": "v"}, "tagsAll": many}); !strings.Contains(got, "51 tags, at most 50") {
		t.Errorf("51 tags: %q", got)
	}
	specification := inputs{"tagSpecifications": []any{inputs{"tags": inputs{"aws:a": "v"}}}}
	if got := refusedTags(specification); !strings.HasPrefix(got, "tagSpecifications[0].tags: ") {
		t.Errorf("a launch template's: %q", got)
	}
}

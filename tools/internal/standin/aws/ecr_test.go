package aws

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
)

// Each policy has one fault, but for the first, which has the form of bootstrap's.
func TestLifecyclePolicies(t *testing.T) {
	const expire = `,"action":{"type":"expire"}}`
	tagged := `{"rulePriority":1,"selection":{"tagStatus":"tagged","tagPrefixList":["release-"],"countType":"imageCountMoreThan","countNumber":9}` + expire
	newest := `{"rulePriority":2,"selection":{"tagStatus":"tagged","tagPatternList":["*"],"countType":"imageCountMoreThan","countNumber":50}` + expire
	untagged := `{"rulePriority":3,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":7}` + expire
	rules := func(of ...string) string { return `{"rules":[` + strings.Join(of, ",") + `]}` }
	with := func(rule, old, new string) string { return strings.Replace(rule, old, new, 1) }
	for policy, want := range map[string]string{
		rules(tagged, newest, untagged): "",
		"{}":                            "has no rules",
		`{"rules":1}`:                   "is not a lifecycle policy",
		rules(tagged, tagged):           "rules[1] repeats the rulePriority 1",
		rules(with(newest, `tagPatternList":["*"]`, `tags":[]`)):         "wants either tagPrefixList or tagPatternList",
		rules(with(newest, `"*"`, `"*a*b*c*d*"`)):                        "*a*b*c*d* has more than four wildcards",
		rules(with(with(untagged, "untagged", "any"), "3", "1"), newest): "rules[0] is for any tag, and another has a higher rulePriority",
		rules(with(tagged, `"tagged"`, `"untagged"`)):                    "only tagStatus tagged has a list of tags",
		rules(with(untagged, "untagged", "none")):                        "tagStatus is not tagged, untagged or any",
		rules(with(untagged, `"countUnit":"days",`, "")):                 "countUnit is days with sinceImagePushed",
		rules(with(tagged, "imageCountMoreThan", "imageCountLessThan")):  "countType is not imageCountMoreThan",
		rules(with(tagged, `"countNumber":9`, `"countNumber":0`)):        "countNumber is not positive",
		rules(with(tagged, `"expire"`, `"burn"`)):                        "action is not expire",
	} {
		for token, property := range map[string]string{LifecyclePolicy: "policy", CreationTemplate: "lifecyclePolicy"} {
			var c check.Failures
			Refuse(&c, token, resource.NewPropertyMapFromMap(map[string]any{property: policy}))
			if want == "" && len(c) > 0 || want != "" && (len(c) != 1 || c[0].Path != property || !strings.Contains(c[0].Reason, want) ||
				strings.Contains(c[0].Reason, ";")) {
				t.Errorf("%s %s: %q, want %q", property, policy, c, want)
			}
		}
	}
}

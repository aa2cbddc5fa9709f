package aws

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// ecrTypes are image repositories.
var ecrTypes = map[string]resourceType{
	"aws:ecr/repository:Repository": {
		id:      "{name}",
		arn:     "arn:{partition}:ecr:{region}:{account}:repository/{name}",
		lower:   true,
		exists:  "RepositoryAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}", "repositoryUrl": "{account}.dkr.ecr.{region}.{dns}/{name}"},
		replace: "name encryptionConfigurations",
		update:  "forceDelete imageScanningConfiguration imageTagMutability",
		source:  "aws_ecr_repository" + readInSource,
	},
	"aws:ecr/lifecyclePolicy:LifecyclePolicy": {
		id:      "{repository}",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "repository policy",
		source:  "aws_ecr_lifecycle_policy" + fromDocs,
	},
	"aws:ecr/repositoryPolicy:RepositoryPolicy": {
		id:      "{repository}",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "repository",
		update:  "policy",
		source:  "aws_ecr_repository_policy" + fromDocs,
	},
	"aws:ecr/pullThroughCacheRule:PullThroughCacheRule": {
		id:      "{ecrRepositoryPrefix}",
		exists:  "PullThroughCacheRuleAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "ecrRepositoryPrefix upstreamRegistryUrl upstreamRepositoryPrefix",
		update:  "credentialArn customRoleArn",
		source:  "aws_ecr_pull_through_cache_rule" + fromDocs,
	},
	"aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": {
		id:      "{prefix}",
		exists:  "TemplateAlreadyExistsException",
		outputs: map[string]string{"registryId": "{account}"},
		replace: "prefix",
		update: "appliedFors customRoleArn description encryptionConfigurations imageTagMutability lifecyclePolicy " +
			"repositoryPolicy resourceTags",
		source: "aws_ecr_repository_creation_template" + fromDocs,
	},
}

// lifecycleRule is a rule of a repository's lifecycle policy.
type lifecycleRule struct {
	RulePriority int
	Selection    struct {
		TagStatus, CountType, CountUnit string
		TagPrefixList, TagPatternList   []string
		CountNumber                     int
	}
	Action struct{ Type string }
}

// lifecycle refuses a lifecycle policy with a rule that ECR does not take.
func lifecycle(v resource.PropertyValue) string {
	if !v.IsString() {
		return ""
	}
	var policy struct{ Rules []lifecycleRule }
	if err := json.Unmarshal([]byte(v.StringValue()), &policy); err != nil {
		return "is not a lifecycle policy: " + err.Error()
	}
	if len(policy.Rules) == 0 {
		return "has no rules"
	}
	var reasons []string
	for i, rule := range policy.Rules {
		if rule.Selection.TagStatus == "any" &&
			slices.ContainsFunc(policy.Rules, func(other lifecycleRule) bool { return other.RulePriority > rule.RulePriority }) {
			reasons = append(reasons, fmt.Sprintf("rules[%d] is for any tag, and another has a higher rulePriority", i))
		}
		if slices.ContainsFunc(policy.Rules[:i], func(other lifecycleRule) bool { return other.RulePriority == rule.RulePriority }) {
			reasons = append(reasons, fmt.Sprintf("rules[%d] repeats the rulePriority %d", i, rule.RulePriority))
		}
		for _, reason := range rule.refused() {
			reasons = append(reasons, fmt.Sprintf("rules[%d]: %s", i, reason))
		}
	}
	return strings.Join(reasons, "; ")
}

func (r lifecycleRule) refused() (reasons []string) {
	s := r.Selection
	add := func(wrong bool, reason string) {
		if wrong {
			reasons = append(reasons, reason)
		}
	}
	lists := len(s.TagPrefixList) + len(s.TagPatternList)
	add(!slices.Contains([]string{"tagged", "untagged", "any"}, s.TagStatus), "tagStatus is not tagged, untagged or any")
	add(s.TagStatus == "tagged" && (len(s.TagPrefixList) > 0) == (len(s.TagPatternList) > 0),
		"tagStatus tagged wants either tagPrefixList or tagPatternList")
	add(s.TagStatus != "tagged" && lists > 0, "only tagStatus tagged has a list of tags")
	for _, pattern := range s.TagPatternList {
		add(strings.Count(pattern, "*") > 4, pattern+" has more than four wildcards")
	}
	add(!slices.Contains([]string{"imageCountMoreThan", "sinceImagePushed"}, s.CountType),
		"countType is not imageCountMoreThan or sinceImagePushed")
	add((s.CountUnit == "days") != (s.CountType == "sinceImagePushed"), "countUnit is days with sinceImagePushed, and absent otherwise")
	add(s.CountNumber < 1, "countNumber is not positive")
	add(r.Action.Type != "expire", "action is not expire")
	return reasons
}

package identity

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// GitHubIssuer is the host of GitHub's token issuer; AWS names the identity
	// provider, and the condition keys, after it.
	GitHubIssuer = "token.actions.githubusercontent.com"
	// GitHubAudience is the audience of the tokens that aws-actions/configure-aws-credentials
	// requests.
	GitHubAudience = "sts.amazonaws.com"
)

var (
	githubName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	digits     = regexp.MustCompile(`^[1-9][0-9]*$`)
	// subSuffix admits ":ref:refs/heads/main" and ":environment:prod"; a wildcard
	// would let other refs in.
	subSuffix = regexp.MustCompile(`^(:(ref|environment|job_workflow_ref):[A-Za-z0-9_./@-]+|:pull_request)$`)
)

// GitHubProviderARN returns the ARN of GitHub's identity provider in an account.
func GitHubProviderARN(account string) string {
	return fmt.Sprintf("arn:aws:iam::%s:oidc-provider/%s", account, GitHubIssuer)
}

// GitHubTrust lets jobs of one repository assume a role: those whose token's sub
// claim ends in one of suffixes, for example ":ref:refs/heads/main" or
// ":environment:prod". A job that names an environment has no ref in its sub.
//
// orgID and repoID are GitHub's numeric ids of the owner and the repository; set both or
// neither. With them the role accepts, in addition to the classic form of sub, the one that
// repositories created or renamed since 2026-07-15 send (repo:ORG@ID/REPO@ID:...). An owner
// that is deleted and registered again has another id.
func GitHubTrust(provider pulumi.StringInput, org, repo, orgID, repoID string, suffixes ...string) (PolicyDocument, error) {
	var errs validate.Errors
	if provider == nil {
		errs.Add("provider", "is missing")
	}
	if !githubName.MatchString(org) {
		errs.Add("org", "is %q: use GitHub's name of the owner, without wildcards", org)
	}
	if !githubName.MatchString(repo) {
		errs.Add("repo", "is %q: use the repository's name, without owner or wildcards", repo)
	}
	if orgID != "" && !digits.MatchString(orgID) {
		errs.Add("orgID", "is %q: GitHub's ids are numbers", orgID)
	}
	if repoID != "" && !digits.MatchString(repoID) {
		errs.Add("repoID", "is %q: GitHub's ids are numbers", repoID)
	}
	if (orgID == "") != (repoID == "") {
		errs.Add("orgID", "and repoID belong together: give both or neither")
	}
	if len(suffixes) == 0 {
		errs.Add("suffixes", "are missing: every job of the repository, of any branch, would be trusted")
	}
	for i, suffix := range suffixes {
		if !subSuffix.MatchString(suffix) {
			errs.Add(fmt.Sprintf("suffixes[%d]", i), "is %q: use :ref:..., :environment:... or :pull_request, without wildcards", suffix)
		}
	}
	if err := errs.Err(); err != nil {
		return PolicyDocument{}, fmt.Errorf("trust policy for GitHub: %w", err)
	}
	subjects := make([]string, 0, 2*len(suffixes))
	for _, suffix := range suffixes {
		subjects = append(subjects, "repo:"+org+"/"+repo+suffix)
		if orgID != "" {
			subjects = append(subjects, "repo:"+org+"@"+orgID+"/"+repo+"@"+repoID+suffix)
		}
	}
	return PolicyDocument{Statement: []Statement{{
		Sid: "GitHub", Effect: Allow,
		Principal: &Principal{Federated: []pulumi.StringInput{provider}},
		Action:    []string{"sts:AssumeRoleWithWebIdentity"},
		Condition: Condition{"StringEquals": {
			GitHubIssuer + ":aud": {GitHubAudience},
			GitHubIssuer + ":sub": subjects,
		}},
	}}}, nil
}

// policyName is the last part of a policy's ARN.
func policyName(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

package identity_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/infratest"
)

const (
	account = "123456789012"
	region  = "us-east-1"
	cluster = "loja-veloz-dev"
)

func text(t *testing.T, d identity.PolicyDocument) string {
	t.Helper()
	got, err := d.Text()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDocumentsEncodeTheSameWayEveryTime(t *testing.T) {
	document := identity.PolicyDocument{Statement: []identity.Statement{{
		Sid: "One", Effect: identity.Allow, Action: []string{"s3:GetObject"},
		Principal: &identity.Principal{Service: []string{"a.amazonaws.com"}, AWS: identity.ARNs("arn:1"), Federated: identity.ARNs("arn:2")},
		Resource:  identity.ARNs("arn:3", "arn:4"),
		Condition: identity.Condition{"StringLike": {"b": {"<1>"}, "a": {"&2"}}},
	}, {Sid: "Two", Effect: identity.Deny, Action: []string{"s3:*"}, Resource: identity.ARNs("*")}}}
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Sid":"One","Effect":"Allow","Principal":{"Service":["a.amazonaws.com"],"AWS":["arn:1"],"Federated":["arn:2"]},` +
		`"Action":["s3:GetObject"],"Resource":["arn:3","arn:4"],"Condition":{"StringLike":{"a":["&2"],"b":["<1>"]}}},` +
		`{"Sid":"Two","Effect":"Deny","Action":["s3:*"],"Resource":["*"]}]}`
	for range 20 {
		if got := text(t, document); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
}

func TestTextNeedsPlainARNs(t *testing.T) {
	document := identity.PolicyDocument{Statement: []identity.Statement{{
		Effect: identity.Allow, Action: []string{"s3:GetObject"}, Resource: []pulumi.StringInput{pulumi.String("x").ToStringOutput()},
	}}}
	if _, err := document.Text(); err == nil {
		t.Error("an output was accepted as plain text")
	}
}

func TestValidateNamesEveryError(t *testing.T) {
	err := identity.PolicyDocument{Statement: []identity.Statement{
		{Sid: "A", Effect: "allow", Action: []string{"GetObject"}, Resource: identity.ARNs("arn:x")},
		{Sid: "A", Effect: identity.Allow, Action: []string{"*"}, Resource: identity.ARNs("*")},
		{Sid: "B b", Effect: identity.Allow, Action: []string{"ec2:*"}, Resource: identity.ARNs("*"),
			Condition: identity.Is(map[string]string{"k": "v"})},
		{Sid: "C", Effect: identity.Allow},
	}}.Validate()
	infratest.Refused(t, err,
		`Statement[0] (A): Effect is "allow"`, `Statement[0] (A): Action contains "GetObject"`,
		"Statement[1] (A): Sid repeats", `Statement[1] (A): Action is "*"`, `Statement[1] (A): Resource is "*" without a Condition`,
		`Statement[2] (B b): Sid is "B b": use letters`, "Statement[2] (B b): Action contains ec2:* on every resource",
		"Statement[3] (C): Action is empty", "Statement[3] (C): Resource is empty")
	if (identity.PolicyDocument{}).Validate() == nil {
		t.Error("an empty document was accepted")
	}
}

func bounds() identity.Boundary {
	return identity.Boundary{
		Account: account, Region: region, Project: "loja-veloz", Environment: "dev", Shared: "shared",
		Key: pulumi.String("arn:aws:kms:us-east-1:" + account + ":key/of-dev"),
	}
}

func predefined() map[string]identity.PolicyDocument {
	arns := identity.ARNs("arn:aws:x:us-east-1:" + account + ":y/z")
	return map[string]identity.PolicyDocument{
		"LoadBalancerController": identity.LoadBalancerController(account, region, cluster),
		"ClusterAutoscaler":      identity.ClusterAutoscaler(account, region, cluster),
		"ExternalSecrets":        identity.ExternalSecrets(region, arns, arns),
		"ImageUpdater":           identity.ImageUpdater(region, arns),
		"Signatures":             identity.Signatures(region, arns),
		"ImagePush":              identity.ImagePush(region, arns),
		"Runner": identity.Runner(account, region, "/aws/codebuild/loja-veloz-dev-runner",
			"arn:aws:codeconnections:us-east-1:111122223333:connection/0"),
		"PermissionsBoundary": identity.PermissionsBoundary(bounds()),
		"KeyPolicy":           identity.KeyPolicy(account, region),
		"PodTrust":            identity.PodTrust(cluster, account, region),
		"ServiceTrust":        identity.ServiceTrust("ec2.amazonaws.com", nil),
	}
}

// Cosign checks for a layer before it pushes one, and downloads a signature's to verify it. ECR has an
// action of its own for the download, which a push alone never calls.
func TestCIReadsBackWhatItPushed(t *testing.T) {
	policy := text(t, identity.ImagePush(region, identity.ARNs("arn:aws:ecr:us-east-1:"+account+":repository/loja-veloz/pedidos")))
	for _, action := range []string{
		"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
		"ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
	} {
		if !strings.Contains(policy, `"`+action+`"`) {
			t.Errorf("CI may not %s, which make publish needs", action)
		}
	}
}

// Who verifies signatures reads them, and nothing else.
func TestSignaturesAreReadAlone(t *testing.T) {
	repository := "arn:aws:ecr:us-east-1:" + account + ":repository/loja-veloz/pedidos"
	want := `{"Version":"2012-10-17","Statement":[` +
		`{"Sid":"Login","Effect":"Allow","Action":["ecr:GetAuthorizationToken"],"Resource":["*"],` +
		`"Condition":{"StringEquals":{"aws:RequestedRegion":["us-east-1"]}}},` +
		`{"Sid":"Read","Effect":"Allow","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],"Resource":["` + repository + `"]}]}`
	if got := text(t, identity.Signatures(region, identity.ARNs(repository))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// IAM counts a role's inline policies without white space, 10,240 characters, and
// a managed policy's, 6,144.
func TestPredefinedPolicies(t *testing.T) {
	for name, document := range predefined() {
		if err := document.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		limit := 10240
		if name == "PermissionsBoundary" {
			limit = 6144
		}
		if size := len(text(t, document)); size > limit {
			t.Errorf("%s has %d characters: IAM accepts %d", name, size, limit)
		}
	}
}

// A boundary that lacks an action of a policy silently takes it away.
func TestBoundaryAdmitsEveryPredefinedPolicy(t *testing.T) {
	var ceiling []string
	for _, s := range identity.PermissionsBoundary(bounds()).Statement {
		if s.Effect == identity.Allow {
			ceiling = append(ceiling, s.Action...)
		}
	}
	within := func(action string) bool {
		return slices.ContainsFunc(ceiling, func(pattern string) bool {
			prefix, wildcard := strings.CutSuffix(pattern, "*")
			return action == pattern || wildcard && strings.HasPrefix(action, prefix)
		})
	}
	for name, document := range predefined() {
		if name == "KeyPolicy" || name == "ImagePush" || strings.HasSuffix(name, "Trust") {
			continue // not a policy of a role that the environments' stacks create
		}
		for _, s := range document.Statement {
			for _, action := range s.Action {
				if s.Effect == identity.Allow && !within(action) {
					t.Errorf("%s: %s is outside the boundary", name, action)
				}
			}
		}
	}
	for _, action := range []string{"iam:PassRole", "iam:CreateRole", "iam:DeleteRolePermissionsBoundary", "s3:GetObject",
		"ec2:RunInstances"} {
		if within(action) {
			t.Errorf("the boundary admits %s", action)
		}
	}
}

// The update of dev creates the roles of dev, so it can grant itself whatever the boundary
// admits.
func TestABoundaryEndsAtItsEnvironment(t *testing.T) {
	document := identity.PermissionsBoundary(bounds())
	secrets := "arn:aws:secretsmanager:us-east-1:" + account + ":secret:"
	denied := false
	for _, s := range document.Statement {
		if s.Effect == identity.Deny {
			denied = slices.Equal(s.Action, []string{"*"}) &&
				slices.Equal(s.Condition["StringNotEquals"]["aws:ResourceTag/Environment"], []string{"dev", "shared"}) &&
				slices.Equal(s.Condition["Null"]["aws:ResourceTag/Environment"], []string{"false"})
			continue
		}
		for _, action := range s.Action {
			for _, resource := range s.Resource {
				switch arn := string(resource.(pulumi.String)); {
				case strings.HasPrefix(action, "kms:"):
					if arn != "arn:aws:kms:us-east-1:"+account+":key/of-dev" {
						t.Errorf("%s is within the boundary for %s", action, arn)
					}
				case !strings.HasPrefix(action, "secretsmanager:"), arn == secrets+"loja-veloz/dev/*":
				case arn == secrets+"rds!*" && slices.Equal(s.Condition["StringEquals"]["aws:ResourceTag/Environment"], []string{"dev"}):
				default:
					t.Errorf("%s is within the boundary for %s under %v", action, arn, s.Condition)
				}
			}
		}
	}
	if !denied {
		t.Error("resources with another environment's tag are not denied")
	}
}

func TestGitHubTrust(t *testing.T) {
	provider := pulumi.String(identity.GitHubProviderARN(account))
	subjects := func(orgID, repoID string) []string {
		t.Helper()
		document, err := identity.GitHubTrust(provider, "loja-veloz", "platform", orgID, repoID, ":ref:refs/heads/main", ":environment:prod")
		if err != nil {
			t.Fatal(err)
		}
		var decoded struct {
			Statement []struct {
				Principal map[string][]string
				Condition map[string]map[string][]string
			}
		}
		if err := json.Unmarshal([]byte(text(t, document)), &decoded); err != nil {
			t.Fatal(err)
		}
		if got := decoded.Statement[0].Principal["Federated"]; !slices.Equal(got,
			[]string{"arn:aws:iam::" + account + ":oidc-provider/token.actions.githubusercontent.com"}) {
			t.Errorf("the provider is %v", got)
		}
		equals := decoded.Statement[0].Condition["StringEquals"]
		if len(decoded.Statement[0].Condition) != 1 || !slices.Equal(equals["token.actions.githubusercontent.com:aud"],
			[]string{"sts.amazonaws.com"}) {
			t.Errorf("conditions are %v", decoded.Statement[0].Condition)
		}
		return equals["token.actions.githubusercontent.com:sub"]
	}
	classic := []string{"repo:loja-veloz/platform:ref:refs/heads/main", "repo:loja-veloz/platform:environment:prod"}
	if got := subjects("", ""); !slices.Equal(got, classic) {
		t.Errorf("without ids: %v", got)
	}
	both := []string{
		classic[0], "repo:loja-veloz@11/platform@22:ref:refs/heads/main",
		classic[1], "repo:loja-veloz@11/platform@22:environment:prod",
	}
	if got := subjects("11", "22"); !slices.Equal(got, both) {
		t.Errorf("with ids: %v", got)
	}

	_, err := identity.GitHubTrust(nil, "loja/*", "*", "x1", "", ":*", "refs/heads/main")
	infratest.Refused(t, err, "provider is missing", "org is", "repo is", "orgID is", "belong together", "suffixes[0]", "suffixes[1]")
	if _, err := identity.GitHubTrust(provider, "a", "b", "", ""); err == nil {
		t.Error("a whole repository was trusted")
	}
}

func podRole() *identity.PodRoleSpec {
	return &identity.PodRoleSpec{
		RoleName: cluster + "-autoscaler", Cluster: cluster, AccountID: account, Region: region,
		Namespace: "kube-system", ServiceAccount: "cluster-autoscaler",
		ManagedPolicies: []string{identity.EBSCSIPolicy},
	}
}

func podRoleInputs() identity.PodRoleInputs {
	return identity.PodRoleInputs{
		ClusterName:         pulumi.String(cluster),
		Policy:              identity.ClusterAutoscaler(account, region, cluster),
		PermissionsBoundary: "arn:aws:iam::" + account + ":policy/loja-veloz-dev-boundary",
	}
}

func TestNewPodRole(t *testing.T) {
	recorder, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		_, err := identity.NewPodRole(ctx, "autoscaler", podRole(), podRoleInputs())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	role := recorder.Named(t, "autoscaler-role")
	if role.Inputs["permissionsBoundary"] != podRoleInputs().PermissionsBoundary || role.Inputs["assumeRolePolicy"] != text(t,
		identity.PodTrust(cluster, account, region)) {
		t.Errorf("the role is %v", role.Inputs)
	}
	if policy := recorder.Named(t, "autoscaler-policy").Inputs["policy"]; policy != text(t, podRoleInputs().Policy) {
		t.Errorf("its policy is %v", policy)
	}
	recorder.InOrder(t, map[string][]string{
		"autoscaler-association": {"autoscaler-policy", "autoscaler-managed-AmazonEBSCSIDriverPolicy"},
	})
	if account := recorder.Named(t, "autoscaler-association").Inputs["serviceAccount"]; account != "cluster-autoscaler" {
		t.Errorf("the role is associated with %v", account)
	}
}

// newPodRole returns the error of NewPodRole.
func newPodRole(spec *identity.PodRoleSpec, in identity.PodRoleInputs) error {
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := identity.NewPodRole(ctx, "role", spec, in)
		return err
	})
	return err
}

func TestPodRoleRefusesAllErrorsAtOnce(t *testing.T) {
	err := newPodRole(&identity.PodRoleSpec{
		RoleName: strings.Repeat("r", 65), Cluster: cluster, AccountID: "12", Region: "mars", Namespace: "A", ServiceAccount: "",
		ManagedPolicies: []string{"AdministratorAccess"},
	}, identity.PodRoleInputs{PermissionsBoundary: "boundary", Policy: identity.PolicyDocument{Statement: []identity.Statement{
		{Effect: identity.Allow, Action: []string{"s3:*"}, Resource: identity.ARNs("*")},
	}}})
	infratest.Refused(t, err, "RoleName has 65", "ClusterName is missing", "AccountID", "Region", "Namespace", "ServiceAccount",
		"ManagedPolicies[0]", "PermissionsBoundary", "Policy is refused")
	idle, in := podRole(), podRoleInputs()
	in.Policy, idle.ManagedPolicies = identity.PolicyDocument{}, nil
	infratest.Refused(t, newPodRole(idle, in), "could do nothing")
}

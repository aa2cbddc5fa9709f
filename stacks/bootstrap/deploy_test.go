package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/policy/policytest"
)

// golden tells whether to rewrite testdata; infratest defines the flag -update.
func golden() bool { return flag.Lookup("update").Value.String() == "true" }

func program(values map[string]string) pulumi.RunFunc {
	return func(ctx *pulumi.Context) error {
		_, err := deploy(ctx, values, programs)
		return err
	}
}

func deployed(t *testing.T, values map[string]string) *infratest.Recorder {
	t.Helper()
	recorder, err := infratest.Run(false, program(values))
	if err != nil {
		t.Fatal(err)
	}
	return recorder
}

func TestTheStackIsWellFormed(t *testing.T) {
	for _, preview := range []bool{true, false} {
		recorder, err := infratest.Run(preview, program(good()))
		if err != nil {
			t.Fatal(err)
		}
		recorder.WellFormed(t)
	}
}

// computing answers with the outputs that AWS computes.
type computing struct{ *infratest.Recorder }

func (c computing) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	id, outputs, err := c.Recorder.NewResource(args)
	outputs = outputs.Copy()
	name := args.Name
	if given := outputs["name"]; given.IsString() {
		name = given.StringValue()
	}
	for token, computed := range map[string]map[resource.PropertyKey]string{
		"aws:iam/role:Role":     {"arn": "arn:aws:iam::111122223333:role/" + name},
		"aws:iam/policy:Policy": {"arn": "arn:aws:iam::111122223333:policy/" + name},
		"aws:iam/openIdConnectProvider:OpenIdConnectProvider": {"arn": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"},
		"aws:kms/key:Key":               {"arn": "arn:aws:kms:us-east-1:111122223333:key/" + name},
		"aws:ecr/repository:Repository": {"repositoryUrl": "111122223333.dkr.ecr.us-east-1.amazonaws.com/" + name},
	} {
		for key, value := range computed {
			if args.TypeToken == token {
				outputs[key] = resource.NewProperty(value)
			}
		}
	}
	return id, outputs, err
}

// TestOutputs writes the outputs that tools/internal/contract reads.
func TestOutputs(t *testing.T) {
	var outputs infratest.Outputs
	if err := infratest.RunWith(false, computing{&infratest.Recorder{}}, func(ctx *pulumi.Context) error {
		exports, err := deploy(ctx, good(), programs)
		outputs.Collect(exports)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	outputs.Golden(t, "outputs")
}

// This runs the rules as the engine does.
func TestNoRuleIsBroken(t *testing.T) {
	for _, preview := range []bool{true, false} {
		result, err := policytest.Run(preview, program(good()))
		if err != nil {
			t.Fatalf("preview %v: %v", preview, err)
		}
		for _, r := range result.Resources {
			if policy.Stateful(r.Type) && !r.Protect {
				t.Errorf("%s %s is not protected", r.Type, r.Name)
			}
		}
	}
}

func TestAReplacementIsAllowedByName(t *testing.T) {
	values := good()
	values["loja-veloz-bootstrap:allowReplace"] = `["keys-dev"]`
	result, err := policytest.Run(false, program(values))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range result.Resources {
		if policy.Stateful(r.Type) && r.Protect == (r.Name == "keys-dev") {
			t.Errorf("%s: protect is %v", r.Name, r.Protect)
		}
	}
}

// trusts returns the decoded trust policy of every role, by the role's name.
func trusts(t *testing.T, recorder *infratest.Recorder) map[string]any {
	t.Helper()
	documents := map[string]any{}
	for _, r := range recorder.Resources() {
		if r.Type != "aws:iam/role:Role" {
			continue
		}
		var document any
		if err := json.Unmarshal([]byte(r.Inputs["assumeRolePolicy"].(string)), &document); err != nil {
			t.Fatal(err)
		}
		documents[r.Inputs["name"].(string)] = document
	}
	return documents
}

func compare(t *testing.T, file string, value any) {
	t.Helper()
	var got bytes.Buffer
	encoder := json.NewEncoder(&got)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", file)
	if golden() {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("reading the golden file: %v (go test -update writes it)", err)
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		if i >= len(wantLines) || i >= len(gotLines) || wantLines[i] != gotLines[i] {
			t.Errorf("%s differs from line %d on (go test -update accepts it)", path, i+1)
			return
		}
	}
}

func TestWhoMayAssumeTheRoles(t *testing.T) {
	documents := trusts(t, deployed(t, good()))
	want := []string{
		"loja-veloz-ci-dev-preview", "loja-veloz-ci-dev-up", "loja-veloz-ci-prod-preview", "loja-veloz-ci-prod-up",
		"loja-veloz-ci-push",
	}
	if got := slices.Sorted(maps.Keys(documents)); !slices.Equal(got, want) {
		t.Errorf("the roles are %v", got)
	}
	compare(t, "trust.json", documents)
}

func TestWhatTheRolesMayDo(t *testing.T) {
	policies := map[string]any{}
	for _, r := range deployed(t, good()).Resources() {
		if r.Type != "aws:iam/rolePolicy:RolePolicy" && r.Type != "aws:iam/policy:Policy" {
			continue
		}
		text := r.Inputs["policy"].(string)
		var document any
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		policies[r.Name] = document
	}
	compare(t, "policies.json", policies)
}

// IAM limits policies by their characters without white space: 10,240 for the inline policies
// of a role, 6,144 for a managed policy.
func TestPoliciesFitIAM(t *testing.T) {
	c, err := load(with(map[string]string{
		"loja-veloz-bootstrap:environments": `["longestnames"]`,
		"loja-veloz-bootstrap:hostedZones":  `["Z0123456789ABCDEFGHIJ","Z0123456789ABCDEFGHIK","Z0123456789ABCDEFGHIL"]`,
		"aws:region":                        "ap-southeast-1",
	}), programs)
	if err != nil {
		t.Fatal(err)
	}
	key := pulumi.String("arn:aws:kms:ap-southeast-1:111122223333:key/01234567-89ab-cdef-0123-456789abcdef")
	a := &access{config: c, accountKey: key}
	for name, limited := range map[string]struct {
		document identity.PolicyDocument
		limit    int
	}{
		"up":       {a.upPolicy(key, "longestnames"), 10240},
		"read":     {a.readPolicy(key, "longestnames"), 6144},
		"push":     {a.pushPolicy(), 10240},
		"network":  {a.networkPolicy("longestnames"), 6144},
		"boundary": {a.boundary(key, "longestnames"), 6144},
	} {
		text, err := limited.document.Text()
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > limited.limit {
			t.Errorf("%s has %d characters: IAM accepts %d", name, len(text), limited.limit)
		}
	}
}

func actions(d identity.PolicyDocument) []string {
	var all []string
	for _, s := range d.Statement {
		all = append(all, s.Action...)
	}
	return all
}

func TestAPreviewChangesNothing(t *testing.T) {
	c, err := load(good(), programs)
	if err != nil {
		t.Fatal(err)
	}
	a := &access{config: c, accountKey: pulumi.String("arn:key")}
	for _, action := range actions(a.readPolicy(pulumi.String("arn:key"), "prod")) {
		_, verb, _ := strings.Cut(action, ":")
		if action != "kms:Decrypt" && action != "budgets:ViewBudget" && action != "codebuild:BatchGetProjects" && !strings.HasPrefix(verb, "Describe") && !strings.HasPrefix(verb, "List") &&
			!strings.HasPrefix(verb, "Get") {
			t.Errorf("a preview may %s", action)
		}
		if action == "secretsmanager:GetSecretValue" {
			t.Error("a preview may read secrets")
		}
	}
}

// An update creates only roles with the boundary, and cannot change its own role.
func TestAnUpdateCannotWidenItself(t *testing.T) {
	for _, s := range upOf(t, "dev").Statement {
		for _, action := range s.Action {
			bounded := slices.Equal(s.Condition["StringEquals"]["iam:PermissionsBoundary"],
				[]string{"arn:aws:iam::111122223333:policy/loja-veloz-dev-boundary"})
			switch action {
			case "iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary":
				if !bounded {
					t.Errorf("%s is allowed without the boundary", action)
				}
			case "iam:DeleteRolePermissionsBoundary", "iam:CreatePolicyVersion", "iam:CreateUser", "iam:CreateAccessKey",
				"secretsmanager:GetSecretValue":
				t.Errorf("%s is allowed", action)
			}
			if strings.HasPrefix(action, "iam:") && !strings.HasPrefix(action, "iam:Get") && !strings.HasPrefix(action, "iam:List") {
				for _, resource := range s.Resource {
					text := string(resource.(pulumi.String))
					if !strings.HasPrefix(text, "arn:aws:iam::111122223333:role/loja-veloz-dev-") && !strings.Contains(text, ":role/aws-service-role/") {
						t.Errorf("%s is allowed on %s", action, text)
					}
				}
			}
		}
	}
}

// EKS's CreateCluster with encryptionConfig does not work with
// kms:GrantIsForAWSResource.
func TestAnUpdateCreatesGrantsOnItsOwnKeyWithoutCondition(t *testing.T) {
	found := 0
	for _, s := range upOf(t, "dev").Statement {
		if !slices.Contains(s.Action, "kms:CreateGrant") {
			continue
		}
		found++
		if len(s.Condition) != 0 || len(s.Action) != 1 || len(s.Resource) != 1 || s.Resource[0] != pulumi.String("arn:key-of-dev") {
			t.Errorf("grants are allowed by %+v", s)
		}
	}
	if found != 1 {
		t.Errorf("%d statements allow grants", found)
	}
}

// upOf returns what an update may do in addition to reading.
func upOf(t *testing.T, environment string) identity.PolicyDocument {
	t.Helper()
	c, err := load(good(), programs)
	if err != nil {
		t.Fatal(err)
	}
	a := &access{config: c, accountKey: pulumi.String("arn:key")}
	document := a.upPolicy(pulumi.String("arn:key-of-"+environment), environment)
	document.Statement = append(document.Statement, a.networkPolicy(environment).Statement...)
	return document
}

// Every permission to change the network is restricted by a tag: the tag of the resource, the
// tag in the request for a type that the call creates, or the absence of an owner's tag.
func TestAnUpdateLeavesOtherEnvironmentsNetworksAlone(t *testing.T) {
	// created is the type that a call creates; all its other arguments exist already.
	created := map[string]string{
		"ec2:AllocateAddress": "elastic-ip", "ec2:CreateInternetGateway": "internet-gateway", "ec2:CreateLaunchTemplate": "launch-template",
		"ec2:CreateVpc": "vpc", "ec2:CreateNetworkAcl": "network-acl", "ec2:CreateRouteTable": "route-table",
		"ec2:CreateSecurityGroup": "security-group", "ec2:CreateSubnet": "subnet", "ec2:CreateFlowLogs": "vpc-flow-log",
		"ec2:CreateNatGateway": "natgateway", "ec2:CreateVpcEndpoint": "vpc-endpoint",
		"ec2:AuthorizeSecurityGroupIngress": "security-group-rule", "ec2:AuthorizeSecurityGroupEgress": "security-group-rule",
	}
	// existing are the types among created that other calls receive as arguments.
	existing := map[string][]string{
		"ec2:CreateNatGateway": {"elastic-ip", "subnet"}, "ec2:CreateFlowLogs": {"vpc", "subnet"},
		"ec2:CreateVpcEndpoint": {"vpc", "route-table", "security-group", "subnet"}, "ec2:CreateSubnet": {"vpc"},
		"ec2:CreateRouteTable": {"vpc"}, "ec2:CreateSecurityGroup": {"vpc"}, "ec2:CreateNetworkAcl": {"vpc"},
		"ec2:AuthorizeSecurityGroupIngress": {"security-group"}, "ec2:AuthorizeSecurityGroupEgress": {"security-group"},
	}
	equal := func(s identity.Statement, operator, key string) bool {
		return slices.Equal(s.Condition[operator][key], []string{"dev"})
	}
	for _, s := range upOf(t, "dev").Statement {
		for _, action := range s.Action {
			// EKS tags what it creates with its cluster's name.
			cluster := slices.Equal(s.Condition["StringEquals"]["aws:ResourceTag/aws:eks:cluster-name"], []string{"loja-veloz-dev"})
			if !strings.HasPrefix(action, "ec2:") || cluster || equal(s, "StringEquals", "aws:ResourceTag/Environment") {
				continue
			}
			var types []string
			for _, resource := range s.Resource {
				arn := string(resource.(pulumi.String))
				kind, _, _ := strings.Cut(arn[strings.LastIndex(arn, ":")+1:], "/")
				types = append(types, kind)
			}
			switch {
			case action == "ec2:CreateTags" && len(s.Condition["StringLike"]["ec2:CreateAction"]) > 0:
				if !equal(s, "StringEquals", "aws:RequestTag/Environment") {
					t.Errorf("%s tags new resources with any value", s.Sid)
				}
			case action == "ec2:CreateTags", strings.HasPrefix(action, "ec2:Revoke"):
				if !slices.Equal(s.Condition["Null"]["aws:ResourceTag/Environment"], []string{"true"}) ||
					action == "ec2:CreateTags" && !equal(s, "StringEqualsIfExists", "aws:RequestTag/Environment") {
					t.Errorf("%s: %s reaches resources with an owner", s.Sid, action)
				}
			case action == "ec2:RunInstances":
				if !equal(s, "StringEqualsIfExists", "aws:ResourceTag/Environment") || slices.Contains(types, "subnet") ||
					slices.Contains(types, "launch-template") {
					t.Errorf("%s: machines may start in the subnets of other environments", s.Sid)
				}
			case !equal(s, "StringEquals", "aws:RequestTag/Environment") || !slices.Contains(types, created[action]):
				t.Errorf("%s: %s is restricted by no tag", s.Sid, action)
			default:
				for _, kind := range existing[action] {
					if slices.Contains(types, kind) {
						t.Errorf("%s: %s reaches any %s", s.Sid, action, kind)
					}
				}
			}
		}
	}
}

// The boundary admits the master secret by its tag, so an update may not tag the secrets of
// others.
func TestAnUpdateTagsOnlyItsOwnSecrets(t *testing.T) {
	for _, s := range upOf(t, "dev").Statement {
		if !slices.Contains(s.Action, "secretsmanager:TagResource") {
			continue
		}
		for _, resource := range s.Resource {
			name := string(resource.(pulumi.String))
			if !strings.Contains(name, ":secret:loja-veloz-dev") && !strings.Contains(name, ":secret:loja-veloz/dev/") &&
				!slices.Equal(s.Condition["StringEqualsIfExists"]["aws:ResourceTag/Environment"], []string{"dev"}) {
				t.Errorf("%s tags %s", s.Sid, name)
			}
		}
	}
}

func TestEveryEnvironmentHasItsOwnBoundary(t *testing.T) {
	recorder := deployed(t, good())
	for environment, other := range map[string]string{"dev": "prod", "prod": "dev"} {
		boundary := recorder.Named(t, "ci-"+environment+"-boundary")
		text := boundary.Inputs["policy"].(string)
		if boundary.Inputs["name"] != "loja-veloz-"+environment+"-boundary" ||
			!strings.Contains(text, "secret:loja-veloz/"+environment+"/*") || strings.Contains(text, other) {
			t.Errorf("the boundary of %s is %v: %s", environment, boundary.Inputs["name"], text)
		}
		up := recorder.Named(t, "ci-"+environment+"-up-policy").Inputs["policy"].(string)
		if strings.Contains(up, "-"+other+"-boundary") || !strings.Contains(up, ":policy/loja-veloz-"+environment+"-boundary") {
			t.Errorf("roles of %s are created with another boundary: %s", environment, up)
		}
	}
}

func TestTheBucketIsClosed(t *testing.T) {
	values := good()
	values["loja-veloz-bootstrap:accessLogBucket"] = "logs-of-the-account"
	recorder := deployed(t, values)
	types := map[string]int{}
	for _, r := range recorder.Resources() {
		types[r.Type]++
	}
	for _, token := range []string{
		"aws:s3/bucketV2:BucketV2", "aws:s3/bucketVersioningV2:BucketVersioningV2", "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
		"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
		"aws:s3/bucketOwnershipControls:BucketOwnershipControls", "aws:s3/bucketPolicy:BucketPolicy",
		"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2", "aws:s3/bucketLoggingV2:BucketLoggingV2",
	} {
		if types[token] != 1 {
			t.Errorf("there are %d of %s", types[token], token)
		}
	}
	if name := recorder.Named(t, "state-bucket").Inputs["bucket"]; name != "loja-veloz-state-111122223333-us-east-1" {
		t.Errorf("the bucket is called %v", name)
	}
	text := recorder.Named(t, "state-policy").Inputs["policy"].(string)
	if !strings.Contains(text, `"Bool":{"aws:SecureTransport":["false"]}`) || strings.Contains(text, `"Allow"`) {
		t.Errorf("its policy is %s", text)
	}
}

func TestEveryProgramHasARepository(t *testing.T) {
	recorder, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		_, err := deploy(ctx, good(), []string{"pedidos", "frete"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range recorder.Resources() {
		if r.Type == "aws:ecr/repository:Repository" {
			names = append(names, r.Inputs["name"].(string))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"loja-veloz/frete", "loja-veloz/pedidos"}) {
		t.Errorf("the repositories are %v", names)
	}
}

func TestKeysAreOnePerEnvironmentAndOneForTheAccount(t *testing.T) {
	recorder := deployed(t, good())
	var aliases []string
	for _, r := range recorder.Resources() {
		if r.Type == "aws:kms/alias:Alias" {
			aliases = append(aliases, r.Inputs["name"].(string))
		}
	}
	slices.Sort(aliases)
	if !slices.Equal(aliases, []string{"alias/loja-veloz-account", "alias/loja-veloz-dev-secrets", "alias/loja-veloz-prod-secrets"}) {
		t.Errorf("the keys are called %v", aliases)
	}
	if got := secretsProvider(secretsAlias("dev"), "us-east-1"); got != "awskms://alias/loja-veloz-dev-secrets?region=us-east-1" {
		t.Errorf("the secrets provider is %s", got)
	}
}

func TestThePlanIsTheSameOnEveryRun(t *testing.T) {
	plan := func() string {
		resources := deployed(t, good()).Resources()
		slices.SortFunc(resources, func(a, b infratest.Resource) int { return strings.Compare(a.URN, b.URN) })
		for i := range resources {
			slices.Sort(resources[i].DependsOn)
		}
		raw, err := json.Marshal(resources)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	first := plan()
	for range 3 {
		if plan() != first {
			t.Fatal("the plan changed without a reason")
		}
	}
}

func TestAnExistingProviderIsUsedAndNotCreated(t *testing.T) {
	const providerType = "aws:iam/openIdConnectProvider:OpenIdConnectProvider"
	values := with(map[string]string{
		namespace + ":github": `{"org":"loja-veloz","orgId":"1234567","repo":"platform","repoId":"7654321","existingProvider":true}`,
	})
	created := func(values map[string]string) (providers int, trusted bool) {
		recorder := deployed(t, values)
		for _, r := range recorder.Resources() {
			if r.Type == providerType {
				providers++
			}
		}
		text, err := json.Marshal(trusts(t, recorder)["loja-veloz-ci-push"])
		if err != nil {
			t.Fatal(err)
		}
		return providers, strings.Contains(string(text), "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com")
	}
	if providers, trusted := created(good()); providers != 1 || !trusted {
		t.Errorf("a fresh account gets %d providers, and roles that trust it: %v", providers, trusted)
	}
	if providers, trusted := created(values); providers != 0 || !trusted {
		t.Errorf("an account that has the provider gets %d more, and roles that trust it: %v", providers, trusted)
	}
}

// infratest records no ids of imports, so this tests that the names reach the program.
func TestOnlyResourcesOfTheProgramCanBeAdopted(t *testing.T) {
	for name, want := range map[string]string{
		"images-cache-quay": "",
		"images-cache-qay":  "loja-veloz-bootstrap:adopt.images-cache-qay: no AWS resource of this program has this name",
	} {
		_, err := infratest.Run(false, program(with(map[string]string{
			namespace + ":adopt": `{"` + name + `":"quay"}`, namespace + ":pullThrough": `[{"prefix":"quay","host":"quay.io"}]`,
		})))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package review

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository's.
const repository = "../../.."

func source(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatPolicyProtectsHoldsData compares with the table of infra/policy, another module.
func TestWhatPolicyProtectsHoldsData(t *testing.T) {
	_, table, _ := strings.Cut(source(t, "infra/policy/protect.go"), "var stateful = map[string]string{")
	table, _, _ = strings.Cut(table, "\n}")
	found := regexp.MustCompile(`"([^"]+)":\s+"`).FindAllStringSubmatch(table, -1)
	if len(found) < 10 {
		t.Fatalf("infra/policy has %d stateful types: the expression does not match any more", len(found))
	}
	for _, match := range found {
		if stateful[match[1]] == "" {
			t.Errorf("infra/policy protects %s, which is not stateful here", match[1])
		}
	}
}

func TestSecretNamesAreThoseOfPolicy(t *testing.T) {
	text := source(t, "infra/policy/secrets.go")
	for part := range strings.SplitSeq(secretName.String(), "`") {
		joined := regexp.MustCompile("`\\s*\\+\\s*`").ReplaceAllString(text, "")
		if !strings.Contains(joined, part) {
			t.Errorf("infra/policy does not have %s", part)
		}
	}
}

// TestRisks gives rules what they look for, and the same the other way around, which is none.
func TestRisks(t *testing.T) {
	list := func(values ...any) []any { return values }
	container := func(context object) object {
		return object{"spec": object{"template": object{"spec": object{"containers": list(object{"name": "service",
			"securityContext": context})}}}}
	}
	namespace := func(level string) object {
		return object{"metadata": object{"labels": object{"pod-security.kubernetes.io/enforce": level}}}
	}
	for _, c := range []struct {
		kind     string
		old, new object
		class    Class
		says     string
	}{
		{"aws:rds/instance:Instance", object{"backupRetentionPeriod": 7}, object{"backupRetentionPeriod": 1}, Data, "`7` → `1`"},
		{"aws:rds/instance:Instance", object{"deletionProtection": true}, object{}, Data, "removed, was `true`"},
		{"aws:rds/instance:Instance", object{"publiclyAccessible": false}, object{"publiclyAccessible": true}, Exposure, "public address"},
		{"aws:rds/instance:Instance", object{"storageEncrypted": true}, object{"storageEncrypted": false}, Security, "stored in plain"},
		{"aws:s3/bucketVersioningV2:BucketVersioningV2", object{"versioningConfiguration": object{"status": "Enabled"}},
			object{"versioningConfiguration": object{"status": "Suspended"}}, Data, "`Suspended`"},
		{"aws:eks/cluster:Cluster", object{"vpcConfig": object{"publicAccessCidrs": list("198.51.100.0/24")}},
			object{"vpcConfig": object{"publicAccessCidrs": list("198.51.100.0/22")}}, Exposure, "gains `198.51.100.0/22`"},
		{"aws:ec2/securityGroup:SecurityGroup", object{"ingress": list(object{"cidrBlocks": list("10.0.0.0/8")})},
			object{"ingress": list(object{"cidrBlocks": list("10.0.0.0/8", "0.0.0.0/0")})}, Exposure, "gains `0.0.0.0/0`"},
		{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", object{"cidrIpv6": "fd00::/8"}, object{"cidrIpv6": "::/0"}, Exposure,
			"::/0"},
		{"aws:iam/role:Role", object{"permissionsBoundary": "arn:aws:iam::1:policy/b"}, object{}, IAM, "the boundary limited"},
		{"aws:iam/rolePolicyAttachment:RolePolicyAttachment", object{"policyArn": "arn:a"}, object{"policyArn": "arn:b"}, IAM, "gains `arn:b`"},
		{"aws:eks/accessPolicyAssociation:AccessPolicyAssociation", object{"accessScope": object{"type": "namespace"}},
			object{"accessScope": object{"type": "cluster"}}, IAM, "in every namespace"},
		{"aws:eks/cluster:Cluster", object{"enabledClusterLogTypes": list("api", "audit")}, object{"enabledClusterLogTypes": list("api")},
			Security, "loses `audit`"},
		{"aws:ec2/launchTemplate:LaunchTemplate", object{"metadataOptions": object{"httpTokens": "required"}},
			object{"metadataOptions": object{"httpTokens": "optional"}}, Security, "IMDSv1"},
		{"kubernetes:core/v1:Namespace", namespace("restricted"), namespace("privileged"), Security, "every right"},
		{"kubernetes:argoproj.io/v1alpha1:Rollout", container(object{"runAsNonRoot": true}), container(object{"runAsNonRoot": false}), Security,
			"may run as root"},
		{"kubernetes:apps/v1:Deployment", container(object{}), container(object{"privileged": true}), Security, "every right on its node"},
		{"kubernetes:networking.k8s.io/v1:NetworkPolicy", object{"spec": object{"ingress": list()}},
			object{"spec": object{"ingress": list(object{})}}, Security, "other traffic"},
		{"kubernetes:gateway.networking.k8s.io/v1:HTTPRoute", object{"spec": object{"rules": list()}},
			object{"spec": object{"rules": list(object{"matches": list(object{"path": object{"value": "/admin"}})})}}, Exposure, "gains `/admin`"},
		{"kubernetes:core/v1:Service", object{"spec": object{"type": "ClusterIP"}}, object{"spec": object{"type": "LoadBalancer"}}, Exposure,
			"outside the cluster"},
		{"kubernetes:argoproj.io/v1alpha1:AnalysisTemplate",
			object{"spec": object{"args": list(object{"name": "errors-tolerated", "value": "0.1 %"})}},
			object{"spec": object{"args": list(object{"name": "errors-tolerated", "value": "1 %"})}}, Canary,
			"`spec.args[\"errors-tolerated\"].value`: `0.1 %` → `1 %`"},
		{"kubernetes:datadoghq.com/v1alpha1:DatadogGenericResource", object{"spec": object{"jsonSpec": `{"thresholds":[{"target":99.9}]}`}},
			object{"spec": object{"jsonSpec": `{"thresholds":[{"target":99}]}`}}, Canary, "`spec.jsonSpec.thresholds[0].target`: `99.9` → `99`"},
		{"pulumi:providers:aws", object{"region": "us-east-1"}, object{"region": "eu-west-1"}, Data, "another region"},
		{"pulumi:providers:aws", object{"version": "6.83.0"}, object{"version": "7.0.0"}, Data, "another version of the plugin"},
	} {
		found := func(old, current object) string {
			p := read(t, constructed(t, stepOf("update", c.kind, "it", old, current)))
			text := ""
			for _, f := range p.Risks() {
				if f.Class == c.class {
					text += f.What + "\n" + strings.Join(f.Details, "\n") + "\n"
				}
			}
			return text
		}
		if text := found(c.old, c.new); !strings.Contains(text, c.says) {
			t.Errorf("%s: the risks of class %q are %q, want %q", c.kind, c.class, text, c.says)
		}
		if text := found(c.new, c.new); text != "" {
			t.Errorf("%s: nothing changes, and the risks are %q", c.kind, text)
		}
	}
}

// TestNarrowingIsNoRisk: what gets safer is not listed.
func TestNarrowingIsNoRisk(t *testing.T) {
	for kind, values := range map[string][2]object{
		"aws:rds/instance:Instance": {{"backupRetentionPeriod": 1}, {"backupRetentionPeriod": 7, "deletionProtection": true}},
		"aws:eks/cluster:Cluster": {{"vpcConfig": object{"publicAccessCidrs": []any{"198.51.100.0/22"}}},
			{"vpcConfig": object{"publicAccessCidrs": []any{"198.51.100.128/25"}}}},
		"kubernetes:core/v1:Service":              {{"spec": object{"type": "LoadBalancer"}}, {"spec": object{"type": "ClusterIP"}}},
		"aws:cloudwatch/logGroup:LogGroup":        {{"retentionInDays": 7}, {"retentionInDays": 14}},
		"kubernetes:argoproj.io/v1alpha1:Rollout": {{"spec": object{"replicas": 2}}, {"spec": object{"replicas": 3}}},
	} {
		if found := read(t, constructed(t, stepOf("update", kind, "it", values[0], values[1]))).Risks(); len(found) > 0 {
			t.Errorf("%s: the risks are %+v", kind, found)
		}
	}
}

func TestRemovals(t *testing.T) {
	database := "aws:rds/instance:Instance"
	protected := func(s object, before, after bool) object {
		s["oldState"].(object)["protect"] = before
		if s["newState"] != nil {
			s["newState"].(object)["protect"] = after
		}
		return s
	}
	retained := stepOf("delete", database, "db", object{}, nil)
	retained["oldState"].(object)["retainOnDelete"] = true
	leftover := stepOf("delete", database, "db", object{}, nil)
	leftover["oldState"].(object)["delete"] = true
	forced := stepOf("replace", "aws:s3/bucketV2:BucketV2", "b", object{"tags": object{"a.b": "1"}}, object{"tags": object{"a.b": "2"}})
	forced["detailedDiff"] = object{`tags["a.b"]`: object{"kind": "update-replace"}}
	for want, steps := range map[string][]object{
		"loses the database": {stepOf("delete", database, "db", object{}, nil)},
		"it is protected":    {protected(stepOf("delete", database, "db", object{}, nil), true, false)},
		"no longer protected": {
			protected(stepOf("same", database, "db", object{}, object{}), true, false)},
		"this plan lifts its protection": {protected(stepOf("replace", database, "db", object{}, object{}), true, false)},
		"add an alias": {stepOf("delete", database, "old", object{}, nil), stepOf("create", database, "new", nil,
			object{})},
		"stays in the cloud":                    {retained},
		"an interrupted update":                 {leftover},
		"because of `tags[\"a.b\"]`: `1` → `2`": {forced},
		"deleted before there is a new one": {
			stepOf("delete-replaced", database, "db", object{}, nil), stepOf("replace", database, "db", object{}, object{}),
			stepOf("create-replacement", database, "db", object{}, object{})},
		"the preview ended before it knew": {stepOf("delete-replaced", database, "db", object{}, nil)},
		"**delete-somehow**":               {stepOf("delete-somehow", database, "db", object{}, nil)},
		"loses everything in it":           {stepOf("delete", "kubernetes:core/v1:Namespace", "shop", object{}, nil)},
		"every resource behind the provider": {
			stepOf("replace", "pulumi:providers:aws", "aws", object{"region": "us-east-1"}, object{"region": "eu-west-1"})},
	} {
		c := Write(read(t, constructed(t, steps...)), options)
		if !strings.Contains(c.Text, want) || !strings.Contains(c.Text, "#### "+string(Data)) {
			t.Errorf("the comment does not say %q as a risk for data:\n%s", want, c.Text)
		}
	}
	order := []object{
		stepOf("create-replacement", database, "db", object{}, object{}), stepOf("replace", database, "db", object{}, object{}),
		stepOf("delete-replaced", database, "db", object{}, nil),
	}
	p := read(t, constructed(t, order...))
	if len(p.Changes) != 1 || p.Changes[0].DeletesFirst || p.Changes[0].Op != "replace" {
		t.Errorf("a replacement that creates first is %+v", p.Changes)
	}
}

func TestImportsNameTheObject(t *testing.T) {
	s := stepOf("import", "aws:s3/bucketV2:BucketV2", "b", nil, object{"bucket": "b"})
	s["newState"].(object)["importID"] = "the-bucket"
	if text := Write(read(t, constructed(t, s)), options).Text; !strings.Contains(text, "takes over the existing object the-bucket") {
		t.Errorf("the comment is\n%s", text)
	}
}

func TestGrants(t *testing.T) {
	statement := func(effect, action, resource, more string) string {
		return fmt.Sprintf(`{"Statement":[{"Effect":%q,"Action":%s,"Resource":%s%s}]}`, effect, action, resource, more)
	}
	allow := func(action, resource string) string { return statement("Allow", action, resource, "") }
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{"the same in another form", allow(`"s3:GetObject"`, `"*"`), allow(`["s3:GetObject"]`, `["*"]`), nil},
		{"an action", allow(`["s3:GetObject"]`, `"*"`), allow(`["s3:GetObject","s3:PutObject"]`, `"*"`), []string{"may `s3:PutObject` on `*`"}},
		{"covered by a wildcard", allow(`"s3:*"`, `"arn:aws:s3:::a*"`), allow(`"S3:GetObject"`, `"arn:aws:s3:::ab/*"`), nil},
		{"a wider resource", allow(`"s3:GetObject"`, `"arn:aws:s3:::a/*"`), allow(`"s3:GetObject"`, `"arn:aws:s3:::*"`),
			[]string{"may `s3:GetObject` on `arn:aws:s3:::*`"}},
		{"a condition is gone", statement("Allow", `"a:B"`, `"*"`, `,"Condition":{"StringEquals":{"k":"v"}}`), allow(`"a:B"`, `"*"`),
			[]string{"may `a:B` on `*`"}},
		{"a condition is added", allow(`"a:B"`, `"*"`), statement("Allow", `"a:B"`, `"*"`, `,"Condition":{"StringEquals":{"k":"v"}}`), nil},
		{"a condition admits more", statement("Allow", `"a:B"`, `"*"`, `,"Condition":{"StringEquals":{"k":"v"}}`),
			statement("Allow", `"a:B"`, `"*"`, `,"Condition":{"StringEquals":{"k":["v","w"]}}`),
			[]string{"may `a:B` on `*` if `{\"StringEquals\":{\"k\":[\"v\",\"w\"]}}`"}},
		{"a denial is gone", statement("Deny", `"a:B"`, `"*"`, ""), `{"Statement":[]}`, []string{"is no longer denied `a:B` on `*`"}},
		{"a denial is added", `{"Statement":[]}`, statement("Deny", `"a:B"`, `"*"`, ""), nil},
		{"NotAction", `{"Statement":[]}`, `{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`,
			[]string{"allows `{\"Effect\":\"Allow\",\"NotAction\":\"iam:*\",\"Resource\":\"*\"}`"}},
		{"a principal", `{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"ec2.amazonaws.com"}}]}`,
			`{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":["ec2.amazonaws.com"],"AWS":"*"}}]}`,
			[]string{"`AWS *` may `sts:AssumeRole`"}},
		{"less", allow(`"s3:*"`, `"*"`), allow(`"s3:GetObject"`, `"arn:aws:s3:::a"`), nil},
	} {
		p := read(t, constructed(t, stepOf("update", "aws:iam/policy:Policy", "p", object{"policy": c.old}, object{"policy": c.new})))
		var got []string
		for _, f := range p.Risks() {
			got = append(got, f.Details...)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: gained are %q, want %q", c.name, got, c.want)
		}
	}
	role := func(verbs ...any) object {
		return object{"rules": []any{object{"apiGroups": []any{""}, "resources": []any{"secrets"}, "verbs": verbs}}}
	}
	kind := "kubernetes:rbac.authorization.k8s.io/v1:Role"
	if text := Write(read(t, constructed(t, stepOf("update", kind, "r", role("get"), role("get", "delete")))),
		options).Text; !strings.Contains(text, "may `delete` on `secrets`") {
		t.Errorf("a role that gets a verb:\n%s", text)
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	for message, want := range map[string]string{
		"operation error STS: ExpiredToken: the security token included in the request is expired":         "get new ones",
		"no valid credential sources for AWS Provider found":                                               "from a fork",
		"api error AccessDenied: User is not authorized to perform: rds:DescribeDBInstances":               "permission",
		"unable to replace resource as it is currently marked for protection":                              "cloud.allowReplace",
		"the stack is currently locked by 1 lock(s)":                                                       "pulumi cancel",
		"policy public-ingress: aws:rds/instance:Instance \"db\": publiclyAccessible is true":              "infra/policy",
		"configured Kubernetes cluster is unreachable":                                                     "cannot be reached",
		"stack organization/loja-veloz-bootstrap/account has no output secretsKeyARNs: bring bootstrap up": "bring up bootstrap",
		"something else": "Read the message",
	} {
		c := Write(nil, Options{Stack: "dev", Failure: message})
		if !strings.Contains(c.Text, want) || !strings.Contains(c.Text, message) || !strings.Contains(c.Text, "There is no plan.") {
			t.Errorf("on %q the comment is\n%s", message, c.Text)
		}
	}
	for output, want := range map[string]string{"": "printed no plan", `{"steps": [`: "cut off"} {
		if _, err := Read([]byte(output)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("reading %q: %v", output, err)
		}
	}
}

func TestUnknownValuesAreSaid(t *testing.T) {
	unknownMark := "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
	kind := "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	text := Write(read(t, constructed(t, stepOf("update", kind, "r", object{"cidrIpv4": "10.0.0.0/8"}, object{"cidrIpv4": unknownMark}))),
		options).Text
	if !strings.Contains(text, "#### "+string(Exposure)) || !strings.Contains(text, "known only after the update") || !strings.Contains(text,
		"! cidrIpv4: 10.0.0.0/8 → [unknown]") {
		t.Errorf("the comment is\n%s", text)
	}
}

func TestQuietPlans(t *testing.T) {
	text := Write(read(t, constructed(t)), options).Text
	if !strings.HasPrefix(text, Marker("dev")+"\n") || !strings.Contains(text, "nothing changes") {
		t.Errorf("the comment on an empty plan is\n%s", text)
	}
	kind := "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
	spec := func(n int) object { return object{"spec": object{"maxReplicas": n}} }
	text = Write(read(t, constructed(t, stepOf("update", kind, "a", spec(8), spec(12)), stepOf("update", kind, "b", spec(8), spec(12)))),
		options).Text
	if !strings.Contains(text, "no risk that the rules know") || !strings.Contains(text,
		"HorizontalPodAutoscaler a, b @@\n! spec.maxReplicas: 8 → 12\n```") {
		t.Errorf("the comment is\n%s", text)
	}
}

// TestToleratedErrorsAreAnObjective: testdata/objective.md has the objectives themselves.
func TestToleratedErrorsAreAnObjective(t *testing.T) {
	template := func(tolerated string) object {
		return object{"metadata": object{"name": "web-watch"}, "spec": object{"args": []any{object{"name": "errors-tolerated",
			"value": tolerated}}}}
	}
	text := Write(read(t, constructed(t, stepOf("update", "kubernetes:argoproj.io/v1alpha1:AnalysisTemplate", "web",
		template("0.1 % server errors"), template("1 % server errors")))), options).Text
	if want := "#### Objectives\n\n- `web-watch`, tolerated `errors`: `0.1 % server errors` → `1 % server errors`\n"; !strings.Contains(text,
		want) {
		t.Errorf("the comment is\n%s", text)
	}
}

func TestCost(t *testing.T) {
	o := options
	for want, cost := range map[string]Cost{
		"| **Cost** | | +33.59 USD a month, 600.00 → 633.59, at the prices of 29 November 2026 |\n": {Before: 600, After: 633.59, Prices: "29 November 2026"},
		"| **Cost** | | not known: aws:x:Y x: no price |\n":                                         {Unknown: "aws:x:Y x: no price"},
	} {
		o.Cost = &cost
		if text := Write(read(t, constructed(t)), o).Text; !strings.Contains(text, want) {
			t.Errorf("the comment is\n%s", text)
		}
	}
}

// TestRulesAreDocumented compares the table in docs/previews.md, and with -update writes it.
func TestRulesAreDocumented(t *testing.T) {
	const begin, end = "<!-- rules: written by go test ./internal/review -update -->\n", "<!-- end of rules -->"
	page := source(t, "docs/previews.md")
	before, rest, ok := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("docs/previews.md has no table of rules")
	}
	golden(t, filepath.Join(repository, "docs", "previews.md"), before+begin+table()+end+after)
}

func table() string {
	tests := map[test]string{
		is: "becomes", isNot: "is not", stops: "is no longer", gains: "gains an element", loses: "loses an element", opens: "gains a range",
		falls: "falls", rises: "rises", changes: "changes", deleted: "the resource is deleted",
	}
	var b strings.Builder
	b.WriteString("| class | types | property | risk | because |\n|---|---|---|---|---|\n")
	for _, r := range rules {
		when := tests[r.test]
		for i, v := range r.values {
			if i > 0 {
				when += " or"
			}
			when += " `" + v + "`"
		}
		if r.test == stops && len(r.values) == 0 {
			when = "is removed"
		}
		path := ""
		if r.path != "" {
			path = "`" + r.path + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s |\n", r.class, strings.Join(r.types, "`, `"), path, when, r.why)
	}
	b.WriteString("\n| type | replaced or deleted, it loses |\n|---|---|\n")
	var types []string
	for kind := range stateful {
		types = append(types, kind)
	}
	slices.Sort(types)
	for _, kind := range types {
		fmt.Fprintf(&b, "| `%s` | %s |\n", kind, stateful[kind])
	}
	return b.String()
}

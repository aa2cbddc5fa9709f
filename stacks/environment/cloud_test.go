package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/infratest/reachability"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/policy/policytest"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/stacks/environment/internal/aws"
	"github.com/loja-veloz/platform/stacks/environment/internal/local"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

var clouds = []string{"dev", "prod"}

// The strict dry runs are made by an older API server than that of the clouds. Kubernetes removes no
// version of an API that is stable (Kubernetes Deprecation Policy, rule 4a); definitions come along.
func TestTheCloudUsesStableAPIs(t *testing.T) {
	versions := regexp.MustCompile(`(?m)^ *kubernetes:([a-z0-9.]+)/(\w+):(\w+) `)
	ours := []string{
		"argoproj.io", "configuration.konghq.com", "datadoghq.com", "external-secrets.io", "gateway.networking.k8s.io", "helm.sh",
	}
	for _, environment := range clouds {
		plan, err := os.ReadFile("testdata/plan-" + environment + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		found := versions.FindAllStringSubmatch(string(plan), -1)
		if len(found) < 50 {
			t.Errorf("the plan of %s has %d objects of Kubernetes", environment, len(found))
		}
		for _, object := range found {
			if !slices.Contains(ours, object[1]) && !regexp.MustCompile(`^v\d+$`).MatchString(object[2]) {
				t.Errorf("%s has a %s of %s/%s, which a later Kubernetes may not have", environment, object[3], object[1], object[2])
			}
		}
	}
}

// bootstrapped is the outputs of the bootstrap stack.
var bootstrapped = map[string]map[string]any{"organization/loja-veloz-bootstrap/account": {
	"pushRoleARN":    "arn:aws:iam::111122223333:role/loja-veloz-ci-push",
	"repositoryURLs": map[string]any{"loja-veloz/sample-web-app": "111122223333.dkr.ecr.us-east-1.amazonaws.com/loja-veloz/sample-web-app"},
	"environments": map[string]any{
		"dev":  environmentOutputs("dev"),
		"prod": environmentOutputs("prod"),
	},
}}

func environmentOutputs(name string) map[string]any {
	return map[string]any{
		"keyARN":                 "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-" + (name + "00000000")[:4] + "00000000",
		"permissionsBoundaryARN": "arn:aws:iam::111122223333:policy/loja-veloz-" + name + "-boundary",
		"upRoleARN":              "arn:aws:iam::111122223333:role/loja-veloz-ci-" + name + "-up",
		"previewRoleARN":         "arn:aws:iam::111122223333:role/loja-veloz-ci-" + name + "-preview",
	}
}

// stackFile reads the configuration of an environment as Pulumi passes it, with digests of no release: make record
// writes others at each release, and changes no other file.
func stackFile(t *testing.T, name string) map[string]string {
	t.Helper()
	values, err := program.StackFile("../..", name)
	if err != nil {
		t.Fatal(err)
	}
	values["loja-veloz:images"] = anyDigest.ReplaceAllString(values["loja-veloz:images"], noDigest)
	return values
}

var anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

const noDigest = "sha256:470035439a843212fcaff84b4dd74dfe0ba7ab354364b4e508a2008629020025"

// standIns answers for bootstrap's outputs, and for the EKS component, which returns a
// reference to the cluster that it creates.
type standIns struct{ *infratest.Recorder }

const createdCluster = "created-by-the-component"

func (s standIns) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	switch {
	case args.TypeToken == "pulumi:pulumi:StackReference":
		outputs, there := bootstrapped[args.ID]
		if !there {
			return "", nil, fmt.Errorf("there is no stack %s", args.ID)
		}
		return args.ID, resource.NewPropertyMapFromMap(map[string]any{"name": args.ID, "outputs": outputs}), nil
	case args.TypeToken == "kubernetes:helm.sh/v3:Release":
		_, outputs, err := s.Recorder.NewResource(args)
		return "", outputs, err // not installed yet, as in a first preview
	case args.Name == createdCluster:
		return args.Name, args.Inputs, nil
	case args.TypeToken == "eks:index:Cluster":
		id, _, err := s.Recorder.NewResource(args)
		urn := resource.NewURN("test", "loja-veloz", "", "aws:eks/cluster:Cluster", createdCluster)
		return id, resource.PropertyMap{"eksCluster": resource.MakeCustomResourceReference(urn, createdCluster, "")}, err
	}
	id, outputs, err := s.Recorder.NewResource(args)
	if strings.HasPrefix(args.TypeToken, "aws:") {
		outputs = outputs.Copy()
		outputs["arn"] = resource.NewProperty("arn:aws:made-up:" + args.Name)
		maps.Copy(outputs, computed[args.TypeToken])
	}
	return id, outputs, err
}

// Call answers as the stand-in for AWS does, by its account, before there is a cluster.
func (s standIns) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	answer, known := map[string]map[string]any{
		"aws:index/getCallerIdentity:getCallerIdentity": {
			"accountId": "111122223333", "arn": "arn:aws:sts::111122223333:assumed-role/loja-veloz-ci-dev-preview/1", "id": "1", "userId": "1",
		},
		"aws:ssm/getParameter:getParameter": {"value": "1.35.6-20260818"},
		"aws:eks/getClusters:getClusters":   {"names": []any{}},
	}[args.Token]
	if !known {
		return s.Recorder.Call(args)
	}
	return resource.NewPropertyMapFromMap(answer), nil
}

// computed are the outputs that other resources use, in addition to ids and ARNs.
var computed = map[string]resource.PropertyMap{
	"aws:rds/instance:Instance": resource.NewPropertyMapFromMap(map[string]any{
		"address": "db.invalid", "port": 5432, "masterUserSecrets": []any{map[string]any{"secretArn": "arn:aws:secretsmanager:made-up:master"}},
	}),
	"aws:ec2/launchTemplate:LaunchTemplate": resource.NewPropertyMapFromMap(map[string]any{"latestVersion": 1}),
	"aws:acm/certificate:Certificate": resource.NewPropertyMapFromMap(map[string]any{"domainValidationOptions": []any{map[string]any{
		"resourceRecordName": "_proof.invalid", "resourceRecordType": "CNAME", "resourceRecordValue": "_value.invalid",
	}}}),
}

func inCloud(t *testing.T, name string, values map[string]string) (*infratest.Recorder, error) {
	t.Helper()
	recorder, _, err := withOutputs(t, nil, name, values)
	return recorder, err
}

// withOutputs is inCloud after an update with some outputs; it also returns the stack's outputs.
func withOutputs(t *testing.T, last map[string]any, name string, values map[string]string) (*infratest.Recorder, *infratest.Outputs, error) {
	t.Helper()
	recorder, outputs := &infratest.Recorder{}, &infratest.Outputs{}
	err := infratest.RunWith(true, lastOutputs{standIns{recorder}, last}, func(ctx *pulumi.Context) error {
		var cluster pulumi.CustomResourceState
		if err := ctx.RegisterResource("aws:eks/cluster:Cluster", createdCluster, pulumi.Map{
			"name": pulumi.String("loja-veloz-" + name), "endpoint": pulumi.String("https://eks.invalid"),
			"certificateAuthority": pulumi.StringMap{"data": pulumi.String("Q0E=")},
			"vpcConfig":            pulumi.Map{"clusterSecurityGroupId": pulumi.String("sg-of-the-cluster"), "subnetIds": pulumi.StringArray{}},
		}, &cluster); err != nil {
			return err
		}
		infratest.Registered(&cluster)
		exports, err := program.Deploy(ctx, context.Background(), name, values, shop, aws.New)
		outputs.Collect(exports)
		return err
	})
	return recorder, outputs, err
}

// TestDatadogKnowsTheObjectivesUnlessToldOtherwise: the setting turns off the objects, and what
// Datadog bills for the metric behind them.
func TestDatadogKnowsTheObjectivesUnlessToldOtherwise(t *testing.T) {
	for setting, want := range map[string]bool{"true": true, "false": false} {
		values := stackFile(t, "dev")
		var datadog map[string]any
		if err := json.Unmarshal([]byte(values["loja-veloz:datadog"]), &datadog); err != nil {
			t.Fatal(err)
		}
		datadog["objectives"] = setting == "true"
		raw, err := json.Marshal(datadog)
		if err != nil {
			t.Fatal(err)
		}
		values["loja-veloz:datadog"] = string(raw)
		recorder, err := inCloud(t, "dev", values)
		if err != nil {
			t.Fatal(err)
		}
		objects, read, rollouts := 0, 0, 0
		for _, r := range recorder.Resources() {
			switch r.Inputs["kind"] {
			case "DatadogGenericResource":
				objects++
			case "Rollout":
				rollouts++
				if strings.Contains(fmt.Sprint(r.Inputs["spec"]), "ad.datadoghq.com/service.checks") {
					read++
				}
			}
		}
		if rollouts == 0 || want && (objects != 16*rollouts+len(slo.Alarms(true)) || read != rollouts) || !want && objects+read > 0 {
			t.Errorf("with datadog.objectives %s there are %d objects, and the agents read %d of %d services", setting, objects, read, rollouts)
		}
	}
}

// TestOutputs writes the outputs that tools/internal/contract reads. An image of the local environment has
// another digest with every build, so those of the test are in its file.
func TestOutputs(t *testing.T) {
	for _, name := range clouds {
		_, outputs, err := withOutputs(t, nil, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		outputs.Golden(t, "outputs-"+name)
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var outputs infratest.Outputs
	if _, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		exports, err := program.Deploy(ctx, context.Background(), "local", valid(map[string]string{"loja-veloz:kubeContext": "loja"}), shop, local.New)
		outputs.Collect(exports)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	outputs.Golden(t, "outputs-local")
}

// TestPlansOfTheCloud compares the complete plans of dev and prod, which a reviewer reads.
func TestPlansOfTheCloud(t *testing.T) {
	for _, name := range clouds {
		recorder, err := inCloud(t, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		recorder.WellFormed(t)
		recorder.GoldenPlan(t, "plan-"+name)

		_, _, target, err := program.Load(name, stackFile(t, name), shop, aws.New)
		if err != nil {
			t.Fatal(err)
		}
		rules := target.Policy()
		if err := policy.Audit(&rules, policytest.Recorded(recorder)); err != nil {
			t.Errorf("%s breaks rules:\n%v", name, err)
		}
	}
}

// TestARunnerIsAddedByConfiguration: the plan with the runner has the plan without, and what infra/runner
// creates. The rules accept it.
func TestARunnerIsAddedByConfiguration(t *testing.T) {
	without, err := inCloud(t, "dev", stackFile(t, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	values := stackFile(t, "dev")
	values["loja-veloz:runner"] = `{"install": true, "repository": "https://github.com/loja-veloz/platform",
		"connectionARN": "arn:aws:codeconnections:us-east-1:111122223333:connection/00000000-0000-4000-8000-000000000001"}`
	with, outputs, err := withOutputs(t, nil, "dev", values)
	if err != nil {
		t.Fatal(err)
	}
	with.WellFormed(t)
	outputs.Golden(t, "outputs-dev-runner")
	before := without.Resources()
	for _, r := range with.Resources() {
		if i := slices.IndexFunc(before, func(b infratest.Resource) bool { return b.URN == r.URN }); i >= 0 {
			before = slices.Delete(before, i, i+1)
		} else if r.Name != "runner" && !strings.HasPrefix(r.Name, "runner-") {
			t.Errorf("the runner adds %s", r.Name)
		}
	}
	if len(before) > 0 {
		t.Errorf("with the runner %d resources are missing, %s among them", len(before), before[0].Name)
	}
	if rule := with.Named(t, "runner-to-cluster").Inputs; rule["securityGroupId"] != "sg-of-the-cluster" {
		t.Errorf("the cluster's rule is %v", rule)
	}
	_, _, target, err := program.Load("dev", values, shop, aws.New)
	if err != nil {
		t.Fatal(err)
	}
	rules := target.Policy()
	if err := policy.Audit(&rules, policytest.Recorded(with)); err != nil {
		t.Error(err)
	}
	values["loja-veloz:runner"] = `{"install": true}`
	if _, err := inCloud(t, "dev", values); err == nil || !strings.Contains(err.Error(), "runner: ConnectionARN is") {
		t.Errorf("a runner without a connection gives %v", err)
	}
}

// signedMode takes the signatures of the workflow that releases.
const signedMode = `{"signer": "https://github.com/loja-veloz/platform/.github/workflows/release.yml@refs/heads/main"}`

// TestUnsignedIsRefusedByConfiguration: the plan with a signer has the plan without, and policy-controller with its
// role, which comes before everything in the shop. The rules accept it.
func TestUnsignedIsRefusedByConfiguration(t *testing.T) {
	for _, name := range clouds {
		without, err := inCloud(t, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		values := stackFile(t, name)
		values["loja-veloz:delivery"] = signedMode
		with, err := inCloud(t, name, values)
		if err != nil {
			t.Fatal(err)
		}
		with.WellFormed(t)
		before, added := without.Resources(), 0
		for _, r := range with.Resources() {
			if i := slices.IndexFunc(before, func(b infratest.Resource) bool { return b.URN == r.URN }); i >= 0 {
				before = slices.Delete(before, i, i+1)
			} else if added++; r.Name != "signatures" && !strings.HasPrefix(r.Name, "signatures-") {
				t.Errorf("%s: the signer adds %s", name, r.Name)
			}
		}
		if len(before) > 0 || added == 0 {
			t.Errorf("%s: with a signer there are %d resources more, and %d are missing", name, added, len(before))
		}
		role := with.Named(t, "signatures-role").Inputs
		if role["name"] != "loja-veloz-"+name+"-signatures" || role["permissionsBoundary"] != environmentOutputs(name)["permissionsBoundaryARN"] {
			t.Errorf("%s: the role is %v", name, role)
		}
		if account := with.Named(t, "signatures-association").Inputs; account["serviceAccount"] != "policy-controller" || account["namespace"] != "signatures" {
			t.Errorf("%s: the role is that of %v", name, account)
		}
		if rights := fmt.Sprint(with.Named(t, "signatures-policy").Inputs["policy"]); strings.Contains(rights, "Put") ||
			!strings.Contains(rights, `"arn:aws:ecr:us-east-1:111122223333:repository/loja-veloz/sample-web-app"`) {
			t.Errorf("%s: the role may %s", name, rights)
		}
		if rules := fmt.Sprint(with.Named(t, "viewers-cluster-role").Inputs["rules"]); !strings.Contains(rules, "policy.sigstore.dev") {
			t.Errorf("%s: viewers do not see the policy: %s", name, rules)
		}
		with.InOrder(t, map[string][]string{
			"signatures-deployment": {"signatures-association", "shop-namespace"}, "signatures-webhook": {"signatures-image-policy"},
			"pedidos-rollout": {"signatures-webhook"}, "pedidos-migrate": {"signatures-webhook"},
		})
		_, _, target, err := program.Load(name, values, shop, aws.New)
		if err != nil {
			t.Fatal(err)
		}
		rules := target.Policy()
		if err := policy.Audit(&rules, policytest.Recorded(with)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheCloudIsReadByThoseWhoNeedIt: Prometheus and Datadog's agents read the services, the console
// reads pagamentos, and only the Rollouts controller and the console ask Prometheus.
func TestTheCloudIsReadByThoseWhoNeedIt(t *testing.T) {
	controller := named("argo-rollouts", "argo-rollouts")
	controller.Labels["app.kubernetes.io/component"] = "rollouts-controller" // as its chart sets it
	pods := []reachability.Pod{
		named("observability", "prometheus", metricsPort), named("observability", "console", httpPort), named("observability", "stranger"),
		controller, named("argo-rollouts", "argo-rollouts-dashboard"),
		{Name: "agent", Namespace: "datadog", Labels: map[string]string{"app": "datadog"}},
	}
	want := []reachability.Edge{
		{From: "argo-rollouts", To: "prometheus", Port: metricsPort}, {From: "console", To: "prometheus", Port: metricsPort},
		{From: "console", To: "pagamentos", Port: httpPort},
	}
	for _, s := range shop.Services() {
		pods = append(pods, shopPod(s.Name, httpPort))
		for _, reader := range []string{"prometheus", "agent"} {
			want = append(want, reachability.Edge{From: reader, To: s.Name, Port: httpPort})
		}
	}
	for _, environment := range []string{"dev", "prod"} {
		recorder, err := inCloud(t, environment, stackFile(t, environment))
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(reachability.Compute(networkPolicies(t, recorder), pods), func(e reachability.Edge) bool {
			return slices.Contains([]string{"stranger", "argo-rollouts", "argo-rollouts-dashboard", "agent"}, e.To)
		})
		if diff := reachability.Difference(want, got); diff != "" {
			t.Errorf("%s:\n%s", environment, diff)
		}
	}
}

// TestTheGatewaysOfTheCloudReachOnlyTheirServices: the edge reaches those with public paths, and
// the internal gateway those that others call.
func TestTheGatewaysOfTheCloudReachOnlyTheirServices(t *testing.T) {
	recorder, err := inCloud(t, "prod", stackFile(t, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	var pods []reachability.Pod
	for _, gateway := range []string{"kong", "kong-internal"} {
		pod := named(gateway, "kong")
		pod.Name, pod.Labels["app.kubernetes.io/instance"] = gateway, gateway // as its chart sets it
		pods = append(pods, pod)
	}
	var want []reachability.Edge
	for _, s := range shop.Services() {
		pods = append(pods, shopPod(s.Name, httpPort))
		if len(s.Public) > 0 {
			want = append(want, reachability.Edge{From: "kong", To: s.Name, Port: httpPort})
		}
		if slices.ContainsFunc(shop.Services(), func(other catalogue.Program) bool {
			return slices.ContainsFunc(other.Calls, func(call catalogue.Call) bool { return call.Service == s.Name })
		}) {
			want = append(want, reachability.Edge{From: "kong-internal", To: s.Name, Port: httpPort})
		}
	}
	got := slices.DeleteFunc(reachability.Compute(networkPolicies(t, recorder), pods), func(e reachability.Edge) bool {
		return strings.HasPrefix(e.To, "kong") // each admits everybody to the webhook that the API server calls
	})
	if diff := reachability.Difference(want, got); diff != "" {
		t.Error(diff)
	}
}

// networkPolicies decodes those that were registered.
func networkPolicies(t *testing.T, recorder *infratest.Recorder) []*networkingv1.NetworkPolicy {
	t.Helper()
	var all []*networkingv1.NetworkPolicy
	for _, r := range recorder.Resources() {
		if r.Type != "kubernetes:networking.k8s.io/v1:NetworkPolicy" {
			continue
		}
		raw, err := json.Marshal(r.Inputs)
		if err != nil {
			t.Fatal(err)
		}
		policy := &networkingv1.NetworkPolicy{}
		if err := json.Unmarshal(raw, policy); err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		all = append(all, policy)
	}
	return all
}

// TestCanariesInTheCloudAreJudged: each service with objectives has its AnalysisTemplates, unless
// the environment does without Prometheus. Then every preview and update warns.
func TestCanariesInTheCloudAreJudged(t *testing.T) {
	for install, judged := range map[string]bool{"true": true, "false": false} {
		values := stackFile(t, "prod")
		values["loja-veloz:prometheus"] = `{"install":` + install + `}`
		recorder, err := inCloud(t, "prod", values)
		if err != nil {
			t.Fatal(err)
		}
		templates := 0
		for _, r := range recorder.Resources() {
			if r.Inputs["kind"] == "AnalysisTemplate" {
				templates++
			}
		}
		_, p, _, err := program.Load("prod", values, shop, aws.New)
		if err != nil {
			t.Fatal(err)
		}
		services, warning := len(p.Objectives()), program.Unjudged(p)
		if services == 0 || judged && (templates != 2*services || warning != "") || !judged && templates > 0 {
			t.Errorf("prometheus.install %s: %d templates for %d services, warning %q", install, templates, services, warning)
		}
		if !judged && !strings.Contains(warning, "prometheus.install is false: nothing judges canaries of api-gateway, estoque,") {
			t.Errorf("without Prometheus the warning is %q", warning)
		}
	}
}

func TestThePlanIsTheSameOnEveryRun(t *testing.T) {
	first, err := inCloud(t, "prod", stackFile(t, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := inCloud(t, "prod", stackFile(t, "prod"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Plan() != again.Plan() {
		t.Error("two plans of prod differ")
	}
}

// TestErrorsOfTheCloudAreReportedAtOnce: nothing is registered if there is an error.
func TestErrorsOfTheCloudAreReportedAtOnce(t *testing.T) {
	values := stackFile(t, "prod")
	maps.Copy(values, map[string]string{
		"loja-veloz:cloud": `{"provider":"aws","accountID":"12","region":"us-east-1","bootstrap":"organization/loja-veloz-bootstrap/account",
			"cidr":"10.0.0.0/24","zones":["us-east-1a","eu-west-1b"],"logDays":13}`,
		"loja-veloz:datadog":  `{"install":true}`,
		"loja-veloz:cluster":  `{"version":"1.12","publicAccessCIDRs":["0.0.0.0/0"],"minNodes":5,"maxNodes":2}`,
		"loja-veloz:database": `{"engineVersion":"9","instanceClass":"big","multiAZ":true}`,
		"loja-veloz:gateway":  `{"class":"kong","host":"shop","zoneID":"Z1","replicas":0}`,
	})
	recorder, err := inCloud(t, "prod", values)
	if err == nil {
		t.Fatal("deployed")
	}
	for _, want := range []string{
		"loja-veloz:datadog.secretName is missing", `network: AccountID is "12"`, "network: CIDR",
		`network: Zones[1] is "eu-west-1b"`, "network: FlowLogDays is 13",
		`cluster: Version is "1.12"`, "cluster: PublicAccessCIDRs[0] is 0.0.0.0/0", "cluster: Nodes.",
		"database: EngineVersion", "database: InstanceClass", `gateway: Host is "shop"`, "gateway: Replicas is 0",
		"cloud.protected is false: with database.multiAZ the data has to outlive mistakes",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\nin:\n%v", want, err)
		}
	}
	if n := len(recorder.Resources()); n > 0 {
		t.Errorf("%d resources are registered", n)
	}
}

// TestOrderInTheCloud: Pulumi creates in this order, and deletes in the reverse order.
func TestOrderInTheCloud(t *testing.T) {
	values := stackFile(t, "prod")
	values["loja-veloz:delivery"] = gitopsMode
	recorder, err := inCloud(t, "prod", values)
	if err != nil {
		t.Fatal(err)
	}
	recorder.InOrder(t, map[string][]string{
		"gateway-release":       {"load-balancer-release"}, // which has to outlive the Services for which it created load balancers
		"gateway-gateway":       {"gateway-release"},
		"gitops-sample-web-app": {"rollouts-release", "argocd-release", "gitops-project", "quarantine-binding", "rollback-deployment"},
		"rollback-deployment":   {"rollback-external-secret", "rollouts-release", "argocd-release"},
		"gitops-pedidos":        {"database-roles-job"},
		"gitops-pagamentos":     {"stripe-external-secret"},
		"database-roles-job":    {"database-master-external-secret"},
	})
	secrets := 0
	for _, r := range recorder.Resources() {
		switch {
		case r.Type == "kubernetes:external-secrets.io/v1:ExternalSecret":
			secrets++
			if !recorder.Waits(t, r.Name, "secrets-release") {
				t.Errorf("%s does not wait for External Secrets", r.Name)
			}
		case strings.HasSuffix(r.Name, "-release") && strings.HasPrefix(r.Type, "kubernetes:helm.sh/"):
			for _, association := range []string{"load-balancer", "autoscaler", "secrets", "image-updater"} {
				if r.Name == association+"-release" && !recorder.Waits(t, r.Name, association+"-association") {
					t.Errorf("the pods of %s may start before their role", r.Name)
				}
			}
		}
	}
	if secrets != 6 {
		t.Errorf("%d secrets are copied into the cluster, want the database's, Stripe's, the API keys, Argo CD's, rollback's, and Datadog's", secrets)
	}
}

// TestRollbacksReachGitInTheCloud: with Argo CD comes the program that commits them. Its credential is one version of
// one secret, which its role and nothing else in the account may read in addition; it reaches the repository, and is
// read by those who watch it. In mode pulumi there is none of it.
func TestRollbacksReachGitInTheCloud(t *testing.T) {
	const secret, role = "git-writer-" + pushVersion, "secret:loja-veloz/dev/git-push-??????"
	values := stackFile(t, "dev")
	without, err := inCloud(t, "dev", values)
	if err != nil {
		t.Fatal(err)
	}
	if policy := fmt.Sprint(without.Named(t, "secrets-policy").Inputs["policy"]); strings.Contains(policy, "/git") {
		t.Errorf("mode pulumi: %s", policy)
	}
	values["loja-veloz:delivery"] = gitopsMode
	with, err := inCloud(t, "dev", values)
	if err != nil {
		t.Fatal(err)
	}
	with.WellFormed(t)
	_, _, target, err := program.Load("dev", values, shop, aws.New)
	if err != nil {
		t.Fatal(err)
	}
	rules := target.Policy()
	if err := policy.Audit(&rules, policytest.Recorded(with)); err != nil {
		t.Error(err)
	}
	if policy := fmt.Sprint(with.Named(t, "secrets-policy").Inputs["policy"]); strings.Count(policy, role) != 1 ||
		strings.Contains(policy, "git-push-*") {
		t.Errorf("External Secrets may read: %s", policy)
	}
	for _, r := range with.Resources() {
		if raw := fmt.Sprint(r.Inputs); r.Name != "rollback-deployment" && r.Name != "rollback-external-secret" && strings.Contains(raw, "git-writer") {
			t.Errorf("%s has the credential: %s", r.Name, raw)
		}
	}
	copied := with.Named(t, "rollback-external-secret").Inputs
	if name := copied["metadata"].(map[string]any)["name"]; name != secret || !strings.Contains(fmt.Sprint(copied["spec"]), "version:uuid/"+pushVersion) {
		t.Errorf("the Secret is %v: %v", name, copied["spec"])
	}
	pod := fmt.Sprint(with.Named(t, "rollback-deployment").Inputs["spec"])
	for _, want := range []string{
		"image:" + imagesIn(t, values)["console"], "secretName:" + secret, "secretKeyRef:map[key:username name:" + secret + "]",
		"name:GIT_URL value:https://github.com/loja-veloz/platform.git", "name:GIT_PATH value:stacks/environment/manifests/dev",
		"name:GIT_BRANCH value:main", "ad.datadoghq.com/rollback.checks",
	} {
		if !strings.Contains(pod, want) {
			t.Errorf("the pod lacks %s:\n%s", want, pod)
		}
	}
	if scrapes := fmt.Sprint(with.Named(t, "prometheus-config").Inputs["data"]); !strings.Contains(scrapes, "rollback.argocd:8080") {
		t.Errorf("Prometheus reads %s", scrapes)
	}
	git := reachability.Pod{Name: "github", Namespace: "elsewhere", Ports: []reachability.Port{apiPort}}
	pods := []reachability.Pod{
		named("argocd", "rollback", httpPort), named("observability", "prometheus"), named("observability", "console"), named("argocd", "stranger"),
		{Name: "agent", Namespace: "datadog", Labels: map[string]string{"app": "datadog"}}, git,
	}
	want := []reachability.Edge{
		{From: "rollback", To: "github", Port: apiPort}, {From: "prometheus", To: "rollback", Port: httpPort}, {From: "agent", To: "rollback", Port: httpPort},
	}
	got := slices.DeleteFunc(reachability.Compute(networkPolicies(t, with), pods), func(e reachability.Edge) bool {
		// The repository has a name, so its port is open at every address.
		return e.From != "rollback" && e.To != "rollback" || e.From == "rollback" && e.To != git.Name && e.Port == apiPort
	})
	if diff := reachability.Difference(want, got); diff != "" {
		t.Error(diff)
	}
}

// imagesIn reads the images of a configuration.
func imagesIn(t *testing.T, values map[string]string) map[string]string {
	t.Helper()
	var images map[string]string
	if err := json.Unmarshal([]byte(values["loja-veloz:images"]), &images); err != nil {
		t.Fatal(err)
	}
	return images
}

// TestWhatIsInstalledHasAUser: what nothing uses is off, in dev and in prod.
func TestWhatIsInstalledHasAUser(t *testing.T) {
	for _, name := range clouds {
		recorder, err := inCloud(t, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		installed := map[string]map[string]any{} // the values of each release
		generic := 0
		for _, r := range recorder.Resources() {
			switch {
			case r.Type == "kubernetes:helm.sh/v3:Release":
				installed[r.Inputs["name"].(string)] = r.Inputs["values"].(map[string]any)
			case r.Inputs["kind"] == "DatadogGenericResource":
				generic++
			case r.Type == "aws:ec2/vpcEndpoint:VpcEndpoint" && r.Inputs["vpcEndpointType"] != "Gateway":
				t.Errorf("%s pays for the interface endpoint %s", name, r.Name)
			}
		}
		for _, unused := range []string{"argocd", "argocd-image-updater"} {
			if _, there := installed[unused]; there {
				t.Errorf("%s installs %s, which has no Application", name, unused)
			}
		}
		if _, there := installed["argo-rollouts"]["dashboard"]; there {
			t.Errorf("%s installs the dashboard of Rollouts, which nobody reaches", name)
		}
		operator := installed["datadog"]["datadog"].(map[string]any)["operator"].(map[string]any)["enabled"]
		if operator != (generic > 0) {
			t.Errorf("%s installs Datadog's operator: %v, and it has %d objects", name, operator, generic)
		}
	}
	values := stackFile(t, "dev")
	values["loja-veloz:datadog"] = `{"install": true, "secretName": "datadog", "secretVersion": "00000000-0000-4000-8000-000000000001", "objectives": false}`
	recorder, err := inCloud(t, "dev", values)
	if err != nil {
		t.Fatal(err)
	}
	release := recorder.Named(t, "datadog-release").Inputs["values"].(map[string]any)
	if release["datadog"].(map[string]any)["operator"].(map[string]any)["enabled"] != false {
		t.Error("without objectives, Datadog's operator is installed")
	}
}

func TestRangesOfTheEnvironmentsDoNotOverlap(t *testing.T) {
	values := stackFile(t, "dev")
	values["loja-veloz:cloud"] = strings.Replace(values["loja-veloz:cloud"], "10.20.0.0/16", "10.30.128.0/17", 1)
	if _, err := inCloud(t, "dev", values); err == nil || !strings.Contains(err.Error(), "10.30.0.0/16") {
		t.Errorf("a range of prod's gives %v", err)
	}
}

func TestBootstrapHasToHaveTheEnvironment(t *testing.T) {
	values := stackFile(t, "dev")
	_, err := inCloud(t, "staging", values)
	if err == nil || !strings.Contains(err.Error(), "has no environment staging") {
		t.Errorf("the error is %v", err)
	}
}

// TestNothingNeedsTheVolumeDriver, which is therefore not installed.
func TestNothingNeedsTheVolumeDriver(t *testing.T) {
	for _, name := range clouds {
		recorder, err := inCloud(t, name, stackFile(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recorder.Resources() {
			if r.Inputs["kind"] == "PersistentVolumeClaim" || strings.Contains(fmt.Sprint(r.Inputs["spec"]), "volumeClaimTemplates") {
				t.Errorf("%s: %s needs a volume", name, r.Name)
			}
		}
	}
}

// TestNodesOfGravitonHoldTheSame: docs/aws/costs.md compares both with the same number of nodes. A
// node less does not do, so Karpenter would remove none.
func TestNodesOfGravitonHoldTheSame(t *testing.T) {
	for _, name := range clouds {
		for instance, image := range map[string]string{"t3.medium": "AL2023_x86_64_STANDARD", "t4g.medium": "AL2023_ARM_64_STANDARD"} {
			values := stackFile(t, name)
			values["loja-veloz:cluster"] = strings.Replace(values["loja-veloz:cluster"], `"minNodes":3`, `"minNodes":3,"instanceType":"`+instance+`"`, 1)
			recorder, err := inCloud(t, name, values)
			if err != nil {
				t.Fatal(err)
			}
			if got := recorder.Named(t, "cluster-nodes").Inputs; got["amiType"] != image || fmt.Sprint(got["instanceTypes"]) != "["+instance+"]" {
				t.Errorf("%s has nodes of %v with the image %v, want %s", name, got["instanceTypes"], got["amiType"], image)
			}
			values["loja-veloz:cluster"] = strings.Replace(values["loja-veloz:cluster"], `"minNodes":3`, `"minNodes":2`, 1)
			if _, _, _, err := program.Load(name, values, shop, aws.New); err == nil || !strings.Contains(err.Error(), "minNodes is 2, and 3 nodes are needed") {
				t.Errorf("%s with two %s: %v", name, instance, err)
			}
		}
	}
}

// TestNodesHoldWhatRuns: a plan is refused unless the minimum of nodes has room for every pod
// that the environment starts with, and the maximum for every service at its autoscaler's
// limit.
func TestNodesHoldWhatRuns(t *testing.T) {
	for _, name := range clouds {
		if _, _, _, err := program.Load(name, stackFile(t, name), shop, aws.New); err != nil {
			t.Errorf("%s is refused: %v", name, err)
		}
		values := stackFile(t, name)
		values["loja-veloz:cluster"] = strings.NewReplacer(
			`"minNodes":3`, `"minNodes":1`, `"maxNodes":6`, `"maxNodes":2`, `"maxNodes":12`, `"maxNodes":2`,
		).Replace(values["loja-veloz:cluster"])
		_, _, _, err := program.Load(name, values, shop, aws.New)
		for _, want := range []string{"cluster.minNodes is 1, and ", "cluster.maxNodes is 2, and ", " pods request ", "a t3.medium offers "} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with too few nodes: not reported: %s\nin:\n%v", name, want, err)
			}
		}
	}
}

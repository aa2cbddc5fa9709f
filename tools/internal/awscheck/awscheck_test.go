package awscheck

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/standin/api"
	standin "github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

const (
	accountID = "111122223333"
	root      = "../../.."
)

// account is a fictitious account, with the stand-in's API before it.
type account struct {
	*testing.T
	world *world.World
	api   *api.API
	stack Stack
	// servers are the zones' name servers in DNS.
	servers map[string][]string
}

func newAccount(t *testing.T) *account {
	t.Helper()
	t.Setenv(world.DirVariable, t.TempDir())
	w, err := world.Open()
	if err != nil {
		t.Fatal(err)
	}
	stack, err := ReadStack(root, "dev")
	if err != nil {
		t.Fatal(err)
	}
	stack.Cluster.Admins = []string{"arn:aws:iam::" + accountID + ":role/ops"}
	images := map[string][]string{}
	for _, image := range stack.Images {
		_, name, _ := strings.Cut(image, "/")
		images[name] = []string{"0123abc", "release-0123abc"}
	}
	a := &account{t, w, &api.API{
		Images: images, ImageType: "application/vnd.oci.image.manifest.v1+json", // for one processor
		World: w, Account: accountID, Quotas: api.NewAccountQuotas(), CPUs: map[string]int{"t3.medium": 2},
		Caller: "arn:aws:sts::" + accountID + ":assumed-role/ops/ana",
	}, stack, map[string][]string{}}
	a.has(standin.Role, "ops", map[string]any{"name": "ops", "assumeRolePolicy": "{}"})
	return a
}

// has creates an object in the account and returns its id.
func (a *account) has(token, name string, inputs map[string]any) string {
	a.Helper()
	dir, err := schema.SourceDir(context.Background())
	if err != nil {
		a.Fatal(err)
	}
	known, err := schema.NewSource(dir).Resource(token)
	if err != nil {
		a.Fatal(err)
	}
	o, err := a.world.Create(standin.Place{Region: "us-east-1", Account: accountID},
		resource.URN("urn:pulumi:x::y::"+token+"::"+name), known, resource.NewPropertyMapFromMap(inputs))
	if err != nil {
		a.Fatal(err)
	}
	return o.ID
}

// zone creates the hosted zone of a name; delegated is whether DNS knows its name servers.
func (a *account) zone(name string, delegated bool) {
	a.Helper()
	a.stack.Gateway.ZoneID = a.has(standin.Zone, name, map[string]any{"name": name})
	zone, err := a.world.Get(standin.Zone, a.stack.Gateway.ZoneID)
	if err != nil {
		a.Fatal(err)
	}
	servers := []string{"ns.elsewhere.example."}
	if delegated {
		servers = nil
		for _, server := range zone.Outputs["nameServers"].ArrayValue() {
			servers = append(servers, strings.ToUpper(server.StringValue())+".")
		}
	}
	a.servers[name] = servers
}

// check runs all checks by the real SDK and returns what is printed.
func (a *account) check(address string) (string, error) {
	a.Helper()
	server := httptest.NewServer(a.api)
	defer server.Close()
	checks := New(a.stack, aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("offline", "offline", ""),
		RetryMaxAttempts: 1,
	}, address)
	checks.nameServers = func(_ context.Context, zone string) ([]string, error) {
		if found := a.servers[zone]; found != nil {
			return found, nil
		}
		return nil, fmt.Errorf("no such host")
	}
	var out bytes.Buffer
	err := checks.Run(a.Context(), &out)
	return out.String(), err
}

func (a *account) says(out string, lines ...string) {
	a.Helper()
	for _, line := range lines {
		if !strings.Contains(out, line) {
			a.Errorf("missing %q in:\n%s", line, out)
		}
	}
}

func TestAnAccountWithRoomPasses(t *testing.T) {
	a := newAccount(t)
	a.api.Quotas["L-1216C47A"] = 16
	a.zone("dev.example.com", true)
	out, err := a.check("203.0.113.7")
	if err != nil || strings.Contains(out, "failed") || strings.Count(out, "ok") != 14 {
		t.Errorf("%v\n%s", err, out)
	}
	a.says(out, "ok      quota of vCPUs: dev needs 8 vCPUs, for 3 nodes and one more in an upgrade; others use 0 of 16",
		"ok      API server's allow-list: 203.0.113.7 is in 203.0.113.0/24", "ok      GitHub's provider: none yet: bootstrap creates it",
		"ok      record: shop.dev.example.com is free")
}

func TestANewAccountLacksQuotasAndDelegation(t *testing.T) {
	a := newAccount(t)
	a.zone("dev.example.com", false)
	a.stack.Cluster.Admins = nil
	out, err := a.check("198.51.100.9")
	if err == nil || err.Error() != "4 of 14 checks failed: mend them before pulumi up" {
		t.Errorf("%v\n%s", err, out)
	}
	a.says(out,
		"failed  identity: the cluster would not admit arn:aws:sts::111122223333:assumed-role/ops/ana, neither loja-veloz-ci-dev-up nor in "+
			"loja-veloz:cluster.admins: pulumi config set -s dev --path 'loja-veloz:cluster.admins[0]' arn:aws:iam::111122223333:role/ops",
		"failed  quota of vCPUs: dev needs 8 vCPUs, for 3 nodes and one more in an upgrade; others use 0 of 5: "+
			"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-1216C47A --desired-value 8",
		"failed  hosted zone: dev.example.com is delegated to ns.elsewhere.example.",
		"failed  API server's allow-list: 198.51.100.9 is in none of loja-veloz:cluster.publicAccessCIDRs",
		"'loja-veloz:cluster.publicAccessCIDRs[1]' 198.51.100.9/32",
	)
}

func TestZonesThatEKSDoesNotTake(t *testing.T) {
	a := newAccount(t)
	a.api.Quotas["L-1216C47A"] = 16
	a.zone("dev.example.com", true)
	a.stack.Cloud.Zones = []string{"us-east-1a", "us-east-1b", "us-east-1e"}
	out, err := a.check("203.0.113.7")
	if err == nil || err.Error() != "1 of 14 checks failed: mend them before pulumi up" {
		t.Errorf("%v\n%s", err, out)
	}
	a.says(out, "failed  zones: us-east-1e is use1-az3, in which EKS takes no subnets: name another in loja-veloz:cloud.zones")
	a.stack.Cloud.Zones[2] = "us-east-1c"
	out, _ = a.check("203.0.113.7")
	a.says(out, "ok      zones: us-east-1a is use1-az1, us-east-1b is use1-az2, us-east-1c is use1-az4")
	if !slices.Equal(zonesWithoutEKS, standin.ZonesWithoutEKS) {
		t.Errorf("the check knows %v, the stand-in %v", zonesWithoutEKS, standin.ZonesWithoutEKS)
	}
}

// Identity Center's roles have a path, which a caller's ARN does not show, and EKS refuses an access
// entry without it.
func TestARoleIsComparedWithItsPath(t *testing.T) {
	const name, path = "AWSReservedSSO_ops_0123456789abcdef", "/aws-reserved/sso.amazonaws.com/sa-east-1/"
	a := newAccount(t)
	a.api.Caller = "arn:aws:sts::" + accountID + ":assumed-role/" + name + "/ana"
	a.has(standin.Role, "sso", map[string]any{"name": name, "path": path, "assumeRolePolicy": "{}"})
	whole, plain := "arn:aws:iam::"+accountID+":role"+path+name, "arn:aws:iam::"+accountID+":role/"+name
	const mends = "pulumi config set -s dev --path 'loja-veloz:cluster.admins"
	for _, tc := range []struct {
		admins []string
		denied bool
		want   string
	}{
		{[]string{whole}, false, "ok      identity: " + a.api.Caller + ", of cluster.admins\n"},
		{[]string{"arn:aws:iam::" + accountID + ":role/other", plain}, false, mends + "[1]' " + whole + "\n"},
		{nil, false, mends + "[0]' " + whole + "\n"},
		{[]string{plain}, true, "ok      identity: " + a.api.Caller + ", of cluster.admins by its name: the role's path is unknown"},
		{nil, true, "add the role's ARN with its path, which is unknown, because iam:GetRole is denied"},
	} {
		a.stack.Cluster.Admins, a.api.Denied = tc.admins, nil
		if tc.denied {
			a.api.Denied = []string{"GetRole"}
		}
		out, _ := a.check("203.0.113.7")
		a.says(out, tc.want)
	}
}

func TestADeniedQuestionNeedsOtherCredentials(t *testing.T) {
	a := newAccount(t)
	a.api.Quotas["L-1216C47A"] = 16
	a.zone("dev.example.com", true)
	a.api.Denied = []string{"GetServiceQuota", "GetOpenIDConnectProvider", "DescribeInstanceTypes", "DescribeImages"}
	out, err := a.check("203.0.113.7")
	if err == nil || err.Error() != "5 of 14 checks failed: mend them before pulumi up" {
		t.Errorf("%v\n%s", err, out)
	}
	const needs = ": AWS denies the question, so the answer is unknown: run the check with other credentials"
	a.says(out, "failed  GitHub's provider"+needs, "failed  quota of VPCs"+needs, "failed  quota of vCPUs"+needs, "failed  images"+needs)
	for _, wrong := range []string{"is unknown in", "push it"} {
		if strings.Contains(out, wrong) {
			t.Errorf("a denied question is answered by %q:\n%s", wrong, out)
		}
	}
}

func TestAUsedAccountNamesWhatIsInTheWay(t *testing.T) {
	a := newAccount(t)
	a.api.Quotas["L-1216C47A"] = 16
	a.zone("dev.example.com", true)
	a.has(standin.OIDCProvider, "github", map[string]any{
		"url": "https://token.actions.githubusercontent.com", "clientIdLists": []any{"sts.amazonaws.com"},
	})
	a.stack.Bootstrap.PullThrough = []Upstream{{"quay", "quay.io"}}
	a.has(standin.PullThroughCacheRule, "quay", map[string]any{"ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io"})
	a.has(standin.LogGroup, "old", map[string]any{"name": "/aws/eks/loja-veloz-dev/cluster"})
	a.has(standin.Record, "old", map[string]any{
		"zoneId": a.stack.Gateway.ZoneID, "name": "shop.dev.example.com", "type": "A", "ttl": 60, "records": []any{"192.0.2.1"},
	})
	for i := range 5 {
		a.has(standin.VPC, fmt.Sprint(i), map[string]any{"cidrBlock": "10.0.0.0/16"})
		a.has(standin.EIP, fmt.Sprint(i), map[string]any{"domain": "vpc"})
	}
	out, err := a.check("203.0.113.7")
	if err == nil || err.Error() != "6 of 14 checks failed: mend them before pulumi up" {
		t.Errorf("%v\n%s", err, out)
	}
	a.says(out,
		"failed  GitHub's provider: the account has one for token.actions.githubusercontent.com already, and allows no second: "+
			"pulumi -C stacks/bootstrap config set -s account --path 'loja-veloz-bootstrap:github.existingProvider' true",
		"failed  pull-through prefixes: the account has a rule for quay already",
		"failed  log groups: /aws/eks/loja-veloz-dev/cluster exists: pulumi config set -s dev --path 'loja-veloz:cloud.adopt.cluster-logs' "+
			"/aws/eks/loja-veloz-dev/cluster, or delete it",
		"failed  record: shop.dev.example.com has an A record: pulumi config set -s dev --path 'loja-veloz:cloud.adopt.record-alias'",
		"failed  quota of VPCs: dev needs 1 VPCs; others use 5 of 5", "failed  quota of addresses",
	)

	// What the lines say mends them.
	a.stack.Bootstrap.ExistingProvider = true
	a.stack.Bootstrap.Adopt = map[string]string{"images-cache-quay": "quay"}
	a.stack.Cloud.Adopt = map[string]string{"cluster-logs": "x", "record-alias": "x"}
	a.api.Quotas["L-0263D0A3"], a.api.Quotas["L-F678F1CE"] = 6, 6
	if out, err := a.check("203.0.113.7"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// An environment that exists has its own names, addresses and machines.
func TestAnEnvironmentThatExistsPasses(t *testing.T) {
	a := newAccount(t)
	a.api.Quotas = map[string]float64{"L-1216C47A": 8, "L-0263D0A3": 1, "L-F678F1CE": 1}
	a.zone("dev.example.com", true)
	own := map[string]any{"Project": "loja-veloz", "Environment": "dev"}
	a.has(standin.VPC, "own", map[string]any{"cidrBlock": "10.0.0.0/16", "tags": own, "tagsAll": own})
	a.has(standin.EIP, "own", map[string]any{"domain": "vpc", "tags": own, "tagsAll": own})
	a.has(standin.LogGroup, "own", map[string]any{"name": "/aws/eks/loja-veloz-dev/cluster"})
	if out, err := a.check("203.0.113.7"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestOtherRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*account)
		want   string
	}{
		"another account": {func(a *account) { a.api.Account = "999999999999" },
			`loja-veloz:cloud.accountID is "111122223333", and the credentials are of account 999999999999`},
		"a user": {func(a *account) { a.api.Caller = "arn:aws:iam::" + accountID + ":user/ana" }, "is no role"},
		"a host outside the zone": {func(a *account) { a.stack.Gateway.Host = "shop.example.org" },
			"loja-veloz:gateway.host is shop.example.org, which is outside the zone dev.example.com"},
		"no zone":                    {func(a *account) { a.stack.Gateway.ZoneID = "Z0NONE" }, `loja-veloz:gateway.zoneID is "Z0NONE": `},
		"a zone of no parent":        {func(a *account) { a.servers = nil }, "DNS knows no name servers of dev.example.com"},
		"no provider":                {func(a *account) { a.stack.Bootstrap.ExistingProvider = true }, "existingProvider is true, and the account has no provider"},
		"an image that is not there": {func(a *account) { a.api.Images = nil }, "loja-veloz:images.audit is not in ECR: push it"},
		"an image that cleanup may delete": {func(a *account) {
			for image := range a.api.Images {
				a.api.Images[image] = []string{"0123abc"}
			}
		}, "loja-veloz:images.pedidos has no tag release-*, so cleanup may delete it: aws ecr put-image --repository-name loja-veloz/pedidos"},
		"an image for another processor": {func(a *account) {
			a.stack.Cluster.InstanceType, a.api.CPUs = "t4g.medium", map[string]int{"t4g.medium": 2}
		}, "loja-veloz:images.audit is an image for one processor, and cluster.instanceType is t4g.medium, of arm64"},
		"an unknown machine": {func(a *account) { a.stack.Cluster.InstanceType = "t9.huge" }, "loja-veloz:cluster.instanceType t9.huge is unknown"},
		"an unknown zone": {func(a *account) { a.stack.Cloud.Zones = []string{"us-east-1a", "us-east-1z"} },
			"failed  zones: loja-veloz:cloud.zones is us-east-1a, us-east-1z: "},
		"no zones": {func(a *account) { a.stack.Cloud.Zones = nil },
			"failed  zones: loja-veloz:cloud.zones is empty: name three availability zones of us-east-1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			a.zone("dev.example.com", true)
			tc.change(a)
			out, err := a.check("203.0.113.7")
			if err == nil {
				t.Errorf("nothing failed:\n%s", out)
			}
			a.says(out, tc.want)
		})
	}
}

func TestNodesOfARMTakeImagesForSeveralProcessors(t *testing.T) {
	a := newAccount(t)
	a.zone("dev.example.com", true)
	a.stack.Cluster.InstanceType, a.api.CPUs = "t4g.medium", map[string]int{"t4g.medium": 2}
	a.api.ImageType = "application/vnd.oci.image.index.v1+json"
	out, err := a.check("203.0.113.7")
	if strings.Contains(out, "failed  images") {
		t.Errorf("%v\n%s", err, out)
	}
	a.says(out, "images: 8, each with a tag release-*")
}

// The checks read stack files without the program, so they have its defaults and names.
func TestDefaultsAndNamesAreThePrograms(t *testing.T) {
	read := func(path string) string {
		raw, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	d, parameters := defaults(), read("docs/parameters.md")
	for _, row := range []string{
		fmt.Sprintf("| `cluster.instanceType` | string | `%q` |", d.Cluster.InstanceType),
		fmt.Sprintf("| `cluster.minNodes` | whole number | `%d` |", d.Cluster.MinNodes),
	} {
		if !strings.Contains(parameters, row) {
			t.Errorf("docs/parameters.md has no row %s", row)
		}
	}
	if constant := fmt.Sprintf("ReleasePrefix = %q", publish.ReleasePrefix); !strings.Contains(read("infra/registry/registry.go"), constant) {
		t.Errorf("infra/registry has no %s", constant)
	}
	a := Account{stack: Stack{Environment: "dev"}}
	plan := read("stacks/environment/testdata/plan-dev.txt")
	for _, group := range a.logGroups() {
		if !regexp.MustCompile(`LogGroup ` + group[0] + `\n(      .*\n)*      name: ` + group[1] + `\n`).MatchString(plan) {
			t.Errorf("the plan has no log group %v", group)
		}
	}
	if got := strings.Count(plan, "aws:cloudwatch/logGroup:LogGroup "); got != len(a.logGroups()) {
		t.Errorf("the plan has %d log groups, the checks know %d", got, len(a.logGroups()))
	}
}

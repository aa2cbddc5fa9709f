package plugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

const (
	addonType  = "aws:eks/addon:Addon"
	entryType  = "aws:eks/accessEntry:AccessEntry"
	accessType = "aws:eks/accessPolicyAssociation:AccessPolicyAssociation"
	groupType  = "aws:eks/nodeGroup:NodeGroup"
)

// eksBench is a bench with the cluster c of 1.35 and its node group n.
func eksBench(t *testing.T) (b *bench, cluster, group map[string]any) {
	b = newBench(t)
	vpc, _ := b.create(vpcType, "vpc", map[string]any{"cidrBlock": "10.0.0.0/16"})
	subnet, _ := b.create(subnetType, "a", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.0.0/24"})
	other, _ := b.create(subnetType, "b", map[string]any{"vpcId": vpc, "cidrBlock": "10.0.1.0/24", "availabilityZone": "sa-east-1b"})
	_, role := b.create(roleType, "role", map[string]any{"assumeRolePolicy": trust, "name": "r"})
	cluster = map[string]any{
		"name": "c", "version": "1.35", "roleArn": value.Text(role, "arn"), "vpcConfig": map[string]any{"subnetIds": []any{subnet, other}},
	}
	b.create(clusterType, "c", cluster)
	group = map[string]any{
		"clusterName": "c", "nodeGroupName": "n", "version": "1.35", "nodeRoleArn": value.Text(role, "arn"), "subnetIds": []any{subnet},
		"scalingConfig": map[string]any{"minSize": 3, "desiredSize": 3, "maxSize": 6},
	}
	b.create(groupType, "n", group)
	return b, cluster, group
}

// update changes an object with an id, and returns AWS's answer.
func (b *bench) update(tok, id string, olds, news any) error {
	_, err := b.p.Update(b.Context(), &pulumirpc.UpdateRequest{Urn: urnOf(tok, "x"), Id: id, Olds: b.proto(olds), News: b.proto(news)})
	return err
}

// with is a copy of inputs with another value.
func with(inputs map[string]any, key string, v any) map[string]any {
	changed := map[string]any{key: v}
	for k, old := range inputs {
		if k != key {
			changed[k] = old
		}
	}
	return changed
}

func TestEKSRefusesInUpdates(t *testing.T) {
	b, cluster, group := eksBench(t)
	sizes := func(least int) map[string]any {
		return map[string]any{"minSize": least, "desiredSize": 3, "maxSize": 6}
	}
	for name, tc := range map[string]struct {
		tok, id    string
		olds, news map[string]any
		want       string
	}{
		"a downgrade":         {clusterType, "c", cluster, with(cluster, "version", "1.34"), "version: cannot downgrade"},
		"newer nodes":         {groupType, "c:n", group, with(group, "version", "1.36"), "newer than their cluster"},
		"a minimum to reach":  {groupType, "c:n", group, with(group, "scalingConfig", sizes(2)), ""},
		"a minimum above":     {groupType, "c:n", group, with(group, "scalingConfig", sizes(4)), "minimum capacity 4 can't be greater than desired size 3"},
		"a skip of a version": {clusterType, "c", cluster, with(cluster, "version", "1.37"), "version: 1.35 cannot become 1.37: the next is 1.36"},
		"the same version":    {clusterType, "c", cluster, with(cluster, "enabledClusterLogTypes", []any{"api"}), ""},
	} {
		err := b.update(tc.tok, tc.id, tc.olds, tc.news)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	// The plan says so too, where it knows what was before.
	r, err := b.p.Check(t.Context(), &pulumirpc.CheckRequest{
		Urn: urnOf(clusterType, "c"), Olds: b.proto(cluster), News: b.proto(with(cluster, "version", "1.34")),
	})
	if err != nil || len(r.GetFailures()) != 1 || r.GetFailures()[0].GetProperty() != "version" {
		t.Errorf("a plan of a downgrade: %v, %v", r, err)
	}
}

// The plan and the update judge by the same day.
func TestAWSJudgesByTheDay(t *testing.T) {
	b, cluster, _ := eksBench(t)
	restored := with(database(), "restoreToPointInTime", map[string]any{
		"sourceDbInstanceIdentifier": "loja-veloz-dev-broken", "restoreTime": "2027-03-27T18:00:00Z",
	})
	b.create(rdsType, "db", with(database(), "identifier", "loja-veloz-dev-broken"))
	for _, tc := range []struct {
		day, tok string
		inputs   map[string]any
		want     string
	}{
		{"2027-03-26", clusterType, with(cluster, "name", "later"), ""},
		{"2028-03-28", clusterType, with(cluster, "name", "late"), "out of all support"},
		{"tomorrow", clusterType, with(cluster, "name", "late"), world.DayVariable},
		{"2027-03-27", rdsType, restored, "after the latest restorable time"},
		{"2027-03-28", rdsType, restored, ""},
	} {
		t.Setenv(world.DayVariable, tc.day)
		plan, err := b.p.Check(t.Context(), &pulumirpc.CheckRequest{Urn: urnOf(tc.tok, "x"), News: b.proto(tc.inputs)})
		said := fmt.Sprint(plan.GetFailures(), err)
		if (err == nil && len(plan.GetFailures()) == 0) != (tc.want == "") || !strings.Contains(said, tc.want) {
			t.Errorf("%s: the plan says %s, want %q", tc.day, said, tc.want)
		}
		_, err = b.p.Create(t.Context(), &pulumirpc.CreateRequest{Urn: urnOf(tc.tok, "x"), Properties: b.proto(tc.inputs)})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the update says %v, want %q", tc.day, err, tc.want)
		}
	}
}

func TestAddonsGoWithTheirCluster(t *testing.T) {
	b, _, _ := eksBench(t)
	addon := map[string]any{"clusterName": "c", "addonName": "coredns", "addonVersion": "v1.12.4-eksbuild.29"}
	if _, _, err := b.tryCreate(addonType, "coredns", addon); err == nil || !strings.Contains(err.Error(), "not supported in Kubernetes 1.35") {
		t.Errorf("coredns 1.12 with Kubernetes 1.35: %v", err)
	}
	b.create(addonType, "coredns", with(addon, "addonVersion", "v1.13.2-eksbuild.21"))
}

func TestAPrincipalHasOneAccessEntry(t *testing.T) {
	b, _, _ := eksBench(t)
	const role = "arn:aws:iam::123456789012:role/ops"
	entry := map[string]any{"clusterName": "c", "principalArn": role}
	access := map[string]any{
		"clusterName": "c", "principalArn": role, "accessScope": map[string]any{"type": "cluster"},
		"policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
	}
	if _, _, err := b.tryCreate(accessType, "view", access); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("a policy without an entry: %v", err)
	}
	b.create(entryType, "admin-ops", entry)
	b.create(accessType, "view", access)
	if _, _, err := b.tryCreate(entryType, "viewer-ops", entry); err == nil || !strings.Contains(err.Error(), "ResourceInUseException") {
		t.Errorf("a second entry of a role: %v", err)
	}
	if err := b.update(entryType, "c:"+role, entry, with(entry, "kubernetesGroups", []any{"viewers"})); err != nil {
		t.Errorf("an entry cannot be changed: %v", err)
	}
}

func TestEKSIsAsked(t *testing.T) {
	b, _, _ := eksBench(t)
	invoke := func(tok string, args map[string]any) map[string]any {
		t.Helper()
		r, err := b.p.Invoke(t.Context(), &pulumirpc.InvokeRequest{Tok: tok, Args: b.proto(args)})
		if err != nil || len(r.GetFailures()) > 0 {
			t.Fatalf("%s: %v, %v", tok, r, err)
		}
		return b.props(r.GetReturn()).Mappable()
	}
	if got := invoke("aws:eks/getClusters:getClusters", nil)["names"].([]any); !slices.Equal(got, []any{"c"}) {
		t.Errorf("the clusters are %v", got)
	}
	if got := invoke("aws:eks/getNodeGroups:getNodeGroups", map[string]any{"clusterName": "c"})["names"].([]any); !slices.Equal(got, []any{"n"}) {
		t.Errorf("the node groups are %v", got)
	}
	group := invoke("aws:eks/getNodeGroup:getNodeGroup", map[string]any{"clusterName": "c", "nodeGroupName": "n"})
	if sizes := group["scalingConfigs"].([]any)[0].(map[string]any); sizes["minSize"] != 3.0 || sizes["desiredSize"] != 3.0 || sizes["maxSize"] != 6.0 {
		t.Errorf("the node group has %v", sizes)
	}
	const parameter = "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/release_version"
	if got := invoke("aws:ssm/getParameter:getParameter", map[string]any{"name": parameter})["value"]; got != "1.35.6-20260818" {
		t.Errorf("the recommended release is %v", got)
	}
	t.Setenv(world.CallerVariable, "arn:aws:iam::123456789012:role/path/ops")
	if got := invoke("aws:index/getCallerIdentity:getCallerIdentity", nil)["arn"]; got != "arn:aws:sts::123456789012:assumed-role/ops/stand-in" {
		t.Errorf("the caller is %v", got)
	}
}

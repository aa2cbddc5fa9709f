package aws

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

func TestConditions(t *testing.T) {
	keys := Keys{"aws:RequestedRegion": {"us-east-1"}, "iam:PermissionsBoundary": nil}
	keys.tags("aws:ResourceTag/", resource.NewPropertyMapFromMap(inputs{"tagsAll": inputs{"Environment": "dev"}}))
	for _, tc := range []struct {
		operator, key string
		wanted        []string
		want          verdict
	}{
		{"StringEquals", "aws:RequestedRegion", []string{"eu-west-1", "us-east-1"}, isMet},
		{"StringEquals", "aws:RequestedRegion", []string{"eu-west-1"}, unmet},
		{"StringNotEquals", "aws:ResourceTag/Environment", []string{"prod", "shared"}, isMet},
		{"StringNotEquals", "aws:ResourceTag/Environment", []string{"dev", "shared"}, unmet},
		{"StringLike", "aws:RequestedRegion", []string{"us-*"}, isMet},
		{"StringLike", "aws:RequestedRegion", []string{"eu-*"}, unmet},
		{"StringNotLike", "aws:RequestedRegion", []string{"us-*"}, unmet},
		{"ArnEquals", "aws:RequestedRegion", []string{"us-east-?"}, isMet},
		{"ArnEquals", "aws:RequestedRegion", []string{"us"}, unmet},
		{"StringEquals", "aws:ResourceTag/Owner", []string{"a"}, unmet},
		{"StringEqualsIfExists", "aws:ResourceTag/Owner", []string{"a"}, isMet},
		{"StringEqualsIfExists", "aws:ResourceTag/Environment", []string{"prod"}, unmet},
		{"StringNotEquals", "iam:PermissionsBoundary", []string{"a"}, isMet},
		{"Null", "aws:ResourceTag/Owner", []string{"true"}, isMet},
		{"Null", "aws:ResourceTag/Owner", []string{"false"}, unmet},
		{"Null", "iam:PermissionsBoundary", []string{"true"}, isMet},
		{"StringEquals", "iam:PassedToService", []string{"ec2.amazonaws.com"}, unknown},
		{"Null", "aws:RequestTag/Environment", []string{"true"}, unknown},
		{"NumericLessThan", "aws:RequestedRegion", []string{"1"}, unknown},
	} {
		if got := keys.judgeOne(tc.operator, tc.key, tc.wanted); got != tc.want {
			t.Errorf("%s of %s and %v: %v, want %v", tc.operator, tc.key, tc.wanted, got, tc.want)
		}
	}
}

// policies returns those of bootstrap's golden file.
func policies(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(stacks, "bootstrap", "testdata", "policies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var documents map[string]json.RawMessage
	if err := json.Unmarshal(raw, &documents); err != nil {
		t.Fatal(err)
	}
	return documents
}

// An operator that is not judged would admit whatever it is meant to refuse.
func TestEveryOperatorOfTheRolesIsJudged(t *testing.T) {
	seen := 0
	for name, document := range policies(t) {
		p, err := ParsePolicy(string(document))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, s := range p {
			for operator := range s.Condition {
				seen++
				if _, known := operators[strings.TrimSuffix(operator, "IfExists")]; !known && operator != "Null" {
					t.Errorf("%s has a condition %s, which nobody judges", name, operator)
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("the policies have %d conditions", seen)
	}
}

func TestTheBoundaryDeniesOtherEnvironments(t *testing.T) {
	p, err := ParsePolicy(string(policies(t)["ci-dev-boundary"]))
	if err != nil {
		t.Fatal(err)
	}
	for environment, want := range map[string]bool{"dev": true, "shared": true, "": true, "prod": false} {
		tags := inputs{}
		if environment != "" {
			tags["Environment"] = environment
		}
		keys := Keys{"aws:RequestedRegion": {"us-east-1"}}
		keys.tags("aws:ResourceTag/", resource.NewPropertyMapFromMap(inputs{"tagsAll": tags}))
		if got := p.Allows("ec2:DeleteSecurityGroup", "arn:aws:ec2:us-east-1:111122223333:security-group/sg-1", keys); got != want {
			t.Errorf("a role of dev may delete a group of %q: %v, want %v", environment, got, want)
		}
	}
}

// What the up role's conditions refuse, each next to what they admit.
func TestTheUpRoleIsLimitedByConditions(t *testing.T) {
	up, _ := roles(t, "dev")
	tagged := func(environment string) resource.PropertyMap {
		return resource.NewPropertyMapFromMap(inputs{"tagsAll": inputs{"Environment": environment}})
	}
	with := func(properties inputs, environment string) resource.PropertyMap {
		all := tagged(environment)
		for k, v := range resource.NewPropertyMapFromMap(properties) {
			all[k] = v
		}
		return all
	}
	found := func(outputs resource.PropertyMap) func(Reference, string) resource.PropertyMap {
		return func(Reference, string) resource.PropertyMap { return outputs }
	}
	boundary := func(environment string) inputs {
		return inputs{"permissionsBoundary": "arn:aws:iam::111122223333:policy/loja-veloz-" + environment + "-boundary"}
	}
	subnet := inputs{"vpcId": "vpc-1"}
	attach := func(policy string) resource.PropertyMap {
		return resource.NewPropertyMapFromMap(inputs{"role": "r", "policyArn": "arn:aws:iam::aws:policy/" + policy})
	}
	bounded := found(resource.NewPropertyMapFromMap(boundary("dev")))
	for name, tc := range map[string]struct {
		request Request
		want    string // part of what is missing; "" is admitted
	}{
		"its VPC":             {Request{Type: VPC, Operation: Create, Inputs: tagged("dev")}, ""},
		"a VPC of prod":       {Request{Type: VPC, Operation: Create, Inputs: tagged("prod")}, "ec2:CreateVpc on"},
		"a VPC without a tag": {Request{Type: VPC, Operation: Create, Inputs: resource.PropertyMap{}}, "ec2:CreateVpc on"},
		"a subnet of its VPC": {Request{Type: Subnet, Operation: Create, Inputs: with(subnet, "dev"), Find: found(tagged("dev"))}, ""},
		"a subnet of prod's VPC": {Request{Type: Subnet, Operation: Create, Inputs: with(subnet, "dev"), Find: found(tagged("prod"))},
			"ec2:CreateSubnet on arn:aws:ec2:us-east-1:111122223333:vpc/*"},
		"a VPC's deletion":      {Request{Type: VPC, Operation: Delete, Before: tagged("dev")}, ""},
		"prod's VPC's deletion": {Request{Type: VPC, Operation: Delete, Before: tagged("prod")}, "ec2:DeleteVpc on"},
		"another region":        {Request{Type: VPC, Operation: Create, Inputs: tagged("dev"), Place: Place{Region: "eu-west-1", Account: "111122223333"}}, "ec2:CreateVpc on"},
		"a cluster":             {Request{Type: Cluster, Operation: Create, Inputs: tagged("dev")}, ""},
		"a cluster of prod":     {Request{Type: Cluster, Operation: Create, Inputs: tagged("prod")}, "eks:CreateCluster on *"},
		"a role":                {Request{Type: Role, Operation: Create, Inputs: with(boundary("dev"), "dev")}, ""},
		"a role without bounds": {Request{Type: Role, Operation: Create, Inputs: tagged("dev")}, "iam:CreateRole on"},
		"a role of prod":        {Request{Type: Role, Operation: Create, Inputs: with(boundary("prod"), "dev")}, "iam:CreateRole on"},
		"a managed policy":      {Request{Type: RolePolicyAttachment, Operation: Create, Inputs: attach("AmazonEKSClusterPolicy"), Find: bounded}, ""},
		"an administrator's":    {Request{Type: RolePolicyAttachment, Operation: Create, Inputs: attach("AdministratorAccess"), Find: bounded}, "iam:AttachRolePolicy on"},
	} {
		if tc.request.Place.Region == "" {
			tc.request.Place = account
		}
		missing, _ := up.Missing(tc.request)
		got := strings.Join(missing, ", ")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: missing %q, want %q", name, got, tc.want)
		}
	}
}

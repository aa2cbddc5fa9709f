package aws

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// account is that of the golden files.
var account = Place{Region: "us-east-1", Account: "111122223333"}

const stacks = "../../../../stacks"

// planned returns the AWS types that the golden plans of the environments and of the runner have, and
// those that pulumi-eks 2.8.1 registers in another process, which the plans leave out.
func planned(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{
		Cluster: true, AccessEntry: true, "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": true,
		SecurityGroup: true, "aws:ec2/securityGroupRule:SecurityGroupRule": true,
	}
	for _, plan := range []string{
		filepath.Join(stacks, "environment", "testdata", "plan-dev.txt"), filepath.Join(stacks, "environment", "testdata", "plan-prod.txt"),
		filepath.Join(stacks, "..", "infra", "runner", "testdata", "runner.txt"), // off by default
	} {
		plan, err := os.ReadFile(plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^ *(aws:\S+:\S+) `).FindAllStringSubmatch(string(plan), -1) {
			found[match[1]] = true
		}
	}
	if len(found) < 20 {
		t.Fatalf("the plans have the types %v", found)
	}
	return found
}

// roles returns the policies of bootstrap's roles of an environment.
func roles(t *testing.T, environment string) (up, preview Permissions) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(stacks, "bootstrap", "testdata", "policies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var documents map[string]json.RawMessage
	if err := json.Unmarshal(raw, &documents); err != nil {
		t.Fatal(err)
	}
	read := func(name string) Permissions {
		// Pulumi's mocks give keys no ARN.
		document := strings.ReplaceAll(string(documents["ci-"+environment+"-"+name]), `""`, `"arn:aws:kms:us-east-1:111122223333:key/k"`)
		p, err := ParsePolicy(document)
		if err != nil || len(p) == 0 {
			t.Fatalf("%s: %v, %v", name, p, err)
		}
		return p
	}
	preview = read("read")
	return slices.Concat(read("up-policy"), read("network"), preview), preview
}

func TestTheUpRoleMayDoWhatItsPlanNeeds(t *testing.T) {
	for _, environment := range []string{"dev", "prod"} {
		up, preview := roles(t, environment)
		for _, token := range slices.Sorted(maps.Keys(planned(t))) {
			for role, operations := range map[string]struct {
				policy Permissions
				all    []Operation
			}{"up": {up, []Operation{Create, Read, Update, Delete, Restore}}, "preview": {preview, []Operation{Read}}} {
				for _, operation := range operations.all {
					missing, known := operations.policy.Missing(Request{Type: token, Operation: operation, Place: account})
					if !known {
						t.Errorf("typeActions has no row for %s, which %s plans", token, environment)
					}
					for _, action := range missing {
						t.Errorf("loja-veloz-ci-%s-%s lacks %s, to %s %s", environment, role, action, operation, token)
					}
				}
			}
		}
	}
}

// The program looks up more than it registers, in previews too.
func TestRolesMayLookUpWhatTheProgramAsks(t *testing.T) {
	for _, environment := range []string{"dev", "prod"} {
		up, preview := roles(t, environment)
		for token := range functionActions {
			for role, policy := range map[string]Permissions{"up": up, "preview": preview} {
				if missing, _ := policy.Missing(Request{Type: token, Operation: Read, Place: account}); len(missing) > 0 {
					t.Errorf("loja-veloz-ci-%s-%s lacks %v, for %s", environment, role, missing, token)
				}
			}
		}
	}
	for _, token := range []string{"aws:eks/getClusters:getClusters", "aws:eks/getNodeGroups:getNodeGroups", "aws:ssm/getParameter:getParameter"} {
		if missing, _ := (Permissions{}).Missing(Request{Type: token, Operation: Read, Place: account}); len(missing) == 0 {
			t.Errorf("a role without rights may call %s", token)
		}
	}
}

// An interface endpoint needs the permission to associate its names with the VPC, which up
// lacked at first.
func TestAMissingActionIsFound(t *testing.T) {
	up, _ := roles(t, "prod")
	var without Permissions
	for _, s := range up {
		if !slices.Contains(s.Actions, "route53:AssociateVPCWithHostedZone") {
			without = append(without, s)
		}
	}
	missing, _ := without.Missing(Request{Type: VPCEndpoint, Operation: Create, Place: account})
	if !slices.Equal(missing, []string{"route53:AssociateVPCWithHostedZone"}) {
		t.Errorf("missing are %v", missing)
	}
}

func TestEveryActionExists(t *testing.T) {
	all := maps.Clone(typeActions)
	maps.Copy(all, functionActions)
	for token, row := range all {
		for operation := range row {
			actions, _ := Actions(token, operation)
			for _, action := range actions {
				if _, known := Authorized(action, "aws", "us-east-1", "111122223333"); !known {
					t.Errorf("%s: authorization.json has no row for %s", token, action)
				}
			}
		}
	}
}

func TestPoliciesAdmitByActionAndResource(t *testing.T) {
	p, err := ParsePolicy(`{"Statement": [
		{"Effect": "Allow", "Action": ["eks:CreateCluster", "rds:Describe*"], "Resource": "arn:aws:eks:us-east-1:111122223333:cluster/loja-*"},
		{"Effect": "Allow", "Action": "acm:RequestCertificate", "Resource": ["*"]},
		{"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
		{"Effect": "Deny", "Action": "s3:Delete*", "Resource": "arn:aws:s3:::state/*"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		action, resource string
		want             bool
	}{
		{"eks:CreateCluster", "arn:aws:eks:us-east-1:111122223333:cluster/*", true},
		{"eks:CreateCluster", "arn:aws:eks:us-east-1:111122223333:nodegroup/*", false},
		{"eks:CreateCluster", "*", false}, // AWS authorizes it for no resource: one that is named does not fit
		{"eks:CreateCluster", "", true},
		{"rds:DescribeDBInstances", "", true},
		{"rds:DeleteDBInstance", "", false},
		{"acm:RequestCertificate", "*", true},
		{"acm:RequestCertificate", "arn:aws:acm:us-east-1:111122223333:certificate/*", true},
		{"s3:PutObject", "arn:aws:s3:::state/a", true},
		{"s3:DeleteObject", "arn:aws:s3:::state/a", false},
		{"s3:DeleteObject", "arn:aws:s3:::other/a", true},
	} {
		if got := p.Allows(tc.action, tc.resource, nil); got != tc.want {
			t.Errorf("%s on %q: %v", tc.action, tc.resource, got)
		}
	}
	if _, err := ParsePolicy("nonsense"); err == nil || !strings.Contains(err.Error(), "reading a policy") {
		t.Errorf("nonsense: %v", err)
	}
}

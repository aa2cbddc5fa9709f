package runner_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/runner"
)

func good() *runner.Spec {
	return &runner.Spec{
		Name: "loja-veloz-dev", Region: "us-east-1", AccountID: "111122223333", Repository: "https://github.com/loja-veloz/platform",
		ConnectionARN: "arn:aws:codeconnections:us-east-1:111122223333:connection/00000000-0000-4000-8000-000000000001", LogDays: 14,
	}
}

func inputs() runner.Inputs {
	return runner.Inputs{
		VPCID: pulumi.String("vpc-1"), Subnets: pulumi.ToStringArray([]string{"subnet-1", "subnet-2"}),
		ClusterSecurityGroupID: pulumi.String("sg-of-the-cluster"), KeyARN: pulumi.String("arn:aws:kms:us-east-1:111122223333:key/k"),
		PermissionsBoundary: "arn:aws:iam::111122223333:policy/loja-veloz-dev-boundary",
	}
}

func deployed(t *testing.T) *infratest.Recorder {
	t.Helper()
	return infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := runner.New(ctx, "runner", good(), inputs())
		return err
	})
}

func TestPlan(t *testing.T) {
	recorder := deployed(t)
	recorder.WellFormed(t)
	recorder.GoldenPlan(t, "runner")
}

// Whoever reached a runner would be in the VPC.
func TestNobodyReachesTheRunner(t *testing.T) {
	recorder := deployed(t)
	for _, r := range recorder.Resources() {
		if r.Inputs["ingress"] != nil || r.Type == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" &&
			r.Inputs["securityGroupId"] != "sg-of-the-cluster" {
			t.Errorf("%s admits somebody: %v", r.Name, r.Inputs)
		}
	}
	for _, rule := range recorder.Named(t, "runner-group").Inputs["egress"].([]any) {
		if got := rule.(map[string]any); got["fromPort"] != 443.0 || got["toPort"] != 443.0 {
			t.Errorf("the runner reaches more than HTTPS: %v", got)
		}
	}
}

// CodeBuild tries the connection with the role when it creates the project.
func TestTheProjectWaitsForItsRolesPolicy(t *testing.T) {
	deployed(t).InOrder(t, map[string][]string{"runner-project": {"runner-policy"}, "runner-webhook": {"runner-project"}})
}

// A job could do with the machine's role what the role may. It gets its own by GitHub's OIDC.
func TestTheMachinesRoleReachesNothingOfTheShop(t *testing.T) {
	recorder := deployed(t)
	var document struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal([]byte(recorder.Named(t, "runner-policy").Inputs["policy"].(string)), &document); err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"codeconnections:GetConnection", "codeconnections:GetConnectionToken",
		"ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface", "ec2:DescribeDhcpOptions",
		"ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
		"logs:CreateLogStream", "logs:PutLogEvents",
	}
	for _, statement := range document.Statement {
		for _, action := range statement.Action {
			if !slices.Contains(allowed, action) {
				t.Errorf("a job may %s", action)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	infratest.Refused(t, (&runner.Spec{}).Validate(), `Name is ""`, `AccountID is ""`, `Region is ""`,
		`Repository is "": use https://github.com/OWNER/NAME`, `ConnectionARN is "": create a connection`, "LogDays is 0")
	for _, address := range []string{
		"http://github.com/loja-veloz/platform", "https://github.com/loja-veloz", "https://github.com/loja-veloz/platform/tree/main",
		"https://example.com/loja-veloz/platform", "git@github.com:loja-veloz/platform.git",
	} {
		spec := good()
		spec.Repository = address
		infratest.Refused(t, spec.Validate(), "Repository is ")
	}
	spec := good()
	spec.Region = "sa-east-1"
	infratest.Refused(t, spec.Validate(), "ConnectionARN is arn:aws:codeconnections:us-east-1:", "use a connection of the environment's region")

	err := infratest.RunWith(true, &infratest.Recorder{}, func(ctx *pulumi.Context) error {
		_, err := runner.New(ctx, "runner", good(), runner.Inputs{})
		return err
	})
	infratest.Refused(t, err, "VPCID is missing", "Subnets is missing", "ClusterSecurityGroupID is missing", "KeyARN is missing",
		"PermissionsBoundary")
}

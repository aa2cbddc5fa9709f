package aws

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

func TestDeleteFirst(t *testing.T) {
	chosen := value.List(resource.NewProperty("name"))
	for name, tc := range map[string]struct {
		token      string
		olds, news map[string]any
		chosen     bool // the plugin chose the name
		want       bool
	}{
		"a role with the program's name": {
			token: Role, olds: map[string]any{"name": "a", "path": "/"}, news: map[string]any{"name": "a", "path": "/b/"}, want: true,
		},
		"a role with a new name of the program's": {
			token: Role, olds: map[string]any{"name": "a"}, news: map[string]any{"name": "b"}, want: true,
		},
		"a role with the plugin's name": {
			token: Role, olds: map[string]any{"name": "a"}, news: map[string]any{"name": "a", "path": "/b/"}, chosen: true,
		},
		"a launch template with a prefix": {
			token: LaunchTemplate, olds: map[string]any{"namePrefix": "a"}, news: map[string]any{"namePrefix": "b"},
		},
		// pulumi-aws can name a zone, though AWS accepts two zones of one name.
		"a zone with the program's name": {
			token: Zone, olds: map[string]any{"name": "a.b"}, news: map[string]any{"name": "a.b", "delegationSetId": "d"}, want: true,
		},
		"a zone with the plugin's name": {
			token: Zone, olds: map[string]any{"name": "a.b"}, news: map[string]any{"name": "a.b", "delegationSetId": "d"}, chosen: true,
		},
		"a rule, whose id has generated digits": {
			token: "aws:ec2/securityGroupRule:SecurityGroupRule", olds: map[string]any{"fromPort": 1}, news: map[string]any{"fromPort": 2},
		},
		"a certificate, whose ARN has a generated part": {
			token: "aws:acm/certificate:Certificate", olds: map[string]any{"domainName": "a.b"}, news: map[string]any{"domainName": "c.d"},
		},
		"a VPC, whose id is generated": {token: VPC, olds: map[string]any{"cidrBlock": "a"}, news: map[string]any{"cidrBlock": "b"}},
		// Source: resources.go of pulumi-aws, DeleteBeforeReplace.
		"a lifecycle policy of the same repository": {
			token: LifecyclePolicy, olds: map[string]any{"repository": "r", "policy": "a"},
			news: map[string]any{"repository": "r", "policy": "b"}, want: true,
		},
		"a lifecycle policy of another repository": {
			token: LifecyclePolicy, olds: map[string]any{"repository": "r"}, news: map[string]any{"repository": "s"},
		},
	} {
		olds, news := resource.NewPropertyMapFromMap(tc.olds), resource.NewPropertyMapFromMap(tc.news)
		if tc.chosen {
			olds[DefaultsKey], news[DefaultsKey] = chosen, chosen
		}
		if got := DeleteFirst(Place{Region: "sa-east-1"}, known(t, tc.token), olds, news); got != tc.want {
			t.Errorf("%s: deleted first %v, want %v", name, got, tc.want)
		}
	}
}

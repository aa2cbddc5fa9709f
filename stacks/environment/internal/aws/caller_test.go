package aws

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

const (
	real     = "123412341234"
	upRole   = "arn:aws:iam::" + real + ":role/loja-veloz-ci-dev-up"
	opsRole  = "arn:aws:iam::" + real + ":role/people/ops"
	viewRole = "arn:aws:iam::" + real + ":role/loja-veloz-ci-dev-preview"
)

// accountOf answers what the program asks of an account.
type accountOf struct {
	*infratest.Recorder
	mu      sync.Mutex
	answers map[string]map[string]any
	asked   []string
}

func (a *accountOf) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, args.Token)
	answer, known := a.answers[args.Token]
	if !known {
		return nil, errors.New("AccessDenied")
	}
	return resource.NewPropertyMapFromMap(answer), nil
}

// account is one in which caller runs the program, before there is a cluster.
func accountWith(caller string) *accountOf {
	id := strings.Split(caller, ":")[4]
	return &accountOf{Recorder: &infratest.Recorder{}, answers: map[string]map[string]any{
		"aws:index/getCallerIdentity:getCallerIdentity": {"accountId": id, "arn": caller, "id": id, "userId": "u"},
		"aws:eks/getClusters:getClusters":               {"names": []any{}},
		"aws:ssm/getParameter:getParameter":             {"value": "1.35.7-20261101"},
	}}
}

// configured is the configuration of a real account.
func configured() *config.Config {
	cfg := config.Defaults(nil)
	cfg.Cloud.Provider, cfg.Cloud.AccountID = "aws", real
	cfg.Cluster.PublicAccessCIDRs, cfg.Cluster.Admins = []string{"8.8.8.0/24"}, []string{opsRole}
	cfg.Gateway.Host, cfg.Gateway.ZoneID = "loja.shop", "Z1"
	return cfg
}

func ask(cfg *config.Config, in *accountOf, preview bool) (*cluster.Scaling, error) {
	var scaling *cluster.Scaling
	err := infratest.RunWith(preview, in, func(ctx *pulumi.Context) error {
		provider, err := aws.NewProvider(ctx, "aws", nil)
		if err != nil {
			return err
		}
		target := New("dev", cfg).(*Target)
		scaling, err = target.ask(ctx, pulumi.Provider(provider), &account{up: upRole, preview: viewRole})
		return err
	})
	return scaling, err
}

func assumed(role string) string {
	return "arn:aws:sts::" + real + ":assumed-role/" + role + "/session"
}

func TestNobodyIsLockedOut(t *testing.T) {
	for caller, refused := range map[string]bool{
		assumed("loja-veloz-ci-dev-up"):                      false,
		assumed("ops"):                                       false,
		assumed("loja-veloz-ci-dev-preview"):                 true,
		assumed("stranger"):                                  true,
		"arn:aws:iam::" + real + ":user/ops":                 true,
		"arn:aws:iam::" + real + ":root":                     true,
		"arn:aws:sts::999999999999:assumed-role/ops/session": true,
		"arn:aws:sts::" + real + ":federated-user/ops":       true,
	} {
		_, err := ask(configured(), accountWith(caller), false)
		if (err != nil) != refused {
			t.Errorf("%s: %v, want it refused: %t", caller, err, refused)
		}
		if refused {
			infratest.Refused(t, err, "loja-veloz:cluster.admins: "+caller+" runs this, and is neither the role "+upRole+" nor one of cluster.admins")
		}
	}
	// A preview only reads, and warns.
	for _, caller := range []string{assumed("loja-veloz-ci-dev-preview"), assumed("stranger")} {
		if _, err := ask(configured(), accountWith(caller), true); err != nil {
			t.Errorf("a preview by %s: %v", caller, err)
		}
	}
}

// Identity Center's roles have a path, which a caller's ARN does not show, and EKS refuses an access
// entry without it.
func TestTheEntryOfARoleHasItsPath(t *testing.T) {
	const name = "AWSReservedSSO_ops_0123456789abcdef"
	role := "arn:aws:iam::" + real + ":role/aws-reserved/sso.amazonaws.com/sa-east-1/" + name
	in := accountWith(assumed(name))
	in.answers["aws:iam/getRole:getRole"] = map[string]any{"arn": role, "name": name}
	cfg := configured()
	cfg.Cluster.Admins = []string{"arn:aws:iam::" + real + ":role/" + name}
	_, err := ask(cfg, in, false)
	infratest.Refused(t, err, "loja-veloz:cluster.admins: "+assumed(name)+" runs this", "the entry of a role is its ARN with its path: "+role)
	cfg.Cluster.Admins = []string{role}
	if _, err := ask(cfg, in, false); err != nil {
		t.Errorf("with its path: %v", err)
	}
	// Who may not look the role up is compared by its name, and told where the path stands.
	delete(in.answers, "aws:iam/getRole:getRole")
	if _, err := ask(cfg, in, false); err != nil {
		t.Errorf("without the right to look the role up: %v", err)
	}
	cfg.Cluster.Admins = []string{opsRole}
	_, err = ask(cfg, in, false)
	infratest.Refused(t, err, "its ARN, with the path that iam get-role prints")
}

func TestPlaceholdersAreRefusedInARealAccount(t *testing.T) {
	cfg := configured()
	cfg.Cluster.PublicAccessCIDRs = []string{"203.0.113.7/32"}
	cfg.Gateway.Host, cfg.Gateway.ZoneID, cfg.Shop.StripePublishableKey = "shop.dev.example.com", "Z0DEVEXAMPLE", "pk_test_EXAMPLE"
	cfg.Alarms.Emails = []string{"team@loja.shop", "ops@example.org"}
	cfg.Images = map[string]string{"audit": documentationAccount + ".dkr.ecr.us-east-1.amazonaws.com/loja-veloz/audit@sha256:0"}
	_, err := ask(cfg, accountWith(assumed("ops")), false)
	infratest.Refused(t, err, "cluster.publicAccessCIDRs 203.0.113.7/32", "gateway.host shop.dev.example.com", "gateway.zoneID Z0DEVEXAMPLE",
		"shop.stripePublishableKey pk_test_EXAMPLE", "alarms.emails ops@example.org",
		"images.audit "+documentationAccount, "these are placeholders")
	if _, err := ask(cfg, accountWith(assumed("ops")), true); err != nil {
		t.Errorf("a preview: %v", err)
	}
	// The stand-in answers with AWS's documentation account.
	cfg.Cloud.AccountID = documentationAccount
	cfg.Cluster.Admins = []string{"arn:aws:iam::" + documentationAccount + ":role/ops"}
	if _, err := ask(cfg, accountWith("arn:aws:sts::"+documentationAccount+":assumed-role/ops/s"), false); err != nil {
		t.Errorf("the stand-in: %v", err)
	}
	// Real credentials with the account of the documentation: the provider refuses, and says less.
	in := accountWith(assumed("ops"))
	delete(in.answers, "aws:index/getCallerIdentity:getCallerIdentity")
	_, err = ask(cfg, in, false)
	infratest.Refused(t, err, "cloud.accountID "+documentationAccount, "these are placeholders", "AccessDenied")
	if found := placeholders(configured()); len(found) > 0 {
		t.Errorf("a real configuration has %v", found)
	}
}

func TestAnOfflinePreviewAsksNothing(t *testing.T) {
	cfg, in := configured(), accountWith(assumed("stranger"))
	cfg.Cloud.Offline = true
	if _, err := ask(cfg, in, true); err != nil || len(in.asked) > 0 {
		t.Errorf("%v is asked (%v)", in.asked, err)
	}
}

func TestTheSizeOfTheNodeGroupIsRead(t *testing.T) {
	in := accountWith(assumed("ops"))
	in.answers["aws:eks/getClusters:getClusters"] = map[string]any{"names": []any{"other", "loja-veloz-dev"}}
	in.answers["aws:eks/getNodeGroups:getNodeGroups"] = map[string]any{"names": []any{"by-hand", "cluster-nodes-1a2b"}}
	in.answers["aws:eks/getNodeGroup:getNodeGroup"] = map[string]any{
		"scalingConfigs": []any{map[string]any{"minSize": 3, "maxSize": 6, "desiredSize": 5}}}
	scaling, err := ask(configured(), in, false)
	if err != nil || scaling == nil || *scaling != (cluster.Scaling{Min: 3, Max: 6, Desired: 5}) {
		t.Errorf("the node group has %v (%v)", scaling, err)
	}
	// Without the right to read the recommended image the update goes on.
	delete(in.answers, "aws:ssm/getParameter:getParameter")
	if _, err := ask(configured(), in, false); err != nil {
		t.Errorf("without the parameter: %v", err)
	}
}

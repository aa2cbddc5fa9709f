// Package awscheck asks an AWS account, before the first pulumi up, for what would stop it.
package awscheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// addressService answers a request with the caller's address. AWS runs it.
const addressService = "https://checkip.amazonaws.com"

// A Check asks for one thing. Its error says what is wrong, and ends with the field or the command
// that mends it.
type Check struct {
	Name string
	Run  func(context.Context) (string, error)
}

// An Account runs the checks with the caller's credentials. It reads and changes nothing.
type Account struct {
	stack Stack

	sts    *sts.Client
	ec2    *ec2.Client
	ecr    *ecr.Client
	iam    *iam.Client
	logs   *cloudwatchlogs.Client
	dns    *route53.Client
	quotas *servicequotas.Client

	address string // the caller's public address; "": ask addressService
	// nameServers looks a zone's name servers up in DNS.
	nameServers func(ctx context.Context, zone string) ([]string, error)

	// known once the first checks have run
	bootstrapped, exists bool
}

// New prepares the checks of a stack. The address is the caller's public one, "" to ask AWS for it.
func New(stack Stack, cfg aws.Config, address string) *Account {
	return &Account{
		stack: stack, address: address, nameServers: lookup,
		sts: sts.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg), ecr: ecr.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg),
		logs: cloudwatchlogs.NewFromConfig(cfg), dns: route53.NewFromConfig(cfg), quotas: servicequotas.NewFromConfig(cfg),
	}
}

func lookup(ctx context.Context, zone string) ([]string, error) {
	found, err := net.DefaultResolver.LookupNS(ctx, zone)
	var servers []string
	for _, server := range found {
		servers = append(servers, server.Host)
	}
	return servers, err
}

// Checks returns the checks in the order in which they run: those of the account first, because
// the others depend on what exists.
func (a *Account) Checks() []Check {
	checks := []Check{
		{"identity", a.checkIdentity},
		{"bootstrap", a.checkBootstrap},
		{"GitHub's provider", a.checkProvider},
		{"pull-through prefixes", a.checkPullThrough},
		{"environment", a.checkEnvironment},
		{"zones", a.checkZones},
		{"quota of vCPUs", a.checkCPUs},
		{"quota of addresses", a.checkAddresses},
		{"quota of VPCs", a.checkVPCs},
		{"log groups", a.checkLogGroups},
		{"API server's allow-list", a.checkAddress},
		{"images", a.checkImages},
	}
	if a.stack.Gateway.ZoneID != "" {
		checks = append(checks, Check{"hosted zone", a.checkZone}, Check{"record", a.checkRecord})
	}
	return checks
}

// Run prints a line for each check, and returns an error if one failed.
func (a *Account) Run(ctx context.Context, out io.Writer) error {
	failed := 0
	for _, check := range a.Checks() {
		word := "ok    "
		text, err := check.Run(ctx)
		if err != nil {
			failed++
			if denied(err) {
				err = fmt.Errorf("AWS denies the question, so the answer is unknown: "+
					"run the check with other credentials, of the environment's up role or an administrator (%w)", cause(err))
			}
			word, text = "failed", strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if _, err := fmt.Fprintf(out, "%s  %s: %s\n", word, check.Name, text); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed: mend them before pulumi up", failed, len(a.Checks()))
	}
	return nil
}

func (a *Account) upRole() string { return project + "-ci-" + a.stack.Environment + "-up" }

// set returns the command that sets a field of the environment's stack file.
func (a *Account) set(path, value string) string {
	return fmt.Sprintf("pulumi config set -s %s --path '%s:%s' %s", a.stack.Environment, project, path, value)
}

// checkIdentity refuses other accounts, and callers whom the cluster would not admit.
func (a *Account) checkIdentity(ctx context.Context) (string, error) {
	who, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("AWS does not say who calls: sign in first, for example with aws sso login: %w", err)
	}
	account, arn := aws.ToString(who.Account), aws.ToString(who.Arn)
	if account != a.stack.Cloud.AccountID {
		return "", fmt.Errorf("loja-veloz:cloud.accountID is %q, and the credentials are of account %s: %s",
			a.stack.Cloud.AccountID, account, a.set("cloud.accountID", account))
	}
	_, session, assumed := strings.Cut(arn, ":assumed-role/")
	role, _, _ := strings.Cut(session, "/")
	if !assumed {
		return "", fmt.Errorf("%s is no role, and the cluster admits roles alone: assume one of loja-veloz:cluster.admins", arn)
	}
	if role == a.upRole() {
		return arn + ", the environment's up role", nil
	}
	// The caller's ARN lacks the role's path, and EKS refuses an access entry without it.
	found, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(role)})
	if err != nil && !denied(err) {
		return "", fmt.Errorf("reading the role %s: %w", role, err)
	}
	same := slices.IndexFunc(a.stack.Cluster.Admins, func(admin string) bool {
		return strings.HasPrefix(admin, "arn:aws:iam::"+account+":role/") && admin[strings.LastIndex(admin, "/")+1:] == role
	})
	if err != nil {
		if same >= 0 {
			return arn + ", of cluster.admins by its name: the role's path is unknown, because iam:GetRole is denied", nil
		}
		return "", fmt.Errorf("the cluster would not admit %s, neither %s nor in loja-veloz:cluster.admins: add the role's ARN with its path, "+
			"which is unknown, because iam:GetRole is denied", arn, a.upRole())
	}
	whole := aws.ToString(found.Role.Arn)
	if slices.Contains(a.stack.Cluster.Admins, whole) {
		return arn + ", of cluster.admins", nil
	}
	if same < 0 {
		same = len(a.stack.Cluster.Admins)
	}
	return "", fmt.Errorf("the cluster would not admit %s, neither %s nor in loja-veloz:cluster.admins: %s", arn, a.upRole(),
		a.set(fmt.Sprintf("cluster.admins[%d]", same), whole))
}

// cause returns AWS's own error, without the advice of a check that expects another one.
func cause(err error) error {
	var refused smithy.APIError
	errors.As(err, &refused)
	return refused
}

// denied tells whether AWS refuses a call because of the caller's permissions. EC2 has a code of its own.
func denied(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) &&
		slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, refused.ErrorCode())
}

// checkAddress compares the caller's public address with the API server's allow-list.
func (a *Account) checkAddress(ctx context.Context) (string, error) {
	text := a.address
	if text == "" {
		var err error
		if text, err = askAddress(ctx); err != nil {
			return "", fmt.Errorf("%s does not say which address calls: give it as ADDRESS=: %w", addressService, err)
		}
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return "", fmt.Errorf("ADDRESS is %q: an IPv4 address is expected", text)
	}
	for i, allowed := range a.stack.Cluster.PublicAccessCIDRs {
		block, err := netip.ParsePrefix(allowed)
		if err != nil {
			return "", fmt.Errorf("loja-veloz:cluster.publicAccessCIDRs[%d] is %q: a CIDR block is expected", i, allowed)
		}
		if block.Contains(address) {
			return fmt.Sprintf("%s is in %s", address, block), nil
		}
	}
	return "", fmt.Errorf("%s is in none of loja-veloz:cluster.publicAccessCIDRs, so the update could not reach the API server: %s", address,
		a.set(fmt.Sprintf("cluster.publicAccessCIDRs[%d]", len(a.stack.Cluster.PublicAccessCIDRs)), address.String()+"/32"))
}

func askAddress(ctx context.Context) (_ string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, addressService, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64))
	return strings.TrimSpace(string(body)), err
}

// missing returns the items of want that are not in have, whatever their case and final dot.
func missing(want, have []string) []string {
	plain := func(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
	var lacking []string
	for _, name := range want {
		if !slices.ContainsFunc(have, func(other string) bool { return plain(other) == plain(name) }) {
			lacking = append(lacking, plain(name))
		}
	}
	return lacking
}

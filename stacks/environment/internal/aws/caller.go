package aws

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ssm"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// documentationAccount is one of the accounts that AWS keeps for documentation and gives to nobody.
// Only the stand-in for AWS answers with it.
const documentationAccount = "111122223333"

// ask asks the account who runs the program, what its node group has, and which image AWS
// recommends for nodes. Without an account (cloud.offline) it asks nothing. Whoever would be locked
// out, and placeholders in the configuration, are an error in an update and a warning in a preview.
func (t *Target) ask(ctx *pulumi.Context, in pulumi.InvokeOption, own *account) (*cluster.Scaling, error) {
	if warning := cluster.Support(t.cluster.Version, t.cluster.ExtendedSupport, time.Now()); warning != "" {
		_ = ctx.Log.Warn("cluster.version: "+warning, nil)
	}
	if t.cfg.Cloud.Offline {
		return nil, nil
	}
	identity, err := aws.GetCallerIdentity(ctx, &aws.GetCallerIdentityArgs{}, in)
	if err != nil {
		err = fmt.Errorf("asking AWS who runs this: %w", err)
		if found := placeholders(t.cfg); len(found) > 0 {
			err = fmt.Errorf("%s: these are placeholders, see docs/aws/setup.md; %w", strings.Join(found, ", "), err)
		}
		return nil, err
	}
	var problems []string
	if found := placeholders(t.cfg); len(found) > 0 && identity.AccountId != documentationAccount {
		problems = append(problems, fmt.Sprintf("%s: these are placeholders, see docs/aws/setup.md", strings.Join(found, ", ")))
	}
	role := lookUpRole(ctx, identity.Arn, in)
	if !t.admits(identity.Arn, role, own, ctx.DryRun()) {
		if role == "" {
			role = "its ARN, with the path that iam get-role prints"
		}
		problems = append(problems, fmt.Sprintf("%s:cluster.admins: %s runs this, and is neither the role %s nor one of cluster.admins: "+
			"the cluster would lock it out; the entry of a role is its ARN with its path: %s", config.Namespace, identity.Arn, own.up, role))
	}
	if len(problems) > 0 && !ctx.DryRun() {
		return nil, fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	for _, problem := range problems {
		_ = ctx.Log.Warn(problem, nil)
	}
	t.compareRelease(ctx, in)
	return t.scaling(ctx, in)
}

// lookUpRole returns the ARN of a caller's role with its path, which the caller's own ARN lacks, or ""
// if the caller has no role or may not look it up.
func lookUpRole(ctx *pulumi.Context, caller string, in pulumi.InvokeOption) string {
	_, session, assumed := strings.Cut(caller, ":assumed-role/")
	if !assumed {
		return ""
	}
	name, _, _ := strings.Cut(session, "/")
	found, err := iam.LookupRole(ctx, &iam.LookupRoleArgs{Name: name}, in)
	if err != nil {
		_ = ctx.Log.Info(fmt.Sprintf("AWS does not say which path the role %s has: %v", name, err), nil)
		return ""
	}
	return found.Arn
}

// admits tells whether the cluster lets a caller do what the program does: as an administrator, or
// in a preview as a viewer too. EKS compares whole ARNs; without role, the one of the caller's role,
// only its name can be compared.
func (t *Target) admits(caller, role string, own *account, preview bool) bool {
	roles := append([]string{own.up}, t.cluster.Admins...)
	if preview {
		roles = append(append(roles, own.preview), t.cluster.Viewers...)
	}
	return slices.ContainsFunc(roles, func(other string) bool { return assumes(caller, other) && (role == "" || role == other) })
}

// assumes tells whether a caller, arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION, has a role. Its ARN
// has no path, and no two roles of an account have the same name ("Identifiers" in the IAM user
// guide).
func assumes(caller, role string) bool {
	from, is := strings.Split(caller, ":"), strings.Split(role, ":")
	if len(from) != 6 || len(is) != 6 || from[4] != is[4] {
		return false
	}
	session := strings.Split(from[5], "/")
	return len(session) == 3 && session[0] == "assumed-role" && session[1] == is[5][strings.LastIndex(is[5], "/")+1:]
}

// examples are the networks of RFC 5737, which no caller has.
var examples = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
}

// documentationName tells whether a host is one of RFC 2606.
func documentationName(host string) bool {
	return slices.ContainsFunc([]string{"example.com", "example.net", "example.org", "example"}, func(domain string) bool {
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}

// placeholders lists the settings whose values are those of documentation, as the stack files are
// shipped: of RFC 5737 (networks), RFC 2606 (names) and AWS (account).
func placeholders(cfg *config.Config) []string {
	var found []string
	add := func(is bool, key, value string) {
		if is {
			found = append(found, fmt.Sprintf("%s:%s %s", config.Namespace, key, value))
		}
	}
	add(cfg.Cloud.AccountID == documentationAccount, "cloud.accountID", cfg.Cloud.AccountID)
	for _, cidr := range cfg.Cluster.PublicAccessCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		add(err == nil && slices.ContainsFunc(examples, prefix.Overlaps), "cluster.publicAccessCIDRs", cidr)
	}
	add(documentationName(cfg.Gateway.Host), "gateway.host", cfg.Gateway.Host)
	for _, email := range cfg.Alarms.Emails {
		_, domain, _ := strings.Cut(email, "@")
		add(documentationName(domain), "alarms.emails", email)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Images)) {
		add(strings.HasPrefix(cfg.Images[name], documentationAccount+"."), "images."+name, cfg.Images[name])
	}
	add(strings.HasSuffix(cfg.Gateway.ZoneID, "EXAMPLE"), "gateway.zoneID", cfg.Gateway.ZoneID)
	add(strings.HasSuffix(cfg.Shop.StripePublishableKey, "EXAMPLE"), "shop.stripePublishableKey", cfg.Shop.StripePublishableKey)
	return found
}

// compareRelease says which release of the nodes' image AWS recommends, if it is another one. That
// nobody answers does not stop anything.
func (t *Target) compareRelease(ctx *pulumi.Context, in pulumi.InvokeOption) {
	recommended, err := ssm.LookupParameter(ctx, &ssm.LookupParameterArgs{Name: t.cluster.Nodes.NodeReleases(t.cluster.Version)}, in)
	switch pinned := t.cluster.Nodes.Release; {
	case err != nil:
		_ = ctx.Log.Info(fmt.Sprintf("AWS does not say which image it recommends for nodes: %v", err), nil)
	case pinned == "":
		_ = ctx.Log.Info(fmt.Sprintf("cluster.nodeRelease is empty: AWS recommends %s", recommended.Value), nil)
	case pinned != recommended.Value:
		_ = ctx.Log.Warn(fmt.Sprintf("cluster.nodeRelease is %s, and AWS recommends %s: set it to patch the nodes, which replaces them",
			pinned, recommended.Value), nil)
	}
}

// scaling returns what the node group has now, or nil if there is none.
func (t *Target) scaling(ctx *pulumi.Context, in pulumi.InvokeOption) (*cluster.Scaling, error) {
	clusters, err := eks.GetClusters(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("listing the account's clusters: %w", err)
	}
	if !slices.Contains(clusters.Names, t.cluster.Name) {
		return nil, nil
	}
	groups, err := eks.GetNodeGroups(ctx, &eks.GetNodeGroupsArgs{ClusterName: t.cluster.Name}, in)
	if err != nil {
		return nil, fmt.Errorf("listing the node groups of %s: %w", t.cluster.Name, err)
	}
	for _, name := range groups.Names {
		if !strings.HasPrefix(name, cluster.NodeGroup(clusterResource)) {
			continue // somebody else's
		}
		group, err := eks.LookupNodeGroup(ctx, &eks.LookupNodeGroupArgs{ClusterName: t.cluster.Name, NodeGroupName: name}, in)
		if err != nil {
			return nil, fmt.Errorf("reading the node group %s: %w", name, err)
		}
		for _, size := range group.ScalingConfigs {
			return &cluster.Scaling{
				Min: int32(size.MinSize), Max: int32(size.MaxSize), Desired: int32(size.DesiredSize), // #nosec G115 -- at most 450 each
			}, nil
		}
	}
	return nil, nil
}

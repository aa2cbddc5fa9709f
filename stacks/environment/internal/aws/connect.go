package aws

import (
	"context"
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/adopt"
	"github.com/loja-veloz/platform/infra/autoscaling"
	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/database/instance"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/identity"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/network"
	"github.com/loja-veloz/platform/infra/runner"
	"github.com/loja-veloz/platform/infra/secrets"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

// clusterResource is the name of the cluster's component in Pulumi.
const clusterResource = "cluster"

// connected is the EKS cluster of an environment, with the parts of the account that Install
// needs.
type connected struct {
	target   *Target
	account  *account
	aws      pulumi.ResourceOption // for resources of AWS
	provider *kubernetes.Provider
	client   *kube.Client
	network  *network.Network
	eks      *cluster.Cluster
	database *instance.Database
	// associations give the controllers' pods their roles. They have to exist before the pods.
	associations []pulumi.Resource
	adopted      *adopt.Adoption
}

func (c *connected) Provider() pulumi.ProviderResource { return c.provider }

func (c *connected) Client() *kube.Client { return c.client }

func (c *connected) Outputs() pulumi.Map {
	outputs := pulumi.Map{
		"accountId":               pulumi.String(c.target.cluster.AccountID),
		"region":                  pulumi.String(c.target.cluster.Region),
		"clusterName":             c.eks.Name,
		"kubeconfig":              c.eks.Kubeconfig,
		"databaseEndpoint":        c.database.Endpoint,
		"databaseMasterSecretARN": c.database.MasterSecretARN,
		"registryURLs":            c.account.registryURLs,
		"vpcID":                   c.network.VPCID,
		"roleARNs": pulumi.Map{
			"up": pulumi.String(c.account.up), "preview": pulumi.String(c.account.preview), "push": pulumi.String(c.account.push),
		},
	}
	if c.target.runner != nil {
		outputs["runnerProject"] = pulumi.String(c.target.runner.Project())
	}
	return outputs
}

func (t *Target) newProvider(ctx *pulumi.Context) (*aws.Provider, error) {
	args := &aws.ProviderArgs{
		Region:      pulumi.String(t.cluster.Region),
		DefaultTags: aws.ProviderDefaultTagsArgs{Tags: pulumi.ToStringMap(t.tags)},
	}
	if t.cfg.Cloud.Offline {
		skip := pulumi.Bool(true)
		args.SkipCredentialsValidation, args.SkipRequestingAccountId, args.SkipMetadataApiCheck = skip, skip, skip
	} else {
		// AllowedAccountIds refuses the credentials of another account.
		args.AllowedAccountIds = pulumi.StringArray{pulumi.String(t.cluster.AccountID)}
	}
	provider, err := aws.NewProvider(ctx, "aws", args)
	if err != nil {
		return nil, fmt.Errorf("registering the account: %w", err)
	}
	return provider, nil
}

// Connect implements program.Target: it registers network, cluster and database.
func (t *Target) Connect(ctx *pulumi.Context, p *plan.Plan) (program.Cluster, error) {
	adopted, err := adopt.Existing(ctx, config.Namespace+":cloud.adopt", t.cfg.Cloud.Adopt)
	if err != nil {
		return nil, err
	}
	provider, err := t.newProvider(ctx)
	if err != nil {
		return nil, err
	}
	in := pulumi.Provider(provider)
	own, err := t.readAccount(ctx)
	if err != nil {
		return nil, err
	}
	key := pulumi.String(own.key)

	scaling, err := t.ask(ctx, pulumi.Provider(provider), own)
	if err != nil {
		return nil, err
	}
	net, err := network.New(ctx, "network", t.network, network.Inputs{KeyARN: key, PermissionsBoundary: own.boundary}, in)
	if err != nil {
		return nil, err
	}
	eks, err := cluster.New(ctx, clusterResource, t.cluster, cluster.Inputs{
		VPCID: net.VPCID, PublicSubnets: net.PublicSubnets, PrivateSubnets: net.PrivateSubnets, Routes: net.Routes, KeyARN: key,
		Admins: []string{own.up}, Viewers: []string{own.preview}, Scaling: scaling, PermissionsBoundary: own.boundary,
	}, in)
	if err != nil {
		return nil, err
	}
	db, err := instance.New(ctx, "database", t.database, instance.Inputs{
		VPCID: net.VPCID, Subnets: net.DatabaseSubnets, ClusterSecurityGroupID: eks.SecurityGroupID, KeyARN: key,
	}, in)
	if err != nil {
		return nil, err
	}
	if t.runner != nil {
		if _, err := runner.New(ctx, "runner", t.runner, runner.Inputs{
			VPCID: net.VPCID, Subnets: net.PrivateSubnets, ClusterSecurityGroupID: eks.SecurityGroupID, KeyARN: key,
			PermissionsBoundary: own.boundary,
		}, in); err != nil {
			return nil, err
		}
	}
	kubernetesProvider, err := kubernetes.NewProvider(ctx, "cluster", &kubernetes.ProviderArgs{
		Kubeconfig: eks.Kubeconfig, ClusterIdentifier: pulumi.String(t.cluster.Name),
	}, pulumi.DependsOn(eks.Ready))
	if err != nil {
		return nil, fmt.Errorf("registering the cluster: %w", err)
	}

	associations, err := t.identities(ctx, p, eks, own, db, in)
	if err != nil {
		return nil, err
	}
	return &connected{
		target: t, account: own, aws: in, provider: kubernetesProvider, client: newClient(eks),
		network: net, eks: eks, database: db, associations: associations, adopted: adopted,
	}, nil
}

// newClient returns a client that waits for the cluster to exist.
func newClient(eks *cluster.Cluster) *kube.Client {
	kubeconfig := make(chan string, 1)
	eks.Kubeconfig.ApplyT(func(text string) string {
		kubeconfig <- text
		return text
	})
	return kube.NewClientFor(func(ctx context.Context) (string, error) {
		select {
		case text := <-kubeconfig:
			kubeconfig <- text
			return text, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	})
}

// identities registers the roles of the controllers' pods.
func (t *Target) identities(ctx *pulumi.Context, p *plan.Plan, eks *cluster.Cluster, own *account, db *instance.Database,
	in pulumi.ResourceOption) ([]pulumi.Resource, error) {
	account, region, name := t.cluster.AccountID, t.cluster.Region, t.cluster.Name
	readable := []pulumi.StringInput{db.MasterSecretARN}
	named := func(secret string) pulumi.StringInput {
		// Secrets Manager adds six characters to a secret's name.
		return pulumi.String(fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-??????", region, account, secret))
	}
	if t.datadog != nil {
		readable = append(readable, named(t.datadog.SecretName))
	}
	for _, secret := range t.shopSecrets(p) {
		readable = append(readable, named(secret.remote))
	}
	if t.argoCD != nil {
		readable = append(readable, named(t.argoCD.Repository.SecretName), named(t.rollback.Remote))
	}
	roles := []struct {
		name, namespace, serviceAccount string
		policy                          identity.PolicyDocument
		needed                          bool
	}{
		{"load-balancer", plan.SystemNamespace, gateway.LoadBalancerServiceAccount,
			identity.LoadBalancerController(account, region, name), true},
		{"autoscaler", plan.SystemNamespace, autoscaling.ServiceAccount, identity.ClusterAutoscaler(account, region, name), true},
		{"secrets", secretsNamespace, secrets.ServiceAccount,
			identity.ExternalSecrets(region, readable, []pulumi.StringInput{pulumi.String(own.key)}), true},
		{"signatures", plan.SignaturesNamespace, delivery.SignaturesServiceAccount,
			identity.Signatures(region, own.repositories), t.signatures != nil},
		{"image-updater", gitops.Namespace, delivery.ImageUpdaterServiceAccount,
			identity.ImageUpdater(region, own.repositories), t.imageUpdater != nil},
	}
	var associations []pulumi.Resource
	for _, role := range roles {
		if !role.needed {
			continue
		}
		pods, err := identity.NewPodRole(ctx, role.name, &identity.PodRoleSpec{
			RoleName: name + "-" + role.name, Cluster: name, AccountID: account, Region: region,
			Namespace: role.namespace, ServiceAccount: role.serviceAccount,
		}, identity.PodRoleInputs{ClusterName: eks.Name, Policy: role.policy, PermissionsBoundary: own.boundary}, in)
		if err != nil {
			return nil, err
		}
		associations = append(associations, pods.Association)
	}
	return associations, nil
}

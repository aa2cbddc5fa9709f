// Package program is the part of the Pulumi program that is the same for every target: load,
// plan, deploy, outputs.
package program

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// NewTarget prepares the target of an environment. Validate reports errors.
type NewTarget func(environment string, cfg *config.Config) Target

// Target is where an environment runs.
type Target interface {
	// Site returns what the plan needs to know about the target.
	Site() plan.Site
	// Validate reports every error of the configuration and the plan that is specific to this
	// target, one per line.
	Validate(*plan.Plan) error
	// Policy returns the policy rules, with the exemptions of this target.
	Policy() policy.Options
	// Connect registers everything up to the cluster.
	Connect(*pulumi.Context, *plan.Plan) (Cluster, error)
	// URL returns the public address of the shop.
	URL() string
	// Namespaces returns the namespaces for the stack's outputs, by their contents.
	Namespaces() map[string]string
}

// Cluster is the Kubernetes cluster that an environment is deployed to.
type Cluster interface {
	Provider() pulumi.ProviderResource
	// Client reads from the cluster. It connects at the first read.
	Client() *kube.Client
	// Install installs the controllers, the secrets and the databases. It returns the resources
	// for which workloads have to wait.
	Install(*pulumi.Context, *plan.Plan, Namespaces) ([]pulumi.Resource, error)
	// Outputs returns the stack outputs of this target.
	Outputs() pulumi.Map
}

// Namespaces are the registered namespaces. Database is nil if no program has a database.
type Namespaces struct{ Shop, Database pulumi.Resource }

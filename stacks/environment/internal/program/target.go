// Package program is what the Pulumi programs of every target share: load, plan, deploy,
// outputs.
package program

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// NewTarget prepares the target of an environment. It reports nothing: Validate does.
type NewTarget func(environment string, cfg *config.Config) Target

// Target is where an environment runs.
type Target interface {
	// Site is what the plan has to know.
	Site() plan.Site
	// Validate reports every error of the configuration and of the plan that only this
	// target can know, a line each.
	Validate(*plan.Plan) error
	// Policy returns the policy rules, with the exemptions of this target.
	Policy() policy.Options
	// Connect registers everything up to the cluster.
	Connect(*pulumi.Context, *plan.Plan) (Cluster, error)
	// URL is where the shop answers.
	URL() string
	// Namespaces are those that people look into, by what they hold.
	Namespaces() map[string]string
}

// Cluster is the Kubernetes cluster that an environment is deployed to.
type Cluster interface {
	Provider() pulumi.ProviderResource
	// Client reads from the cluster. It connects at the first read.
	Client() *kube.Client
	// Install installs the controllers, the secrets and the databases. It returns what a
	// workload has to wait for.
	Install(*pulumi.Context, *plan.Plan, Namespaces) ([]pulumi.Resource, error)
	// Outputs are those of this target.
	Outputs() pulumi.Map
}

// Namespaces are the registered namespaces. Database is nil if no program has a database.
type Namespaces struct{ Shop, Database pulumi.Resource }

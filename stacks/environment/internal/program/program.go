package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

// Main runs the program of a target with the configuration from Pulumi's language host, or renders
// manifests if its arguments say so. It exits with status 1 on an error.
func Main(target NewTarget) {
	values, err := Values(os.Args[1:])
	switch {
	case err != nil:
	case renders(os.Args[1:]):
		err = render(os.Args[1:], values, target, os.Stdout)
	default:
		err = run(values, target)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Values returns the configuration: that from Pulumi's language host, a JSON object of full keys and
// values, or that of the stack file if the arguments ask for manifests.
func Values(args []string) (map[string]string, error) {
	if renders(args) {
		r, err := parse(args)
		if err != nil {
			return nil, err
		}
		return r.values()
	}
	values := map[string]string{}
	if raw := os.Getenv("PULUMI_CONFIG"); raw != "" {
		if err := json.Unmarshal([]byte(raw), &values); err != nil {
			return nil, fmt.Errorf("decoding PULUMI_CONFIG: %w", err)
		}
	}
	return values, nil
}

func run(values map[string]string, target NewTarget) error {
	programs, err := repo.Catalogue()
	if err != nil {
		return err
	}
	// The first Ctrl-C ends the wait for Rollouts with a sentence; a second one ends the
	// program as usual.
	interrupt, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(interrupt, stop)

	var refused error
	err = pulumi.RunErr(func(ctx *pulumi.Context) error {
		var outputs pulumi.Map
		outputs, refused = Deploy(ctx, interrupt, ctx.Stack(), values, programs, target)
		for name, output := range outputs {
			policy.Export(ctx, name, output)
		}
		return refused
	})
	var failed *workload.RolloutError
	switch {
	case refused != nil:
		return refused // without Pulumi's wrapping: one line per error
	case errors.As(err, &failed):
		return failed
	case policy.Sentences(err) != "":
		return fmt.Errorf("refused by policy:\n%s", policy.Sentences(err))
	default:
		return err
	}
}

// Load reads the configuration and plans the environment with this name for a target. It
// reports everything that is wrong with either, one error per line.
func Load(environment string, values map[string]string, programs *catalogue.Catalogue,
	newTarget NewTarget) (*config.Config, *plan.Plan, Target, error) {
	cfg, configErr := config.Load(values, programs)
	target := newTarget(environment, cfg)
	p, planErr := plan.New(environment, cfg, programs, target.Site())
	return cfg, p, target, errors.Join(configErr, target.Validate(p), planErr)
}

// Deploy registers the environment with this name and returns the stack's outputs. Waits for
// Rollouts end when interrupt does.
func Deploy(ctx *pulumi.Context, interrupt context.Context, environment string, values map[string]string,
	programs *catalogue.Catalogue, newTarget NewTarget) (pulumi.Map, error) {
	cfg, p, target, err := Load(environment, values, programs, newTarget)
	if err != nil {
		return nil, err
	}
	if err := policy.Enforce(ctx, target.Policy()); err != nil {
		return nil, err
	}
	cluster, err := target.Connect(ctx, p)
	if err != nil {
		return nil, err
	}
	in := pulumi.Provider(cluster.Provider())
	namespaces, err := newNamespaces(ctx, p, in)
	if err != nil {
		return nil, err
	}
	needed, err := cluster.Install(ctx, p, namespaces)
	if err != nil {
		return nil, err
	}
	if warning := Unjudged(p); warning != "" {
		_ = ctx.Log.Warn(warning, nil)
	}
	quarantine, err := workload.NewQuarantine(ctx, "quarantine", plan.ShopNamespace, in, pulumi.DependsOn([]pulumi.Resource{namespaces.Shop}))
	if err != nil {
		return nil, err
	}
	after := []pulumi.ResourceOption{in, pulumi.DependsOn(append(needed, namespaces.Shop, quarantine))}
	services := pulumi.Map{}
	if p.Applications != nil {
		if err := handedOver(ctx); err != nil {
			return nil, err
		}
		if _, err := gitops.New(ctx, "gitops", p.Applications, after...); err != nil {
			return nil, err
		}
		for _, spec := range p.Workloads {
			services[spec.Service] = output(spec, target)
		}
	} else if err := deployServices(ctx, interrupt, cfg, p, target, cluster, services, after); err != nil {
		return nil, err
	}
	outputs := cluster.Outputs()
	maps.Copy(outputs, pulumi.Map{
		"delivery":   pulumi.Map{"mode": pulumi.String(cfg.Delivery.Mode), "retain": pulumi.Bool(cfg.Delivery.Retain)},
		"gatewayURL": pulumi.String(target.URL()),
		"services":   services,
		"images":     pulumi.ToStringMap(cfg.Images),
		"namespaces": pulumi.ToStringMap(target.Namespaces()),
	})
	return outputs, nil
}

// deployServices registers the programs of the shop, and adds an output for each service.
func deployServices(ctx *pulumi.Context, interrupt context.Context, cfg *config.Config, p *plan.Plan, target Target, cluster Cluster,
	services pulumi.Map, after []pulumi.ResourceOption) error {
	for _, spec := range p.Workloads {
		spec.Cluster = cluster.Client()
		if cfg.WaitForRollout {
			spec.Wait = &workload.Wait{Context: interrupt, Timeout: time.Duration(cfg.RolloutTimeoutSeconds) * time.Second}
		}
		w, err := workload.New(ctx, spec.Service, spec, after...)
		if err != nil {
			return err
		}
		known := output(spec, target)
		maps.Copy(known, pulumi.Map{"image": pulumi.String(spec.Image), "version": pulumi.String(w.Version), "phase": w.Phase})
		services[spec.Service] = known
	}
	for _, spec := range p.CronJobs {
		if _, err := workload.NewCronJob(ctx, spec.Name, spec, after...); err != nil {
			return err
		}
	}
	return nil
}

// output is what the stack says about a service, whoever applies it.
func output(spec *workload.Spec, target Target) pulumi.Map {
	if len(spec.Public) == 0 {
		return pulumi.Map{}
	}
	return pulumi.Map{"url": pulumi.String(target.URL() + spec.Public[0].Value)}
}

// handedOver refuses to leave the services to Argo CD as long as this stack would delete them: its
// last update has to have marked their objects as retained, or to have been without them.
func handedOver(ctx *pulumi.Context) error {
	name := strings.Join([]string{ctx.Organization(), ctx.Project(), ctx.Stack()}, "/")
	own, err := pulumi.NewStackReference(ctx, name, nil)
	if err != nil {
		return fmt.Errorf("reading the last outputs of stack %s: %w", name, err)
	}
	services, err := own.GetOutputDetails("services")
	if err != nil {
		return fmt.Errorf("reading the last outputs of stack %s: %w", name, err)
	}
	last, err := own.GetOutputDetails("delivery")
	if err != nil {
		return fmt.Errorf("reading the last outputs of stack %s: %w", name, err)
	}
	delivery, _ := last.Value.(map[string]any)
	if services.Value == nil || delivery["mode"] == config.GitOps || delivery["retain"] == true {
		return nil
	}
	return fmt.Errorf("%s:delivery.mode is gitops, and this stack has deployed the services and would delete them: set delivery.mode pulumi "+
		"and delivery.retain true, run pulumi up, and then set delivery.mode gitops", config.Namespace)
}

func newNamespaces(ctx *pulumi.Context, p *plan.Plan, in pulumi.ResourceOption) (Namespaces, error) {
	shop, err := workload.NewNamespace(ctx, plan.ShopNamespace, plan.ShopNamespace, in)
	if err != nil || p.Roles == nil {
		return Namespaces{Shop: shop}, err
	}
	databases, err := workload.NewNamespace(ctx, plan.DatabaseNamespace, plan.DatabaseNamespace, in)
	return Namespaces{Shop: shop, Database: databases}, err
}

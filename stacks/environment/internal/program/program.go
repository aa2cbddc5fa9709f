package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

// Main runs the program of a target with the configuration from Pulumi's language host. It
// exits with status 1 on an error.
func Main(target NewTarget) {
	values, err := Values()
	if err == nil {
		err = run(values, target)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Values decodes the configuration from Pulumi's language host, a JSON object of full keys and
// values.
func Values() (map[string]string, error) {
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
	needed = append(needed, namespaces.Shop, quarantine)
	services := pulumi.Map{}
	for _, spec := range p.Workloads {
		spec.Cluster = cluster.Client()
		if cfg.WaitForRollout {
			spec.Wait = &workload.Wait{Context: interrupt, Timeout: time.Duration(cfg.RolloutTimeoutSeconds) * time.Second}
		}
		w, err := workload.New(ctx, spec.Service, spec, in, pulumi.DependsOn(needed))
		if err != nil {
			return nil, err
		}
		output := pulumi.Map{"image": pulumi.String(spec.Image), "version": pulumi.String(w.Version), "phase": w.Phase}
		if len(spec.Public) > 0 {
			output["url"] = pulumi.String(target.URL() + spec.Public[0].Value)
		}
		services[spec.Service] = output
	}
	for _, spec := range p.CronJobs {
		if _, err := workload.NewCronJob(ctx, spec.Name, spec, in, pulumi.DependsOn(needed)); err != nil {
			return nil, err
		}
	}
	outputs := cluster.Outputs()
	maps.Copy(outputs, pulumi.Map{
		"gatewayURL": pulumi.String(target.URL()),
		"services":   services,
		"images":     pulumi.ToStringMap(cfg.Images),
		"namespaces": pulumi.ToStringMap(target.Namespaces()),
	})
	return outputs, nil
}

func newNamespaces(ctx *pulumi.Context, p *plan.Plan, in pulumi.ResourceOption) (Namespaces, error) {
	shop, err := workload.NewNamespace(ctx, plan.ShopNamespace, plan.ShopNamespace, in)
	if err != nil || p.Roles == nil {
		return Namespaces{Shop: shop}, err
	}
	databases, err := workload.NewNamespace(ctx, plan.DatabaseNamespace, plan.DatabaseNamespace, in)
	return Namespaces{Shop: shop, Database: databases}, err
}

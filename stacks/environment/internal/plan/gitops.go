package plan

import (
	"strings"

	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// ManifestPath is the folder of the git repository with what make render writes for an environment.
func ManifestPath(cfg *config.Config, environment string) string {
	if cfg.Delivery.Git.Path != "" {
		return cfg.Delivery.Git.Path
	}
	return "stacks/environment/manifests/" + environment
}

// image returns the image of a program of the shop. If git has its digest, the plan has a name in
// its place, which is never deployed.
func image(cfg *config.Config, program string) string {
	if cfg.Images[program] == "" && cfg.Delivery.Mode == config.GitOps {
		return "git/" + program + "@sha256:" + strings.Repeat("0", 64)
	}
	return cfg.Images[program]
}

// Manifests returns the objects of every program of the shop, as the stack applies them or make
// render writes them.
func (p *Plan) Manifests() ([]gitops.Service, error) {
	var all []gitops.Service
	for _, w := range p.Workloads {
		stages, err := w.Stages()
		if err != nil {
			return nil, err
		}
		all = append(all, gitops.Service{Name: w.Service, Image: w.Image, Stages: stages})
	}
	for _, job := range p.CronJobs {
		stages, err := job.Stages()
		if err != nil {
			return nil, err
		}
		all = append(all, gitops.Service{Name: job.Name, Image: job.Image, Stages: stages})
	}
	return all, nil
}

// Rollback plans the program that brings aborted canaries to git, as every target has it, and lets Prometheus read its
// metrics; traces is nil if there is no collector. A target adds where the Secret git-writer comes from, if it copies it.
func Rollback(environment string, cfg *config.Config, m *Monitoring, traces *observability.TracesSpec) *delivery.RollbackSpec {
	git := cfg.Delivery.Git
	r := &delivery.RollbackSpec{
		Namespace: gitops.Namespace, Image: cfg.Images[config.ConsoleImage], ServicesNamespace: ShopNamespace,
		Repository: git.URL, Branch: git.Branch, Path: ManifestPath(cfg, environment), SecretName: "git-writer",
		SkipAwait: !cfg.Charts.Await,
	}
	r.Metrics = m.Scrape(r.Scrape())
	if traces != nil && traces.JaegerURL() != "" {
		r.Jaeger = delivery.ServicePort{Namespace: TracingNamespace, Name: "jaeger", Port: 16686}
	}
	return r
}

// planApplications plans what Argo CD applies.
func (p *Plan) planApplications(environment string, cfg *config.Config) error {
	services, err := p.Manifests()
	if err != nil {
		return err
	}
	git := cfg.Delivery.Git
	p.Applications = &gitops.Spec{
		URL: git.URL, Branch: git.Branch, Path: ManifestPath(cfg, environment), Plain: cfg.Cloud.Provider == "none",
		Target: ShopNamespace, Services: services,
	}
	return Validate([]Component{{"delivery.git", p.Applications}})
}

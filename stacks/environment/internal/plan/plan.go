// Package plan decides what an environment consists of, wherever it runs: plain values,
// complete before the first resource is registered.
package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// Namespaces of every environment.
const (
	ShopNamespace     = "shop"
	RolloutsNamespace = "argo-rollouts"
	// SignaturesNamespace has policy-controller, which refuses unsigned images in ShopNamespace.
	SignaturesNamespace = "signatures"
	SystemNamespace     = "kube-system"
	// ObservabilityNamespace has Prometheus and the console, or a collector that the cluster
	// brings; TracingNamespace has the stack's own collector, and Jaeger.
	ObservabilityNamespace = "observability"
	TracingNamespace       = "tracing"
	// DatabaseNamespace is the namespace of the Job that creates databases and roles, and the only
	// one with the superuser's password. In a local environment PostgreSQL runs there too.
	DatabaseNamespace = "database"
)

// OtherCollector selects the pods of a collector that the cluster brings.
var OtherCollector = kube.PodSelector{
	Namespace: ObservabilityNamespace, Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"},
}

// Telemetry returns where programs send traces and metrics: to the stack's own collector, or
// else to telemetry.otlpEndpoint, which the receivers' pods are behind; nil: nowhere.
func Telemetry(cfg *config.Config, own *observability.TracesSpec, receivers kube.PodSelector) *workload.Telemetry {
	switch {
	case own != nil:
		return &workload.Telemetry{Endpoint: own.Endpoint(), Collector: own.Collector(), Jaeger: own.Jaeger()}
	case cfg.Telemetry.OTLPEndpoint != "":
		return &workload.Telemetry{Endpoint: cfg.Telemetry.OTLPEndpoint, Collector: receivers}
	}
	return nil
}

// Site is what a plan needs to know about the target of its environment.
type Site struct {
	// Public routes the paths at the edge, Internal the calls between services.
	Public, Internal gateway.Gateway
	// Telemetry is where programs send traces and metrics; nil: nowhere.
	Telemetry *workload.Telemetry
	// Metrics is where metrics are collected, by which canaries are judged; nil: nowhere.
	Metrics *workload.Metrics
	// Scraper reads the services' metrics for something that does not judge canaries; nil: nobody.
	Scraper *workload.Scraper
	// Readers are pods outside the shop that call services, by the service's name.
	Readers map[string][]kube.PodSelector
	Server  Server
	// SecretVersions are the versions of the Secrets that programs read, by the Secret's name; one
	// without a version changes in place.
	SecretVersions map[string]string
}

// Server is the PostgreSQL server of a site.
type Server struct {
	// SSLMode is libpq's: disable, require or verify-full.
	SSLMode string
	// Secret, in DatabaseNamespace, holds the superuser's password; User is the superuser's
	// name, or empty where Secret holds it too.
	Secret, User string
	// Labels select the server's pods in DatabaseNamespace. A server outside the cluster
	// has addresses in CIDRs instead.
	Labels map[string]string
	CIDRs  []string
	// MaxConnections is how many connections the server accepts; 0 means unknown, and turns the
	// check off. Limit names the server in errors.
	MaxConnections int32
	Limit          string
}

// pods selects the server's pods; a server outside the cluster has none.
func (s Server) pods() kube.PodSelector {
	if len(s.Labels) == 0 {
		return kube.PodSelector{}
	}
	return kube.PodSelector{Namespace: DatabaseNamespace, Labels: s.Labels}
}

// Plan is what an environment consists of.
type Plan struct {
	// Roles describes the databases and their roles; nil if no program has a database.
	Roles     *database.RolesSpec
	Workloads []*workload.Spec
	CronJobs  []*workload.CronJobSpec
	// Secrets are the Secrets in ShopNamespace that programs read, in addition to their
	// databases': the sorted keys by name.
	Secrets map[string][]string
	// DatabaseClients select the pods that connect to PostgreSQL.
	DatabaseClients []kube.PodSelector
	// Applications are what Argo CD applies; nil: the stack applies the objects of Workloads and CronJobs.
	Applications *gitops.Spec
}

// New plans the environment with this name. It reports the errors of all components at once,
// and returns the plan even then.
func New(environment string, cfg *config.Config, programs *catalogue.Catalogue, site Site) (*Plan, error) {
	p := &Plan{Secrets: map[string][]string{}}
	if names := programs.Databases(); len(names) > 0 {
		p.Roles = roles(cfg, names, site.Server)
		p.DatabaseClients = append(p.DatabaseClients, kube.PodSelector{
			Namespace: DatabaseNamespace, Labels: map[string]string{"app.kubernetes.io/name": database.SetupName},
		})
	}
	for _, program := range programs.Services() {
		p.Workloads = append(p.Workloads, p.workload(environment, cfg, program, site))
	}
	for _, program := range programs.CronJobs() {
		p.CronJobs = append(p.CronJobs, p.cronJob(environment, cfg, program, site))
	}
	err := errors.Join(workload.Connect(p.Workloads), p.validate(), checkConnections(cfg, programs, site.Server))
	if err == nil && cfg.Delivery.Mode == config.GitOps {
		err = p.planApplications(environment, cfg)
	}
	return p, err
}

func roles(cfg *config.Config, names []string, server Server) *database.RolesSpec {
	return &database.RolesSpec{
		Namespace: DatabaseNamespace, Image: cfg.Images[config.DatabaseImage], Databases: names, SecretsNamespace: ShopNamespace,
		Port: database.Port, SSLMode: server.SSLMode, Secret: server.Secret, User: server.User,
		Server: server.Labels, CIDRs: server.CIDRs, SkipAwait: !cfg.Database.Await,
	}
}

func (p *Plan) workload(environment string, cfg *config.Config, program catalogue.Program, site Site) *workload.Spec {
	size := cfg.Services[program.Name]
	w := &workload.Spec{
		Service:     program.Name,
		Namespace:   ShopNamespace,
		Environment: environment,
		Image:       image(cfg, program.Name),
		Retain:      cfg.Delivery.Retain,
		LogFormat:   size.LogFormat,
		Env:         variables(cfg, program),
		SecretEnv:   p.secrets(cfg, program, site),
		Internet:    program.Internet != nil && program.Internet.Holds(cfg.Value),
		Size: workload.Size{
			MinReplicas: size.MinReplicas, MaxReplicas: size.MaxReplicas,
			MilliCPU:  int64(size.MilliCPU),
			MemoryMiB: int64(size.MemoryMiB), MemoryLimitMiB: int64(size.MemoryLimitMiB),
		},
		Canary: workload.Canary{
			Weights:          cfg.Canary.Weights,
			Pause:            time.Duration(cfg.Canary.PauseSeconds) * time.Second,
			ProgressDeadline: time.Duration(cfg.Canary.ProgressDeadlineSeconds) * time.Second,
		},
		Group:    cfg.Groups[program.Name],
		Gateway:  site.Public,
		Public:   public(program),
		CalledBy: slices.Clone(site.Readers[program.Name]),
		Metrics:  site.Metrics,
		Scraper:  site.Scraper,
	}
	if program.Objectives != nil {
		w.Objectives = new(slo.Objectives(*program.Objectives))
	}
	for _, call := range program.Calls {
		w.Calls = append(w.Calls, workload.Call{Service: call.Service, Via: site.Internal})
	}
	w.Telemetry = site.Telemetry
	if program.Database {
		w.Database = p.database(cfg, program.Name, site.Server)
		p.DatabaseClients = append(p.DatabaseClients, w.Pods(), w.Migration())
	}
	return w
}

// cronJobDeadline is longer than a program's own deadline, so that the program can report why
// it ends.
const cronJobDeadline = 11 * time.Minute

func (p *Plan) cronJob(environment string, cfg *config.Config, program catalogue.Program, site Site) *workload.CronJobSpec {
	size := cfg.Services[program.Name]
	job := &workload.CronJobSpec{
		Name:        program.Name,
		Namespace:   ShopNamespace,
		Environment: environment,
		Image:       image(cfg, program.Name),
		Retain:      cfg.Delivery.Retain,
		LogFormat:   size.LogFormat,
		Schedule:    program.Schedule,
		Deadline:    cronJobDeadline,
		Env:         variables(cfg, program),
		SecretEnv:   p.secrets(cfg, program, site),
		MilliCPU:    int64(size.MilliCPU),
		MemoryMiB:   int64(size.MemoryMiB), MemoryLimitMiB: int64(size.MemoryLimitMiB),
		Telemetry: site.Telemetry,
	}
	if len(program.Reads) > 0 {
		job.Database = &workload.DatabaseServer{CIDRs: site.Server.CIDRs, Pods: site.Server.pods(), Port: database.Port}
		p.DatabaseClients = append(p.DatabaseClients, job.Pods())
	}
	return job
}

// variables returns the environment variables of a program's declaration, overridden by
// services.NAME.env.
func variables(cfg *config.Config, program catalogue.Program) map[string]string {
	env := map[string]string{}
	for _, setting := range program.Settings {
		switch {
		case setting.Config != "":
			if value := cfg.Value(setting.Config); value != "" {
				env[setting.Name] = value
			}
		case setting.Default != nil:
			env[setting.Name] = *setting.Default
		}
	}
	for _, call := range program.Calls {
		env[call.Variable] = gateway.InternalURL(call.Service)
	}
	maps.Copy(env, cfg.Services[program.Name].Env)
	return env
}

// secrets returns a program's variables from Secrets, and adds the names and keys of these to
// the plan.
func (p *Plan) secrets(cfg *config.Config, program catalogue.Program, site Site) map[string]workload.SecretKey {
	env := map[string]workload.SecretKey{}
	for _, secret := range program.Secrets {
		if !secret.When.Holds(cfg.Value) {
			continue
		}
		env[secret.Name] = workload.SecretKey{Secret: secret.Secret, Key: secret.Key, Version: site.SecretVersions[secret.Secret]}
		if !slices.Contains(p.Secrets[secret.Secret], secret.Key) {
			p.Secrets[secret.Secret] = slices.Sorted(slices.Values(append(p.Secrets[secret.Secret], secret.Key)))
		}
	}
	for _, read := range program.Reads {
		env[read.Variable] = workload.SecretKey{Secret: database.AuditorSecret, Key: read.Database}
	}
	return env
}

func public(program catalogue.Program) []gateway.Path {
	var paths []gateway.Path
	for _, path := range program.Public {
		match := gateway.Exact
		if path.Prefix {
			match = gateway.Prefix
		}
		paths = append(paths, gateway.Path{Match: match, Value: path.Value, Strip: path.Strip})
	}
	return paths
}

func (p *Plan) database(cfg *config.Config, name string, server Server) *workload.Database {
	d := &workload.Database{
		SkipAwait: !cfg.Database.Await,
		URL:       workload.SecretKey{Secret: database.RuntimeSecret(name), Key: database.URLKey},
		OwnerURL:  workload.SecretKey{Secret: database.OwnerSecret(name), Key: database.URLKey},
		CIDRs:     server.CIDRs,
		Pods:      server.pods(),
		Port:      database.Port,
	}
	return d
}

// validate calls Validate of every component. The configuration reports a program without an
// image.
func (p *Plan) validate() error {
	var errs []error
	if p.Roles != nil {
		errs = append(errs, Validate([]Component{{"databases and roles", p.Roles}}))
	}
	for _, w := range p.Workloads {
		if w.Image != "" {
			errs = append(errs, w.Validate())
		}
	}
	for _, job := range p.CronJobs {
		if job.Image != "" {
			errs = append(errs, job.Validate())
		}
	}
	return errors.Join(errs...)
}

// Component is a component's spec, and the name with which its errors begin.
type Component struct {
	Name string
	Spec interface{ Validate() error }
}

// Validate reports the errors of all components, one per line.
func Validate(components []Component) error {
	var errs []error
	for _, c := range components {
		if err := c.Spec.Validate(); err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				errs = append(errs, fmt.Errorf("%s: %s", c.Name, line))
			}
		}
	}
	return errors.Join(errs...)
}

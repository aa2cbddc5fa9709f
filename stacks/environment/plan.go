package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/delivery"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/observability"
	"github.com/loja-veloz/platform/infra/workload"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

// Namespaces of an environment.
const (
	shopNamespace            = "shop"
	gatewayNamespace         = "gateway"
	gatewayInternalNamespace = "gateway-internal"
	rolloutsNamespace        = "argo-rollouts"
	systemNamespace          = "kube-system"
	observabilityNamespace   = "observability"
	// databaseNamespace is for what makes databases and roles: the one place in which
	// the superuser's password is. Without a cloud PostgreSQL is there too.
	databaseNamespace = "database"
)

// plan is what an environment consists of: plain values, made from the
// configuration and complete before the first resource is registered.
type plan struct {
	shop          string
	cloud         *cloud                           // nil: the cluster exists
	gateway       *gateway.TraefikSpec             // nil: the cloud brings Kong
	internal      *gateway.TraefikSpec             // calls between services
	server        *database.ServerSpec             // nil: the cloud brings RDS, or nobody has a database
	roles         *database.RolesSpec              // nil: nobody has a database
	rollouts      *delivery.RolloutsSpec           // nil: not installed by us
	metricsServer *observability.MetricsServerSpec // nil: not installed by us
	workloads     []*workload.Spec
}

// newPlan makes the plan of an environment called name. It reports every
// component's faults at once.
func newPlan(name string, cfg *config.Config, services []service) (*plan, error) {
	p := &plan{shop: shopNamespace}
	var router, internal gateway.Gateway
	var gatewayErr error
	if cfg.Cloud.Provider == "aws" {
		var pair gateway.KongPair
		p.cloud, pair, gatewayErr = newCloud(name, cfg)
		router, internal = pair, pair.Internal
	} else {
		var pair gateway.TraefikPair
		pair, gatewayErr = p.planCluster(cfg)
		router, internal = pair, pair.Internal
	}
	p.planDatabase(cfg, databases(services))
	for _, s := range services {
		w := newWorkload(name, cfg, s, router, internal)
		if s.database {
			w.Database = p.database(cfg, s.name)
			p.admit(w.Pods(), w.Migration())
		}
		p.workloads = append(p.workloads, w)
	}
	return p, errors.Join(gatewayErr, workload.Connect(p.workloads), p.validate(cfg))
}

// planCluster adds what a cluster is given that exists.
func (p *plan) planCluster(cfg *config.Config) (gateway.TraefikPair, error) {
	p.gateway = &gateway.TraefikSpec{
		Namespace:            gatewayNamespace,
		Class:                cfg.Gateway.Class,
		NodePort:             cfg.Gateway.NodePort,
		RouteNamespaces:      []string{shopNamespace},
		Replicas:             cfg.Gateway.Replicas,
		DefinitionsInstalled: !cfg.Gateway.InstallDefinitions,
	}
	p.internal = &gateway.TraefikSpec{
		Namespace:            gatewayInternalNamespace,
		Class:                cfg.Gateway.Class + "-internal",
		Internal:             true,
		RouteNamespaces:      []string{shopNamespace},
		Replicas:             cfg.Gateway.Replicas,
		DefinitionsInstalled: true, // by the public one
	}
	pair, err := gateway.NewTraefikPair(p.gateway, p.internal)
	if cfg.Delivery.InstallRollouts {
		p.rollouts = &delivery.RolloutsSpec{Namespace: rolloutsNamespace, WeightRules: pair.WeightRules(), Replicas: 1}
	}
	if cfg.MetricsServer.Install {
		p.metricsServer = &observability.MetricsServerSpec{Namespace: systemNamespace, KubeletInsecureTLS: cfg.MetricsServer.KubeletInsecureTLS}
	}
	return pair, err
}

// planDatabase adds what makes the databases of these names and, without a cloud,
// their server.
func (p *plan) planDatabase(cfg *config.Config, names []string) {
	if len(names) == 0 {
		return
	}
	p.roles = &database.RolesSpec{
		Namespace: databaseNamespace, Image: cfg.Images[config.DatabaseImage], Databases: names, SecretsNamespace: shopNamespace,
		Port: database.Port, SkipAwait: !cfg.Database.Await,
	}
	if p.cloud != nil {
		p.cloud.planRoles(cfg, p.roles)
		return
	}
	p.server = &database.ServerSpec{
		Namespace: databaseNamespace, Image: cfg.Images[config.DatabaseImage], StorageGiB: cfg.Database.LocalGiB, LocalPath: cfg.Database.LocalPath,
	}
	p.roles.SSLMode = "disable" // nothing leaves the cluster
	p.roles.Secret, p.roles.User, p.roles.Server = database.AdminSecret, database.Superuser, database.ServerLabels()
	p.admit(gateway.Pods{Namespace: databaseNamespace, Labels: map[string]string{"app.kubernetes.io/name": database.SetupName}})
}

// admit lets pods connect to the server in the cluster, if there is one.
func (p *plan) admit(clients ...gateway.Pods) {
	if p.server == nil {
		return
	}
	for _, client := range clients {
		p.server.Clients = append(p.server.Clients, database.Client{Namespace: client.Namespace, Labels: client.Labels})
	}
}

// database is the one of a service.
func (p *plan) database(cfg *config.Config, name string) *workload.Database {
	d := &workload.Database{
		SkipAwait: !cfg.Database.Await,
		URL:       workload.SecretKey{Secret: database.RuntimeSecret(name), Key: database.URLKey},
		OwnerURL:  workload.SecretKey{Secret: database.OwnerSecret(name), Key: database.URLKey},
		CIDRs:     p.roles.CIDRs,
		Port:      database.Port,
	}
	if p.server != nil {
		d.Pods = gateway.Pods{Namespace: databaseNamespace, Labels: database.ServerLabels()}
	}
	return d
}

func newWorkload(environment string, cfg *config.Config, s service, router, internal gateway.Gateway) *workload.Spec {
	size := cfg.Services[s.name]
	args := &workload.Spec{
		Service:     s.name,
		Namespace:   shopNamespace,
		Environment: environment,
		Image:       cfg.Images[s.name],
		LogFormat:   size.LogFormat,
		Env:         map[string]string{},
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
		Gateway: router,
		Public:  s.public,
	}
	if s.env != nil {
		maps.Copy(args.Env, s.env(cfg))
	}
	for _, call := range s.calls {
		args.Calls = append(args.Calls, workload.Call{Service: call.service, Via: internal})
		args.Env[call.variable] = gateway.InternalURL(call.service)
	}
	maps.Copy(args.Env, size.Env)
	args.Internet = s.internet != nil && s.internet(cfg)
	if s.secrets != nil {
		args.SecretEnv = s.secrets(cfg)
	}
	if cfg.Telemetry.OTLPEndpoint != "" {
		args.Telemetry = &workload.Telemetry{
			Endpoint:  cfg.Telemetry.OTLPEndpoint,
			Collector: gateway.Pods{Namespace: observabilityNamespace, Labels: map[string]string{"app.kubernetes.io/name": "otel-collector"}},
		}
		if cfg.Datadog.Install {
			args.Telemetry.Collector = observability.DatadogAgents(datadogNamespace)
		}
	}
	return args
}

// validate asks every component. A service without an image is the
// configuration's fault and reported there.
func (p *plan) validate(cfg *config.Config) error {
	var faults []error
	if p.gateway != nil {
		faults = append(faults, led("gateway", p.gateway.Validate())...)
		faults = append(faults, led("internal gateway", p.internal.Validate())...)
	}
	if p.server != nil {
		faults = append(faults, led("database", p.server.Validate())...)
	}
	if p.roles != nil {
		faults = append(faults, led("databases and roles", p.roles.Validate())...)
	}
	for _, w := range p.workloads {
		if cfg.Images[w.Service] != "" {
			faults = append(faults, w.Validate())
		}
	}
	return errors.Join(faults...)
}

// led puts a component's name in front of each of its faults, a line each.
func led(component string, err error) []error {
	if err == nil {
		return nil
	}
	var faults []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		faults = append(faults, fmt.Errorf("%s: %s", component, line))
	}
	return faults
}

// wait makes every workload wait for its Rollout, until interrupt is done.
func (p *plan) wait(interrupt context.Context, cluster workload.Cluster, timeout time.Duration) {
	for _, w := range p.workloads {
		w.Wait = &workload.Wait{Cluster: cluster, Context: interrupt, Timeout: timeout}
	}
}

// stages gives every object that the environment itself makes, charts' objects
// apart, in an order in which they can be applied one after another.
func (p *plan) stages() (kube.Stages, error) {
	all := workload.NamespaceStages(p.shop)
	var components []interface{ Stages() (kube.Stages, error) }
	if p.gateway != nil {
		components = append(components, p.gateway, p.internal)
	}
	if p.roles != nil {
		all = append(all, workload.NamespaceStages(databaseNamespace)...)
	}
	if p.server != nil {
		components = append(components, p.server)
	}
	if p.roles != nil {
		components = append(components, rolesStages{p.roles, p.databaseHost()})
	}
	if p.rollouts != nil {
		components = append(components, p.rollouts)
	}
	if p.metricsServer != nil {
		components = append(components, p.metricsServer)
	}
	for _, w := range p.workloads {
		components = append(components, w)
	}
	for _, component := range components {
		stages, err := component.Stages()
		if err != nil {
			return nil, err
		}
		all = append(all, stages...)
	}
	return all, nil
}

// rolesStages are those of the databases' roles on a server of a known name.
type rolesStages struct {
	spec *database.RolesSpec
	host pulumi.String
}

func (r rolesStages) Stages() (kube.Stages, error) { return r.spec.Stages(r.host) }

// databaseHost is the server's name: RDS's is known when it exists.
func (p *plan) databaseHost() pulumi.String {
	if p.server == nil {
		return "database.invalid"
	}
	return pulumi.String(p.server.Host())
}

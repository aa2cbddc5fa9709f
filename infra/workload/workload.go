// Package workload deploys one service: a canary Rollout with its Services,
// autoscaler, disruption budget, configuration, identity, routes and network
// policy.
package workload

import (
	"errors"
	"fmt"
	"time"

	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/slo"
)

// Ports and paths that every service of the platform has.
const (
	// Port is the port of a service, for requests, probes and metrics.
	Port int32 = 8080
	// routedPort is the port of its Kubernetes Services to which gateways route. Callers without a
	// gateway use Port: AWS supports network policies only for Services whose port is that of their
	// containers.
	routedPort int32 = 80
	// Container is the name of the service's container in its pods.
	Container = "service"
	// DigestPrefix separates the name of an image from the hex digits of its digest.
	DigestPrefix = "@sha256:"
	// VersionVariable is the environment variable of every program with these hex digits.
	VersionVariable = "SERVICE_VERSION"

	livenessPath  = "/health"
	readinessPath = "/ready"
)

// Spec describes a service. New and Stages report everything that is wrong with it, one error
// per line, each with its field.
type Spec struct {
	// Service names the service and its objects (a DNS label of at most 46 characters).
	Service string
	// Namespace has to exist; NewNamespace creates one.
	Namespace string
	// Environment is the attribute deployment.environment.name of the telemetry.
	Environment string
	// Image is a reference by digest, registry/name@sha256:<64 hex digits>.
	Image string
	// LogFormat is json or text.
	LogFormat string
	// Env is further configuration of the service. A change arrives by canary, and goes
	// away with an abort. Secrets do not belong here.
	Env map[string]string
	// SecretEnv are environment variables with their values in Secrets in Namespace.
	SecretEnv map[string]SecretKey
	// Database is the service's own database; nil means none.
	Database *Database
	// Size is the number and the size of the pods.
	Size Size
	// Canary is how a new version takes over traffic.
	Canary Canary
	// Gateway routes to the service and holds its weights.
	Gateway gateway.Gateway
	// Public is the allow-list of paths that the gateway routes from outside; empty means none.
	Public []gateway.Path
	// Calls are the services that this one calls; Connect turns them into the
	// callees' CalledBy.
	Calls []Call
	// CalledBy are the pods whose calls are admitted, in addition to the gateway's if Public is
	// not empty.
	CalledBy []kube.PodSelector
	// Internet lets the service call addresses outside the private ranges by HTTPS, for the API of
	// a third party.
	Internet bool
	// Telemetry is where traces go; nil sends none.
	Telemetry *Telemetry
	// Objectives are what the service promises, and what its canaries are judged by; nil
	// promises nothing.
	Objectives *slo.Objectives
	// Metrics is where its metrics are collected; nil collects none, and the clock alone
	// promotes a canary.
	Metrics *Metrics
	// Scraper reads the service's metrics for something that does not judge canaries; nil: nobody.
	Scraper *Scraper
	// Cluster is where the service runs; nil leaves the ConfigMaps and Secrets of earlier settings in
	// it, and looks for no quarantine: then only the API server refuses.
	Cluster Cluster
	// Retain leaves the service's objects in the cluster when the program no longer declares it.
	Retain bool
	// Wait holds an update until the Rollout in Cluster is healthy; nil does not wait.
	Wait *Wait
}

// SecretKey is a key in a Secret.
type SecretKey struct {
	Secret, Key string
	// Version is that of the value, which is in a Secret of its own (kube.VersionedName): another
	// one arrives by canary, and goes away with an abort. Empty: the Secret changes in place, and
	// pods that start get what it then says.
	Version string
}

func (k SecretKey) object() string { return kube.VersionedName(k.Secret, k.Version) }

// Database is a database with two roles, whose addresses are in Secrets in the service's
// namespace. For a new image a Job changes the schema (argument migrate) before the Rollout
// changes.
type Database struct {
	// URL is the service's DATABASE_URL, OwnerURL the Job's.
	URL, OwnerURL SecretKey
	// Pods are the server's pods. A server outside the cluster has the addresses in CIDRs instead.
	Pods  kube.PodSelector
	CIDRs []string
	// Port is the server's.
	Port int32
	// With SkipAwait the Rollout changes before the Job ends.
	SkipAwait bool
}

// Size is the number of pods of a service, and the requests of each.
type Size struct {
	// MinReplicas and MaxReplicas are the limits of the autoscaler, at least 1.
	MinReplicas, MaxReplicas int32
	// MilliCPU is the CPU request, in thousandths of a core. The autoscaler aims
	// at 70 % of it.
	MilliCPU int64
	// MemoryMiB is the memory request and MemoryLimitMiB the limit, in MiB.
	MemoryMiB, MemoryLimitMiB int64
}

// Canary is how a new version takes over traffic.
type Canary struct {
	// Weights are the shares of traffic, in percent, that the canary gets one after another before
	// it becomes stable. They rise, within 1 to 100.
	Weights []int32
	// Pause is the time at each weight, in whole seconds, at least 1.
	Pause time.Duration
	// ProgressDeadline is the time within which new pods have to become ready, or the update is
	// aborted, in whole seconds, at least 10.
	ProgressDeadline time.Duration
	// Analysis are run in the background from the first weight on, in addition to what
	// Objectives and Metrics give; a failure aborts the update.
	Analysis []*rolloutsv1alpha1.AnalysisTemplate
}

// Call is a service that another one calls: through the gateway Via, whose pods the callee then
// admits, or directly if Via is nil.
type Call struct {
	Service string
	Via     gateway.Gateway
}

// Telemetry is an OpenTelemetry collector in the cluster.
type Telemetry struct {
	// Endpoint is the OTLP address for services, http://host:4317 (gRPC) or http://host:4318
	// (HTTP).
	Endpoint string
	// Collector selects its pods, to which the policy allows egress.
	Collector kube.PodSelector
	// Jaeger is the rollout.ServiceProxy of the Jaeger that keeps the spans; empty: none does.
	Jaeger string
}

// Scraper is an agent that reads /metrics of pods with certain annotations.
type Scraper struct {
	// Pods are the agent's, which the policy admits.
	Pods kube.PodSelector
	// Annotations tell the agent what to read. A change of them is a new version of the pods.
	Annotations map[string]string
}

// Workload is a deployed service.
type Workload struct {
	pulumi.ResourceState

	// Version is the first 12 hex digits of the image's digest.
	Version string
	// Phase is the Rollout's phase at the end of the update, or empty if the update does not wait
	// for it. It fails if the Rollout does.
	Phase pulumi.StringOutput
}

// RolloutError says that an update was refused before it was applied, or that it was applied and
// its Rollout did not become healthy.
type RolloutError struct {
	Service string
	Cause   error
}

func (e *RolloutError) Error() string { return e.Service + ": " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *RolloutError) Unwrap() error { return e.Cause }

// New deploys a service. Errors name the service and the argument that is wrong.
func New(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*Workload, error) {
	stages, err := spec.Stages()
	if err != nil {
		return nil, err
	}
	if spec.Retain {
		stages.Retain()
	}
	w := &Workload{Version: spec.version()}
	return w, component.Register(ctx, "workload", "loja-veloz:workload:Workload", name, w, opts, func() (pulumi.Map, error) {
		applied, err := kube.ApplyChecked(ctx, w, name, stages, opts, func() error { return spec.admitted(ctx, w) })
		if err != nil {
			return nil, err
		}
		rollout := applied[spec.rolloutStage()][0]
		w.Phase = spec.phase(ctx, w, rollout)
		spec.collectSettings(ctx, w, rollout)
		return pulumi.Map{"version": pulumi.String(w.Version), "phase": w.Phase}, nil
	})
}

// jaeger is the rollout.ServiceProxy of the Jaeger that has the service's spans; empty: none has.
func (s *Spec) jaeger() string {
	if s.Telemetry == nil {
		return ""
	}
	return s.Telemetry.Jaeger
}

// phase waits for the Rollout once the API server has it, except in a preview and without
// Spec.Wait.
func (s *Spec) phase(ctx *pulumi.Context, w *Workload, rollout *kube.Resource) pulumi.StringOutput {
	if s.Wait == nil || ctx.DryRun() {
		return pulumi.String("").ToStringOutput()
	}
	return rollout.ID().ApplyT(func(pulumi.ID) (string, error) {
		progress := func(line string) { _ = ctx.Log.Info(line, &pulumi.LogArgs{Resource: w}) }
		wait := *s.Wait
		wait.jaeger = s.jaeger()
		phase, err := wait.Until(ctx.Context(), s.Cluster, s.Namespace, s.Service, progress)
		if err != nil {
			return "", &RolloutError{Service: s.Service, Cause: err}
		}
		return phase, nil
	}).(pulumi.StringOutput)
}

// Connect adds the caller of every declared call to the callee's CalledBy. It reports every
// call of an unknown service, and every public path of two services.
func Connect(services []*Spec) error {
	byName := map[string]*Spec{}
	var errs []error
	for i, s := range services {
		byName[s.Service] = s
		for _, other := range services[:i] {
			errs = append(errs, s.contested(other)...)
		}
	}
	for _, caller := range services {
		for i, call := range caller.Calls {
			callee, there := byName[call.Service]
			if !there {
				errs = append(errs, fmt.Errorf("service %s: Calls[%d] names %q, which is not a service of this environment", caller.Service, i,
					call.Service))
				continue
			}
			callee.admit(caller.from(call))
		}
	}
	return errors.Join(errs...)
}

// contested reports the public paths that overlap with those of another service.
func (s *Spec) contested(other *Spec) []error {
	var errs []error
	for i, path := range s.Public {
		for j, taken := range other.Public {
			if path.Overlaps(taken) {
				errs = append(errs, fmt.Errorf("service %s: Public[%d] (%s %q) overlaps with a path of service %s, Public[%d] (%s %q)",
					s.Service, i, path.Match, path.Value, other.Service, j, taken.Match, taken.Value))
			}
		}
	}
	return errs
}

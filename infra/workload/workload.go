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
	// Port is where a service listens, for requests, probes and metrics alike.
	Port int32 = 8080
	// ServicePort is the port of its Kubernetes Services.
	ServicePort int32 = 80

	livenessPath  = "/health"
	readinessPath = "/ready"
)

// Spec describe a service. New and Stages refuse what is wrong with them, all
// errors at once, each naming its field.
type Spec struct {
	// Service names the service and its objects (a DNS label of at most 46 characters).
	Service string
	// Namespace has to exist; NewNamespace creates one.
	Namespace string
	// Environment goes into the telemetry as deployment.environment.name.
	Environment string
	// Image is a reference by digest, registry/name@sha256:<64 hex digits>.
	Image string
	// LogFormat is json or text.
	LogFormat string
	// Env is further configuration of the service. A change arrives by canary, and goes
	// away with an abort. Secrets do not belong here.
	Env map[string]string
	// SecretEnv are variables whose values Secrets in Namespace have.
	SecretEnv map[string]SecretKey
	// Database is the one that the service has to itself; nil: none.
	Database *Database
	// Size is how many pods of which size.
	Size Size
	// Canary is how a new version is let in.
	Canary Canary
	// Gateway routes to the service and moves its weights.
	Gateway gateway.Gateway
	// Public is the allow-list of paths that the gateway shows; none by default.
	Public []gateway.Path
	// Calls are the services that this one calls; Connect turns them into the
	// callees' CalledBy.
	Calls []Call
	// CalledBy are the pods from which calls are admitted, beside the gateway's
	// when anything is Public.
	CalledBy []kube.PodSelector
	// Internet lets the service call addresses outside of the private ranges by
	// HTTPS, as one needs that uses somebody else's API.
	Internet bool
	// Telemetry is where traces go; nil sends none.
	Telemetry *Telemetry
	// Objectives are what the service promises, and what its canaries are judged by; nil
	// promises nothing.
	Objectives *slo.Objectives
	// Metrics is where its metrics are collected; nil collects none, and the clock alone
	// promotes a canary.
	Metrics *Metrics
	// Cluster is where the service runs; nil leaves the ConfigMaps of earlier settings in
	// it.
	Cluster Cluster
	// Wait holds an update until the Rollout in Cluster is healthy; nil does not wait.
	Wait *Wait
}

// SecretKey is a key of a Secret.
type SecretKey struct{ Secret, Key string }

// Database is a database with two roles, whose addresses lie in Secrets in the
// service's namespace. A new image changes its schema (args: migrate) by a Job that
// has ended before the Rollout changes.
type Database struct {
	// URL is the address that the service is given as DATABASE_URL, OwnerURL the one
	// that the Job is given.
	URL, OwnerURL SecretKey
	// Pods are the server's in the cluster; outside it, it has the addresses in CIDRs.
	Pods  kube.PodSelector
	CIDRs []string
	// Port is the server's.
	Port int32
	// SkipAwait lets the Rollout change without the Job's end.
	SkipAwait bool
}

// Size is how many pods a service has and what each of them asks for.
type Size struct {
	// MinReplicas and MaxReplicas bound the autoscaler.
	MinReplicas, MaxReplicas int32
	// MilliCPU is the CPU request, in thousandths of a core. The autoscaler aims
	// at 70 % of it.
	MilliCPU int64
	// MemoryMiB is the memory request and MemoryLimitMiB the limit, in MiB. The
	// autoscaler aims at 80 % of the request.
	MemoryMiB, MemoryLimitMiB int64
}

// Canary is how a new version is let in.
type Canary struct {
	// Weights are the shares of traffic, in percent, that the canary is given one
	// after another before it becomes stable; they rise, within 1 to 100.
	Weights []int32
	// Pause is the time at each weight, in whole seconds.
	Pause time.Duration
	// ProgressDeadline aborts an update whose pods do not become ready within it,
	// in whole seconds.
	ProgressDeadline time.Duration
	// Analysis are run in the background from the first weight on, in addition to what
	// Objectives and Metrics give; a failure aborts the update.
	Analysis []*rolloutsv1alpha1.AnalysisTemplate
}

// Call is a service that another one calls: through the gateway Via, whose pods
// the callee then admits, or directly if that is nil.
type Call struct {
	Service string
	Via     gateway.Gateway
}

// Telemetry is an OpenTelemetry collector in the cluster.
type Telemetry struct {
	// Endpoint is the OTLP address that services are given, http://host:4317 or 4318.
	Endpoint string
	// Collector are its pods, to which spans may leave.
	Collector kube.PodSelector
}

// Workload is a deployed service.
type Workload struct {
	pulumi.ResourceState

	// Version is the first 12 hex digits of the image's digest.
	Version string
	// Phase is the Rollout's phase at the end of the update when it was waited
	// for, and empty otherwise. It fails when the Rollout does.
	Phase pulumi.StringOutput
}

// RolloutError says that an update was applied and its Rollout did not become healthy.
type RolloutError struct {
	Service string
	Cause   error
}

func (e *RolloutError) Error() string { return e.Service + ": " + e.Cause.Error() }

// Unwrap gives the cause.
func (e *RolloutError) Unwrap() error { return e.Cause }

// New deploys a service. Errors name the service and the argument that is wrong.
func New(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*Workload, error) {
	stages, err := spec.Stages()
	if err != nil {
		return nil, err
	}
	w := &Workload{Version: spec.version()}
	return w, component.Register(ctx, "workload", "loja-veloz:workload:Workload", name, w, opts, func() (pulumi.Map, error) {
		applied, err := kube.ApplyStages(ctx, w, name, stages, opts)
		if err != nil {
			return nil, err
		}
		rollout := applied[spec.rolloutStage()][0]
		w.Phase = spec.phase(ctx, w, rollout)
		spec.collectSettings(ctx, w, rollout)
		return pulumi.Map{"version": pulumi.String(w.Version), "phase": w.Phase}, nil
	})
}

// phase waits for the Rollout once the API server has it, unless this is a
// preview or nobody asked to wait.
func (s *Spec) phase(ctx *pulumi.Context, w *Workload, rollout *kube.Resource) pulumi.StringOutput {
	if s.Wait == nil || ctx.DryRun() {
		return pulumi.String("").ToStringOutput()
	}
	return rollout.ID().ApplyT(func(pulumi.ID) (string, error) {
		progress := func(line string) { _ = ctx.Log.Info(line, &pulumi.LogArgs{Resource: w}) }
		phase, err := s.Wait.Until(ctx.Context(), s.Cluster, s.Namespace, s.Service, progress)
		if err != nil {
			return "", &RolloutError{Service: s.Service, Cause: err}
		}
		return phase, nil
	}).(pulumi.StringOutput)
}

// Connect fills in, for every call that a service declares, the caller among the
// callee's CalledBy. It reports every call to a service that is not there, and
// every public path that two services claim.
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

// contested are the public paths that another service claims too, wholly or in
// part.
func (s *Spec) contested(other *Spec) []error {
	var errs []error
	for i, path := range s.Public {
		for j, taken := range other.Public {
			if path.Overlaps(taken) {
				errs = append(errs, fmt.Errorf("service %s: Public[%d] (%s %q) is a path of service %s: its Public[%d] is %s %q",
					s.Service, i, path.Match, path.Value, other.Service, j, taken.Match, taken.Value))
			}
		}
	}
	return errs
}

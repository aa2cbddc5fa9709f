package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// maxCronJobName leaves room for what the controller appends to the names of Jobs
// (kubernetes.io/docs/concepts/workloads/controllers/cron-jobs: at most 52 characters).
const maxCronJobName = 52

// Finished Jobs that are kept, for their logs.
const (
	keptSuccesses int32 = 1
	keptFailures  int32 = 3
)

// CronJobSpec describes a program that runs on a schedule and ends. NewCronJob and Stages
// report everything that is wrong with it, one error per line, each with its field.
type CronJobSpec struct {
	// Name is the name of the program and its objects, a DNS label of at most 52 characters.
	Name string
	// Namespace has to exist.
	Namespace string
	// Environment is the attribute deployment.environment.name of the telemetry.
	Environment string
	// Image is a reference by digest, registry/name@sha256:<64 hex digits>.
	Image string
	// LogFormat is json or text.
	LogFormat string
	// Schedule has cron's five fields, in UTC. A run is skipped if the one before is still running
	// when it is due.
	Schedule string
	// Deadline ends a run, in whole seconds. A failed run is not repeated; the next one follows
	// the schedule.
	Deadline time.Duration
	// Env and SecretEnv are the program's environment variables. Secrets do not belong in Env.
	Env       map[string]string
	SecretEnv map[string]SecretKey
	// Database is the database server that the program connects to; nil means none.
	Database *DatabaseServer
	// MilliCPU is the CPU request, in thousandths of a core; MemoryMiB is the memory
	// request and MemoryLimitMiB the limit, in MiB.
	MilliCPU, MemoryMiB, MemoryLimitMiB int64
	// Telemetry is where traces and metrics go; nil sends none.
	Telemetry *Telemetry
	// Retain leaves the program's objects in the cluster when nothing declares it any more.
	Retain bool
}

// DatabaseServer is the network location of a database server: its pods in the cluster, or the
// addresses in CIDRs.
type DatabaseServer struct {
	Pods  kube.PodSelector
	CIDRs []string
	Port  int32
}

// CronJob is a scheduled program.
type CronJob struct {
	pulumi.ResourceState
}

// NewCronJob deploys a scheduled program. Errors name it and the argument that is wrong.
func NewCronJob(ctx *pulumi.Context, name string, spec *CronJobSpec, opts ...pulumi.ResourceOption) (*CronJob, error) {
	stages, err := spec.Stages()
	if err != nil {
		return nil, err
	}
	if spec.Retain {
		stages.Retain()
	}
	c := &CronJob{}
	if err := ctx.RegisterComponentResource("loja-veloz:workload:CronJob", name, c, opts...); err != nil {
		return nil, fmt.Errorf("registering cronjob %s: %w", name, err)
	}
	if _, err := kube.ApplyStages(ctx, c, name, stages, opts); err != nil {
		return nil, fmt.Errorf("cronjob %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(c, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("registering the outputs of cronjob %s: %w", name, err)
	}
	return c, nil
}

// Stages returns the program's objects, or an error that reports everything that is wrong.
func (s *CronJobSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	policy, err := s.networkPolicy()
	if err != nil {
		return nil, fmt.Errorf("cronjob %s: %w", s.Name, err)
	}
	meta := s.pods().meta(s.Name)
	return kube.Stages{
		{
			{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: meta, AutomountServiceAccountToken: new(false)}},
			{Name: "network-policy", Object: policy},
		},
		{{Name: "cronjob", Object: &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule:                   s.Schedule,
			TimeZone:                   new("UTC"), // the one name that Go knows without a database of time zones
			ConcurrencyPolicy:          batchv1.ForbidConcurrent,
			StartingDeadlineSeconds:    new(int64(time.Minute / time.Second)),
			SuccessfulJobsHistoryLimit: new(keptSuccesses),
			FailedJobsHistoryLimit:     new(keptFailures),
			JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: batchv1.JobSpec{
				BackoffLimit:          new(int32(0)),
				ActiveDeadlineSeconds: new(int64(s.Deadline / time.Second)),
				Template:              corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: s.pod()},
			}},
		}}}},
	}, nil
}

// Pods selects the pods of every run.
func (s *CronJobSpec) Pods() kube.PodSelector { return s.pods().Pods() }

// pods describes the pods as those of a service, with the same labels, environment variables
// and checks.
func (s *CronJobSpec) pods() *Spec {
	return &Spec{
		Service: s.Name, Namespace: s.Namespace, Environment: s.Environment, Image: s.Image, LogFormat: s.LogFormat,
		Env: s.Env, SecretEnv: s.SecretEnv, Telemetry: s.Telemetry,
	}
}

func (s *CronJobSpec) pod() corev1.PodSpec {
	env := s.pods().identity()
	env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", s.MemoryLimitMiB*3/4)})
	data := s.pods().configMap().Data
	for _, name := range slices.Sorted(maps.Keys(data)) {
		env = append(env, corev1.EnvVar{Name: name, Value: data[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.SecretEnv)) {
		env = append(env, kube.SecretVariable(name, s.SecretEnv[name].object(), s.SecretEnv[name].Key))
	}
	return corev1.PodSpec{
		RestartPolicy:                corev1.RestartPolicyNever,
		ServiceAccountName:           s.Name,
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		SecurityContext:              kube.RestrictedPod(),
		Containers: []corev1.Container{{
			Name: s.Name, Image: s.Image, Env: env,
			Resources:       kube.Sizes(s.MilliCPU, s.MemoryMiB, s.MemoryLimitMiB),
			SecurityContext: kube.RestrictedContainer(),
		}},
	}
}

// networkPolicy allows egress for name resolution, the database and telemetry, and no ingress.
func (s *CronJobSpec) networkPolicy() (*networkingv1.NetworkPolicy, error) {
	pods := s.pods()
	if s.Database != nil {
		pods.Database = &Database{Pods: s.Database.Pods, CIDRs: s.Database.CIDRs, Port: s.Database.Port}
	}
	return pods.networkPolicy()
}

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *CronJobSpec) Validate() error {
	name := s.Name
	if name == "" {
		name = "(unnamed)"
	}
	errs := &validate.Errors{Prefix: "service " + name + ": "}
	for _, label := range []struct{ field, value string }{{"Name", s.Name}, {"Namespace", s.Namespace}, {"Environment", s.Environment}} {
		if !validate.DNSLabel(label.value) {
			errs.Add(label.field, "is %q: use lower-case letters, digits and dashes, beginning with a letter", label.value)
		}
	}
	if len(s.Name) > maxCronJobName {
		errs.Add("Name", "has %d characters: at most %d leave room for the names of Jobs", len(s.Name), maxCronJobName)
	}
	if s.LogFormat != "json" && s.LogFormat != "text" {
		errs.Add("LogFormat", "is %q: use json or text", s.LogFormat)
	}
	if len(strings.Fields(s.Schedule)) != 5 {
		errs.Add("Schedule", "is %q: use cron's five fields, such as \"*/5 * * * *\"", s.Schedule)
	}
	if s.Deadline < time.Second || s.Deadline%time.Second != 0 {
		errs.Add("Deadline", "is %s: use whole seconds, at least 1", s.Deadline)
	}
	if s.MilliCPU < 1 {
		errs.Add("MilliCPU", "is %d: use at least 1", s.MilliCPU)
	}
	if s.MemoryMiB < 1 || s.MemoryLimitMiB < s.MemoryMiB {
		errs.Add("MemoryLimitMiB", "is %d, and MemoryMiB is %d: use at least 1 MiB, and a limit that is not below the request",
			s.MemoryLimitMiB, s.MemoryMiB)
	}
	pods := s.pods()
	pods.validateImage(errs)
	pods.validateEnv(errs)
	pods.validateTelemetry(errs)
	s.Database.validate(errs)
	return errs.Err()
}

func (d *DatabaseServer) validate(errs *validate.Errors) {
	switch {
	case d == nil:
	case len(d.CIDRs) == 0 && d.Pods.TooWide():
		errs.Add("Database", "has no CIDRs, and no namespace or no labels of pods: its policy would allow egress to every pod")
	case d.Port < 1 || d.Port > 65535:
		errs.Add("Database.Port", "is %d: use 1 to 65535", d.Port)
	}
}

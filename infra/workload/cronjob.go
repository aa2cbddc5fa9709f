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

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
)

// maxCronJobName leaves room for what the controller appends to the names of Jobs
// (kubernetes.io/docs/concepts/workloads/controllers/cron-jobs: at most 52 characters).
const maxCronJobName = 52

// Finished Jobs that stay, for a look at their logs.
const (
	keptSuccesses int32 = 1
	keptFailures  int32 = 3
)

// CronJobArgs describe a program that runs on a schedule and ends. NewCronJob and Stages
// refuse what is wrong with them, all faults at once, each naming its field.
type CronJobArgs struct {
	// Name of the program and its objects, a DNS label of at most 52 characters.
	Name string
	// Namespace exists.
	Namespace string
	// Environment goes into the telemetry as deployment.environment.name.
	Environment string
	// Image is a reference by digest, registry/name@sha256:<64 hex digits>.
	Image string
	// LogFormat is json or text.
	LogFormat string
	// Schedule has cron's five fields, in UTC. A run that is due while the one before
	// still goes on is left out.
	Schedule string
	// Deadline ends a run, in whole seconds. A run that fails is not repeated: the next
	// one comes by the schedule.
	Deadline time.Duration
	// Env and SecretEnv are the program's variables; secrets do not belong in Env.
	Env       map[string]string
	SecretEnv map[string]SecretKey
	// Database is the server that the program connects to; nil: none.
	Database *DatabaseServer
	// MilliCPU is the CPU request, in thousandths of a core; MemoryMiB is the memory
	// request and MemoryLimitMiB the limit, in MiB.
	MilliCPU, MemoryMiB, MemoryLimitMiB int64
	// Telemetry is where traces and metrics go; nil sends none.
	Telemetry *Telemetry
}

// DatabaseServer is where a database server is reached: its pods in the cluster, or the
// addresses in CIDRs.
type DatabaseServer struct {
	Pods  gateway.Pods
	CIDRs []string
	Port  int32
}

// CronJob is a scheduled program.
type CronJob struct {
	pulumi.ResourceState
}

// NewCronJob deploys a scheduled program. Errors name it and the argument that is wrong.
func NewCronJob(ctx *pulumi.Context, name string, args *CronJobArgs, opts ...pulumi.ResourceOption) (*CronJob, error) {
	stages, err := args.Stages()
	if err != nil {
		return nil, err
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

// Stages gives the program's objects, or every reason why not.
func (a *CronJobArgs) Stages() (kube.Stages, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	policy, err := a.networkPolicy()
	if err != nil {
		return nil, fmt.Errorf("cronjob %s: %w", a.Name, err)
	}
	meta := a.pods().meta(a.Name)
	return kube.Stages{
		{
			{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: meta, AutomountServiceAccountToken: new(false)}},
			{Name: "network-policy", Object: policy},
		},
		{{Name: "cronjob", Object: &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule:                   a.Schedule,
			TimeZone:                   new("Etc/UTC"),
			ConcurrencyPolicy:          batchv1.ForbidConcurrent,
			StartingDeadlineSeconds:    new(int64(time.Minute / time.Second)),
			SuccessfulJobsHistoryLimit: new(keptSuccesses),
			FailedJobsHistoryLimit:     new(keptFailures),
			JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: batchv1.JobSpec{
				BackoffLimit:          new(int32(0)),
				ActiveDeadlineSeconds: new(int64(a.Deadline / time.Second)),
				Template:              corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: meta.Labels}, Spec: a.pod()},
			}},
		}}}},
	}, nil
}

// Pods are those of every run.
func (a *CronJobArgs) Pods() gateway.Pods { return a.pods().Pods() }

// pods describes the pods as those of a service, with which they share labels, identity
// and checks.
func (a *CronJobArgs) pods() *Args {
	return &Args{
		Service: a.Name, Namespace: a.Namespace, Environment: a.Environment, Image: a.Image, LogFormat: a.LogFormat,
		Env: a.Env, SecretEnv: a.SecretEnv, Telemetry: a.Telemetry,
	}
}

func (a *CronJobArgs) pod() corev1.PodSpec {
	env := a.pods().identity()
	env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", a.MemoryLimitMiB*3/4)})
	data := a.pods().configMap().Data
	for _, name := range slices.Sorted(maps.Keys(data)) {
		env = append(env, corev1.EnvVar{Name: name, Value: data[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(a.SecretEnv)) {
		env = append(env, kube.SecretVariable(name, a.SecretEnv[name].Secret, a.SecretEnv[name].Key))
	}
	return corev1.PodSpec{
		RestartPolicy:                corev1.RestartPolicyNever,
		ServiceAccountName:           a.Name,
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		SecurityContext:              kube.RestrictedPod(),
		Containers: []corev1.Container{{
			Name: a.Name, Image: a.Image, Env: env,
			Resources:       kube.Sizes(a.MilliCPU, a.MemoryMiB, a.MemoryLimitMiB),
			SecurityContext: kube.RestrictedContainer(),
		}},
	}
}

// networkPolicy lets out name resolution, the database and telemetry, and nothing in.
func (a *CronJobArgs) networkPolicy() (*networkingv1.NetworkPolicy, error) {
	pods := a.pods()
	if a.Database != nil {
		pods.Database = &Database{Pods: a.Database.Pods, CIDRs: a.Database.CIDRs, Port: a.Database.Port}
	}
	return pods.networkPolicy()
}

// Validate reports everything that is wrong with the arguments, one fault per line.
func (a *CronJobArgs) Validate() error {
	name := a.Name
	if name == "" {
		name = "(unnamed)"
	}
	f := &faults{service: name}
	for _, label := range []struct{ field, value string }{{"Name", a.Name}, {"Namespace", a.Namespace}, {"Environment", a.Environment}} {
		if !dnsLabel.MatchString(label.value) {
			f.add(label.field, "is %q: use lower-case letters, digits and dashes, beginning with a letter", label.value)
		}
	}
	if len(a.Name) > maxCronJobName {
		f.add("Name", "has %d characters: at most %d leave room for the names of Jobs", len(a.Name), maxCronJobName)
	}
	if a.LogFormat != "json" && a.LogFormat != "text" {
		f.add("LogFormat", "is %q: use json or text", a.LogFormat)
	}
	if len(strings.Fields(a.Schedule)) != 5 {
		f.add("Schedule", "is %q: use cron's five fields, such as \"*/5 * * * *\"", a.Schedule)
	}
	if a.Deadline < time.Second || a.Deadline%time.Second != 0 {
		f.add("Deadline", "is %s: use whole seconds, at least 1", a.Deadline)
	}
	if a.MilliCPU < 1 {
		f.add("MilliCPU", "is %d: use at least 1", a.MilliCPU)
	}
	if a.MemoryMiB < 1 || a.MemoryLimitMiB < a.MemoryMiB {
		f.add("MemoryLimitMiB", "is %d with MemoryMiB %d: use at least 1 MiB, and no limit below the request", a.MemoryLimitMiB, a.MemoryMiB)
	}
	pods := a.pods()
	pods.validateImage(f)
	pods.validateEnv(f)
	pods.validateTelemetry(f)
	a.Database.validate(f)
	return joined(f.list)
}

func (d *DatabaseServer) validate(f *faults) {
	switch {
	case d == nil:
	case len(d.CIDRs) == 0 && (d.Pods.Namespace == "" || len(d.Pods.Labels) == 0):
		f.add("Database", "has no CIDRs, and no namespace or no labels of pods: queries could leave to every pod")
	case d.Port < 1 || d.Port > 65535:
		f.add("Database.Port", "is %d: use 1 to 65535", d.Port)
	}
}

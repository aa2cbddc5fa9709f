package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts"
	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
)

const (
	// nameLabel selects a service's pods, whatever their version.
	nameLabel = "app.kubernetes.io/name"
	// roleLabel distinguishes canary pods from stable ones while both exist.
	roleLabel = "loja-veloz.dev/role"

	// cpuTarget is the autoscaler's target, in percent of the request.
	cpuTarget int32 = 70

	// drainSeconds is how long a pod serves after the signal to stop: the gateway drops its
	// endpoint within a second (infra/gateway), kube-proxy within a few.
	drainSeconds int64 = 5
	// shutdownSeconds is the time for the rest: by the services' defaults at most 3 s in which
	// they still answer, 15 s for open requests, 5 s for work in the background and 5 s for the
	// last traces (apps/README.md), with some to spare.
	shutdownSeconds int64 = 35

	// abortScaleDownDelay is how long an aborted canary's pods are kept, for their logs, in
	// seconds.
	abortScaleDownDelay int32 = 30
	// scaleDownDelay is how long the old version's pods are kept after the last weight, until all
	// routers know, in seconds (Argo Rollouts recommends 30).
	scaleDownDelay int32 = 30
)

// rolloutStage is the index of the stage that contains the Rollout, and nothing else.
func (s *Spec) rolloutStage() int {
	if s.Database != nil {
		return 2
	}
	return 1
}

// Stages returns the objects of a service, or an error that reports everything that is wrong.
// The order is: what the Rollout refers to (without its Services or weights the controller
// reports it as invalid), the migration, the Rollout, and what refers to it.
func (s *Spec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	routes, err := s.Gateway.Routes(s.backend())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	policies, err := s.networkPolicy()
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	config := s.configMap()
	before := []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(s.Service), AutomountServiceAccountToken: new(false)}},
		{Name: "config", Object: config, RetainOnDelete: true},
		{Name: "network-policy", Object: policies},
		s.service(stable(s.Service)),
		s.service(canary(s.Service)),
	}
	before = append(before, routes...)
	before = append(before, s.analysisTemplates()...)
	for _, template := range s.Canary.Analysis {
		before = append(before, kube.Manifest{Name: "analysis-" + template.Name, Object: template})
	}
	stages := kube.Stages{before}
	if s.Database != nil {
		migration, err := s.migration()
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Service, err)
		}
		stages[0] = append(stages[0], kube.Manifest{Name: "migrate-network-policy", Object: s.migrationPolicy()})
		stages = append(stages, []kube.Manifest{{Name: "migrate", Object: migration}})
	}
	return append(stages,
		[]kube.Manifest{{Name: "rollout", Object: s.rollout(config.Name)}},
		[]kube.Manifest{
			{Name: "autoscaler", Object: s.autoscaler()},
			{Name: "disruption-budget", Object: &policyv1.PodDisruptionBudget{ObjectMeta: s.meta(s.Service), Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable: new(intstr.FromInt32(1)),
				Selector:       &metav1.LabelSelector{MatchLabels: s.selector()},
			}}},
		}), nil
}

func stable(service string) string { return service + "-stable" }
func canary(service string) string { return service + "-canary" }

func (s *Spec) selector() map[string]string { return map[string]string{nameLabel: s.Service} }

func (s *Spec) labels() map[string]string {
	return map[string]string{nameLabel: s.Service, "app.kubernetes.io/part-of": "loja-veloz"}
}

func (s *Spec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: s.labels()}
}

// versionLength is the number of hex digits of the image's digest that identify a build in
// logs.
const versionLength = 12

// digest is the image's, in hex digits.
func (s *Spec) digest() string {
	_, digest, _ := strings.Cut(s.Image, DigestPrefix)
	return digest
}

func (s *Spec) version() string {
	digest := s.digest()
	return digest[:min(versionLength, len(digest))]
}

func (s *Spec) backend() gateway.Backend {
	return gateway.Backend{
		Service: s.Service, Namespace: s.Namespace, Labels: s.labels(),
		StableService: stable(s.Service), CanaryService: canary(s.Service), Port: routedPort,
		Public: s.Public,
	}
}

// service returns a Service that selects the pods of both versions, until the Rollouts
// controller, which then owns the selector, narrows it to one. Updates do not wait for it: the
// canary's has pods only during a canary.
func (s *Spec) service(name string) kube.Manifest {
	meta := s.meta(name)
	meta.Annotations = map[string]string{kube.SkipAwait: "true"}
	return kube.Manifest{
		Name: "service-" + strings.TrimPrefix(name, s.Service+"-"),
		Object: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Selector: s.selector(),
			Ports: []corev1.ServicePort{
				{Name: "http", Port: routedPort, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP},
				{Name: "direct", Port: Port, TargetPort: intstr.FromInt32(Port), Protocol: corev1.ProtocolTCP},
			},
		}},
		IgnoreChanges: []string{"spec.selector"},
	}
}

// rollout leaves replicas out: they belong to the autoscaler.
func (s *Spec) rollout(settings string) *rolloutsv1alpha1.Rollout {
	steps := make([]rolloutsv1alpha1.CanaryStep, 0, 2*len(s.Canary.Weights)+1)
	for _, weight := range s.Canary.Weights {
		steps = append(steps,
			rolloutsv1alpha1.CanaryStep{SetWeight: &weight},
			rolloutsv1alpha1.CanaryStep{Pause: &rolloutsv1alpha1.RolloutPause{Duration: new(intstr.FromInt32(seconds(s.Canary.Pause)))}})
	}
	steps = append(steps, s.gate()...)
	role := func(name string) *rolloutsv1alpha1.PodTemplateMetadata {
		return &rolloutsv1alpha1.PodTemplateMetadata{Labels: map[string]string{roleLabel: name}}
	}
	pods := metav1.ObjectMeta{Labels: s.labels()}
	if s.Scraper != nil {
		pods.Annotations = s.Scraper.Annotations
	}
	return &rolloutsv1alpha1.Rollout{ObjectMeta: s.meta(s.Service), Spec: rolloutsv1alpha1.RolloutSpec{
		Selector:                &metav1.LabelSelector{MatchLabels: s.selector()},
		RevisionHistoryLimit:    new(int32(3)),
		ProgressDeadlineSeconds: new(seconds(s.Canary.ProgressDeadline)),
		ProgressDeadlineAbort:   true,
		Strategy: rolloutsv1alpha1.RolloutStrategy{Canary: &rolloutsv1alpha1.CanaryStrategy{
			StableService:  stable(s.Service),
			CanaryService:  canary(s.Service),
			TrafficRouting: s.Gateway.TrafficRouting(s.Service),
			Steps:          steps,
			Analysis:       s.analysis(),
			MaxSurge:       new(intstr.FromInt32(1)),
			MaxUnavailable: new(intstr.FromInt32(0)),
			// The stable version keeps all its pods until the end, so that it can take all traffic at
			// once after an abort.
			DynamicStableScale:         false,
			ScaleDownDelaySeconds:      new(scaleDownDelay),
			AbortScaleDownDelaySeconds: new(abortScaleDownDelay),
			StableMetadata:             role("stable"),
			CanaryMetadata:             role("canary"),
		}},
		Template: corev1.PodTemplateSpec{ObjectMeta: pods, Spec: s.pod(settings)},
	}}
}

func (s *Spec) pod(settings string) corev1.PodSpec {
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("http")}},
			PeriodSeconds:    period,
			TimeoutSeconds:   2,
			FailureThreshold: failures,
		}
	}
	spread := func(topology string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: topology, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: s.selector()},
			// Stable and canary pods are spread independently.
			MatchLabelKeys: []string{rolloutsv1alpha1.DefaultRolloutUniqueLabelKey},
		}
	}
	return corev1.PodSpec{
		ServiceAccountName:            s.Service,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		SecurityContext:               kube.RestrictedPod(),
		TerminationGracePeriodSeconds: new(drainSeconds + shutdownSeconds),
		TopologySpreadConstraints:     []corev1.TopologySpreadConstraint{spread(corev1.LabelHostname), spread(corev1.LabelTopologyZone)},
		Containers: []corev1.Container{{
			Name:  Container,
			Image: s.Image,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: Port, Protocol: corev1.ProtocolTCP}},
			Env:   s.variables(),
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: settings},
			}}},
			Resources:       kube.Sizes(s.Size.MilliCPU, s.Size.MemoryMiB, s.Size.MemoryLimitMiB),
			SecurityContext: kube.RestrictedContainer(),
			StartupProbe:    probe(livenessPath, 1, 30),
			ReadinessProbe:  probe(readinessPath, 2, 2),
			LivenessProbe:   probe(livenessPath, 10, 3),
			// The kubelet sleeps, since the image has no shell.
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: drainSeconds}}},
		}},
	}
}

// variables returns the environment variables that are not in the ConfigMap.
func (s *Spec) variables() []corev1.EnvVar {
	list := append([]corev1.EnvVar{{Name: "PORT", Value: fmt.Sprint(Port)}}, s.identity()...)
	list = append(list, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", s.Size.MemoryLimitMiB*3/4)})
	if s.Database != nil {
		list = append(list, kube.SecretVariable(databaseURL, s.Database.URL.Secret, s.Database.URL.Key))
	}
	for _, name := range slices.Sorted(maps.Keys(s.SecretEnv)) {
		list = append(list, kube.SecretVariable(name, s.SecretEnv[name].object(), s.SecretEnv[name].Key))
	}
	return list
}

// databaseURL is the variable with the address of the service's database.
const databaseURL = "DATABASE_URL"

// identity returns the variables with which a pod identifies itself in logs and traces. The version
// is all of the digest, which the programs shorten: Kustomize can copy it out of the image's
// reference, and cannot cut it (infra/gitops).
func (s *Spec) identity() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "SERVICE_NAME", Value: s.Service},
		{Name: VersionVariable, Value: s.digest()},
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "OTEL_RESOURCE_ATTRIBUTES", Value: strings.Join([]string{
			"service.namespace=" + s.Namespace,
			"service.instance.id=$(POD_NAME)",
			"k8s.pod.name=$(POD_NAME)",
			"deployment.environment.name=" + s.Environment,
		}, ",")},
	}
}

// autoscaler measures CPU alone. It counts the pods of both versions, so that during a canary
// the same load is spread over more pods. A pod's memory does not fall with the number of pods:
// by memory, every canary made the service grow (2 pods became 5 at 58 % of a target of 80 %).
func (s *Spec) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	cpu := autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name:   corev1.ResourceCPU,
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(cpuTarget)},
	}}
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: s.meta(s.Service), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
			APIVersion: rolloutsv1alpha1.SchemeGroupVersion.String(), Kind: rollouts.RolloutKind, Name: s.Service,
		},
		MinReplicas: &s.Size.MinReplicas,
		MaxReplicas: s.Size.MaxReplicas,
		Metrics:     []autoscalingv2.MetricSpec{cpu},
	}}
}

func seconds(d time.Duration) int32 { return int32(d / time.Second) }

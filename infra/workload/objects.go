package workload

import (
	"crypto/sha256"
	"encoding/hex"
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
	// roleLabel tells canary pods from stable ones while both exist.
	roleLabel = "loja-veloz.dev/role"
	// configAnnotation makes pods roll when their ConfigMap changes.
	configAnnotation = "loja-veloz.dev/config-hash"

	// cpuTarget and memoryTarget are the autoscaler's, in percent of the requests
	// (design: CPU 70 %, memory 80 %).
	cpuTarget    int32 = 70
	memoryTarget int32 = 80

	// drainSeconds is how long a pod keeps serving after it was told to stop: the
	// gateway forgets an endpoint within a second (infra/gateway), kube-proxy
	// within a few.
	drainSeconds int64 = 5
	// shutdownSeconds is what is left for open requests after that.
	shutdownSeconds int64 = 25

	// abortScaleDownDelay keeps an aborted canary's pods for a look at them, in seconds.
	abortScaleDownDelay int32 = 30
	// scaleDownDelay keeps the old version's pods after the last weight while
	// routers still learn, in seconds (Rollouts recommends 30).
	scaleDownDelay int32 = 30
)

// rolloutStage is where in Stages the Rollout is, alone.
func (a *Args) rolloutStage() int {
	if a.Database != nil {
		return 2
	}
	return 1
}

// Stages gives everything that a service is made of, or every reason why not:
// what the Rollout refers to (the controller calls one invalid whose Services or
// weights are missing), the change of its schema, the Rollout, and what refers to
// it.
func (a *Args) Stages() (kube.Stages, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	routes, err := a.Gateway.Routes(a.backend())
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", a.Service, err)
	}
	policies, err := a.networkPolicy()
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", a.Service, err)
	}
	config := a.configMap()
	before := []kube.Manifest{
		{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: a.meta(a.Service), AutomountServiceAccountToken: new(false)}},
		{Name: "config", Object: config},
		{Name: "network-policy", Object: policies},
		a.service(stable(a.Service)),
		a.service(canary(a.Service)),
	}
	before = append(before, routes...)
	for _, template := range a.Canary.Analysis {
		before = append(before, kube.Manifest{Name: "analysis-" + template.Name, Object: template})
	}
	stages := kube.Stages{before}
	if a.Database != nil {
		migration, err := a.migration()
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", a.Service, err)
		}
		stages[0] = append(stages[0], kube.Manifest{Name: "migrate-network-policy", Object: a.migrationPolicy()})
		stages = append(stages, []kube.Manifest{{Name: "migrate", Object: migration}})
	}
	return append(stages,
		[]kube.Manifest{{Name: "rollout", Object: a.rollout(hash(config.Data))}},
		[]kube.Manifest{
			{Name: "autoscaler", Object: a.autoscaler()},
			{Name: "disruption-budget", Object: &policyv1.PodDisruptionBudget{ObjectMeta: a.meta(a.Service), Spec: policyv1.PodDisruptionBudgetSpec{
				MaxUnavailable: new(intstr.FromInt32(1)),
				Selector:       &metav1.LabelSelector{MatchLabels: a.selector()},
			}}},
		}), nil
}

func stable(service string) string { return service + "-stable" }
func canary(service string) string { return service + "-canary" }

func (a *Args) selector() map[string]string { return map[string]string{nameLabel: a.Service} }

func (a *Args) labels() map[string]string {
	return map[string]string{nameLabel: a.Service, "app.kubernetes.io/part-of": "loja-veloz"}
}

func (a *Args) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: a.Namespace, Labels: a.labels()}
}

// versionLength is as many hex digits of the image's digest as tell builds apart
// in a log line.
const versionLength = 12

func (a *Args) version() string {
	_, digest, _ := strings.Cut(a.Image, "@sha256:")
	return digest[:min(versionLength, len(digest))]
}

func (a *Args) backend() gateway.Backend {
	return gateway.Backend{
		Service: a.Service, Namespace: a.Namespace, Labels: a.labels(),
		StableService: stable(a.Service), CanaryService: canary(a.Service), Port: ServicePort,
		Public: a.Public,
	}
}

// service selects the pods of both versions until Rollouts, which from then on
// owns the selector, narrows it to one. It is not waited for: the canary's has
// pods only during a canary.
func (a *Args) service(name string) kube.Manifest {
	meta := a.meta(name)
	meta.Annotations = map[string]string{kube.SkipAwait: "true"}
	return kube.Manifest{
		Name: "service-" + strings.TrimPrefix(name, a.Service+"-"),
		Object: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Selector: a.selector(),
			Ports:    []corev1.ServicePort{{Name: "http", Port: ServicePort, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}},
		}},
		IgnoreChanges: []string{"spec.selector"},
	}
}

// configMap holds what may differ between environments.
func (a *Args) configMap() *corev1.ConfigMap {
	data := map[string]string{
		"LOG_FORMAT":        a.LogFormat,
		"OTEL_SERVICE_NAME": a.Service,
	}
	if a.Telemetry != nil {
		data["OTEL_EXPORTER_OTLP_ENDPOINT"] = a.Telemetry.Endpoint
		data["OTEL_EXPORTER_OTLP_PROTOCOL"] = a.Telemetry.protocol()
	}
	maps.Copy(data, a.Env)
	return &corev1.ConfigMap{ObjectMeta: a.meta(a.Service), Data: data}
}

// hash is stable over the order of a map.
func hash(data map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%q=%q\n", key, data[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// rollout leaves replicas out: they belong to the autoscaler.
func (a *Args) rollout(configHash string) *rolloutsv1alpha1.Rollout {
	steps := make([]rolloutsv1alpha1.CanaryStep, 0, 2*len(a.Canary.Weights))
	for _, weight := range a.Canary.Weights {
		steps = append(steps,
			rolloutsv1alpha1.CanaryStep{SetWeight: &weight},
			rolloutsv1alpha1.CanaryStep{Pause: &rolloutsv1alpha1.RolloutPause{Duration: new(intstr.FromInt32(seconds(a.Canary.Pause)))}})
	}
	role := func(name string) *rolloutsv1alpha1.PodTemplateMetadata {
		return &rolloutsv1alpha1.PodTemplateMetadata{Labels: map[string]string{roleLabel: name}}
	}
	return &rolloutsv1alpha1.Rollout{ObjectMeta: a.meta(a.Service), Spec: rolloutsv1alpha1.RolloutSpec{
		Selector:                &metav1.LabelSelector{MatchLabels: a.selector()},
		RevisionHistoryLimit:    new(int32(3)),
		ProgressDeadlineSeconds: new(seconds(a.Canary.ProgressDeadline)),
		ProgressDeadlineAbort:   true,
		Strategy: rolloutsv1alpha1.RolloutStrategy{Canary: &rolloutsv1alpha1.CanaryStrategy{
			StableService:  stable(a.Service),
			CanaryService:  canary(a.Service),
			TrafficRouting: a.Gateway.TrafficRouting(a.Service),
			Steps:          steps,
			Analysis:       a.analysis(),
			MaxSurge:       new(intstr.FromInt32(1)),
			MaxUnavailable: new(intstr.FromInt32(0)),
			// Stable keeps all its pods until the end, so that an abort is served at once.
			DynamicStableScale:         false,
			ScaleDownDelaySeconds:      new(scaleDownDelay),
			AbortScaleDownDelaySeconds: new(abortScaleDownDelay),
			StableMetadata:             role("stable"),
			CanaryMetadata:             role("canary"),
		}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: a.labels(), Annotations: map[string]string{configAnnotation: configHash}},
			Spec:       a.pod(),
		},
	}}
}

// analysis runs every template in the background from the first weight on.
func (a *Args) analysis() *rolloutsv1alpha1.RolloutAnalysisBackground {
	if len(a.Canary.Analysis) == 0 {
		return nil
	}
	background := &rolloutsv1alpha1.RolloutAnalysisBackground{StartingStep: new(int32(1))}
	for _, template := range a.Canary.Analysis {
		background.Templates = append(background.Templates, rolloutsv1alpha1.AnalysisTemplateRef{TemplateName: template.Name})
	}
	return background
}

func (a *Args) pod() corev1.PodSpec {
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
			LabelSelector: &metav1.LabelSelector{MatchLabels: a.selector()},
			// Stable and canary are spread each by itself.
			MatchLabelKeys: []string{rolloutsv1alpha1.DefaultRolloutUniqueLabelKey},
		}
	}
	return corev1.PodSpec{
		ServiceAccountName:            a.Service,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		SecurityContext:               kube.RestrictedPod(),
		TerminationGracePeriodSeconds: new(drainSeconds + shutdownSeconds),
		TopologySpreadConstraints:     []corev1.TopologySpreadConstraint{spread(corev1.LabelHostname), spread(corev1.LabelTopologyZone)},
		Containers: []corev1.Container{{
			Name:  "service",
			Image: a.Image,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: Port, Protocol: corev1.ProtocolTCP}},
			Env:   a.variables(),
			EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: a.Service},
			}}},
			Resources:       kube.Sizes(a.Size.MilliCPU, a.Size.MemoryMiB, a.Size.MemoryLimitMiB),
			SecurityContext: kube.RestrictedContainer(),
			StartupProbe:    probe(livenessPath, 1, 30),
			ReadinessProbe:  probe(readinessPath, 2, 2),
			LivenessProbe:   probe(livenessPath, 10, 3),
			// The image has no shell to sleep in; the kubelet does it.
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: drainSeconds}}},
		}},
	}
}

// variables are those that the ConfigMap does not hold.
func (a *Args) variables() []corev1.EnvVar {
	list := append([]corev1.EnvVar{{Name: "PORT", Value: fmt.Sprint(Port)}}, a.identity()...)
	list = append(list, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", a.Size.MemoryLimitMiB*3/4)})
	if a.Database != nil {
		list = append(list, kube.SecretVariable(databaseURL, a.Database.URL.Secret, a.Database.URL.Key))
	}
	for _, name := range slices.Sorted(maps.Keys(a.SecretEnv)) {
		list = append(list, kube.SecretVariable(name, a.SecretEnv[name].Secret, a.SecretEnv[name].Key))
	}
	return list
}

// databaseURL is the variable with the address of the service's database.
const databaseURL = "DATABASE_URL"

// identity is what a pod says of itself in logs and traces.
func (a *Args) identity() []corev1.EnvVar {
	version := a.version()
	return []corev1.EnvVar{
		{Name: "SERVICE_NAME", Value: a.Service},
		{Name: "SERVICE_VERSION", Value: version},
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "OTEL_RESOURCE_ATTRIBUTES", Value: strings.Join([]string{
			"service.namespace=" + a.Namespace,
			"service.version=" + version,
			"service.instance.id=$(POD_NAME)",
			"k8s.pod.name=$(POD_NAME)",
			"deployment.environment.name=" + a.Environment,
		}, ",")},
	}
}

func (a *Args) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	metric := func(resource corev1.ResourceName, percent int32) autoscalingv2.MetricSpec {
		return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name:   resource,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
		}}
	}
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: a.meta(a.Service), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
			APIVersion: rolloutsv1alpha1.SchemeGroupVersion.String(), Kind: rollouts.RolloutKind, Name: a.Service,
		},
		MinReplicas: &a.Size.MinReplicas,
		MaxReplicas: a.Size.MaxReplicas,
		Metrics:     []autoscalingv2.MetricSpec{metric(corev1.ResourceCPU, cpuTarget), metric(corev1.ResourceMemory, memoryTarget)},
	}}
}

func seconds(d time.Duration) int32 { return int32(d / time.Second) }

package observability

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// The releases whose images are installed.
	collectorVersion = "0.150.0" // renovate: datasource=go depName=go.opentelemetry.io/collector/otelcol
	jaegerVersion    = "1.65.0"  // renovate: datasource=go depName=github.com/jaegertracing/jaeger

	collector                  = "otel-collector"
	collectorMetricsPort int32 = 8889
	collectorHealthPort  int32 = 13133
	jaeger                     = "jaeger"
	jaegerQueryPort      int32 = 16686
	jaegerHealthPort     int32 = 14269
	// jaegerKeeps is how long a trace can be found, and jaegerDiskMiB what that may take.
	jaegerKeeps   = 6 * time.Hour
	jaegerDiskMiB = 4096
)

// TracesSpec describes the OpenTelemetry Collector, to which every program sends its spans
// and its pushed metrics, and where the spans go from there.
type TracesSpec struct {
	// Namespace is created for it.
	Namespace string
	// Clients send by OTLP: the services' pods and jobs.
	Clients []kube.PodSelector
	// Metrics reads what the collector has received and what it has computed from spans;
	// empty: nobody.
	Metrics []kube.PodSelector
	// Forward is the OTLP address over HTTP, http://host:4318, to which spans and metrics
	// are passed on, and ForwardTo its pods. Empty installs Jaeger, which keeps spans for 6
	// hours.
	Forward   string
	ForwardTo kube.PodSelector
	// Readers may ask Jaeger for traces.
	Readers []kube.PodSelector
	// NodePort opens Jaeger's API on a port of every node as well, to everybody who reaches
	// the node; 0 does not.
	NodePort int32
	// With SkipAwait an update goes on before the collector receives.
	SkipAwait bool
}

// Traces is the installed collector, with Jaeger where nothing else keeps spans.
type Traces struct {
	pulumi.ResourceState
	kube.Objects
}

// NewTraces installs the collector and is done when it receives, unless SkipAwait. Errors name the argument
// that is wrong.
func NewTraces(ctx *pulumi.Context, name string, spec *TracesSpec, opts ...pulumi.ResourceOption) (*Traces, error) {
	t := &Traces{}
	if _, err := kube.NewComponent(ctx, "traces", "loja-veloz:observability:Traces", name, t, spec.Stages, opts); err != nil {
		return nil, err
	}
	return t, nil
}

// Endpoint is the address to which programs send by OTLP over HTTP.
func (s *TracesSpec) Endpoint() string { return address(collector, s.Namespace, otlpHTTP) }

// Collector selects the collector's pods.
func (s *TracesSpec) Collector() kube.PodSelector {
	return kube.PodSelector{Namespace: s.Namespace, Labels: nameOnly(collector)}
}

// Scrape is where Prometheus finds the collector's metrics.
func (s *TracesSpec) Scrape() Scrape {
	return Scrape{Job: collector, Host: collector + "." + s.Namespace, Port: collectorMetricsPort, Pods: s.Collector()}
}

// JaegerURL is where Jaeger answers in the cluster, or empty if spans are passed on.
func (s *TracesSpec) JaegerURL() string {
	if s.Forward != "" {
		return ""
	}
	return address(jaeger, s.Namespace, jaegerQueryPort)
}

// JaegerPods selects Jaeger's pods.
func (s *TracesSpec) JaegerPods() kube.PodSelector {
	return kube.PodSelector{Namespace: s.Namespace, Labels: nameOnly(jaeger)}
}

// Jaeger is the rollout.ServiceProxy of Jaeger, or empty if spans are passed on.
func (s *TracesSpec) Jaeger() string {
	if s.Forward != "" {
		return ""
	}
	return rollout.ServiceProxy(s.Namespace, jaeger, jaegerQueryPort)
}

// Validate reports everything that is wrong with the spec, one error per line.
func (s *TracesSpec) Validate() error {
	var errs validate.Errors
	errs.Name("Namespace", s.Namespace)
	for field, pods := range map[string][]kube.PodSelector{"Clients": s.Clients, "Metrics": s.Metrics, "Readers": s.Readers} {
		for i, p := range pods {
			if p.TooWide() {
				errs.Add(fmt.Sprintf("%s[%d]", field, i), "has no namespace or no labels: it would admit every pod")
			}
		}
	}
	if s.Forward != "" {
		if u, err := url.Parse(s.Forward); err != nil || u.Scheme != "http" || u.Port() != strconv.Itoa(otlpHTTP) {
			errs.Add("Forward", "is %q: use http://HOST:%d", s.Forward, otlpHTTP)
		}
		if s.ForwardTo.TooWide() {
			errs.Add("ForwardTo", "has no namespace or no labels: the policy would allow egress to every pod")
		}
		if s.NodePort != 0 {
			errs.Add("NodePort", "is %d, but with Forward there is no Jaeger", s.NodePort)
		}
	}
	if s.NodePort != 0 {
		errs.Port("NodePort", s.NodePort)
	}
	return errs.Err()
}

// Pods returns the sizes of the pods.
func (s *TracesSpec) Pods() []kube.PodSize {
	pods := []kube.PodSize{kube.SizeOf(collector, 1, s.collectorPod("").Spec.Containers[0].Resources)}
	if s.Forward == "" {
		pods = append(pods, kube.SizeOf(jaeger, 1, jaegerPod().Spec.Containers[0].Resources))
	}
	return pods
}

// Stages gives every object, or every reason why not.
func (s *TracesSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	config, err := yaml.Marshal(s.config())
	if err != nil {
		return nil, fmt.Errorf("encoding the collector's configuration: %w", err)
	}
	before := []kube.Manifest{
		{Name: "config", Object: &corev1.ConfigMap{ObjectMeta: s.meta(collector), Data: map[string]string{"config.yaml": string(config)}}},
		{Name: "network-policy", Object: s.collectorPolicy()},
	}
	running := []kube.Manifest{
		{Name: "deployment", Object: s.deployment(collector, s.collectorPod(string(config)))},
		{Name: "service", Object: s.service(collector, otlpHTTP, collectorMetricsPort)},
	}
	if s.Forward == "" {
		query := onNodes(s.service(jaeger, jaegerQueryPort, otlpHTTP), s.NodePort)
		before = append(before, kube.Manifest{Name: "jaeger-network-policy", Object: s.jaegerPolicy()})
		running = append(running,
			kube.Manifest{Name: "jaeger-deployment", Object: s.deployment(jaeger, jaegerPod())},
			kube.Manifest{Name: "jaeger-service", Object: query})
	}
	stages := kube.Stages{{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}}, before, running}
	if s.SkipAwait {
		stages.Unawaited()
	}
	return stages, nil
}

// config receives OTLP over HTTP, counts spans as metrics, and
// passes spans on in batches. A full queue drops the oldest telemetry and never delays a
// service.
func (s *TracesSpec) config() object {
	exporters := object{"prometheus": object{
		"endpoint": fmt.Sprintf("0.0.0.0:%d", collectorMetricsPort), "metric_expiration": "10m",
	}}
	to := s.Forward
	if to == "" {
		to = address(jaeger, s.Namespace, otlpHTTP)
	}
	exporters["otlphttp"] = object{"endpoint": to, "sending_queue": object{"queue_size": 2000}}
	pushed := []string{"prometheus"}
	if s.Forward != "" {
		pushed = append(pushed, "otlphttp")
	}
	processors := []string{"memory_limiter", "batch"}
	return object{
		"receivers": object{"otlp": object{"protocols": object{"http": object{"endpoint": fmt.Sprintf("0.0.0.0:%d", otlpHTTP)}}}},
		"processors": object{
			"memory_limiter": object{"check_interval": "1s", "limit_mib": 112, "spike_limit_mib": 24},
			"batch":          object{"timeout": "1s"},
		},
		"connectors": object{"spanmetrics": object{
			"dimensions":         []object{{"name": "service.version"}},
			"metrics_expiration": "10m",
			// Instances come and go with every canary.
			"resource_metrics_key_attributes": []string{"service.name"},
		}},
		"exporters":  exporters,
		"extensions": object{"health_check": object{"endpoint": fmt.Sprintf("0.0.0.0:%d", collectorHealthPort)}},
		"service": object{
			"extensions": []string{"health_check"},
			"telemetry":  object{"metrics": object{"level": "none"}, "logs": object{"level": "warn", "encoding": "json"}},
			"pipelines": object{
				"traces":        object{"receivers": []string{"otlp"}, "processors": processors, "exporters": []string{"otlphttp", "spanmetrics"}},
				"metrics":       object{"receivers": []string{"otlp"}, "processors": processors, "exporters": pushed},
				"metrics/spans": object{"receivers": []string{"spanmetrics"}, "exporters": []string{"prometheus"}},
			},
		},
	}
}

func (s *TracesSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: nameOnly(name)}
}

func (s *TracesSpec) collectorPolicy() *networkingv1.NetworkPolicy {
	ingress := append(kube.FromPods(otlpHTTP, s.Clients...), kube.FromPods(collectorMetricsPort, s.Metrics...)...)
	to := s.ForwardTo
	if s.Forward == "" {
		to = s.JaegerPods()
	}
	return kube.IsolatingPolicy(s.meta(collector), nameOnly(collector), ingress,
		[]networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToPods(otlpHTTP, to)})
}

func (s *TracesSpec) jaegerPolicy() *networkingv1.NetworkPolicy {
	ingress := kube.FromPods(otlpHTTP, s.Collector())
	if s.NodePort != 0 {
		ingress = append(ingress, kube.FromAnywhere(jaegerQueryPort))
	} else {
		ingress = append(ingress, kube.FromPods(jaegerQueryPort, s.Readers...)...)
	}
	return kube.IsolatingPolicy(s.meta(jaeger), nameOnly(jaeger), ingress, nil)
}

func (s *TracesSpec) deployment(name string, pod corev1.PodTemplateSpec) *appsv1.Deployment {
	pod.Labels = nameOnly(name)
	pod.Spec.AutomountServiceAccountToken, pod.Spec.EnableServiceLinks = new(false), new(false)
	pod.Spec.SecurityContext = kube.RestrictedPod()
	pod.Spec.Containers[0].Name = name
	pod.Spec.Containers[0].SecurityContext = kube.RestrictedContainer()
	return &appsv1.Deployment{ObjectMeta: s.meta(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: nameOnly(name)},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		Template: pod,
	}}
}

// collectorPod restarts when its configuration changes, which the collector reads once.
func (s *TracesSpec) collectorPod(config string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			"loja-veloz.dev/config": fmt.Sprintf("%.5x", sha256.Sum256([]byte(config))),
		}},
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: collector},
			}}}},
			Containers: []corev1.Container{{
				Image:          "docker.io/otel/opentelemetry-collector-contrib:" + collectorVersion,
				Args:           []string{"--config=file:/etc/otelcol/config.yaml"},
				Env:            []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "112MiB"}},
				Ports:          ports(otlpHTTP, collectorMetricsPort, collectorHealthPort),
				Resources:      kube.Sizes(50, 64, 144),
				VolumeMounts:   []corev1.VolumeMount{{Name: "config", MountPath: "/etc/otelcol", ReadOnly: true}},
				ReadinessProbe: probe("/", 2*time.Second, 6),
				LivenessProbe:  probe("/", 10*time.Second, 6),
			}},
		},
	}
}

// jaegerPod keeps spans on the pod's own disk: a new pod begins without traces.
func jaegerPod() corev1.PodTemplateSpec {
	const folder = "/badger"
	disk := resource.NewQuantity(jaegerDiskMiB<<20, resource.BinarySI)
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: disk}}}},
		Containers: []corev1.Container{{
			Image: "docker.io/jaegertracing/all-in-one:" + jaegerVersion,
			Args: []string{
				"--badger.ephemeral=false",
				"--badger.directory-key=" + folder + "/keys",
				"--badger.directory-value=" + folder + "/values",
				"--badger.span-store-ttl=" + jaegerKeeps.String(),
				"--log-level=warn",
			},
			Env: []corev1.EnvVar{
				{Name: "SPAN_STORAGE_TYPE", Value: "badger"},
				{Name: "GOMEMLIMIT", Value: "208MiB"},
			},
			Ports:          ports(jaegerQueryPort, otlpHTTP, jaegerHealthPort),
			Resources:      kube.Sizes(50, 128, 320),
			VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: folder}},
			ReadinessProbe: probe("/", 2*time.Second, 6),
			LivenessProbe:  probe("/", 10*time.Second, 6),
		}},
	}}
}

func ports(numbers ...int32) (list []corev1.ContainerPort) {
	for _, number := range numbers {
		list = append(list, corev1.ContainerPort{Name: portName(number), ContainerPort: number, Protocol: corev1.ProtocolTCP})
	}
	return list
}

func portName(number int32) string {
	switch number {
	case otlpHTTP:
		return "otlp-http"
	case collectorMetricsPort:
		return "metrics"
	case collectorHealthPort, jaegerHealthPort:
		return "http" // which the probes ask
	default:
		return "query"
	}
}

func (s *TracesSpec) service(name string, numbers ...int32) *corev1.Service {
	service := &corev1.Service{ObjectMeta: s.meta(name), Spec: corev1.ServiceSpec{Selector: nameOnly(name)}}
	for _, number := range numbers {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: portName(number), Port: number, TargetPort: intstr.FromInt32(number), Protocol: corev1.ProtocolTCP,
		})
	}
	return service
}

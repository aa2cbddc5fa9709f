package observability

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// PrometheusVersion is the release whose image is installed.
	PrometheusVersion = "v3.0.0" // renovate: datasource=github-tags depName=prometheus/prometheus

	prometheus           = "prometheus"
	prometheusPort int32 = 9090
	// prometheusRetention is more than a canary's evidence needs.
	prometheusRetention = 2 * slo.EvidenceWindow
	prometheusDiskMiB   = 2048
)

// PrometheusSpec says what Prometheus scrapes, and for whom.
type PrometheusSpec struct {
	// Namespace is created for it.
	Namespace string
	// Services selects the pods whose /metrics it reads, if they belong to a Rollout.
	Services kube.PodSelector
	// ServicePort is the port of these pods.
	ServicePort int32
	// Clients may query it: the Rollouts controller.
	Clients []kube.PodSelector
	// Scrapes are further programs whose /metrics it reads.
	Scrapes []Scrape
	// Rules is a file of recording and alerting rules; empty has none.
	Rules string
	// Alarms alert as well.
	Alarms []slo.Alarm
	// Canaries are the recording rules of each service's canaries, by its name.
	Canaries map[string][]slo.Rule
	// NodePort opens it on a port of every node as well, to everybody who reaches the
	// node; 0 does not.
	NodePort int32
	// With SkipAwait an update goes on before it answers.
	SkipAwait bool
}

// Scrape is a program whose metrics Prometheus reads at one address.
type Scrape struct {
	// Job is the value of the label job.
	Job  string
	Host string
	Port int32
	// Pods are behind the address.
	Pods kube.PodSelector
}

// Prometheus is the installed server.
type Prometheus struct {
	pulumi.ResourceState
	kube.Objects
}

// NewPrometheus installs Prometheus and is done when it answers queries, unless SkipAwait. It keeps two
// days, in the pod: a new pod begins without data, and canaries then wait for more
// requests.
func NewPrometheus(ctx *pulumi.Context, name string, spec *PrometheusSpec, opts ...pulumi.ResourceOption) (*Prometheus, error) {
	p := &Prometheus{}
	if _, err := kube.NewComponent(ctx, prometheus, "loja-veloz:observability:Prometheus", name, p, spec.Stages, opts); err != nil {
		return nil, err
	}
	return p, nil
}

// PrometheusPods selects Prometheus's pods in the namespace where it is installed.
func PrometheusPods(namespace string) kube.PodSelector {
	return kube.PodSelector{Namespace: namespace, Labels: prometheusLabels}
}

// Pods returns the size of its pod.
func (s *PrometheusSpec) Pods() []kube.PodSize {
	return []kube.PodSize{kube.SizeOf(prometheus, 1, s.deployment().Spec.Template.Spec.Containers[0].Resources)}
}

// URL is where it answers in the cluster.
func (s *PrometheusSpec) URL() string {
	return address(prometheus, s.Namespace, prometheusPort)
}

// Validate reports everything that is wrong with the spec, one error per line.
func (s *PrometheusSpec) Validate() error {
	var errs validate.Errors
	errs.Name("Namespace", s.Namespace)
	errs.Port("ServicePort", s.ServicePort)
	if s.Services.TooWide() {
		errs.Add("Services", "has no namespace or no labels: it would scrape every pod")
	}
	for i, client := range s.Clients {
		if client.TooWide() {
			errs.Add(fmt.Sprintf("Clients[%d]", i), "has no namespace or no labels: it would admit every pod")
		}
	}
	for i, scrape := range s.Scrapes {
		errs.Port(fmt.Sprintf("Scrapes[%d].Port", i), scrape.Port)
		if scrape.Pods.TooWide() {
			errs.Add(fmt.Sprintf("Scrapes[%d].Pods", i), "has no namespace or no labels: the policy would allow egress to every pod")
		}
	}
	if s.NodePort != 0 {
		errs.Port("NodePort", s.NodePort)
	}
	return errs.Err()
}

var prometheusLabels = nameOnly(prometheus)

func (s *PrometheusSpec) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: prometheus, Namespace: s.Namespace, Labels: prometheusLabels}
}

// Stages gives every object of Prometheus, or every reason why not.
func (s *PrometheusSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	config, err := yaml.Marshal(s.config())
	if err != nil {
		return nil, fmt.Errorf("encoding Prometheus's configuration: %w", err)
	}
	canaries, err := yaml.Marshal(s.canaries())
	if err != nil {
		return nil, fmt.Errorf("encoding the rules of canaries: %w", err)
	}
	alarms, err := yaml.Marshal(s.alarms())
	if err != nil {
		return nil, fmt.Errorf("encoding the alarms: %w", err)
	}
	discovery := metav1.ObjectMeta{Name: prometheus, Namespace: s.Services.Namespace, Labels: prometheusLabels}
	stages := kube.Stages{
		{{Name: "namespace", Object: kube.RestrictedNamespace(s.Namespace)}},
		{
			{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(), AutomountServiceAccountToken: new(false)}},
			{Name: "role", Object: &rbacv1.Role{ObjectMeta: discovery, Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
			}}},
			{Name: "role-binding", Object: &rbacv1.RoleBinding{
				ObjectMeta: discovery, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: prometheus},
				Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: prometheus, Namespace: s.Namespace}},
			}},
			{Name: "config", Object: &corev1.ConfigMap{ObjectMeta: s.meta(), Data: map[string]string{
				"prometheus.yml": string(config), "objectives.yml": s.Rules, "canaries.yml": string(canaries), "alarms.yml": string(alarms),
			}}},
			{Name: "network-policy", Object: s.networkPolicy()},
		},
		{{Name: "deployment", Object: s.deployment()}, {Name: "service", Object: s.service()}},
	}
	if s.SkipAwait {
		stages.Unawaited()
	}
	return stages, nil
}

type object = map[string]any

// config scrapes the pods of Rollouts, twice in each interval in which a canary's requests
// are weighed.
func (s *PrometheusSpec) config() object {
	label := func(from, to string) object {
		return object{"source_labels": []string{from}, "target_label": to}
	}
	const pod = "__meta_kubernetes_pod_"
	var selector []string
	for name, value := range s.Services.Labels {
		selector = append(selector, name+"="+value)
	}
	scrapes := []object{}
	for _, scrape := range s.Scrapes {
		scrapes = append(scrapes, object{
			// The collector writes which service and version a metric is of.
			"job_name": scrape.Job, "honor_labels": true,
			"static_configs": []object{{"targets": []string{fmt.Sprintf("%s:%d", scrape.Host, scrape.Port)}}},
		})
	}
	return object{
		"global":     object{"scrape_interval": "5s", "scrape_timeout": "4s", "evaluation_interval": "30s"},
		"rule_files": []string{"objectives.yml", "canaries.yml", "alarms.yml"},
		"scrape_configs": append([]object{{
			"job_name": "services",
			"kubernetes_sd_configs": []object{{
				"role": "pod", "namespaces": object{"names": []string{s.Services.Namespace}},
				"selectors": []object{{"role": "pod", "label": strings.Join(slices.Sorted(slices.Values(selector)), ",")}},
			}},
			"relabel_configs": []object{
				{"action": "keep", "source_labels": []string{pod + "labelpresent_" + slo.LabelVersion, pod + "container_port_number"},
					"regex": fmt.Sprintf("true;%d", s.ServicePort)},
				label(pod+"label_"+slo.LabelVersion, slo.LabelVersion),
				label(pod+"label_loja_veloz_dev_role", slo.LabelRole),
				label(pod+"name", "pod"),
			},
		}}, scrapes...),
	}
}

// canaries is a rule file with a group for each service.
func (s *PrometheusSpec) canaries() object {
	groups := []object{}
	for _, service := range slices.Sorted(maps.Keys(s.Canaries)) {
		groups = append(groups, object{"name": "canary-" + service, "interval": slo.Period(slo.Interval), "rules": s.Canaries[service]})
	}
	return object{"groups": groups}
}

// alarms is a rule file with one group.
func (s *PrometheusSpec) alarms() object {
	rules := []slo.Rule{}
	for _, alarm := range s.Alarms {
		rules = append(rules, alarm.Rule())
	}
	return object{"groups": []object{{"name": "alarms", "rules": rules}}}
}

func (s *PrometheusSpec) networkPolicy() *networkingv1.NetworkPolicy {
	ingress := kube.FromPods(prometheusPort, s.Clients...)
	if s.NodePort != 0 {
		ingress = []networkingv1.NetworkPolicyIngressRule{kube.FromAnywhere(prometheusPort)}
	}
	egress := []networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer(), kube.ToPods(s.ServicePort, s.Services)}
	for _, scrape := range s.Scrapes {
		egress = append(egress, kube.ToPods(scrape.Port, scrape.Pods))
	}
	return kube.IsolatingPolicy(s.meta(), prometheusLabels, ingress, egress)
}

func (s *PrometheusSpec) deployment() *appsv1.Deployment {
	const configFolder, dataFolder = "/etc/prometheus", "/prometheus"
	disk := resource.NewQuantity(prometheusDiskMiB<<20, resource.BinarySI)
	pod := corev1.PodSpec{
		ServiceAccountName:           prometheus,
		AutomountServiceAccountToken: new(true),
		SecurityContext:              kube.RestrictedPod(),
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: prometheus},
			}}},
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: disk}}},
		},
		Containers: []corev1.Container{{
			Name:  prometheus,
			Image: "quay.io/prometheus/prometheus:" + PrometheusVersion,
			Args: []string{
				"--config.file=" + configFolder + "/prometheus.yml",
				"--storage.tsdb.path=" + dataFolder,
				fmt.Sprintf("--storage.tsdb.retention.time=%s", slo.Period(prometheusRetention)),
				fmt.Sprintf("--storage.tsdb.retention.size=%dMB", prometheusDiskMiB*3/4),
				fmt.Sprintf("--web.listen-address=:%d", prometheusPort),
				// The ConfigMap changes under the pod: a restart would lose the data.
				"--enable-feature=exemplar-storage,auto-reload-config",
			},
			Env:             []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: "288MiB"}},
			Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: prometheusPort, Protocol: corev1.ProtocolTCP}},
			Resources:       kube.Sizes(50, 128, 384),
			SecurityContext: kube.RestrictedContainer(),
			VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: configFolder, ReadOnly: true}, {Name: "data", MountPath: dataFolder},
			},
			ReadinessProbe: probe("/-/ready", 2*time.Second, 3),
			LivenessProbe:  probe("/-/healthy", 10*time.Second, 6),
		}},
	}
	return &appsv1.Deployment{ObjectMeta: s.meta(), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: prometheusLabels},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: prometheusLabels}, Spec: pod},
	}}
}

func (s *PrometheusSpec) service() *corev1.Service {
	return onNodes(&corev1.Service{ObjectMeta: s.meta(), Spec: corev1.ServiceSpec{
		Selector: prometheusLabels,
		Ports:    []corev1.ServicePort{{Name: "http", Port: prometheusPort, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}},
	}}, s.NodePort)
}

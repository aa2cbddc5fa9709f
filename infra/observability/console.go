package observability

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/slo"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	console            = "console"
	consolePort  int32 = 8080
	consoleProbe       = 5 * time.Second
)

// ConsoleSpec says what the console shows. No gateway routes to it: operators reach it by
// kubectl port-forward, or by NodePort.
type ConsoleSpec struct {
	// Namespace exists: it is Prometheus's.
	Namespace string
	// Image is the console's, by digest.
	Image string
	// ServicesNamespace has the services' Rollouts.
	ServicesNamespace string
	// Objectives are those of each service that it shows, by name; at least one is needed.
	Objectives map[string]slo.Objectives
	// Prometheus is asked for metrics, Jaeger for traces, Payments for the payments that need a
	// person; a source without a URL is left out.
	Prometheus, Jaeger, Payments Source
	// NodePort opens it on a port of every node, to everybody who reaches the node; 0 does not.
	NodePort int32
	// With SkipAwait an update goes on before it answers.
	SkipAwait bool
}

// Source is a server in the cluster that the console reads.
type Source struct {
	URL  string // http://host:port, with the port of the pods
	Pods kube.PodSelector
}

// Console is the installed service.
type Console struct {
	pulumi.ResourceState
	kube.Objects
}

// NewConsole installs the console and is done when it answers, unless SkipAwait.
func NewConsole(ctx *pulumi.Context, name string, spec *ConsoleSpec, opts ...pulumi.ResourceOption) (*Console, error) {
	c := &Console{}
	if _, err := kube.NewComponent(ctx, console, "loja-veloz:observability:Console", name, c, spec.Stages, opts); err != nil {
		return nil, err
	}
	return c, nil
}

// ConsolePods selects the console's pods in the namespace where it is installed.
func ConsolePods(namespace string) kube.PodSelector {
	return kube.PodSelector{Namespace: namespace, Labels: consoleLabels}
}

// Pods returns the size of its pod.
func (s *ConsoleSpec) Pods() []kube.PodSize {
	return []kube.PodSize{kube.SizeOf(console, 1, s.deployment("").Spec.Template.Spec.Containers[0].Resources)}
}

// Validate reports everything that is wrong with the spec, one error per line.
func (s *ConsoleSpec) Validate() error {
	var errs validate.Errors
	errs.Name("Namespace", s.Namespace)
	errs.Name("ServicesNamespace", s.ServicesNamespace)
	if s.Image == "" {
		errs.Add("Image", "is empty: build it with make deploy")
	}
	if len(s.Objectives) == 0 {
		errs.Add("Objectives", "names no service to show")
	}
	for _, service := range slices.Sorted(maps.Keys(s.Objectives)) {
		if err := s.Objectives[service].Validate(); err != nil {
			errs.Add("Objectives["+service+"]", "%v", err)
		}
	}
	for _, source := range s.sources() {
		if _, err := source.port(); err != nil {
			errs.Add(source.field+".URL", "is %q: use http://host:port", source.URL)
		}
		if source.Pods.TooWide() {
			errs.Add(source.field+".Pods", "has no namespace or no labels: the console could reach every pod")
		}
	}
	if s.NodePort != 0 {
		errs.Port("NodePort", s.NodePort)
	}
	return errs.Err()
}

// namedSource is a source with its field in the spec, and the console's variable for its URL.
type namedSource struct {
	field, variable string
	Source
}

// sources are those that have a URL.
func (s *ConsoleSpec) sources() []namedSource {
	all := []namedSource{
		{"Prometheus", "PROMETHEUS_URL", s.Prometheus}, {"Jaeger", "JAEGER_URL", s.Jaeger}, {"Payments", "PAYMENTS_URL", s.Payments},
	}
	return slices.DeleteFunc(all, func(source namedSource) bool { return source.URL == "" })
}

// port is the port of the URL.
func (s Source) port() (int32, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return 0, err
	}
	port := intstr.Parse(u.Port()).IntVal
	if u.Scheme != "http" || u.Hostname() == "" || port == 0 {
		return 0, errors.New("not http://host:port")
	}
	return port, nil
}

var consoleLabels = nameOnly(console)

func (s *ConsoleSpec) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: console, Namespace: s.Namespace, Labels: consoleLabels}
}

// Stages gives every object of the console, or every reason why not.
func (s *ConsoleSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	objectives, err := json.Marshal(s.Objectives)
	if err != nil {
		return nil, fmt.Errorf("encoding the objectives: %w", err)
	}
	reads := metav1.ObjectMeta{Name: console, Namespace: s.ServicesNamespace, Labels: consoleLabels}
	stages := kube.Stages{
		{
			{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(), AutomountServiceAccountToken: new(false)}},
			// It lists, and changes nothing. Secrets and ConfigMaps are none of its business.
			{Name: "role", Object: &rbacv1.Role{ObjectMeta: reads, Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{"argoproj.io"}, Resources: []string{"rollouts", "analysisruns"}, Verbs: []string{"list"}},
				{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: []string{"list"}},
				{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
			}}},
			{Name: "role-binding", Object: &rbacv1.RoleBinding{
				ObjectMeta: reads, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: console},
				Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: console, Namespace: s.Namespace}},
			}},
			{Name: "network-policy", Object: s.networkPolicy()},
		},
		{{Name: "deployment", Object: s.deployment(string(objectives))}, {Name: "service", Object: s.service()}},
	}
	if s.SkipAwait {
		stages.Unawaited()
	}
	return stages, nil
}

// networkPolicy admits nobody, unless a NodePort does: port-forward comes from the node itself.
func (s *ConsoleSpec) networkPolicy() *networkingv1.NetworkPolicy {
	var ingress []networkingv1.NetworkPolicyIngressRule
	if s.NodePort != 0 {
		ingress = append(ingress, kube.FromAnywhere(consolePort))
	}
	egress := []networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), kube.ToAPIServer()}
	for _, source := range s.sources() {
		if port, err := source.port(); err == nil {
			egress = append(egress, kube.ToPods(port, source.Pods))
		}
	}
	return kube.IsolatingPolicy(s.meta(), consoleLabels, ingress, egress)
}

func (s *ConsoleSpec) deployment(objectives string) *appsv1.Deployment {
	env := []corev1.EnvVar{
		{Name: "GOMEMLIMIT", Value: "48MiB"},
		{Name: "OBJECTIVES", Value: objectives},
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		{Name: "SERVICES_NAMESPACE", Value: s.ServicesNamespace},
	}
	for _, source := range s.sources() {
		env = append(env, corev1.EnvVar{Name: source.variable, Value: source.URL})
	}
	slices.SortFunc(env, func(a, b corev1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	return &appsv1.Deployment{ObjectMeta: s.meta(), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(1)),
		Selector: &metav1.LabelSelector{MatchLabels: consoleLabels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: consoleLabels}, Spec: corev1.PodSpec{
			ServiceAccountName:           console,
			AutomountServiceAccountToken: new(true),
			SecurityContext:              kube.RestrictedPod(),
			Containers: []corev1.Container{{
				Name: console, Image: s.Image, Env: env,
				Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: consolePort, Protocol: corev1.ProtocolTCP}},
				Resources:       kube.Sizes(10, 24, 64),
				SecurityContext: kube.RestrictedContainer(),
				ReadinessProbe:  probe("/ready", consoleProbe, 3),
				LivenessProbe:   probe("/health", 2*consoleProbe, 6),
			}},
		}},
	}}
}

func (s *ConsoleSpec) service() *corev1.Service {
	return onNodes(&corev1.Service{ObjectMeta: s.meta(), Spec: corev1.ServiceSpec{
		Selector: consoleLabels,
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http"), Protocol: corev1.ProtocolTCP}},
	}}, s.NodePort)
}

package reachability

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Objects are the objects of a plan that decide which Services pods can dial.
type Objects struct {
	Policies []*networkingv1.NetworkPolicy
	Services []*corev1.Service
	// Pods are those of Deployments, Rollouts, StatefulSets, Jobs and CronJobs, one of each, with its
	// owner's name.
	Pods       []*corev1.Pod
	configMaps []*corev1.ConfigMap
}

// Dial is a connection from a pod to a port of a Service.
type Dial struct {
	From    *corev1.Pod
	Service *corev1.Service
	Port    int32
	// Protocol is TCP if empty.
	Protocol corev1.Protocol
}

func (d Dial) protocol() corev1.Protocol {
	if d.Protocol == "" {
		return corev1.ProtocolTCP
	}
	return d.Protocol
}

func (d Dial) String() string {
	return fmt.Sprintf("%s/%s dials %s.%s:%d/%s", d.From.Namespace, d.From.Name, d.Service.Name, d.Service.Namespace, d.Port, d.protocol())
}

// Add adds an object in its JSON form. It ignores other kinds.
func (o *Objects) Add(object map[string]any) error {
	var template *corev1.PodTemplateSpec
	var meta metav1.ObjectMeta
	var err error
	switch object["kind"] {
	case "NetworkPolicy":
		o.Policies, err = decoded(o.Policies, object)
	case "Service":
		o.Services, err = decoded(o.Services, object)
	case "ConfigMap":
		o.configMaps, err = decoded(o.configMaps, object)
	case "Deployment", "Rollout", "StatefulSet", "Job":
		var owner struct {
			metav1.ObjectMeta `json:"metadata"`
			Spec              struct{ Template corev1.PodTemplateSpec }
		}
		err = decode(object, &owner)
		template, meta = &owner.Spec.Template, owner.ObjectMeta
	case "CronJob":
		var owner struct {
			metav1.ObjectMeta `json:"metadata"`
			Spec              struct {
				JobTemplate struct {
					Spec struct{ Template corev1.PodTemplateSpec }
				}
			}
		}
		err = decode(object, &owner)
		template, meta = &owner.Spec.JobTemplate.Spec.Template, owner.ObjectMeta
	}
	if err == nil && template != nil {
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Name, pod.Namespace = meta.Name, meta.Namespace
		o.Pods = append(o.Pods, pod)
	}
	return err
}

func decoded[T any](all []*T, object map[string]any) ([]*T, error) {
	one := new(T)
	return append(all, one), decode(object, one)
}

func decode(object map[string]any, into any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("encoding a %s: %w", object["kind"], err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decoding a %s: %w", object["kind"], err)
	}
	return nil
}

// address is host:port, or a URL with or without a port.
var address = regexp.MustCompile(`\b(https?://)?([a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*)(?::([0-9]{1,5}))?\b`)

// Dials returns the Services that pods dial by the addresses in their settings: in variables and
// arguments, and in ConfigMaps that variables or files come from. In addition to them, each of
// these pods dials the cluster's DNS, if it is among the Services. It returns an error for a URL
// of the cluster that no Service has.
func (o *Objects) Dials() ([]Dial, error) {
	var dials []Dial
	for _, pod := range o.Pods {
		found := map[string]Dial{}
		for _, text := range o.settings(pod) {
			for _, at := range address.FindAllStringSubmatch(text, -1) {
				scheme, host, port := at[1], at[2], at[3]
				if scheme == "" && port == "" {
					continue
				}
				service := o.resolve(host, pod.Namespace)
				if service == nil {
					if scheme != "" && o.inside(host) {
						return nil, fmt.Errorf("%s/%s dials %s, which no Service has", pod.Namespace, pod.Name, at[0])
					}
					continue
				}
				number, err := strconv.ParseInt(defaulted(port, scheme), 10, 32)
				if err != nil {
					return nil, fmt.Errorf("%s/%s: %s: %w", pod.Namespace, pod.Name, at[0], err)
				}
				dial := Dial{From: pod, Service: service, Port: int32(number)}
				found[dial.String()] = dial
			}
		}
		if dns := o.resolve("kube-dns", metav1.NamespaceSystem); dns != nil && len(found) > 0 {
			for _, protocol := range []corev1.Protocol{corev1.ProtocolUDP, corev1.ProtocolTCP} {
				dial := Dial{From: pod, Service: dns, Port: 53, Protocol: protocol}
				found[dial.String()] = dial
			}
		}
		for _, name := range slices.Sorted(maps.Keys(found)) {
			dials = append(dials, found[name])
		}
	}
	return dials, nil
}

func defaulted(port, scheme string) string {
	switch {
	case port != "":
		return port
	case scheme == "https://":
		return "443"
	}
	return "80"
}

// settings returns the texts in which a pod finds addresses.
func (o *Objects) settings(pod *corev1.Pod) []string {
	var texts []string
	configMap := func(name string) {
		for _, c := range o.configMaps {
			if c.Namespace == pod.Namespace && c.Name == name {
				texts = slices.AppendSeq(texts, maps.Values(c.Data))
			}
		}
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		texts = append(append(texts, container.Command...), container.Args...)
		for _, variable := range container.Env {
			texts = append(texts, variable.Value)
		}
		for _, from := range container.EnvFrom {
			if from.ConfigMapRef != nil {
				configMap(from.ConfigMapRef.Name)
			}
		}
	}
	for _, volume := range pod.Spec.Volumes {
		if volume.ConfigMap != nil {
			configMap(volume.ConfigMap.Name)
		}
	}
	return texts
}

// resolve returns the Service with a name, as a pod of the namespace finds it, or nil.
func (o *Objects) resolve(host, namespace string) *corev1.Service {
	name, rest, qualified := strings.Cut(host, ".")
	if qualified {
		rest = strings.TrimSuffix(rest, ".cluster.local")
		namespace = strings.TrimSuffix(rest, ".svc")
	}
	for _, service := range o.Services {
		if service.Name != name || service.Namespace != namespace {
			continue
		}
		if service.Spec.Type == corev1.ServiceTypeExternalName {
			return o.resolve(service.Spec.ExternalName, namespace)
		}
		return service
	}
	return nil
}

// inside tells whether a host name is one of the cluster's: a single label, or one in a
// namespace that has Services.
func (o *Objects) inside(host string) bool {
	_, rest, qualified := strings.Cut(host, ".")
	if !qualified {
		return host != "localhost"
	}
	namespace := strings.TrimSuffix(strings.TrimSuffix(rest, ".cluster.local"), ".svc")
	return namespace != rest || slices.ContainsFunc(o.Services, func(s *corev1.Service) bool { return s.Namespace == namespace })
}

// containerPort returns the port of the pods behind a port of the Service, or 0.
func (o *Objects) containerPort(service *corev1.Service, port corev1.ServicePort) int32 {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return port.Port
		}
		return port.TargetPort.IntVal
	}
	for _, pod := range o.behind(service) {
		if number := named(pod, port.TargetPort.StrVal); number != 0 {
			return number
		}
	}
	return 0
}

func named(pod *corev1.Pod, name string) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == name {
				return port.ContainerPort
			}
		}
	}
	return 0
}

// behind returns the pods that a Service selects.
func (o *Objects) behind(service *corev1.Service) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range o.Pods {
		if pod.Namespace == service.Namespace && len(service.Spec.Selector) > 0 &&
			labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// Refusal is why a dial does not arrive.
type Refusal struct {
	Dial
	// Rule is the name of one of Rules.
	Rule, Reason string
}

func (r Refusal) String() string { return fmt.Sprintf("%s: %s (%s)", r.Dial, r.Reason, r.Rule) }

// Rule is a condition for a dial to arrive in a cluster whose policies the VPC CNI enforces.
type Rule struct {
	Name string
	// Source is where the condition is written down, with the date of reading.
	Source string
	// refuses returns why a dial does not arrive; empty: it does.
	refuses func(*Objects, Dial) string
}

const (
	userGuide  = "Amazon EKS User Guide, cni-network-policy.html, Considerations; 2026-11-27"
	controller = "aws/amazon-network-policy-controller-k8s 1.1.7, pkg/resolvers/endpoints.go, getMatchingServiceClusterIPs; 2026-11-29"
)

// Rules are the conditions, in the order in which they are tried.
var Rules = []Rule{
	{Name: "Service port", Source: "Kubernetes API, ServiceSpec.ports", refuses: (*Objects).portMissing},
	{Name: "port equality", Source: userGuide, refuses: (*Objects).portDiffers},
	// The CNI judges a packet at the pod's interface, before kube-proxy replaces the ClusterIP. The
	// controller therefore adds to a rule's addresses the ClusterIP of each Service whose own selector
	// the peer's selector matches.
	{Name: "ClusterIP", Source: controller, refuses: (*Objects).clusterIPDenied},
	{Name: "pods", Source: "Kubernetes API, NetworkPolicy", refuses: (*Objects).podsDenied},
}

// Refusals returns the dials that do not arrive, each with the first rule that refuses it.
func (o *Objects) Refusals(dials []Dial) []Refusal {
	var all []Refusal
	for _, dial := range dials {
		for _, rule := range Rules {
			if reason := rule.refuses(o, dial); reason != "" {
				all = append(all, Refusal{Dial: dial, Rule: rule.Name, Reason: reason})
				break
			}
		}
	}
	return all
}

// servicePort returns the port of the Service that is dialled, or nil.
func (d Dial) servicePort() *corev1.ServicePort {
	for i, port := range d.Service.Spec.Ports {
		if port.Port == d.Port && port.Protocol == d.protocol() {
			return &d.Service.Spec.Ports[i]
		}
	}
	return nil
}

func (o *Objects) portMissing(d Dial) string {
	if d.servicePort() == nil {
		return "the Service has no such port"
	}
	return ""
}

func (o *Objects) portDiffers(d Dial) string {
	switch port := o.containerPort(d.Service, *d.servicePort()); port {
	case d.Port:
		return ""
	case 0:
		return "no pod behind the Service has the target port " + d.servicePort().TargetPort.StrVal
	default:
		return fmt.Sprintf("the pods' port is %d", port)
	}
}

func (o *Objects) clusterIPDenied(d Dial) string {
	restricted := false
	for _, policy := range o.Policies {
		if policy.Namespace != d.From.Namespace || !slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) ||
			!matches(&policy.Spec.PodSelector, d.From.Labels) {
			continue
		}
		restricted = true
		for _, rule := range policy.Spec.Egress {
			if o.admits(rule, policy.Namespace, d) {
				return ""
			}
		}
	}
	if !restricted {
		return ""
	}
	own := labels.Set(d.Service.Spec.Selector)
	return fmt.Sprintf("no egress rule has a peer whose selector matches the Service's own, %s, and the port", own)
}

// admits tells whether an egress rule admits the ClusterIP of the Service that is dialled. A peer
// with an IPBlock does not: the addresses of Services are in no range of ours.
func (o *Objects) admits(rule networkingv1.NetworkPolicyEgressRule, namespace string, d Dial) bool {
	if len(rule.To) == 0 {
		return len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
			return *p.Protocol == d.protocol() && (p.Port == nil || p.Port.IntVal == d.Port)
		})
	}
	for _, peer := range rule.To {
		if peer.IPBlock != nil {
			continue
		}
		sameNamespace := peer.NamespaceSelector == nil && d.Service.Namespace == namespace ||
			peer.NamespaceSelector != nil &&
				matches(peer.NamespaceSelector, map[string]string{corev1.LabelMetadataName: d.Service.Namespace})
		if !sameNamespace || peer.PodSelector != nil && !matches(peer.PodSelector, d.Service.Spec.Selector) {
			continue
		}
		if len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
			return *p.Protocol == d.protocol() && (p.Port == nil || o.listenPort(d.Service, p) == d.Port)
		}) {
			return true
		}
	}
	return false
}

// listenPort returns the port of the Service that a policy's port admits, or 0: the first with
// this number as its target, and if there is none, the first whose target is the name of the
// pods' port with this number.
func (o *Objects) listenPort(service *corev1.Service, port networkingv1.NetworkPolicyPort) int32 {
	for _, p := range service.Spec.Ports {
		if p.TargetPort == *port.Port && p.Protocol == *port.Protocol {
			return p.Port
		}
	}
	for _, p := range service.Spec.Ports {
		if p.Protocol == *port.Protocol && o.containerPort(service, p) == port.Port.IntVal {
			return p.Port
		}
	}
	return 0
}

func (o *Objects) podsDenied(d Dial) string {
	port := Port{Number: o.containerPort(d.Service, *d.servicePort()), Protocol: d.protocol()}
	engine := matcher.BuildNetworkPolicies(false, o.Policies)
	pods := o.behind(d.Service)
	if len(pods) == 0 {
		return "no pod is behind the Service"
	}
	for _, to := range pods {
		if !engine.IsTrafficAllowed(&matcher.Traffic{
			Source: peer(asPod(d.From), 0), Destination: peer(asPod(to), 1), ResolvedPort: int(port.Number), Protocol: port.Protocol,
		}).IsAllowed() {
			return fmt.Sprintf("a policy denies port %d of %s/%s", port.Number, to.Namespace, to.Name)
		}
	}
	return ""
}

func asPod(pod *corev1.Pod) Pod {
	return Pod{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels}
}

func matches(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set))
}

package kube

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodSelector selects pods of one namespace by their labels.
type PodSelector struct {
	Namespace string
	Labels    map[string]string
}

// TooWide tells whether the selector has no namespace or no labels, and so selects pods that it
// does not name.
func (p PodSelector) TooWide() bool { return p.Namespace == "" || len(p.Labels) == 0 }

// ClusterDNS selects the pods of the cluster's DNS.
var ClusterDNS = PodSelector{Namespace: metav1.NamespaceSystem, Labels: map[string]string{"k8s-app": "kube-dns"}}

// IngressPolicy admits only what the rules allow to the pods with the labels. Their egress is
// open.
func IngressPolicy(meta metav1.ObjectMeta, labels map[string]string,
	ingress ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: labels},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress:     ingress,
	}}
}

// IsolatingPolicy allows only the given ingress and egress for the pods with the labels.
// Without labels it applies to every pod of the namespace.
func IsolatingPolicy(meta metav1.ObjectMeta, labels map[string]string, ingress []networkingv1.NetworkPolicyIngressRule,
	egress []networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	policy := IngressPolicy(meta, labels, ingress...)
	policy.Spec.PolicyTypes = append(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	policy.Spec.Egress = egress
	return policy
}

// FromPods admits pods to a port. Without pods it returns no rule, because a rule without peers
// admits everybody.
func FromPods(port int32, pods ...PodSelector) []networkingv1.NetworkPolicyIngressRule {
	if len(pods) == 0 {
		return nil
	}
	return []networkingv1.NetworkPolicyIngressRule{{From: peers(pods), Ports: TCP(port)}}
}

// FromNamespaces admits all pods of namespaces to a port.
func FromNamespaces(port int32, namespaces ...string) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{
		From: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: Namespaces(namespaces...)}}, Ports: TCP(port),
	}
}

// FromAnywhere admits everybody to a port.
func FromAnywhere(port int32) networkingv1.NetworkPolicyIngressRule {
	return networkingv1.NetworkPolicyIngressRule{Ports: TCP(port)}
}

// ToPods allows egress to a port of pods.
func ToPods(port int32, pods PodSelector) networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{To: peers([]PodSelector{pods}), Ports: TCP(port)}
}

// ToCIDRs allows egress to a port of addresses.
func ToCIDRs(port int32, cidrs ...string) networkingv1.NetworkPolicyEgressRule {
	rule := networkingv1.NetworkPolicyEgressRule{Ports: TCP(port)}
	for _, cidr := range cidrs {
		rule.To = append(rule.To, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
	}
	return rule
}

// ToDNS allows egress to the pods of the cluster's DNS.
func ToDNS() networkingv1.NetworkPolicyEgressRule {
	udp := networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))}
	return networkingv1.NetworkPolicyEgressRule{
		To: peers([]PodSelector{ClusterDNS}), Ports: append([]networkingv1.NetworkPolicyPort{udp}, TCP(53)...),
	}
}

// ToAPIServer allows egress to the ports of an API server at any address, since no policy can
// name the server.
func ToAPIServer() networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{Ports: TCP(443, 6443)}
}

// TCP returns TCP ports for a rule.
func TCP(ports ...int32) []networkingv1.NetworkPolicyPort {
	list := make([]networkingv1.NetworkPolicyPort, 0, len(ports))
	for _, port := range ports {
		list = append(list, networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(port))})
	}
	return list
}

// Namespaces selects namespaces by name.
func Namespaces(names ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: names},
	}}
}

func peers(pods []PodSelector) []networkingv1.NetworkPolicyPeer {
	list := make([]networkingv1.NetworkPolicyPeer, 0, len(pods))
	for _, p := range pods {
		list = append(list, networkingv1.NetworkPolicyPeer{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: p.Namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: p.Labels},
		})
	}
	return list
}

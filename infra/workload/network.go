package workload

import (
	"fmt"
	"maps"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
)

var bothWays = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}

// clusterDNS are the pods that every service asks for names.
var clusterDNS = gateway.Pods{Namespace: "kube-system", Labels: map[string]string{"k8s-app": "kube-dns"}}

// internet is every IPv4 address without those of private networks (RFC 1918, RFC
// 6598) and of the node itself, its metadata among them (RFC 1122, RFC 3927).
var internet = networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
}}

// Namespace is where services live.
type Namespace struct {
	pulumi.ResourceState
}

// NewNamespace makes a namespace that admits only restricted pods and in which,
// both ways, no traffic is allowed that a service's own policy does not declare.
func NewNamespace(ctx *pulumi.Context, name string, namespace string, opts ...pulumi.ResourceOption) (*Namespace, error) {
	if !dnsLabel.MatchString(namespace) {
		return nil, fmt.Errorf("namespace %s: %q is no name of a namespace", name, namespace)
	}
	n := &Namespace{}
	if err := ctx.RegisterComponentResource("loja-veloz:workload:Namespace", name, n, opts...); err != nil {
		return nil, fmt.Errorf("registering namespace %s: %w", name, err)
	}
	if _, err := kube.ApplyStages(ctx, n, name, NamespaceStages(namespace), opts); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(n, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("registering the outputs of namespace %s: %w", name, err)
	}
	return n, nil
}

// NamespaceStages are the namespace and, after it, what is in it from the start.
func NamespaceStages(namespace string) kube.Stages {
	return kube.Stages{
		{{Name: "namespace", Object: kube.RestrictedNamespace(namespace)}},
		{{Name: "default-deny", Object: &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "default-deny", Namespace: namespace},
			Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{}, PolicyTypes: bothWays},
		}}},
	}
}

// from are the pods that a call of this service comes from.
func (s *Spec) from(call Call) gateway.Pods {
	if call.Via != nil {
		return call.Via.Pods()
	}
	return s.pods(s.Service)
}

func (s *Spec) pods(service string) gateway.Pods {
	return gateway.Pods{Namespace: s.Namespace, Labels: map[string]string{nameLabel: service}}
}

// admit adds pods to CalledBy, once.
func (s *Spec) admit(pods gateway.Pods) {
	for _, known := range s.CalledBy {
		if known.Namespace == pods.Namespace && maps.Equal(known.Labels, pods.Labels) {
			return
		}
	}
	s.CalledBy = append(s.CalledBy, pods)
}

// networkPolicy admits the gateway's pods where the service has public paths and
// the declared callers, and lets out name resolution, the database, the declared
// calls and telemetry. Everything else is denied by the policy's being there.
func (s *Spec) networkPolicy() (*networkingv1.NetworkPolicy, error) {
	callers := s.CalledBy
	if len(s.Public) > 0 {
		callers = append([]gateway.Pods{s.Gateway.Pods()}, callers...)
	}
	var ingress []networkingv1.NetworkPolicyIngressRule
	if len(callers) > 0 {
		ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers(callers...), Ports: tcp(Port)}}
	}
	egress := []networkingv1.NetworkPolicyEgressRule{toDNS()}
	if s.Database != nil {
		egress = append(egress, s.Database.egress())
	}
	gateways := map[string]bool{}
	for _, call := range s.Calls {
		if call.Via == nil {
			egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: peers(s.pods(call.Service)), Ports: tcp(Port)})
			continue
		}
		// Which service the call is for is the gateway's to check; its port is its own.
		if gateways[call.Via.Pods().Namespace] {
			continue
		}
		gateways[call.Via.Pods().Namespace] = true
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: peers(call.Via.Pods()), Ports: tcp(call.Via.Port())})
	}
	if s.Internet {
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &internet}}, Ports: tcp(443)})
	}
	if s.Telemetry != nil {
		port, err := s.Telemetry.port()
		if err != nil {
			return nil, fmt.Errorf("Telemetry.Endpoint: %w", err)
		}
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: peers(s.Telemetry.Collector), Ports: tcp(port)})
	}
	return &networkingv1.NetworkPolicy{ObjectMeta: s.meta(s.Service), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: s.selector()},
		PolicyTypes: bothWays,
		Ingress:     ingress,
		Egress:      egress,
	}}, nil
}

func toDNS() networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{
		To: peers(clusterDNS),
		Ports: []networkingv1.NetworkPolicyPort{
			{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))},
			{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(53))},
		},
	}
}

func peers(pods ...gateway.Pods) []networkingv1.NetworkPolicyPeer {
	list := make([]networkingv1.NetworkPolicyPeer, 0, len(pods))
	for _, p := range pods {
		list = append(list, networkingv1.NetworkPolicyPeer{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: p.Namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: p.Labels},
		})
	}
	return list
}

func tcp(port int32) []networkingv1.NetworkPolicyPort {
	return []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(port))}}
}

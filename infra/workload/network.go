package workload

import (
	"fmt"
	"maps"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// internet is every IPv4 address except those of private networks (RFC 1918, RFC 6598) and of
// the node itself, including its metadata service (RFC 1122, RFC 3927).
var internet = networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
}}

// Namespace is the namespace of services.
type Namespace struct {
	pulumi.ResourceState
	kube.Objects
}

// NewNamespace creates a namespace that admits only restricted pods. It allows no ingress or
// egress except what a service's own policy declares.
func NewNamespace(ctx *pulumi.Context, name string, namespace string, opts ...pulumi.ResourceOption) (*Namespace, error) {
	if !validate.DNSLabel(namespace) {
		return nil, fmt.Errorf("namespace %s: %q is not the name of a namespace", name, namespace)
	}
	n := &Namespace{}
	if _, err := kube.NewComponent(ctx, "namespace", "loja-veloz:workload:Namespace", name, n, func() (kube.Stages, error) {
		return NamespaceStages(namespace), nil
	}, opts); err != nil {
		return nil, err
	}
	return n, nil
}

// NamespaceStages returns the namespace and its default-deny policy.
func NamespaceStages(namespace string) kube.Stages {
	return kube.Stages{
		{{Name: "namespace", Object: kube.RestrictedNamespace(namespace)}},
		{{Name: "default-deny", Object: kube.IsolatingPolicy(metav1.ObjectMeta{Name: "default-deny", Namespace: namespace}, nil, nil, nil)}},
	}
}

// Pods selects the pods of all services and jobs in a namespace.
func Pods(namespace string) kube.PodSelector {
	return kube.PodSelector{Namespace: namespace, Labels: map[string]string{"app.kubernetes.io/part-of": "loja-veloz"}}
}

// StableURL is where the service's stable version answers in the cluster, without a gateway.
func (s *Spec) StableURL() string {
	return fmt.Sprintf("http://%s.%s:%d", stable(s.Service), s.Namespace, Port)
}

// from selects the pods from which a call of this service arrives.
func (s *Spec) from(call Call) kube.PodSelector {
	if call.Via != nil {
		return call.Via.Pods()
	}
	return s.pods(s.Service)
}

func (s *Spec) pods(service string) kube.PodSelector {
	return kube.PodSelector{Namespace: s.Namespace, Labels: map[string]string{nameLabel: service}}
}

// admit adds pods to CalledBy, once.
func (s *Spec) admit(pods kube.PodSelector) {
	for _, known := range s.CalledBy {
		if known.Namespace == pods.Namespace && maps.Equal(known.Labels, pods.Labels) {
			return
		}
	}
	s.CalledBy = append(s.CalledBy, pods)
}

// networkPolicy admits the declared callers and, if the service has public paths, the gateway's
// pods. It allows egress for name resolution, the database, the declared calls and telemetry.
// It denies everything else.
func (s *Spec) networkPolicy() (*networkingv1.NetworkPolicy, error) {
	callers := s.CalledBy
	if len(s.Public) > 0 {
		callers = append([]kube.PodSelector{s.Gateway.Pods()}, callers...)
	}
	if s.Metrics != nil {
		callers = append(callers[:len(callers):len(callers)], s.Metrics.Collector)
	}
	if s.Scraper != nil {
		callers = append(callers[:len(callers):len(callers)], s.Scraper.Pods)
	}
	egress := []networkingv1.NetworkPolicyEgressRule{kube.ToDNS()}
	if s.Database != nil {
		egress = append(egress, s.Database.egress())
	}
	gateways := map[string]bool{}
	for _, call := range s.Calls {
		if call.Via == nil {
			egress = append(egress, kube.ToPods(Port, s.pods(call.Service)))
			continue
		}
		// The gateway routes to the called service; its own port is the one to allow, once for each
		// gateway.
		if gateways[call.Via.Pods().Namespace] {
			continue
		}
		gateways[call.Via.Pods().Namespace] = true
		egress = append(egress, kube.ToPods(call.Via.Port(), call.Via.Pods()))
	}
	if s.Internet {
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &internet}},
			Ports: kube.TCP(443)})
	}
	if s.Telemetry != nil {
		port, err := s.Telemetry.port()
		if err != nil {
			return nil, fmt.Errorf("Telemetry.Endpoint: %w", err)
		}
		egress = append(egress, kube.ToPods(port, s.Telemetry.Collector))
	}
	return kube.IsolatingPolicy(s.meta(s.Service), s.selector(), kube.FromPods(Port, callers...), egress), nil
}

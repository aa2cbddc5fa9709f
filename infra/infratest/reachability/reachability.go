// Package reachability computes, with the NetworkPolicy engine of cyclonus, which pods may
// connect to which, and compares that with the declared connections.
package reachability

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/infra/kube"
)

// Pod is a pod of the cluster, with the ports on which it listens.
type Pod struct {
	Name, Namespace string
	Labels          map[string]string
	// Ports are tried on every pod, not only on this one.
	Ports []Port
}

// Port is a number and a protocol.
type Port struct {
	Number   int32
	Protocol corev1.Protocol
}

// Edge is a connection from one pod to a port of another.
type Edge struct {
	From, To string
	Port     Port
}

func (e Edge) String() string {
	return fmt.Sprintf("%s -> %s:%d/%s", e.From, e.To, e.Port.Number, e.Port.Protocol)
}

// Policies returns the NetworkPolicies among manifests.
func Policies(manifests []kube.Manifest) []*networkingv1.NetworkPolicy {
	var policies []*networkingv1.NetworkPolicy
	for _, m := range manifests {
		if policy, ok := m.Object.(*networkingv1.NetworkPolicy); ok {
			policies = append(policies, policy)
		}
	}
	return policies
}

// Compute returns every connection that the policies allow between any two pods, on every port
// that any pod has.
func Compute(policies []*networkingv1.NetworkPolicy, pods []Pod) []Edge {
	engine := matcher.BuildNetworkPolicies(false, policies)
	var ports []Port
	for _, pod := range pods {
		for _, port := range pod.Ports {
			if !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	var edges []Edge
	for i, from := range pods {
		for j, to := range pods {
			if i == j {
				continue // a pod always reaches itself
			}
			for _, port := range ports {
				allowed := engine.IsTrafficAllowed(&matcher.Traffic{
					Source: peer(from, i), Destination: peer(to, j),
					ResolvedPort: int(port.Number), Protocol: port.Protocol,
				})
				if allowed.IsAllowed() {
					edges = append(edges, Edge{From: from.Name, To: to.Name, Port: port})
				}
			}
		}
	}
	return edges
}

func peer(pod Pod, number int) *matcher.TrafficPeer {
	return &matcher.TrafficPeer{
		IP: fmt.Sprintf("10.0.0.%d", number+1),
		Internal: &matcher.InternalPeer{
			PodLabels: pod.Labels, Namespace: pod.Namespace,
			NamespaceLabels: map[string]string{corev1.LabelMetadataName: pod.Namespace},
		},
	}
}

// Difference lists, one per line, the connections that are possible but not declared and those
// that are declared but not possible. It is empty if there are none.
func Difference(declared, possible []Edge) string {
	var lines []string
	for _, edge := range possible {
		if !slices.Contains(declared, edge) {
			lines = append(lines, "not declared, but possible: "+edge.String())
		}
	}
	for _, edge := range declared {
		if !slices.Contains(possible, edge) {
			lines = append(lines, "declared, but not possible: "+edge.String())
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

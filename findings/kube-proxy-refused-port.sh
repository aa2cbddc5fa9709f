#!/usr/bin/env bash
# One would guess: when the only pod of a Service with a NodePort is not ready, clients are
# refused, and when it is ready again, they are served.
#
# What happens: a client on the node that connects to 127.0.0.1:NODEPORT, or to the node's own
# address, goes on being refused from each source port that it used in the bad time, for the
# next two minutes (net.netfilter.nf_conntrack_tcp_timeout_syn_sent). Connections from other
# source ports are served. kube-proxy hangs its REJECT for NodePorts without endpoints into
# INPUT and FORWARD. A packet over loopback has passed POSTROUTING by then, where the kernel
# confirms its connection tracking entry, untranslated. The refusal is an ICMP error, which
# leaves the entry in SYN_SENT. The next SYN with the same ports finds that entry, so the nat
# table is not asked for it, and it goes to the node itself, where nothing listens.
#
# Versions: k8s.io/kubernetes v1.33.4, the iptables proxier of kube-proxy, with iptables of the
# machine (seen with 1.8.9 in its nf_tables mode and Linux 6.18).
#
# How it was seen: the real proxier writes its rules into a network namespace of its own, first
# for a Service whose EndpointSlice says that the pod is not ready, then for one whose pod is
# ready. The pod is a listener in a second namespace. The script connects from chosen source
# ports. It shortens the timeout to 15 seconds, so that it can show the end too.
#
# Why it matters: a load test or a health check on the node opens thousands of connections, so
# it meets its old ports soon, and reports failures of a gateway that has been ready for a
# minute. A rule in OUTPUT that rejects connections to the NodePort's address before they are
# confirmed removes them; a translated connection has another destination there.
#
# Output seen:
#   the pod is not ready:      from port 40000: connection refused
#   the pod is ready:          from port 40001: served
#                              from port 40000: connection refused
#   after the timeout of 15 s: from port 40000: served
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo "run this as root: it makes network namespaces"; exit 2; }
for program in ip iptables; do
	command -v "$program" >/dev/null || { echo "install iproute2 and iptables"; exit 2; }
done

dir="$(mktemp -d)"
node="finding-node-$$" pod="finding-pod-$$"
finish() {
	kill "${server:-}" 2>/dev/null || true
	ip netns delete "$node" 2>/dev/null || true
	ip netns delete "$pod" 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0

kubernetes=v1.33.4
staging=v0.33.4
{
	printf 'module finding\ngo 1.24.0\n'
	printf 'require k8s.io/kubernetes %s\n' "$kubernetes"
	for name in api apimachinery client-go; do echo "require k8s.io/$name $staging"; done
	# The staging modules of Kubernetes have the version v0.0.0 in its go.mod.
	for name in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
		cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
		csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
		kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils \
		pod-security-admission sample-apiserver sample-cli-plugin sample-controller; do
		echo "replace k8s.io/$name => k8s.io/$name $staging"
	done
} >go.mod

cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/events"
	sysctl "k8s.io/component-helpers/node/util/sysctl"
	"k8s.io/kubernetes/pkg/proxy/iptables"
	proxyutil "k8s.io/kubernetes/pkg/proxy/util"
	utiliptables "k8s.io/kubernetes/pkg/util/iptables"
)

const (
	nodeIP, podIP = "10.9.0.1", "10.9.0.2"
	port          = 8000
	nodePort      = "127.0.0.1:30080"
	timeout       = 15 * time.Second
)

func main() {
	if len(os.Args) > 1 {
		serve()
		return
	}
	proxier, err := iptables.NewProxier(context.Background(), corev1.IPv4Protocol, utiliptables.New(utiliptables.ProtocolIPv4),
		sysctl.New(), time.Minute, 0, false, true, 14, proxyutil.NewNoOpLocalDetector(), "node", net.ParseIP(nodeIP),
		&events.FakeRecorder{}, nil, nil, false)
	must(err)
	go proxier.SyncLoop()
	proxier.OnServiceAdd(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.10.0.1", ClusterIPs: []string{"10.10.0.1"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(port), NodePort: 30080}},
		},
	})
	proxier.OnServiceSynced()
	slice := func(ready bool) *discoveryv1.EndpointSlice {
		name, number, protocol := "http", int32(port), corev1.ProtocolTCP
		return &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: "web-1", Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{podIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready}}},
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &protocol}},
		}
	}
	proxier.OnEndpointSliceAdd(slice(false))
	proxier.OnEndpointSlicesSynced()
	// until connects from ports that are used for nothing else.
	probe := 50_000
	until := func(want string) {
		for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			probe++
			if got := dial(probe); got == want {
				return
			} else if time.Since(began) > 30*time.Second {
				must(fmt.Errorf("connections are %s, and never %s", got, want))
			}
		}
	}
	const refused, served = "connection refused", "served"
	// Without rules a connection is refused too, because nothing listens.
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		rules, _ := exec.Command("iptables", "-w", "-S", "KUBE-EXTERNAL-SERVICES").Output()
		if strings.Contains(string(rules), "--dport 30080") {
			break
		} else if time.Since(began) > time.Minute {
			must(errors.New("kube-proxy has written no rule"))
		}
	}
	check("the pod is not ready:      ", 40_000, refused)

	proxier.OnEndpointSliceUpdate(slice(false), slice(true))
	until(served)
	check("the pod is ready:          ", 40_001, served)
	check("                           ", 40_000, refused)

	time.Sleep(timeout + 2*time.Second) // the kernel's timeout since the last attempt is the subject
	check("after the timeout of 15 s: ", 40_000, served)
}

func serve() {
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", podIP, port))
	must(err)
	for {
		connection, err := listener.Accept()
		must(err)
		connection.Close()
	}
}

func check(when string, from int, want string) {
	got := dial(from)
	fmt.Printf("%sfrom port %d: %s\n", when, from, got)
	if got != want {
		fmt.Printf("CHANGED: want %s\n", want)
		os.Exit(1)
	}
}

func dial(from int) string {
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: from}}
	connection, err := dialer.Dial("tcp4", nodePort)
	switch {
	case err == nil:
		connection.(*net.TCPConn).SetLinger(0)
		connection.Close()
		return "served"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	}
	return err.Error()
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
GO

ip netns add "$node"
ip netns add "$pod"
ip -n "$node" link set lo up
ip -n "$pod" link set lo up
ip link add to-pod netns "$node" type veth peer name to-node netns "$pod"
ip -n "$node" addr add 10.9.0.1/24 dev to-pod
ip -n "$pod" addr add 10.9.0.2/24 dev to-node
ip -n "$node" link set to-pod up
ip -n "$pod" link set to-node up

go build -o finding . 2>build.log || { cat build.log; exit 1; }
ip netns exec "$pod" ./finding serve &
server=$!
echo "k8s.io/kubernetes $kubernetes, $(iptables --version), Linux $(uname -r)"
# The table of connections is there once a rule uses it.
ip netns exec "$node" iptables -A OUTPUT -m conntrack --ctstate INVALID -j ACCEPT
ip netns exec "$node" sh -c 'echo 15 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_syn_sent'
ip netns exec "$node" ./finding 2>proxier.log || { tail -5 proxier.log; exit 1; }

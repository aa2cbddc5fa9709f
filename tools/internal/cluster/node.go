package cluster

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

const (
	containerdProcess = "containerd"
	kubeletProcess    = "kubelet"
)

func (c *Cluster) containerd() part {
	return withProcesses(part{
		name:  containerdProcess,
		needs: []requirement{{"containerd", "containerd"}, {"runc", "runc"}, {cniPlugin, "containernetworking-plugins"}},
		up: func(context.Context) error {
			return c.start(containerdProcess, "containerd", "--config="+c.conf("containerd.toml"))
		},
	}, 2*time.Second)
}

// containers is the part of all processes in pods, which the kubelet starts. They go down
// before containerd, which reaps them.
func (c *Cluster) containers() part { return withProcesses(part{name: containers}, 10*time.Second) }

func (c *Cluster) proxy() part {
	const name = "kube-proxy"
	return withProcesses(part{
		name:  name,
		needs: []requirement{{"conntrack", "conntrack"}},
		ports: []int{10249, 10256, gatewayPort, PrometheusPort, ConsolePort, JaegerPort},
		up: func(context.Context) error {
			return c.start(name, c.bin(name),
				"--kubeconfig="+c.userConf("kube-proxy"), "--hostname-override="+NodeName,
				"--proxy-mode=iptables", "--cluster-cidr="+podCIDR,
				"--nodeport-addresses=127.0.0.0/8,"+nodeCIDR,
				"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
				"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
			)
		},
	}, defaultGrace)
}

func (c *Cluster) kubelet() part {
	return withProcesses(part{
		name:  kubeletProcess,
		ports: []int{10248},
		up: func(ctx context.Context) error {
			if err := c.await(ctx, containerdProcess, accepts(filepath.Join(runDir, "containerd.sock"))); err != nil {
				return err
			}
			return c.start(kubeletProcess, c.bin("kubelet"),
				"--config="+c.conf("kubelet.yaml"), "--kubeconfig="+c.userConf("kubelet"), "--root-dir="+filepath.Join(c.Data, "kubelet"),
				"--hostname-override="+NodeName, "--node-ip="+nodeIP,
			)
		},
	}, defaultGrace)
}

// accepts returns a check that passes once a Unix socket accepts connections.
func accepts(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// awaitNode waits until the node is ready, as a kubelet says that was started since.
func (c *Cluster) awaitNode(ctx context.Context) error {
	server, err := c.api()
	if err != nil {
		return err
	}
	return c.await(ctx, kubeletProcess, func(ctx context.Context) error {
		var node struct {
			Status struct {
				Conditions []struct {
					Type, Status, Message string
					LastHeartbeatTime     time.Time
				}
			}
		}
		if err := server.get(ctx, "/api/v1/nodes/"+NodeName, &node); err != nil {
			return err
		}
		began, err := startTime(kubeletProcess)
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			switch {
			case condition.Type != "Ready":
			case condition.Status != "True":
				return fmt.Errorf("node %s is not ready: %s", NodeName, condition.Message)
			case condition.LastHeartbeatTime.Before(began.Add(-time.Second)):
				return fmt.Errorf("node %s has not reported since the kubelet started", NodeName)
			default:
				return nil
			}
		}
		return fmt.Errorf("node %s has not reported", NodeName)
	})
}

// AwaitPods waits until no pod counts as ready because of what the API server knew before the
// kubelet started: the kubelet reports such a pod as not ready first, so that its service has
// no requests for a moment.
func (c *Cluster) AwaitPods(ctx context.Context) error {
	server, err := c.api()
	if err != nil {
		return err
	}
	began, err := startTime(kubeletProcess)
	if err != nil {
		return err
	}
	return c.await(ctx, kubeletProcess, func(ctx context.Context) error {
		var pods struct{ Items []podStatus }
		if err := server.get(ctx, "/api/v1/pods", &pods); err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.staleSince(began.Add(-time.Second)) {
				return fmt.Errorf("pod %s/%s has not been reported since the kubelet started", pod.Metadata.Namespace, pod.Metadata.Name)
			}
		}
		return nil
	})
}

type podStatus struct {
	Metadata struct{ Name, Namespace string }
	Status   struct {
		ContainerStatuses []struct {
			Ready bool
			State struct {
				Running *struct{ StartedAt time.Time }
			}
		}
	}
}

// staleSince tells whether a container counts as ready that began before a time, when no
// container can have run.
func (p podStatus) staleSince(began time.Time) bool {
	for _, container := range p.Status.ContainerStatuses {
		if container.Ready && container.State.Running != nil && container.State.Running.StartedAt.Before(began) {
			return true
		}
	}
	return false
}

// startDNS installs CoreDNS and waits until it is available and answers: after a restart the API
// server still has the state from before.
func (c *Cluster) startDNS(ctx context.Context) error {
	if _, err := c.Kubectl("apply", "--server-side", "--force-conflicts", "-f", c.conf("cluster.yaml")).Text(ctx); err != nil {
		return err
	}
	server, err := c.api()
	if err != nil {
		return err
	}
	return c.await(ctx, "", func(ctx context.Context) error {
		var deployment struct {
			Metadata struct{ Generation int64 }
			Spec     struct{ Replicas int }
			Status   struct {
				ObservedGeneration                           int64
				Replicas, UpdatedReplicas, AvailableReplicas int
			}
		}
		if err := server.get(ctx, "/apis/apps/v1/namespaces/kube-system/deployments/coredns", &deployment); err != nil {
			return err
		}
		want, is := deployment.Spec.Replicas, deployment.Status
		if is.ObservedGeneration < deployment.Metadata.Generation ||
			is.UpdatedReplicas != want || is.Replicas != want || is.AvailableReplicas != want {
			return fmt.Errorf("%d of %d pods of CoreDNS are available", is.AvailableReplicas, want)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(dnsIP, "53"))
		}}
		_, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
		return err
	})
}

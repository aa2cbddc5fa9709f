package cluster

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
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

func (c *Cluster) awaitNode(ctx context.Context) error {
	const ready = `jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.message}{end}`
	return c.await(ctx, kubeletProcess, func(ctx context.Context) error {
		out, err := c.Kubectl("get", "node", NodeName, "-o", ready).Text(ctx)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "True") {
			return fmt.Errorf("node %s is not ready: %s", NodeName, out)
		}
		return c.nodeReported(ctx)
	})
}

// nodeReported fails while the node's state is from before this start of the kubelet.
func (c *Cluster) nodeReported(ctx context.Context) error {
	const heartbeat = `jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}`
	out, err := c.Kubectl("get", "node", NodeName, "-o", heartbeat).Text(ctx)
	if err != nil {
		return err
	}
	seen, err := time.Parse(time.RFC3339, out)
	if err != nil {
		return fmt.Errorf("node %s: heartbeat %q: %w", NodeName, out, err)
	}
	began, err := startTime(kubeletProcess)
	if err != nil {
		return err
	}
	if seen.Before(began.Add(-time.Second)) {
		return fmt.Errorf("node %s has not reported since the kubelet started", NodeName)
	}
	return nil
}

func (c *Cluster) startDNS(ctx context.Context) error {
	if _, err := c.Kubectl("apply", "--server-side", "--force-conflicts", "-f", c.conf("cluster.yaml")).Text(ctx); err != nil {
		return err
	}
	return c.await(ctx, "", func(ctx context.Context) error {
		_, err := c.Kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=1s").Text(ctx)
		return err
	})
}

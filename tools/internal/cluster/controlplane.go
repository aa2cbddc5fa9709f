package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/loja-veloz/platform/tools/internal/gitserver"
	"github.com/loja-veloz/platform/tools/internal/process"
)

func (c *Cluster) etcd() part {
	pki := c.pki()
	return withProcesses(part{
		name:  "etcd",
		ports: []int{2379, 2380},
		up: func(context.Context) error {
			return c.start("etcd", c.bin("etcd"),
				"--name="+NodeName, "--data-dir="+filepath.Join(c.Data, "etcd"),
				"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
				"--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
				"--initial-cluster="+NodeName+"=https://127.0.0.1:2380",
				"--client-cert-auth", "--trusted-ca-file="+pki+"/etcd/ca.crt",
				"--cert-file="+pki+"/etcd/server.crt", "--key-file="+pki+"/etcd/server.key",
				"--peer-client-cert-auth", "--peer-trusted-ca-file="+pki+"/etcd/ca.crt",
				"--peer-cert-file="+pki+"/etcd/peer.crt", "--peer-key-file="+pki+"/etcd/peer.key",
				"--auto-compaction-retention=1", "--snapshot-count=10000", "--log-level=warn",
			)
		},
	}, 10*time.Second)
}

const registryProcess = "docker-registry"

func (c *Cluster) registry() part {
	return withProcesses(part{
		name:  registryProcess,
		needs: []requirement{{"docker-registry", "docker-registry"}},
		ports: []int{5000},
		up: func(context.Context) error {
			return c.start(registryProcess, "docker-registry", "serve", c.conf("registry.yaml"))
		},
	}, defaultGrace)
}

const gitProcess = "git-server"

// gitServer is this program again, as the server of the repository that Argo CD reads.
func (c *Cluster) gitServer() part {
	return withProcesses(part{
		name: gitProcess,
		up: func(ctx context.Context) error {
			if !c.GitOps {
				return nil
			}
			// They are needed on a cluster that runs already, too. Redis goes into the image of Argo CD's cache.
			needs := part{needs: []requirement{{"git", "git"}, {"redis-check-rdb", "redis-tools"}}}
			if err := c.install(ctx, missingPackages([]part{needs})); err != nil {
				return err
			}
			if err := gitserver.Init(ctx, c.GitFolder(), gitRepository, GitBranch); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if err := c.start(gitProcess, self, "git-server", c.GitFolder(), gitAddress); err != nil {
				return err
			}
			return c.await(ctx, gitProcess, func(ctx context.Context) error {
				return process.Answers(ctx, GitURL+"/info/refs?service=git-upload-pack")
			})
		},
	}, defaultGrace)
}

// fillRegistry waits until the registry answers, and pushes the images that the cluster
// itself needs, before pods start.
func (c *Cluster) fillRegistry(ctx context.Context, images func(context.Context) error) error {
	answers := func(ctx context.Context) error { return process.Answers(ctx, "http://"+Registry+"/v2/") }
	if err := c.await(ctx, registryProcess, answers); err != nil {
		return err
	}
	return images(ctx)
}

func (c *Cluster) apiServer() part {
	const name = "kube-apiserver"
	pki := c.pki()
	return withProcesses(part{
		name: name,
		up: func(ctx context.Context) error {
			if err := c.start(name, c.bin(name),
				"--advertise-address="+nodeIP, "--bind-address="+nodeIP, "--secure-port=6443",
				"--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
				"--anonymous-auth=true", // RBAC allows anonymous callers the health endpoints only
				"--client-ca-file="+pki+"/ca.crt", "--tls-cert-file="+pki+"/apiserver.crt", "--tls-private-key-file="+pki+"/apiserver.key",
				"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile="+pki+"/etcd/ca.crt",
				"--etcd-certfile="+pki+"/apiserver-etcd-client.crt", "--etcd-keyfile="+pki+"/apiserver-etcd-client.key",
				"--kubelet-certificate-authority="+pki+"/ca.crt", "--kubelet-preferred-address-types=InternalIP",
				"--kubelet-client-certificate="+pki+"/apiserver-kubelet-client.crt",
				"--kubelet-client-key="+pki+"/apiserver-kubelet-client.key",
				"--proxy-client-cert-file="+pki+"/front-proxy-client.crt", "--proxy-client-key-file="+pki+"/front-proxy-client.key",
				"--requestheader-client-ca-file="+pki+"/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
				"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
				"--requestheader-username-headers=X-Remote-User",
				"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
				"--service-account-key-file="+pki+"/sa.pub", "--service-account-signing-key-file="+pki+"/sa.key",
				"--service-cluster-ip-range="+serviceCIDR, "--service-node-port-range="+nodePorts, "--profiling=false", "--event-ttl=30m",
				"--max-requests-inflight=100", "--max-mutating-requests-inflight=50",
			); err != nil {
				return err
			}
			server, err := c.api()
			if err != nil {
				return err
			}
			return c.await(ctx, name, func(ctx context.Context) error { return server.get(ctx, "/readyz", nil) })
		},
	}, defaultGrace)
}

// RestartAPIServer ends the API server and starts it again. Everything else in the cluster goes on.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	p := c.apiServer()
	if err := p.down(ctx); err != nil {
		return fmt.Errorf("ending the API server: %w", err)
	}
	if err := p.up(ctx); err != nil {
		return fmt.Errorf("starting the API server again: %w", err)
	}
	return nil
}

func (c *Cluster) controllerManager() part {
	const name = "kube-controller-manager"
	conf, pki := c.userConf("controller-manager"), c.pki()
	return withProcesses(part{
		name:  name,
		ports: []int{10257},
		up: func(context.Context) error {
			return c.start(name, c.bin(name),
				"--kubeconfig="+conf, "--authentication-kubeconfig="+conf, "--authorization-kubeconfig="+conf,
				"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
				"--allocate-node-cidrs=true", "--cluster-cidr="+podCIDR, "--node-cidr-mask-size=24",
				"--service-cluster-ip-range="+serviceCIDR,
				"--root-ca-file="+pki+"/ca.crt", "--service-account-private-key-file="+pki+"/sa.key",
				"--use-service-account-credentials=true",
				"--cluster-signing-cert-file="+pki+"/ca.crt", "--cluster-signing-key-file="+pki+"/ca.key",
				"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
				// A node that has not reported for this long is not ready, and its pods get no
				// requests. The default is 50 s: when the API server answers again after a longer
				// pause, this controller is quicker than the kubelet, and the only node's pods would
				// lose all requests, though no other node could serve them.
				"--node-monitor-grace-period=10m",
			)
		},
	}, defaultGrace)
}

func (c *Cluster) scheduler() part {
	const name = "kube-scheduler"
	conf := c.userConf("scheduler")
	return withProcesses(part{
		name:  name,
		ports: []int{10259},
		up: func(context.Context) error {
			return c.start(name, c.bin(name),
				"--kubeconfig="+conf, "--authentication-kubeconfig="+conf, "--authorization-kubeconfig="+conf,
				"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
			)
		},
	}, defaultGrace)
}

// userConf returns the path of the kubeconfig of one of the cluster's own users.
func (c *Cluster) userConf(user string) string { return filepath.Join(c.Data, user+".conf") }

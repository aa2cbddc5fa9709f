// Package cluster runs a real single-node Kubernetes on this machine without
// systemd, Docker or an image registry elsewhere: etcd, the control plane, a
// kubelet on containerd and a registry on localhost, as plain processes with
// every address on loopback and on links that it made.
package cluster

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// Addresses and names of the local cluster. The ranges lie in 10.0.0.0/8 and
// stay on this machine: nothing masquerades them and nothing routes them out.
const (
	NodeName    = "loja"
	Context     = "loja-veloz" // of the kubeconfig
	Registry    = "localhost:5000"
	bridge      = "loja0"
	nodeIP      = "10.213.0.1"
	nodeCIDR    = "10.213.0.0/24"
	podCIDR     = "10.214.0.0/24"
	serviceCIDR = "10.215.0.0/16"
	dnsIP       = "10.215.0.10"
	cgroup      = "loja-veloz"
	runDir      = "/run/loja-veloz"
)

// A Cluster is the one local cluster of a checkout.
type Cluster struct {
	Data string // folder of what outlives a stop
	Bin  string // folder with the Kubernetes programs
	Out  *console.Console
}

// Kubeconfig is the path of the administrator's kubeconfig, mode 0600.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Data, "kubeconfig") }

func (c *Cluster) pki() string          { return filepath.Join(c.Data, "pki") }
func (c *Cluster) logs() string         { return filepath.Join(c.Data, "logs") }
func (c *Cluster) bin(n string) string  { return filepath.Join(c.Bin, n) }
func (c *Cluster) conf(n string) string { return filepath.Join(runDir, n) }

// Up starts whatever is not running and returns when the node is ready. images
// is called once the registry answers and before pods start: it puts the
// images there that the cluster itself needs.
func (c *Cluster) Up(ctx context.Context, images func(context.Context) error) error {
	running, err := c.owned()
	if err != nil {
		return err
	}
	if err := c.claimData(); err != nil {
		return err
	}
	if !running {
		if err := c.preflight(ctx); err != nil {
			return err
		}
		if err := os.MkdirAll(runDir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(ownerFile(), []byte(c.Data), 0o600); err != nil {
			return err
		}
	}
	for _, dir := range []string{c.logs(), c.pki()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the cluster's folders: %w", err)
		}
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"making certificates", c.certificates},
		{"writing configuration", c.writeConfig},
		{"setting up the network", c.networkUp},
		{"making control groups", func(context.Context) error { return cgroupUp() }},
		{"starting etcd, containerd and the registry", c.startBase},
		{"starting the API server", c.startAPIServer},
		{"filling the registry", images},
		{"starting the node", c.startNode},
		{"starting cluster DNS", c.startDNS},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// dataMarker is a file that tells a folder of ours from any other.
const dataMarker = ".loja-veloz"

// claimData makes the data folder, and refuses one that holds other things:
// wipe deletes it whole.
func (c *Cluster) claimData() error {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("making the cluster's data folder: %w", err)
	}
	entries, err := os.ReadDir(c.Data)
	if err != nil {
		return err
	}
	marker := filepath.Join(c.Data, dataMarker)
	if _, err := os.Stat(marker); err != nil && len(entries) > 0 {
		return fmt.Errorf("LOJA_DATA: %s holds other things than the cluster's data: name an empty or a new folder", c.Data)
	}
	return os.WriteFile(marker, nil, 0o600)
}

func ownerFile() string { return filepath.Join(runDir, "owner") }

// owned tells whether this checkout's cluster was started, and fails if another
// checkout's was.
func (c *Cluster) owned() (bool, error) {
	b, err := os.ReadFile(ownerFile())
	if errors.Is(err, os.ErrNotExist) {
		procs, err := Processes()
		return len(procs) > 0, err
	}
	if err != nil {
		return false, fmt.Errorf("the local cluster belongs to root: %w", err)
	}
	if owner := string(b); owner != c.Data {
		return false, fmt.Errorf("another checkout's cluster runs on this machine, with its data in %s: run `make down` there first", owner)
	}
	return true, nil
}

//go:embed config
var configFiles embed.FS

// writeConfig renders every file under config into the run folder.
func (c *Cluster) writeConfig(context.Context) error {
	cniBin, err := cniBinDir()
	if err != nil {
		return err
	}
	values := map[string]string{
		"Run": runDir, "Data": c.Data, "PKI": c.pki(), "CNIBin": cniBin, "Cgroup": cgroup,
		"NodeIP": nodeIP, "PodCIDR": podCIDR, "DNSIP": dnsIP, "Registry": Registry,
	}
	render := func(name, target string) error {
		b, err := configFiles.ReadFile("config/" + name)
		if err != nil {
			return err
		}
		t, err := template.New(name).Option("missingkey=error").Parse(string(b))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := t.Execute(f, values); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
	for _, name := range []string{"containerd.toml", "kubelet.yaml", "registry.yaml", "cluster.yaml"} {
		if err := render(name, c.conf(name)); err != nil {
			return err
		}
	}
	if err := render("cni.conflist", c.conf("cni/10-loja.conflist")); err != nil {
		return err
	}
	if err := os.WriteFile(c.conf("resolv.conf"), []byte("nameserver "+dnsIP+"\n"), 0o600); err != nil {
		return err
	}
	for _, host := range []string{"docker.io", "quay.io", "registry.k8s.io", "ghcr.io"} {
		values["Host"] = host
		if host == "docker.io" {
			values["Host"] = "registry-1.docker.io"
		}
		if err := render("hosts.toml", c.conf("certs.d/"+host+"/hosts.toml")); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startBase(ctx context.Context) error {
	pki := c.pki()
	if err := c.start("etcd", c.bin("etcd"),
		"--name="+NodeName, "--data-dir="+filepath.Join(c.Data, "etcd"),
		"--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://127.0.0.1:2379",
		"--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380",
		"--initial-cluster="+NodeName+"=https://127.0.0.1:2380",
		"--client-cert-auth", "--trusted-ca-file="+pki+"/etcd/ca.crt",
		"--cert-file="+pki+"/etcd/server.crt", "--key-file="+pki+"/etcd/server.key",
		"--peer-client-cert-auth", "--peer-trusted-ca-file="+pki+"/etcd/ca.crt",
		"--peer-cert-file="+pki+"/etcd/peer.crt", "--peer-key-file="+pki+"/etcd/peer.key",
		"--auto-compaction-retention=1", "--snapshot-count=10000", "--log-level=warn",
	); err != nil {
		return err
	}
	if err := c.start("docker-registry", "docker-registry", "serve", c.conf("registry.yaml")); err != nil {
		return err
	}
	if err := c.start("containerd", "containerd", "--config="+c.conf("containerd.toml")); err != nil {
		return err
	}
	return c.waitHTTP(ctx, "docker-registry", "http://"+Registry+"/v2/")
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	pki := c.pki()
	if err := c.start("kube-apiserver", c.bin("kube-apiserver"),
		"--advertise-address="+nodeIP, "--bind-address="+nodeIP, "--secure-port=6443",
		"--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--anonymous-auth=true", // RBAC leaves anonymous callers the health endpoints alone
		"--client-ca-file="+pki+"/ca.crt", "--tls-cert-file="+pki+"/apiserver.crt", "--tls-private-key-file="+pki+"/apiserver.key",
		"--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile="+pki+"/etcd/ca.crt",
		"--etcd-certfile="+pki+"/apiserver-etcd-client.crt", "--etcd-keyfile="+pki+"/apiserver-etcd-client.key",
		"--kubelet-certificate-authority="+pki+"/ca.crt", "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate="+pki+"/apiserver-kubelet-client.crt", "--kubelet-client-key="+pki+"/apiserver-kubelet-client.key",
		"--proxy-client-cert-file="+pki+"/front-proxy-client.crt", "--proxy-client-key-file="+pki+"/front-proxy-client.key",
		"--requestheader-client-ca-file="+pki+"/front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+pki+"/sa.pub", "--service-account-signing-key-file="+pki+"/sa.key",
		"--service-cluster-ip-range="+serviceCIDR, "--profiling=false", "--event-ttl=30m",
		"--max-requests-inflight=100", "--max-mutating-requests-inflight=50",
	); err != nil {
		return err
	}
	return c.wait(ctx, "kube-apiserver", func(ctx context.Context) error {
		_, err := c.Kubectl("get", "--raw", "/readyz").Text(ctx)
		return err
	})
}

func (c *Cluster) startNode(ctx context.Context) error {
	conf := func(n string) string { return filepath.Join(c.Data, n+".conf") }
	if err := c.start("kube-controller-manager", c.bin("kube-controller-manager"),
		"--kubeconfig="+conf("controller-manager"), "--authentication-kubeconfig="+conf("controller-manager"), "--authorization-kubeconfig="+conf("controller-manager"),
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
		"--allocate-node-cidrs=true", "--cluster-cidr="+podCIDR, "--node-cidr-mask-size=24", "--service-cluster-ip-range="+serviceCIDR,
		"--root-ca-file="+c.pki()+"/ca.crt", "--service-account-private-key-file="+c.pki()+"/sa.key", "--use-service-account-credentials=true",
		"--cluster-signing-cert-file="+c.pki()+"/ca.crt", "--cluster-signing-key-file="+c.pki()+"/ca.key",
		"--controllers=*,bootstrap-signer-controller,token-cleaner-controller",
	); err != nil {
		return err
	}
	if err := c.start("kube-scheduler", c.bin("kube-scheduler"),
		"--kubeconfig="+conf("scheduler"), "--authentication-kubeconfig="+conf("scheduler"), "--authorization-kubeconfig="+conf("scheduler"),
		"--bind-address=127.0.0.1", "--leader-elect=false", "--profiling=false",
	); err != nil {
		return err
	}
	if err := c.waitSocket(ctx, "containerd", filepath.Join(runDir, "containerd.sock")); err != nil {
		return err
	}
	if err := c.start("kubelet", c.bin("kubelet"),
		"--config="+c.conf("kubelet.yaml"), "--kubeconfig="+conf("kubelet"), "--root-dir="+filepath.Join(c.Data, "kubelet"),
		"--hostname-override="+NodeName, "--node-ip="+nodeIP,
	); err != nil {
		return err
	}
	if err := c.start("kube-proxy", c.bin("kube-proxy"),
		"--kubeconfig="+conf("kube-proxy"), "--hostname-override="+NodeName, "--proxy-mode=iptables", "--cluster-cidr="+podCIDR,
		"--nodeport-addresses=127.0.0.0/8,"+nodeCIDR, "--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	); err != nil {
		return err
	}
	return c.wait(ctx, "kubelet", func(ctx context.Context) error {
		out, err := c.Kubectl("get", "node", NodeName, "-o", `jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.message}{end}`).Text(ctx)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "True") {
			return fmt.Errorf("node %s is not ready: %s", NodeName, out)
		}
		return c.nodeFresh(ctx)
	})
}

// nodeFresh fails while the node's state is that of an earlier run.
func (c *Cluster) nodeFresh(ctx context.Context) error {
	out, err := c.Kubectl("get", "node", NodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}`).Text(ctx)
	if err != nil {
		return err
	}
	seen, err := time.Parse(time.RFC3339, out)
	if err != nil {
		return fmt.Errorf("node %s: heartbeat %q: %w", NodeName, out, err)
	}
	began, err := startTime("kubelet")
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
	return c.wait(ctx, "", func(ctx context.Context) error {
		_, err := c.Kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=1s").Text(ctx)
		return err
	})
}

// Kubectl is a kubectl command against this cluster.
func (c *Cluster) Kubectl(args ...string) command.Command {
	return command.Command{Args: append([]string{c.bin("kubectl"), "--kubeconfig=" + c.Kubeconfig()}, args...)}
}

// Wipe deletes the cluster's data. The cluster must be down.
func (c *Cluster) Wipe() error {
	if running, err := c.owned(); err != nil {
		return err
	} else if running {
		return errors.New("the cluster still runs: run `make down` first")
	}
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, dataMarker)); err != nil {
		return fmt.Errorf("LOJA_DATA: %s is not a folder of the cluster's data: nothing was deleted", c.Data)
	}
	return os.RemoveAll(c.Data)
}

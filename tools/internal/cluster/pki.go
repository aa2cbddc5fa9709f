package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// renewBefore is how long before its expiry a leaf certificate is renewed. kubeadm issues
// them for a year.
const renewBefore = 60 * 24 * time.Hour

// certificates has kubeadm create the missing files of the cluster's PKI, and renews the
// leaf certificates if they expire soon.
func (c *Cluster) certificates(ctx context.Context) error {
	expires, err := notAfter(filepath.Join(c.pki(), "apiserver.crt"))
	if err == nil && time.Until(expires) > renewBefore {
		if _, err := os.Stat(c.Kubeconfig()); err == nil {
			return nil
		}
	}
	if err := c.removeLeaves(); err != nil {
		return err
	}
	config := filepath.Join(c.Data, "kubeadm.yaml")
	if err := os.WriteFile(config, []byte(c.kubeadmConfig()), 0o600); err != nil {
		return err
	}
	kubeadm := func(args ...string) command.Command {
		return command.Command{Args: append([]string{c.bin("kubeadm")}, args...), Dir: c.Data, Env: []string{"KUBECONFIG="}}
	}
	if err := kubeadm("init", "phase", "certs", "all", "--config="+config).Run(ctx); err != nil {
		return err
	}
	for _, phase := range []string{"controller-manager", "scheduler", "kubelet"} {
		if err := kubeadm("init", "phase", "kubeconfig", phase, "--config="+config, "--kubeconfig-dir="+c.Data).Run(ctx); err != nil {
			return err
		}
	}
	for _, user := range []struct{ file, name, org string }{
		{"kube-proxy.conf", "system:kube-proxy", ""},
		{"kubeconfig", "loja-admin", "system:masters"},
	} {
		args := []string{"kubeconfig", "user", "--config=" + config, "--client-name=" + user.name}
		if user.org != "" {
			args = append(args, "--org="+user.org)
		}
		text, err := kubeadm(args...).Text(ctx)
		if err != nil {
			return err
		}
		text = strings.ReplaceAll(text, user.name+"@"+Context, Context)
		if err := os.WriteFile(filepath.Join(c.Data, user.file), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return c.kubeletCertificate()
}

func (c *Cluster) kubeadmConfig() string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %s, bindPort: 6443}
nodeRegistration: {name: %s, criSocket: "unix://%s/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: %s
kubernetesVersion: v%s
certificatesDir: %s
encryptionAlgorithm: ECDSA-P256
networking: {serviceSubnet: %s, podSubnet: %s, dnsDomain: cluster.local}
apiServer: {certSANs: [localhost, 127.0.0.1]}
`, nodeIP, NodeName, runDir, Context, toolchain.KubernetesVersion, c.pki(), serviceCIDR, podCIDR)
}

// removeLeaves deletes every certificate except those of the authorities, and the
// kubeconfigs, which contain certificates.
func (c *Cluster) removeLeaves() error {
	leaves, err := filepath.Glob(filepath.Join(c.pki(), "*.crt"))
	if err != nil {
		return err
	}
	etcd, err := filepath.Glob(filepath.Join(c.pki(), "etcd", "*.crt"))
	if err != nil {
		return err
	}
	confs, err := filepath.Glob(filepath.Join(c.Data, "*.conf"))
	if err != nil {
		return err
	}
	for _, path := range slices.Concat(leaves, etcd, confs) {
		if strings.HasSuffix(path, "ca.crt") {
			continue
		}
		for _, p := range []string{path, strings.TrimSuffix(path, ".crt") + ".key"} {
			if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// kubeletCertificate signs the kubelet's serving certificate with the cluster's CA, so that
// the API server and metrics-server can verify the kubelet. kubeadm does not sign it.
func (c *Cluster) kubeletCertificate() error {
	ca, err := tls.LoadX509KeyPair(filepath.Join(c.pki(), "ca.crt"), filepath.Join(c.pki(), "ca.key"))
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "system:node:" + NodeName, Organization: []string{"system:nodes"}},
		NotBefore:    now.Add(-5 * time.Minute), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{NodeName}, IPAddresses: []net.IP{net.ParseIP(nodeIP)},
	}, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(file, kind string, content []byte) error {
		return os.WriteFile(filepath.Join(c.pki(), file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
	}
	return errors.Join(write("kubelet.key", "PRIVATE KEY", der), write("kubelet.crt", "CERTIFICATE", cert))
}

func notAfter(path string) (time.Time, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return time.Time{}, fmt.Errorf("%s contains no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", path, err)
	}
	return cert.NotAfter, nil
}

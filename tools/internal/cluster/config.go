package cluster

import (
	"context"
	"embed"
	"os"
	"path/filepath"
	"text/template"
)

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

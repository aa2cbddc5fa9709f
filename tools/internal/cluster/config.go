package cluster

import (
	"bytes"
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
	for name, target := range map[string]string{
		"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "registry.yaml": "registry.yaml",
		"cluster.yaml": "cluster.yaml", "cni.conflist": "cni/10-loja.conflist",
	} {
		if err := render(name, c.conf(target), values); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.conf("resolv.conf"), []byte("nameserver "+dnsIP+"\n"), 0o600); err != nil {
		return err
	}
	for _, host := range []string{"docker.io", "quay.io", "registry.k8s.io", "ghcr.io"} {
		values["Host"] = host
		if host == "docker.io" {
			values["Host"] = "registry-1.docker.io"
		}
		if err := render("hosts.toml", c.conf("certs.d/"+host+"/hosts.toml"), values); err != nil {
			return err
		}
	}
	return nil
}

// render renders a template of the folder config with values into the file target, whose
// folder it creates.
func render(name, target string, values map[string]string) error {
	text, err := configFiles.ReadFile("config/" + name)
	if err != nil {
		return err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return err
	}
	var rendered bytes.Buffer
	if err := t.Execute(&rendered, values); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return os.WriteFile(target, rendered.Bytes(), 0o600)
}

package platform

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// A registry takes the services' images. The two names are different for a registry that nodes
// reach otherwise than this machine does.
type registry struct {
	push, pull string
	anonymous  bool // it needs no credentials
	close      func() error
}

// openRegistry finds the registry of the environment's cluster: the bundled cluster's own, the one
// that REGISTRY names, the one that the cluster announces, or else one that it installs there.
func (s *shipment) openRegistry(ctx context.Context) (registry, error) {
	r := registry{push: s.w.Registry, pull: s.w.Registry, anonymous: s.w.bundled(), close: func() error { return nil }}
	if r.push != "" {
		return r, nil
	}
	k, err := openKubectl(s.w)
	if err != nil {
		return r, err
	}
	r.anonymous = true
	text, err := k.Text(ctx, "-n", "kube-public", "get", "configmap", hosting, "--ignore-not-found",
		"-o", `jsonpath={.data.localRegistryHosting\.v1}`)
	if err != nil {
		return r, err
	}
	if r.push, r.pull, err = announced(text); err != nil {
		return r, err
	}
	if r.push != "" {
		s.w.Out.Step("images go to the registry %s, which the cluster announces", r.push)
		return r, nil
	}
	r.push, r.pull = inCluster, inCluster
	r.close, err = install(ctx, s.w, k)
	return r, err
}

// hosting is the ConfigMap in kube-public by which a cluster announces a registry on the
// developer's machine (Kubernetes's KEP-1755).
const hosting = "local-registry-hosting"

// announced returns the names that the ConfigMap's field localRegistryHosting.v1 has for a
// registry: that for this machine, and that for the nodes. They are empty if the text is.
func announced(text string) (push, pull string, err error) {
	var v struct {
		Host   string `yaml:"host"`
		OnNode string `yaml:"hostFromContainerRuntime"`
	}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return "", "", fmt.Errorf("the ConfigMap kube-public/%s, field localRegistryHosting.v1: %w; set REGISTRY", hosting, err)
	}
	if v.Host == "" && strings.TrimSpace(text) != "" {
		return "", "", fmt.Errorf("the ConfigMap kube-public/%s, field localRegistryHosting.v1, names no host: set REGISTRY", hosting)
	}
	if v.OnNode == "" {
		v.OnNode = v.Host
	}
	return v.Host, v.OnNode, nil
}

// setRegistry ends an error about the registry in the cluster.
const setRegistry = "set REGISTRY to a registry that this machine pushes to and the cluster pulls from"

const (
	registryNamespace = "loja-veloz-registry"
	// inCluster is the registry's address on each node, by the Service in registry.yaml, and on
	// this machine, by port-forward. It is in each image, so that another one would change them.
	inCluster     = "127.0.0.1:" + inClusterPort
	inClusterPort = "30500"
)

//go:embed registry.yaml
var registryManifest string

// install puts a registry into the cluster, and forwards a port of this machine to it until the
// function is called that it returns.
func install(ctx context.Context, w Workspace, k Kubectl) (end func() error, err error) {
	w.Out.Step("the cluster has no registry: images go to one in its namespace %s", registryNamespace)
	apply := k.Command("apply", "--server-side", "--force-conflicts", "-f", "-")
	apply.Stdin = strings.NewReader(registryManifest)
	if err := apply.Run(ctx); err != nil {
		return nil, fmt.Errorf("installing a registry in the cluster: %w; mend it, or %s", err, setRegistry)
	}
	if _, err := k.Text(ctx, "-n", registryNamespace, "rollout", "status", "deployment/registry", "--timeout=3m"); err != nil {
		pods, _ := k.Text(ctx, "-n", registryNamespace, "get", "pods,persistentvolumeclaims,events")
		return nil, fmt.Errorf("the registry in the cluster does not become ready: %w\n%s\nmend it, or %s", err, pods, setRegistry)
	}
	forward := k.Command("-n", registryNamespace, "port-forward", "--address=127.0.0.1", "deployment/registry", inClusterPort+":5000")
	ready := make(chan struct{}, 1)
	cmd := exec.Command(forward.Args[0], forward.Args[1:]...) //nolint:noctx // close ends it
	cmd.Dir, cmd.Env = forward.Dir, append(cmd.Environ(), forward.Env...)
	p, err := process.Run(process.Spec{Name: "kubectl port-forward", Cmd: cmd, Line: func(line string) {
		if strings.HasPrefix(line, "Forwarding from ") {
			select {
			case ready <- struct{}{}:
			default:
			}
		}
	}})
	if err != nil {
		return nil, err
	}
	end = func() error {
		select {
		case <-p.Done(): // it should not have ended, and what failed meanwhile failed for it
			return p.Ended()
		default:
			return p.End(syscall.SIGTERM, 5*time.Second)
		}
	}
	select {
	case <-ready:
		return end, nil
	case <-p.Done():
		return nil, fmt.Errorf("forwarding port %s of this machine to the registry in the cluster: %w", inClusterPort, p.Ended())
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), end())
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("kubectl port-forward is not ready after a minute:\n%s", p.LastLines()), end())
	}
}

// uninstallRegistry removes what install has put into the cluster.
func uninstallRegistry(ctx context.Context, k Kubectl) error {
	_, err := k.Text(ctx, "delete", "namespace", registryNamespace, "--ignore-not-found", "--timeout=3m")
	return err
}

// architectures returns those of the cluster's nodes, as Go names them.
func architectures(ctx context.Context, k Kubectl) ([]string, error) {
	text, err := k.Text(ctx, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.architecture}")
	if err != nil {
		return nil, err
	}
	all := strings.Fields(text)
	if len(all) == 0 {
		return nil, errors.New("the cluster has no node")
	}
	return all, nil
}

package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const providerProgram = "pulumi-resource-kubernetes"

// provideTools builds the missing tools for the cluster and, for a deploy, also those for
// the stack and the images.
func (s *shipment) provideTools(ctx context.Context) error {
	if s.w.bundled() {
		if err := cluster.Supported(); err != nil {
			return err
		}
		s.pull = pullsImages(ctx, s.w)
	}
	if !s.w.bundled() && runtime.GOOS != "linux" && !kubectlFits(ctx) {
		return fmt.Errorf("PATH has no kubectl of version 1.32 to 1.34: install one; this repo builds its own on Linux only, "+
			"and this machine runs %s", runtime.GOOS)
	}
	if err := s.delivers(); err != nil {
		return err
	}
	tools := clusterTools(ctx, s.w, s.pull)
	if s.gitops() && !s.pull {
		tools = append(tools, toolchain.ArgoCD)
	}
	if s.deploys {
		tools = append(tools, deployTools(ctx, s.w)...)
	}
	if err := provide(ctx, s.w, tools); err != nil || !s.deploys {
		return err
	}
	var err error
	s.pulumi, err = openPulumi(s.w)
	return err
}

// provide builds the tools that the cache lacks, and links all of them into the workspace.
func provide(ctx context.Context, w Workspace, tools []toolchain.Tool) error {
	if err := w.Cache.Ensure(ctx, toolchain.InOrder(tools)...); err != nil {
		return err
	}
	return link(w, tools)
}

// deployTools returns the tools that apply the stack and build images, without those that
// PATH has.
func deployTools(ctx context.Context, w Workspace) []toolchain.Tool {
	tools := []toolchain.Tool{toolchain.Ko}
	if w.Signatures {
		tools = append(tools, toolchain.Cosign)
	}
	if pulumiOnPath(ctx, w) {
		for _, t := range toolchain.Pulumi { // remove links from before Pulumi was on PATH
			_ = os.Remove(w.Local("bin", t.Name))
		}
		return tools
	}
	return append(tools, toolchain.Pulumi...)
}

// clusterTools returns the tools that run the bundled cluster, or that talk to another one.
func clusterTools(ctx context.Context, w Workspace, pull bool) []toolchain.Tool {
	switch {
	case w.bundled() && pull, !w.bundled() && !kubectlFits(ctx):
		return []toolchain.Tool{toolchain.Kubernetes}
	case w.bundled():
		return append([]toolchain.Tool{toolchain.Kubernetes}, clusterImages(w)...)
	}
	return nil
}

// clusterImages returns the tools that run in the bundled cluster.
func clusterImages(w Workspace) []toolchain.Tool {
	if w.Signatures {
		return append(slices.Clone(toolchain.Images), toolchain.PolicyController)
	}
	return toolchain.Images
}

// pullsImages reports whether controllers' images are pulled rather than built.
func pullsImages(ctx context.Context, w Workspace) bool {
	return w.Images == "pull" || w.Images == "auto" && !w.Cache.Has(clusterImages(w)...) && images.Reachable(ctx, clusterImages(w))
}

// pulumiOnPath reports whether PATH has a Pulumi CLI of version 3.200 or newer with its Go
// language host, and whether the Kubernetes provider is on PATH or can be downloaded.
func pulumiOnPath(ctx context.Context, w Workspace) bool {
	path, err := exec.LookPath("pulumi")
	if err != nil || strings.HasPrefix(path, w.Local()) || strings.HasPrefix(path, w.Cache.Root) {
		return false
	}
	v, err := command.Command{Args: []string{path, "version"}}.Text(ctx)
	var minor int
	if err != nil {
		return false
	}
	if n, _ := fmt.Sscanf(v, "v3.%d.", &minor); n != 1 || minor < 200 {
		return false
	}
	if _, err := exec.LookPath("pulumi-language-go"); err != nil {
		return false
	}
	if _, err := exec.LookPath(providerProgram); err == nil {
		return true
	}
	return command.Command{
		Args: []string{path, "plugin", "install", "resource", "kubernetes", toolchain.KubernetesProviderVersion},
	}.Run(ctx) == nil
}

// kubectlFits reports whether PATH has a kubectl within one minor version of the cluster's,
// the skew that Kubernetes supports (https://kubernetes.io/releases/version-skew-policy/).
func kubectlFits(ctx context.Context) bool {
	out, err := command.Command{Args: []string{"kubectl", "version", "--client", "-o", "json"}}.Text(ctx)
	var v struct {
		ClientVersion struct{ Minor string } `json:"clientVersion"`
	}
	return err == nil && json.Unmarshal([]byte(out), &v) == nil &&
		slices.Contains([]string{"32", "33", "34"}, strings.TrimSuffix(v.ClientVersion.Minor, "+"))
}

// link puts the built tools into .local/bin, so that one folder on PATH has them all, and
// the provider where Pulumi looks for its plugins.
func link(w Workspace, tools []toolchain.Tool) error {
	for _, t := range tools {
		dir, err := w.Cache.Dir(t)
		if err != nil {
			return err
		}
		name := t.Name
		if t.Links != nil {
			name = "kubectl" // the only program of Kubernetes that users call
		}
		target := w.Local("bin", name)
		if t.Name == providerProgram {
			target = filepath.Join(pulumiHome(w), "plugins", "resource-kubernetes-v"+t.Version, t.Name)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := removeFile(target); err != nil {
			return err
		}
		// Pulumi accepts a language host only in the folder of its own program, and resolves
		// symbolic links before it compares.
		if strings.HasPrefix(name, "pulumi") && os.Link(filepath.Join(dir, name), target) == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, name), target); err != nil {
			return err
		}
	}
	return nil
}

// pulumiHome returns the folder with the plugins of the Pulumi that was built here.
func pulumiHome(w Workspace) string { return w.Local("pulumi") }

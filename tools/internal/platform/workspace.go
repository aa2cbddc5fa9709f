// Package platform is what a developer does with the checkout: bring the local
// environment up and down, ship services to it and watch their canaries.
package platform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// URL is where the local gateway answers by default.
const URL = "http://localhost:30080"

const (
	project   = "loja-veloz"
	stack     = "local"
	namespace = "shop"
)

// A Platform is one checkout on one machine.
type Platform struct {
	Root        string // of the checkout
	KubeContext string // another cluster's context, or "" for the bundled one
	Registry    string // where images go
	ImageSource string // auto, build or pull: how controllers' images get into the local registry
	Out         *console.Console
	Cache       *toolchain.Cache
}

// Open finds the checkout from the current folder and reads the settings of
// the environment: KUBE_CONTEXT, REGISTRY, IMAGES, LOJA_CACHE, LOJA_DATA.
func Open(out *console.Console) (*Platform, error) {
	root, err := repo.Root()
	if err != nil {
		return nil, err
	}
	cache, err := toolchain.DefaultRoot()
	if err != nil {
		return nil, err
	}
	p := &Platform{
		Root: root, KubeContext: os.Getenv("KUBE_CONTEXT"), Registry: cluster.Registry, ImageSource: "auto", Out: out,
		Cache: &toolchain.Cache{Root: cache, Pins: filepath.Join(root, "tools", "pins"), Out: out},
	}
	var faults []error
	if v := os.Getenv("IMAGES"); v != "" {
		if !slices.Contains([]string{"auto", "build", "pull"}, v) {
			faults = append(faults, fmt.Errorf("IMAGES is %q: use auto, build or pull", v))
		}
		p.ImageSource = v
	}
	if v := os.Getenv("REGISTRY"); v != "" {
		if p.KubeContext == "" {
			faults = append(faults, errors.New("REGISTRY goes with KUBE_CONTEXT: the bundled cluster has a registry of its own"))
		}
		p.Registry = strings.TrimSuffix(v, "/")
	} else if p.KubeContext != "" {
		faults = append(faults, errors.New("KUBE_CONTEXT needs REGISTRY=<registry that the cluster pulls from and this machine pushes to>"))
	}
	return p, errors.Join(faults...)
}

// Local is the checkout's folder of generated things, ignored by git.
func (p *Platform) Local(elem ...string) string {
	return filepath.Join(append([]string{p.Root, ".local"}, elem...)...)
}

// Cluster is the bundled cluster.
func (p *Platform) Cluster() (*cluster.Cluster, error) {
	data := os.Getenv("LOJA_DATA")
	if data == "" {
		data = p.Local("cluster")
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	bin, err := p.Cache.Dir(toolchain.Kubernetes)
	return &cluster.Cluster{Data: data, Bin: bin, Out: p.Out}, err
}

// Kubeconfig is the file that names the environment's cluster.
func (p *Platform) Kubeconfig() (string, error) {
	if p.KubeContext == "" {
		c, err := p.Cluster()
		return c.Kubeconfig(), err
	}
	if v := os.Getenv("KUBECONFIG"); v != "" {
		return v, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".kube", "config"), err
}

// deployTools are those that this machine lacks to apply the stack and to build
// images.
func (p *Platform) deployTools(ctx context.Context) []toolchain.Tool {
	if p.pulumiOnPath(ctx) {
		for _, t := range toolchain.Pulumi { // of an earlier run, without it
			_ = os.Remove(p.Local("bin", t.Name))
		}
		return []toolchain.Tool{toolchain.Ko}
	}
	return append([]toolchain.Tool{toolchain.Ko}, toolchain.Pulumi...)
}

// pulumiOnPath tells whether PATH has a Pulumi CLI of the last versions with
// its Go language host, and the Kubernetes provider or the means to get it.
func (p *Platform) pulumiOnPath(ctx context.Context) bool {
	path, err := exec.LookPath("pulumi")
	if err != nil || strings.HasPrefix(path, p.Local()) || strings.HasPrefix(path, p.Cache.Root) {
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
	if _, err := exec.LookPath("pulumi-resource-kubernetes"); err == nil {
		return true
	}
	return command.Command{Args: []string{path, "plugin", "install", "resource", "kubernetes", toolchain.KubernetesProviderVersion}}.Run(ctx) == nil
}

// kubectlFits tells whether PATH has a kubectl within one minor version of the
// cluster's, the skew that Kubernetes supports.
func kubectlFits(ctx context.Context) bool {
	out, err := command.Command{Args: []string{"kubectl", "version", "--client", "-o", "json"}}.Text(ctx)
	var v struct {
		ClientVersion struct{ Minor string } `json:"clientVersion"`
	}
	return err == nil && json.Unmarshal([]byte(out), &v) == nil &&
		slices.Contains([]string{"32", "33", "34"}, strings.TrimSuffix(v.ClientVersion.Minor, "+"))
}

// link puts the built tools into .local/bin, so that one folder on PATH has
// them all, and the provider where Pulumi looks for its plugins.
func (p *Platform) link(tools []toolchain.Tool) error {
	for _, t := range tools {
		dir, err := p.Cache.Dir(t)
		if err != nil {
			return err
		}
		name := t.Name
		if t.Links != nil {
			name = "kubectl" // of Kubernetes, the one for people
		}
		target := p.Local("bin", name)
		if t.Name == "pulumi-resource-kubernetes" {
			target = filepath.Join(p.pulumiHome(), "plugins", "resource-kubernetes-v"+t.Version, t.Name)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// Pulumi takes a language host as its own when both programs lie in
		// one folder, where a symbolic link would not count.
		if strings.HasPrefix(name, "pulumi") && os.Link(filepath.Join(dir, name), target) == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dir, name), target); err != nil {
			return err
		}
	}
	return nil
}

// pulumiHome holds the plugins of the Pulumi that was built here.
func (p *Platform) pulumiHome() string { return p.Local("pulumi") }

// Environ is what the plain pulumi and kubectl need to work on the
// environment. It makes the passphrase, mode 0600, on first use.
func (p *Platform) Environ() ([]string, error) {
	passphrase := p.Local("passphrase")
	if _, err := os.Stat(passphrase); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(p.Local("state"), 0o700); err != nil {
			return nil, err
		}
		secret := make([]byte, 24)
		if _, err := rand.Read(secret); err != nil {
			return nil, err
		}
		if err := os.WriteFile(passphrase, []byte(hex.EncodeToString(secret)), 0o600); err != nil {
			return nil, err
		}
		// A stack file of another passphrase cannot be read with this one.
		if err := os.Remove(p.stackFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	kubeconfig, err := p.Kubeconfig()
	if err != nil {
		return nil, err
	}
	env := []string{
		"PATH=" + p.Local("bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"KUBECONFIG=" + kubeconfig,
		"PULUMI_BACKEND_URL=file://" + p.Local("state"),
		"PULUMI_CONFIG_PASSPHRASE_FILE=" + passphrase,
		"PULUMI_SKIP_UPDATE_CHECK=true",
	}
	if executable(p.Local("bin", "pulumi")) {
		// The plugins lie in that home already: there is nothing to download.
		env = append(env, "PULUMI_HOME="+p.pulumiHome(), "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true")
	}
	return env, nil
}

func (p *Platform) stackFile() string { return filepath.Join(p.Root, "Pulumi."+stack+".yaml") }

// run prepares a program of the environment's PATH with its settings.
func (p *Platform) run(args ...string) (command.Command, error) {
	env, err := p.Environ()
	if err != nil {
		return command.Command{}, err
	}
	if built := p.Local("bin", args[0]); executable(built) {
		args = append([]string{built}, args[1:]...)
	}
	return command.Command{Args: args, Dir: p.Root, Env: env}, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// kubectl runs kubectl against the environment's cluster and returns its
// output.
func (p *Platform) kubectl(ctx context.Context, args ...string) (string, error) {
	c, err := p.kubectlCommand(args...)
	if err != nil {
		return "", err
	}
	return c.Text(ctx)
}

func (p *Platform) kubectlCommand(args ...string) (command.Command, error) {
	full := []string{"kubectl"}
	if p.KubeContext != "" {
		full = append(full, "--context="+p.KubeContext)
	}
	return p.run(append(full, args...)...)
}

// Services are the folders of apps that hold a program which serves.
func (p *Platform) Services() ([]string, error) { return repo.Services(p.Root) }

// checkService fails for a name that is no service.
func (p *Platform) checkService(name string) error {
	all, err := p.Services()
	if err != nil {
		return err
	}
	if name == "" {
		return fmt.Errorf("SERVICE is not set: name one of %s", strings.Join(all, ", "))
	}
	if !slices.Contains(all, name) {
		return fmt.Errorf("SERVICE=%s is no service: there are %s", name, strings.Join(all, ", "))
	}
	return nil
}

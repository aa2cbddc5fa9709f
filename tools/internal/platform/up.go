package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const (
	pauseImage = "registry.k8s.io/pause:3.10"
	baseImage  = cluster.Registry + "/loja/base:1"
)

// Up brings the whole local environment up.
func (p *Platform) Up(ctx context.Context) error {
	if err := p.ClusterUp(ctx, p.deployTools(ctx)...); err != nil {
		return err
	}
	digests, err := p.buildServices(ctx, nil)
	if err != nil {
		return err
	}
	if err := p.setImages(ctx, digests); err != nil {
		return err
	}
	p.Out.Step("pulumi up: stack %s", stack)
	if err := p.pulumiUp(ctx); err != nil {
		return err
	}
	var url string
	if err := p.output(ctx, "gatewayURL", &url); err != nil {
		return err
	}
	if p.KubeContext != "" {
		p.Out.Plain("\nThe shop is up. To see it:\n  kubectl --context=%s -n gateway port-forward service/traefik 30080:80\n  open http://localhost:30080", p.KubeContext)
		return nil
	}
	if err := p.waitServed(ctx, url); err != nil {
		return err
	}
	p.Out.Step("the page is served")
	p.Out.Plain("\n  shop       %s/\n  echo       %s/echo\n  health     %s/health\n\n  make deploy    ship the working tree's services by canary\n  make status    where the canaries stand; make cluster-status: what runs, and its memory\n  eval \"$(make env)\"   then pulumi and kubectl work by hand\n  make down      stop everything, keep the data", url, url, url)
	p.Out.Plain("\nNetworkPolicies are not enforced by this cluster's network; the tests prove what they allow.")
	return nil
}

// ClusterUp provides the cluster and its registry, and the further tools named.
func (p *Platform) ClusterUp(ctx context.Context, further ...toolchain.Tool) error {
	tools := further
	if p.KubeContext == "" {
		if err := cluster.Supported(); err != nil {
			return err
		}
		tools = append(tools, toolchain.Kubernetes)
		if p.ImageSource == "auto" {
			p.ImageSource = "build"
			if !p.Cache.Has(toolchain.Images...) && images.Reachable(ctx, toolchain.Images) {
				p.ImageSource = "pull"
			}
		}
		if p.ImageSource == "build" {
			tools = append(tools, toolchain.Images...)
		}
	} else if !kubectlFits(ctx) {
		tools = append(tools, toolchain.Kubernetes)
	}
	if err := p.Cache.Ensure(ctx, toolchain.InOrder(tools)...); err != nil {
		return err
	}
	if err := p.link(tools); err != nil {
		return err
	}
	if p.KubeContext != "" {
		p.Out.Step("using the cluster of context %s", p.KubeContext)
		if _, err := p.kubectl(ctx, "get", "--raw", "/readyz"); err != nil {
			return fmt.Errorf("KUBE_CONTEXT=%s: %w", p.KubeContext, err)
		}
		return nil
	}
	c, err := p.Cluster()
	if err != nil {
		return err
	}
	began := time.Now()
	p.Out.Step("starting Kubernetes %s", toolchain.KubernetesVersion)
	if err := c.Up(ctx, p.fillRegistry); err != nil {
		return fmt.Errorf("local cluster: %w", err)
	}
	p.Out.Step("the cluster is ready, after %s", console.Round(time.Since(began)))
	return nil
}

// fillRegistry puts the images of cluster and controllers into the registry.
func (p *Platform) fillRegistry(ctx context.Context) error {
	r := images.Registry(cluster.Registry)
	if has, err := r.Has(ctx, pauseImage); err != nil {
		return err
	} else if !has {
		binary, err := p.own(ctx, "pause", "./pause")
		if err != nil {
			return err
		}
		program, err := images.Program(binary, "/pause")
		if err != nil {
			return err
		}
		if err := r.Push(ctx, pauseImage, "/pause", program); err != nil {
			return err
		}
	}
	if err := r.Push(ctx, baseImage, "", images.Base()...); err != nil {
		return err
	}
	for _, t := range toolchain.Images {
		has, err := r.Has(ctx, t.Image)
		if err != nil {
			return err
		}
		if has {
			continue
		}
		if p.ImageSource == "pull" {
			p.Out.Step("pulling %s", t.Image)
			if err := r.Copy(ctx, t.Image); err != nil {
				return fmt.Errorf("%w (IMAGES=build builds it instead)", err)
			}
			continue
		}
		binary, err := p.Cache.Binary(t, t.Name)
		if err != nil {
			return err
		}
		program, err := images.Program(binary, t.Path)
		if err != nil {
			return err
		}
		if err := r.Push(ctx, t.Image, t.Path, append(images.Base(), program)...); err != nil {
			return err
		}
	}
	return p.fillPostgres(ctx, r)
}

// fillPostgres puts PostgreSQL's image into the registry.
func (p *Platform) fillPostgres(ctx context.Context, r images.Registry) error {
	if has, err := r.Has(ctx, images.PostgreSQL); err != nil || has {
		return err
	}
	if p.ImageSource == "pull" {
		p.Out.Step("pulling %s", images.PostgreSQL)
		if err := r.Copy(ctx, images.PostgreSQL); err != nil {
			return fmt.Errorf("%w (IMAGES=build builds it instead)", err)
		}
		return nil
	}
	native, err := postgres.Native(ctx, p.Cache)
	if err != nil {
		return err
	}
	entrypoint, err := p.own(ctx, "postgres-entrypoint", "./cmd/postgres-entrypoint")
	if err != nil {
		return err
	}
	return r.PushPostgreSQL(ctx, native, entrypoint)
}

// own builds a static program of tools for an image.
func (p *Platform) own(ctx context.Context, name, pkg string) (string, error) {
	binary := p.Local(name)
	return binary, command.Command{
		Args: []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, pkg},
		Dir:  filepath.Join(p.Root, "tools"), Env: []string{"CGO_ENABLED=0", "GOWORK=off"},
	}.Run(ctx)
}

// buildServices builds images of the named programs of apps, or of all, pushes
// them and returns their references by digest.
func (p *Platform) buildServices(ctx context.Context, services []string) (map[string]string, error) {
	if len(services) == 0 {
		all, err := repo.Programs(p.Root)
		if err != nil {
			return nil, err
		}
		services = all
	}
	if p.KubeContext != "" {
		r := images.Registry(p.Registry)
		if err := r.Push(ctx, p.base(), "", images.Base()...); err != nil {
			return nil, fmt.Errorf("REGISTRY=%s: %w", p.Registry, err)
		}
	}
	refs := map[string]string{}
	for _, s := range services {
		began := time.Now()
		c, err := p.run("ko", "build", "--base-import-paths", "--platform=linux/"+runtime.GOARCH, "--sbom=spdx", "./"+s)
		if err != nil {
			return nil, err
		}
		c.Dir = filepath.Join(p.Root, "apps")
		// GOWORK: an image depends on apps/go.sum alone.
		c.Env = append(c.Env, "KO_DOCKER_REPO="+p.Registry, "KO_DEFAULTBASEIMAGE="+p.base(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
		ref, err := c.Text(ctx)
		if err != nil {
			return nil, fmt.Errorf("building the image of %s: %w", s, err)
		}
		ref = strings.TrimSpace(ref[strings.LastIndex(ref, "\n")+1:])
		if !strings.Contains(ref, "@sha256:") {
			return nil, fmt.Errorf("building the image of %s: ko printed %q, not a digest", s, ref)
		}
		refs[s] = ref
		p.Out.Step("image of %s: %s (%s)", s, ref, console.Round(time.Since(began)))
	}
	return refs, nil
}

func (p *Platform) base() string { return strings.Replace(baseImage, cluster.Registry, p.Registry, 1) }

// setImages selects the stack, making it on first use, and writes the images
// into its configuration.
func (p *Platform) setImages(ctx context.Context, refs map[string]string) error {
	if err := p.pulumi(ctx, "stack", "select", "--create", stack); err != nil {
		return err
	}
	if err := p.sameCluster(ctx); err != nil {
		return err
	}
	config := []string{"config", "set-all", "--stack", stack, "--path"}
	for s, ref := range refs {
		config = append(config, "--plaintext", fmt.Sprintf("%s:images.%s=%s", project, s, ref))
	}
	// What only the other kind of cluster has goes.
	gone := project + ":kubeContext"
	if p.KubeContext != "" {
		config = append(config, "--plaintext", project+":kubeContext="+p.KubeContext)
		gone = project + ":database.localPath"
	} else {
		c, err := p.Cluster()
		if err != nil {
			return err
		}
		path := filepath.Join(c.Data, "postgres")
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("the database's folder: %w", err)
		}
		config = append(config, "--plaintext", project+":database.localPath="+path)
	}
	if err := p.pulumi(ctx, "config", "rm", "--stack", stack, "--path", gone); err != nil {
		return err
	}
	return p.pulumi(ctx, config...)
}

// sameCluster fails if the stack has resources on another cluster than the one
// now meant: Pulumi would lose them from sight.
func (p *Platform) sameCluster(ctx context.Context) error {
	var on string
	if err := p.output(ctx, "kubeContext", &on); err != nil || on == "" {
		return err // no output: nothing is deployed
	}
	want := p.KubeContext
	if want == "" {
		want = cluster.Context
	}
	if on == want {
		return nil
	}
	undo := "KUBE_CONTEXT=" + on + " make down"
	if on == cluster.Context {
		undo = "make wipe"
	}
	return fmt.Errorf("the stack %s is deployed to the cluster %s, not to %s: take it down there first (%s)", stack, on, want, undo)
}

// output reads an output of the stack into v, which keeps its value if there is
// no such output.
func (p *Platform) output(ctx context.Context, name string, v any) error {
	c, err := p.run("pulumi", "--non-interactive", "stack", "output", "--json", "--stack", stack)
	if err != nil {
		return err
	}
	text, err := c.Text(ctx)
	if err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return fmt.Errorf("reading the stack's outputs: %w", err)
	}
	if all[name] == nil {
		return nil
	}
	if err := json.Unmarshal(all[name], v); err != nil {
		return fmt.Errorf("reading the stack's output %s: %w", name, err)
	}
	return nil
}

func (p *Platform) pulumi(ctx context.Context, args ...string) error {
	c, err := p.run(append([]string{"pulumi", "--non-interactive"}, args...)...)
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// pulumiUp applies the stack.
func (p *Platform) pulumiUp(ctx context.Context, args ...string) error {
	return p.pulumiShown(ctx, append([]string{"up", "--suppress-permalink=true"}, args...)...)
}

// pulumiShown changes the stack and shows what Pulumi says.
func (p *Platform) pulumiShown(ctx context.Context, args ...string) error {
	if err := p.removeDeadLock(ctx); err != nil {
		return err
	}
	c, err := p.run(append([]string{"pulumi", "--non-interactive"}, append(args, "--stack", stack, "--yes", "--skip-preview")...)...)
	if err != nil {
		return err
	}
	return p.showing(ctx, c, args[0])
}

// showing runs pulumi and shows what it says; the error of what it was told to do
// does not repeat that.
func (p *Platform) showing(ctx context.Context, c command.Command, told string) error {
	c.Output = p.Out.Indented()
	err := c.Run(ctx)
	var failed *command.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("pulumi %s: %w (its output is above)", told, failed.Err)
	}
	return err
}

// removeDeadLock frees the stack from the lock of a pulumi on this machine that
// was killed. The lock of one that lives stays.
func (p *Platform) removeDeadLock(ctx context.Context) error {
	locks, err := filepath.Glob(p.Local("state", ".pulumi", "locks", "*", project, stack, "*.json"))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, lock := range locks {
		b, err := os.ReadFile(lock)
		if errors.Is(err, os.ErrNotExist) {
			continue // its owner has just ended
		}
		if err != nil {
			return err
		}
		var owner struct {
			PID      int    `json:"pid"`
			Hostname string `json:"hostname"`
		}
		if err := json.Unmarshal(b, &owner); err != nil {
			return fmt.Errorf("lock %s: %w", lock, err)
		}
		if owner.Hostname != host {
			return fmt.Errorf("the stack is locked by process %d on %s", owner.PID, owner.Hostname)
		}
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", owner.PID)); err == nil && strings.TrimSpace(string(name)) == "pulumi" {
			return fmt.Errorf("another pulumi (process %d) works on the stack: wait for it to end", owner.PID)
		}
		p.Out.Step("freeing the stack from the lock of process %d, which was killed", owner.PID)
		if err := p.pulumi(ctx, "cancel", "--yes", "--stack", stack); err != nil {
			return err
		}
	}
	return nil
}

// waitServed waits until the gateway serves the page.
func (p *Platform) waitServed(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("the page is not served after 2m0s"))
	defer cancel()
	for {
		err := cluster.Answers(ctx, url+"/health")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Down stops the bundled cluster and keeps its data; on another cluster it
// destroys the stack.
func (p *Platform) Down(ctx context.Context) error {
	if p.KubeContext != "" {
		p.Out.Step("pulumi destroy: stack %s", stack)
		return p.pulumiShown(ctx, "destroy")
	}
	c, err := p.Cluster()
	if err != nil {
		return err
	}
	if running, err := c.Running(); err != nil {
		return err
	} else if !running {
		p.Out.Step("the local cluster does not run")
		return nil
	}
	if err := c.Down(ctx); err != nil {
		return err
	}
	left, err := c.Leftovers(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the cluster is stopped but left behind:\n  %s", strings.Join(left, "\n  "))
	}
	p.Out.Step("the local cluster is stopped; its data stays in %s", c.Data)
	return nil
}

// Wipe deletes the environment's data with everything generated: cluster,
// state, passphrase and stack file. The tool cache stays.
func (p *Platform) Wipe(ctx context.Context) error {
	if err := p.Down(ctx); err != nil {
		return err
	}
	c, err := p.Cluster()
	if err != nil {
		return err
	}
	if err := c.Wipe(); err != nil {
		return err
	}
	// Its data lies in the folder that goes now.
	if err := dev.Down(p.Local("dev"), p.Out); err != nil {
		return err
	}
	if err := os.RemoveAll(p.Local()); err != nil {
		return err
	}
	if err := os.Remove(p.stackFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	p.Out.Step("the data of the local environment is deleted")
	return nil
}

// memory is the sum of what the cluster's processes use, in bytes of PSS.
func memory(components []cluster.ComponentStatus) int64 {
	var sum int64
	for _, s := range components {
		sum += s.PSS
	}
	return sum
}

// ClusterStatus prints the components, the node and the pods.
func (p *Platform) ClusterStatus(ctx context.Context) error {
	if p.KubeContext == "" {
		c, err := p.Cluster()
		if err != nil {
			return err
		}
		running, err := c.Running()
		if err != nil {
			return err
		}
		if !running {
			return errors.New("the local cluster does not run: make up starts it")
		}
		components, err := c.Status()
		if err != nil {
			return err
		}
		var dead []string
		for _, s := range components {
			state := fmt.Sprintf("%d processes", len(s.PIDs))
			if len(s.PIDs) == 0 {
				state, dead = "NOT RUNNING", append(dead, s.Name)
			}
			p.Out.Plain("%-26s %-14s %6.1f MiB", s.Name, state, float64(s.PSS)/(1<<20))
		}
		p.Out.Plain("%-26s %-14s %6.1f MiB (PSS)\n", "together", "", float64(memory(components))/(1<<20))
		if len(dead) > 0 {
			return fmt.Errorf("not running: %s: make up starts them again; their logs are in %s", strings.Join(dead, ", "), filepath.Join(c.Data, "logs"))
		}
	}
	var out bytes.Buffer
	k, err := p.kubectlCommand("get", "nodes,pods", "--all-namespaces", "-o", "wide")
	if err != nil {
		return err
	}
	k.Stdout = &out
	if err := k.Run(ctx); err != nil {
		return err
	}
	p.Out.Plain("%s", out.String())
	return nil
}

package platform

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// Bench measures this machine and prints each number beside its goal. It stops
// and starts the cluster, and leaves it up.
func (p *Platform) Bench(ctx context.Context) error {
	if p.KubeContext != "" {
		return fmt.Errorf("KUBE_CONTEXT is set: the numbers are those of the bundled cluster")
	}
	if err := p.Up(ctx); err != nil {
		return err
	}
	var lines []string
	number := func(name, goal string, value any) {
		lines = append(lines, fmt.Sprintf("%-52s %-14v goal %s", name, value, goal))
	}
	timed := func(do func(context.Context) error) (time.Duration, error) {
		began := time.Now()
		err := do(ctx)
		return console.Round(time.Since(began)), err
	}
	if err := p.Down(ctx); err != nil {
		return err
	}
	alone, err := timed(func(ctx context.Context) error { return p.ClusterUp(ctx) })
	if err != nil {
		return err
	}
	number("cluster alone, from down to ready", "<= 30s", alone)
	if err := p.Down(ctx); err != nil {
		return err
	}
	whole, err := timed(p.Up)
	if err != nil {
		return err
	}
	number("second make up, from down to the page served", "<= 1m0s", whole)

	var previews []time.Duration
	for range 3 {
		d, err := timed(func(ctx context.Context) error { return p.pulumi(ctx, "preview", "--stack", stack) })
		if err != nil {
			return err
		}
		previews = append(previews, d)
	}
	slices.Sort(previews)
	number("pulumi preview, nothing to recompile, median of 3", "<= 5s", previews[1])

	c, err := p.Cluster()
	if err != nil {
		return err
	}
	components, err := c.Status()
	if err != nil {
		return err
	}
	number("memory of all that make up leaves running, PSS", "<= 1536 MiB", fmt.Sprintf("%d MiB", memory(components)>>20))

	cpu, err := p.compile(ctx)
	if err != nil {
		return err
	}
	number("compiling the Pulumi program from an empty cache, CPU", "<= 2m30s", console.Round(cpu))
	p.Out.Plain("\n%s", strings.Join(lines, "\n"))
	return nil
}

// compile builds the Pulumi program with an empty build cache and returns the
// CPU time that took.
func (p *Platform) compile(ctx context.Context) (time.Duration, error) {
	cache, err := os.MkdirTemp("", "loja-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(cache) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", os.DevNull, "./stacks/environment")
	cmd.Dir, cmd.Env = p.Root, append(os.Environ(), "GOCACHE="+cache)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("compiling the Pulumi program: %w\n%s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

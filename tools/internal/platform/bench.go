package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Bench measures start, memory, preview and compilation on this machine, and prints each
// figure with its goal. It stops and starts the cluster, and leaves it up.
func Bench(ctx context.Context, w Workspace) error {
	if !w.bundled() {
		return errors.New("KUBE_CONTEXT is set, and bench measures the bundled cluster only: unset KUBE_CONTEXT")
	}
	if err := Up(ctx, w); err != nil {
		return err
	}
	var lines []string
	number := func(name, goal string, value any) {
		lines = append(lines, fmt.Sprintf("%-52s %-14v goal %s", name, value, goal))
	}
	if err := Down(ctx, w); err != nil {
		return err
	}
	alone, err := timed(func() error { return ClusterUp(ctx, w) })
	if err != nil {
		return err
	}
	number("cluster alone, from down to ready", "<= 30s", alone)
	if err := Down(ctx, w); err != nil {
		return err
	}
	whole, err := timed(func() error { return Up(ctx, w) })
	if err != nil {
		return err
	}
	number("second make up, from down to the page served", "<= 1m0s", whole)

	preview, err := medianPreview(ctx, w)
	if err != nil {
		return err
	}
	number("pulumi preview, nothing to recompile, median of 3", "<= 5s", preview)

	c, err := w.cluster()
	if err != nil {
		return err
	}
	processes, err := c.Status()
	if err != nil {
		return err
	}
	number("memory of everything that make up starts, PSS", "<= 1536 MiB", fmt.Sprintf("%d MiB", memory(processes)>>20))

	cpu, err := compile(ctx, w.Root)
	if err != nil {
		return err
	}
	number("compiling the Pulumi program from an empty cache, CPU", "<= 2m30s", console.Round(cpu))
	w.Out.Plain("\n%s", strings.Join(lines, "\n"))
	return nil
}

func timed(do func() error) (time.Duration, error) {
	began := time.Now()
	err := do()
	return console.Round(time.Since(began)), err
}

// medianPreview returns the median time of three previews.
func medianPreview(ctx context.Context, w Workspace) (time.Duration, error) {
	p, err := openPulumi(w)
	if err != nil {
		return 0, err
	}
	var times []time.Duration
	for range 3 {
		took, err := timed(func() error { return p.run(ctx, "preview", "--stack", stack) })
		if err != nil {
			return 0, err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return times[1], nil
}

// compile builds the Pulumi program with an empty build cache and returns the CPU time.
func compile(ctx context.Context, root string) (time.Duration, error) {
	cache, err := os.MkdirTemp("", "loja-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(cache) }()
	return programBuild(root, cache).Usage(ctx)
}

func programBuild(root, cache string) command.Command {
	return command.Command{
		Args: []string{"go", "build", "-o", os.DevNull, "./stacks/environment"}, Dir: root, Env: append(slices.Clone(goEnv), "GOCACHE="+cache),
	}
}

// BenchCold compiles everything that a first make up compiles, in an empty cache of its own, and
// prints the CPU time of each part. Downloads are not part of it: Go's module cache stays.
func BenchCold(ctx context.Context, w Workspace) error {
	folder, err := os.MkdirTemp(w.Cache.Root, "bench-cold")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	cache := filepath.Join(folder, "go")
	tools := slices.Concat([]toolchain.Tool{toolchain.Kubernetes, toolchain.Ko}, toolchain.Pulumi, toolchain.Images)
	cold := &toolchain.Cache{Root: folder, Pins: w.Cache.Pins, Out: w.Out, Env: []string{"GOCACHE=" + cache}}
	if err := cold.Ensure(ctx, toolchain.InOrder(tools)...); err != nil {
		return err
	}
	programs, err := repo.Programs(w.Root)
	if err != nil {
		return err
	}
	services := []string{
		"go", "build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-tags=nomsgpack,grpcnotrace",
		"-o", filepath.Join(folder, "bin") + "/",
	}
	for _, name := range programs {
		services = append(services, "./"+name)
	}
	own := append(slices.Clone(toolchain.BuildEnv), "GOCACHE="+cache)
	for _, part := range []struct {
		name  string
		build command.Command
	}{
		{"loja", command.Command{
			Args: []string{"go", "build", "-buildvcs=false", "-o", os.DevNull, "./cmd/loja"}, Dir: filepath.Join(w.Root, "tools"), Env: own,
		}},
		{"the shop's programs", command.Command{Args: services, Dir: filepath.Join(w.Root, "apps"), Env: own}},
		{"the Pulumi program", programBuild(w.Root, cache)},
	} {
		began := time.Now()
		cpu, err := part.build.Usage(ctx)
		if err != nil {
			return fmt.Errorf("compiling %s: %w", part.name, err)
		}
		w.Out.Plain("%10s%-34s %8s, %6.0f CPU seconds", "", part.name, console.Round(time.Since(began)), cpu.Seconds())
	}
	return nil
}

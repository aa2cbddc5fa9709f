// Command loja is what the Makefile calls: it brings the local environment up
// and down, ships services and watches their canaries.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/load"
	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/scaffold"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := root().ExecuteContext(ctx)
	var exit postgres.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit) // of a command that has said why
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ninterrupted: what was done so far is kept, the same command goes on from there")
		return 130
	}
	fmt.Fprintln(os.Stderr, "\nerror: "+err.Error())
	return 1
}

// command makes a subcommand without arguments that works on the checkout.
func command(use, short string, run func(context.Context, *platform.Platform) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := platform.Open(console.New(os.Stdout))
		if err != nil {
			return err
		}
		return run(cmd.Context(), p)
	}}
}

func root() *cobra.Command {
	r := &cobra.Command{
		Use: "loja", Short: "Loja Veloz on this machine (settings come from the environment; see make help)",
		SilenceUsage: true, SilenceErrors: true,
	}
	r.AddCommand(
		command("up", "bring the local environment up", func(ctx context.Context, p *platform.Platform) error { return p.Up(ctx) }),
		command("down", "stop it, keep its data", func(ctx context.Context, p *platform.Platform) error { return p.Down(ctx) }),
		command("wipe", "stop it and delete its data", func(ctx context.Context, p *platform.Platform) error { return p.Wipe(ctx) }),
		command("status", "print where the Rollouts stand (SERVICE=...)", func(ctx context.Context, p *platform.Platform) error {
			return p.Status(ctx, os.Getenv("SERVICE"))
		}),
		command("deploy", "ship the working tree's services (SERVICE=..., WAIT=0, LOAD=off)", deploy),
		command("promote", "send a canary to 100 % (SERVICE=...)", func(ctx context.Context, p *platform.Platform) error {
			return p.Promote(ctx, os.Getenv("SERVICE"))
		}),
		command("abort", "take a canary back (SERVICE=...)", func(ctx context.Context, p *platform.Platform) error {
			return p.Abort(ctx, os.Getenv("SERVICE"))
		}),
		command("load", "drive a load at the gateway (URL_PATH=/, RATE=20, REQUESTS=1200)", drive),
		command("preview", "print the plan of an environment of AWS, without an account (STACK=..., ONLINE=1, DIFF=1)", preview),
		command("bench", "print the numbers of this machine", func(ctx context.Context, p *platform.Platform) error { return p.Bench(ctx) }),
		command("new-service", "scaffold a service (NAME=...)", func(_ context.Context, p *platform.Platform) error {
			made, err := scaffold.Service(p.Root, os.Getenv("NAME"))
			if err != nil {
				return err
			}
			p.Out.Plain("made or changed:\n  %s\nnext: make generate (the plan's golden file), make test, make deploy", strings.Join(made, "\n  "))
			return nil
		}),
		command("env", "print the exports that plain pulumi and kubectl need", func(_ context.Context, p *platform.Platform) error {
			env, err := p.Environ()
			if err != nil {
				return err
			}
			for _, v := range env {
				name, value, _ := strings.Cut(v, "=")
				fmt.Printf("export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
			}
			return nil
		}),
		clusterCommand(), toolCommand(), postgresCommand(), benchShopCommand(),
		command("dev", "run the shop on the host, without a cluster (settings: .env)", runDev),
		command("dev-down", "end it from another terminal", func(_ context.Context, p *platform.Platform) error { return dev.Down(p.Local("dev"), p.Out) }),
		command("dev-status", "print its processes", func(ctx context.Context, p *platform.Platform) error { return dev.Status(ctx, p.Local("dev"), p.Out) }),
		command("audit", "check the shop's invariants in its databases", func(ctx context.Context, p *platform.Platform) error {
			runs, err := dev.Runs(p.Local("dev"))
			if err != nil {
				return err
			}
			if runs {
				return dev.Audit(ctx, p.Local("dev"), p.Out)
			}
			return p.Audit(ctx)
		}),
		command("trace", "print the span tree of an order's checkout (ORDER=...)", func(ctx context.Context, p *platform.Platform) error {
			return dev.Trace(ctx, p.Local("dev"), os.Getenv("ORDER"), p.Out)
		}),
	)
	return r
}

func clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "the local Kubernetes alone"}
	bundled := func(run func(context.Context, *platform.Platform) error) func(context.Context, *platform.Platform) error {
		return func(ctx context.Context, p *platform.Platform) error {
			if p.KubeContext != "" {
				return errors.New("KUBE_CONTEXT is set: the bundled cluster is not used")
			}
			return run(ctx, p)
		}
	}
	c.AddCommand(
		command("up", "start it", bundled(func(ctx context.Context, p *platform.Platform) error { return p.ClusterUp(ctx) })),
		command("down", "stop it, keep its data", bundled(func(ctx context.Context, p *platform.Platform) error { return p.Down(ctx) })),
		command("status", "print its components, node and pods", func(ctx context.Context, p *platform.Platform) error { return p.ClusterStatus(ctx) }),
	)
	return c
}

func preview(ctx context.Context, p *platform.Platform) error {
	name := os.Getenv("STACK")
	if name == "" {
		return errors.New("STACK is not set: name an environment, for example STACK=dev")
	}
	online, err := flag("ONLINE")
	if err != nil {
		return err
	}
	diff, err := flag("DIFF")
	if err != nil {
		return err
	}
	var args []string
	if diff {
		args = append(args, "--diff")
	}
	return p.Preview(ctx, name, online, args...)
}

// flag reads 0, 1 or nothing from the environment.
func flag(name string) (bool, error) {
	switch v := os.Getenv(name); v {
	case "", "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return false, fmt.Errorf("%s is %q: use 0 or 1", name, v)
	}
}

// toolCommand builds pinned tools and prints the folder of each, for make.
func toolCommand() *cobra.Command {
	sets := map[string][]toolchain.Tool{"kubernetes": {toolchain.Kubernetes}, "lint": toolchain.Lint, "traefik": {toolchain.Traefik}, "generators": toolchain.Generators, "telemetry": toolchain.Telemetry, "pulumi": append(toolchain.Pulumi, toolchain.Ko)}
	return &cobra.Command{Use: "tool kubernetes|pulumi|lint|generators|telemetry|traefik", Short: "build pinned tools and print their folders, joined as PATH is", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tools, ok := sets[args[0]]
			if !ok {
				return fmt.Errorf("no tools named %q: there are kubernetes, pulumi, lint, generators, telemetry, traefik", args[0])
			}
			p, err := platform.Open(console.New(os.Stderr))
			if err != nil {
				return err
			}
			if err := p.Cache.Ensure(cmd.Context(), tools...); err != nil {
				return err
			}
			var dirs []string
			for _, t := range tools {
				dir, err := p.Cache.Dir(t)
				if err != nil {
					return err
				}
				dirs = append(dirs, dir)
			}
			fmt.Println(strings.Join(dirs, string(filepath.ListSeparator)))
			return nil
		}}
}

// postgresCommand runs commands beside a PostgreSQL that is theirs alone.
func postgresCommand() *cobra.Command {
	ensure := func(ctx context.Context) (postgres.Programs, error) {
		p, err := platform.Open(console.New(os.Stderr))
		if err != nil {
			return postgres.Programs{}, err
		}
		return postgres.Ensure(ctx, p.Cache)
	}
	run := &cobra.Command{
		Use: "run -- command [argument...]", Short: "run a command beside a PostgreSQL that is thrown away after it, with " + postgres.URLVariable + " set",
		Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			// Installed before the supervisor starts, which prints nothing but its URL.
			if _, err := ensure(cmd.Context()); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			return postgres.Run(cmd.Context(), []string{self, "postgres", "supervise"}, args)
		},
	}
	supervise := &cobra.Command{Use: "supervise", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		programs, err := ensure(cmd.Context())
		if err != nil {
			return err
		}
		return programs.Supervise(cmd.Context(), os.Stdin, os.Stdout)
	}}
	c := &cobra.Command{Use: "postgres", Short: "PostgreSQL on this machine"}
	c.AddCommand(run, supervise)
	return c
}

// runDev runs the shop until the first interrupt, which ends it in order; a second
// one ends it at once.
func runDev(ctx context.Context, p *platform.Platform) error {
	context.AfterFunc(ctx, func() {
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again
		os.Exit(130) // which ends every child
	})
	services, err := repo.Services(p.Root)
	if err != nil {
		return err
	}
	settings, err := dev.ReadSettings(filepath.Join(p.Root, ".env"), os.Getenv, services)
	if err != nil {
		return err
	}
	s, err := dev.Start(ctx, dev.Options{
		Dir: p.Local("dev"), Ports: settings.Ports, Services: services, Env: settings.Env, Telemetry: settings.Telemetry, Out: p.Out,
	})
	if err != nil {
		return err
	}
	p.Out.Plain("%s", s.Summary())
	failed := s.Wait(ctx)
	p.Out.Step("stopping (Ctrl-C once more: at once)")
	if err := errors.Join(failed, s.Stop()); err != nil {
		return err
	}
	p.Out.Step("stopped; the data stays in %s", p.Local("dev"))
	return nil
}

func deploy(ctx context.Context, p *platform.Platform) error {
	o := platform.DeployOptions{Wait: true, Load: true}
	if s := os.Getenv("SERVICE"); s != "" {
		o.Services = []string{s}
	}
	switch v := os.Getenv("WAIT"); v {
	case "", "1":
	case "0":
		o.Wait = false
	default:
		return fmt.Errorf("WAIT is %q: use 0 or 1", v)
	}
	switch v := os.Getenv("LOAD"); v {
	case "", "on":
	case "off":
		o.Load = false
	default:
		return fmt.Errorf("LOAD is %q: use on or off", v)
	}
	return p.Deploy(ctx, o)
}

func drive(ctx context.Context, p *platform.Platform) error {
	path := os.Getenv("URL_PATH")
	if path == "" {
		path = "/"
	}
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("URL_PATH is %q: it begins with /", path)
	}
	rate, err := count("RATE", 20, 1000)
	if err != nil {
		return err
	}
	requests, err := count("REQUESTS", 1200, 100_000)
	if err != nil {
		return err
	}
	return p.Load(ctx, load.Target{URL: platform.URL + path, PerSecond: rate, Most: requests})
}

// count reads a positive number from the environment.
func count(name string, unset, most int) (int, error) {
	v := os.Getenv(name)
	if v == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is %q: a whole number from 1 to %d", name, v, most)
	}
	return n, nil
}

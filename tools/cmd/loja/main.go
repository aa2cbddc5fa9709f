// Command loja does the work of the make targets: it starts and stops the local
// environment, ships services and watches their canaries.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/check"
	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/gitserver"
	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/scaffold"
	"github.com/loja-veloz/platform/tools/internal/scan"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// exitWaiting is the exit code when a canary still waits for requests, and when a scan had no database.
const exitWaiting = 3

// exitDrift is the exit code when a stack is not what git says. make ends with 2 whenever a program fails.
const exitDrift = 2

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := cluster.BypassProxy(); err != nil {
		fmt.Fprintln(os.Stderr, "error: "+err.Error())
		return 1
	}
	err := root().ExecuteContext(ctx)
	var exit postgres.ExitError
	var waiting *rollout.WaitingError
	var failed *rollout.FailureError
	var drift *platform.DriftError
	var unavailable *scan.UnavailableError
	var refused *scan.RefusedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit) // the command that Run ran has printed the reason
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\ninterrupted: the work done so far is kept; run the same command again to resume")
		return 130
	}
	fmt.Fprintln(os.Stderr, "\nerror: "+err.Error())
	if errors.As(err, &waiting) && !errors.As(err, &failed) || errors.As(err, &unavailable) && !errors.As(err, &refused) {
		return exitWaiting
	}
	if errors.As(err, &drift) {
		return exitDrift
	}
	return 1
}

// open reads the settings of the machine and of one command, and reports every error at
// once.
func open[S any](out io.Writer, read func(*settings.Reader) S) (w platform.Workspace, s S, err error) {
	root, err := repo.Root()
	if err != nil {
		return w, s, err
	}
	r := settings.NewReader(root)
	s = read(r) // first: a command without a cluster takes any REGISTRY
	machine := r.Machine()
	return platform.Open(root, machine, console.New(out)), s, r.Err()
}

// command returns a subcommand that takes its settings from the environment and has no
// arguments.
func command[S any](
	use, short string, read func(*settings.Reader) S, run func(context.Context, platform.Workspace, S) error,
) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		w, s, err := open(os.Stdout, read)
		if err != nil {
			return err
		}
		return run(cmd.Context(), w, s)
	}}
}

// plain returns a subcommand without settings of its own.
func plain(use, short string, run func(context.Context, platform.Workspace) error) *cobra.Command {
	return command(use, short, (*settings.Reader).None, func(ctx context.Context, w platform.Workspace, _ settings.None) error {
		return run(ctx, w)
	})
}

func root() *cobra.Command {
	r := &cobra.Command{
		Use: "loja", Short: "Loja Veloz on this machine (settings come from the environment; see make help)",
		SilenceUsage: true, SilenceErrors: true,
	}
	r.AddCommand(
		plain("up", "start the whole local environment", platform.Up),
		plain("down", "stop the local environment and keep its data", platform.Down),
		plain("wipe", "stop the local environment and delete its data", platform.Wipe),
		command("deploy", "ship the working tree's services (SERVICE=..., WAIT=0, LOAD=off)", (*settings.Reader).Deploy, platform.Deploy),
		command("status", "print the state of the Rollouts (SERVICE=...)", (*settings.Reader).Services, platform.Status),
		command("promote", "send a canary to 100 % (SERVICE=...)", (*settings.Reader).Service, platform.Promote),
		command("abort", "end a canary: stable gets all traffic again (SERVICE=..., REASON=...)", (*settings.Reader).Abort, platform.Abort),
		command("release", "let an aborted version be shipped again (SERVICE=..., REASON=..., WHAT=...)",
			(*settings.Reader).Release, platform.Release),
		command("publish", "build, push, attest and sign the images of all programs (REGISTRY=..., SIGNING=auto|keyless|key)",
			(*settings.Reader).Publish, platform.Publish),
		verifyCommand(),
		plain("scan", "look for known vulnerabilities in modules and published images, for secrets and misconfigurations in files",
			platform.Scan),
		command("load", "send requests to the gateway (URL_PATH=/, RATE=20, REQUESTS=1200)", (*settings.Reader).Load, platform.Load),
		command("preview", "print the plan of an AWS environment, without an account (STACK=..., ONLINE=1, DIFF=1, COMMENT=file)",
			(*settings.Reader).Preview, platform.Preview),
		command("update", "print the plan of a stack in AWS, and apply it with YES=1 (STACK=...)", (*settings.Reader).Update, platform.Update),
		command("drift", "compare the objects of a stack in AWS with git (STACK=..., COMMENT=file)", (*settings.Reader).Drift, platform.Drift),
		command("record", "write the digests of the last publish into a stack file or its manifests, and commit them with PUSH=1 (STACK=...)",
			(*settings.Reader).Record, platform.Record),
		outputsCommand(),
		command("comment", "put a review on a pull request or into an issue (FILE=..., PULL_REQUEST=... or ISSUE=...)",
			(*settings.Reader).Comment, platform.Post),
		command("check", "run what a change should pass before it is pushed (AGAINST=COMMIT)", (*settings.Reader).Against, checkChange),
		plain("bench", "measure start, memory, preview and compilation on this machine", platform.Bench),
		plain("bench-cold", "measure what a first make up compiles, in an empty cache", platform.BenchCold),
		benchShopCommand(),
		command("new-service", "create a service (NAME=...)", (*settings.Reader).NewService, newService),
		plain("env", "print the exports that plain pulumi and kubectl need", printEnv),
		clusterCommand(), toolCommand(), postgresCommand(), gitServerCommand(),
	)
	r.AddCommand(devCommands()...)
	return r
}

// outputsCommand prints the contract alone on standard output.
func outputsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "outputs", Short: "print what a stack tells those who deploy, as JSON (STACK=..., FORMAT=github)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, s, err := open(os.Stderr, (*settings.Reader).Outputs)
			if err != nil {
				return err
			}
			return platform.Outputs(cmd.Context(), w, s, os.Stdout)
		},
	}
}

func verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [image@digest...]",
		Short: "check that images, or those of the last publish, are signed (SIGNING=auto|keyless|key, SIGNER=...)",
		RunE: func(cmd *cobra.Command, images []string) error {
			w, s, err := open(os.Stdout, (*settings.Reader).Publish)
			if err != nil {
				return err
			}
			if len(images) > 0 {
				s.Images = images
			}
			return platform.Verify(cmd.Context(), w, s)
		},
	}
}

func clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "work on the local cluster alone, without the environment"}
	bundled := func(run func(context.Context, platform.Workspace) error) func(context.Context, platform.Workspace) error {
		return func(ctx context.Context, w platform.Workspace) error {
			if w.KubeContext != "" {
				return errors.New("KUBE_CONTEXT is set, and this command works on the bundled cluster only: unset KUBE_CONTEXT")
			}
			return run(ctx, w)
		}
	}
	c.AddCommand(
		plain("up", "start the cluster", bundled(platform.ClusterUp)),
		plain("down", "stop the cluster and keep its data", bundled(platform.Down)),
		plain("status", "print the cluster's processes, node and pods", platform.ClusterStatus),
	)
	return c
}

// gitServerCommand is a process of the local cluster.
func gitServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "git-server folder address", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return gitserver.Serve(cmd.Context(), args[0], args[1]) },
	}
}

func checkChange(ctx context.Context, w platform.Workspace, against string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return check.Run(ctx, check.Options{Root: w.Root, Self: self, Cache: w.Cache, Out: w.Out, Against: against})
}

func newService(_ context.Context, w platform.Workspace, name string) error {
	files, err := scaffold.Service(w.Root, name)
	if err != nil {
		return err
	}
	w.Out.Plain("created:\n  %s\nNext, run make generate, which adds the service to the golden plans, then make test and make deploy.",
		strings.Join(files, "\n  "))
	return nil
}

func printEnv(_ context.Context, w platform.Workspace) error {
	env, err := platform.Environ(w)
	if err != nil {
		return err
	}
	fmt.Println("unset PULUMI_CONFIG_PASSPHRASE")
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		fmt.Printf("export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return nil
}

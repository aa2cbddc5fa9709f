package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// toolSets are the sets of tools that the Makefile asks for, by name.
var toolSets = map[string][]toolchain.Tool{
	"kubernetes": {toolchain.Kubernetes},
	"traefik":    {toolchain.Traefik},
	"pulumi":     append(slices.Clone(toolchain.Pulumi), toolchain.Ko),
	"lint":       toolchain.Lint,
	"generators": toolchain.Generators,
	"flagger":    {toolchain.Flagger},
	"images":     {toolchain.Ko, toolchain.Cosign},
	"scan":       {toolchain.Govulncheck, toolchain.Trivy},
	"telemetry":  toolchain.Telemetry,
}

// toolCommand builds pinned tools and prints their folders.
func toolCommand() *cobra.Command {
	names := slices.Sorted(maps.Keys(toolSets))
	return &cobra.Command{
		Use: "tool " + strings.Join(names, "|"), Short: "build pinned tools and print their folders, joined as PATH is",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			tools, ok := toolSets[args[0]]
			if !ok {
				return fmt.Errorf("%q is not a set of tools: name one of %s", args[0], strings.Join(names, ", "))
			}
			w, _, err := open(os.Stderr, (*settings.Reader).None)
			if err != nil {
				return err
			}
			if err := w.Cache.Ensure(cmd.Context(), tools...); err != nil {
				return err
			}
			var dirs []string
			for _, t := range tools {
				dir, err := w.Cache.Dir(t)
				if err != nil {
					return err
				}
				dirs = append(dirs, dir)
			}
			fmt.Println(strings.Join(dirs, string(filepath.ListSeparator)))
			return nil
		},
	}
}

// postgresCommand runs commands with a temporary PostgreSQL server.
func postgresCommand() *cobra.Command {
	ensure := func(ctx context.Context) (postgres.Programs, error) {
		w, _, err := open(os.Stderr, (*settings.Reader).None)
		if err != nil {
			return postgres.Programs{}, err
		}
		return postgres.Ensure(ctx, w.Cache)
	}
	run := &cobra.Command{
		Use:   "run -- command [argument...]",
		Short: "run a command with a temporary PostgreSQL, whose URL is in " + postgres.URLVariable,
		Args:  cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			// Install PostgreSQL here, so that the user sees the progress: the supervisor's
			// standard output carries only the URL.
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
	c := &cobra.Command{Use: "postgres", Short: "run PostgreSQL on this machine"}
	c.AddCommand(run, supervise)
	return c
}

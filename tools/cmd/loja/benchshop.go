package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/tools/internal/benchshop"
	"github.com/loja-veloz/platform/tools/internal/platform"
)

// benchShopCommand measures the shop. Its subcommand is the service behind the
// proxies that are compared, as a process of its own.
func benchShopCommand() *cobra.Command {
	c := command("bench-shop", "print the numbers of the shop on this machine (SHORT=1: a trial; ONLY=orders|footprint|gateway)", func(ctx context.Context, p *platform.Platform) error {
		short, err := flag("SHORT")
		if err != nil {
			return err
		}
		o := benchshop.Options{Root: p.Root, Local: p.Local(), Cache: p.Cache, Out: p.Out, Short: short, Env: strings.Fields(os.Getenv("BENCH_ENV"))}
		if only := os.Getenv("ONLY"); only != "" {
			o.Only = strings.Split(only, ",")
		}
		return benchshop.Run(ctx, o)
	})
	c.AddCommand(&cobra.Command{Use: "upstream", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return benchshop.Upstream(cmd.Context(), os.Stdout)
	}})
	return c
}

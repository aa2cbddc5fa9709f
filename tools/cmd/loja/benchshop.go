package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/loja-veloz/platform/tools/internal/benchshop"
	"github.com/loja-veloz/platform/tools/internal/platform"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// benchShopCommand measures the shop. Its hidden subcommand is the upstream of the proxies
// that it compares; it runs as a separate process.
func benchShopCommand() *cobra.Command {
	c := command("bench-shop", "measure the shop on this machine (SHORT=1: a trial, ONLY=PART,... AGAINST=COMMIT)",
		(*settings.Reader).BenchShop, func(ctx context.Context, w platform.Workspace, s settings.BenchShop) error {
			return benchshop.Run(ctx, benchshop.Options{
				Root: w.Root, Local: w.Local(), Cache: w.Cache, Out: w.Out, Short: s.Short, Only: s.Only, Env: s.Env, Against: s.Against,
			})
		})
	c.AddCommand(&cobra.Command{Use: "upstream", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return benchshop.Upstream(cmd.Context(), os.Stdout)
	}})
	return c
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/loja-veloz/platform/apps/console/rollback"
	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

// writeRollbacks is the command rollback: it brings aborted canaries to the git repository from which
// Argo CD deploys, until ctx ends.
func writeRollbacks(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	api := &rollback.API{Applications: env.Label("APPLICATIONS_NAMESPACE", "argocd")}
	var account string
	api.Base, account = readKubernetes(env)
	writer := &rollback.Writer{
		Cluster: api, Namespace: env.Label("SERVICES_NAMESPACE", "shop"), Jaeger: env.Text("JAEGER_PROXY", ""),
		Repository: &rollback.Repository{
			URL: env.HTTPURL("GIT_URL"), Branch: env.Text("GIT_BRANCH", "main"), Path: env.Text("GIT_PATH", ""),
			User: env.Text("GIT_USER", "loja"), TokenFile: env.Text("GIT_TOKEN_FILE", ""),
		},
	}
	for name, value := range map[string]string{"GIT_URL": writer.Repository.URL, "GIT_TOKEN_FILE": writer.Repository.TokenFile} {
		if value == "" {
			env.Reject(name, "is not set")
		}
	}
	frame, err := service.Start(ctx, "rollback", env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	api.Client = http.DefaultClient
	if account != "" {
		if api.Client, api.Authorize, err = sources.Account(account); err != nil {
			return err
		}
	}
	const task = "bring an abort to git"
	frame.Failures.Expect(task)
	writer.Logger = frame.Logger
	writer.Failed = func(ctx context.Context, name string, err error) {
		frame.Failures.Failed(ctx, task, err, slog.String("rollout", name))
	}
	srv, err := frame.NewServer(server.Options{})
	if err != nil {
		return fmt.Errorf("preparing the server: %w", err)
	}
	look := frame.LoopNow("list the Rollouts", rollback.Interval, writer.Look)
	return frame.Serve(ctx, srv, func(ctx context.Context) error {
		defer writer.Wait()
		return look(ctx)
	})
}

package images

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const pauseImage = "registry.k8s.io/pause:3.10"

// Controllers are the images of the local cluster and its controllers.
type Controllers struct {
	Registry Registry
	Tools    []toolchain.Tool // that run in the cluster
	GitOps   bool             // Argo CD and its cache too
	Pull     bool             // copy the images from upstream instead of packing the tools built here
	Cache    *toolchain.Cache
	Sources  string // folder of the Go module with pause and postgres-entrypoint
	Programs string // folder for the binaries of these two
	Out      *console.Console
}

// Fill pushes the images that the registry lacks.
func (c Controllers) Fill(ctx context.Context) error {
	if err := c.put(ctx, pauseImage, "", false, c.pushPause); err != nil {
		return err
	}
	if err := c.Registry.PushBase(ctx); err != nil {
		return err
	}
	for _, t := range c.Tools {
		if err := c.put(ctx, t.Image, t.Digest, c.Pull, func(ctx context.Context) error { return c.pushTool(ctx, t) }); err != nil {
			return err
		}
	}
	if err := c.put(ctx, PostgreSQL, "", c.Pull, c.pushPostgreSQL); err != nil || !c.GitOps {
		return err
	}
	if err := c.put(ctx, toolchain.ArgoCD.Image, "", c.Pull, c.pushArgoCD); err != nil {
		return err
	}
	return c.put(ctx, Redis, "", c.Pull, c.Registry.PushRedis)
}

// put copies an image from upstream if pull is set, and calls push otherwise. It does
// nothing if the registry has the image. The digest may be empty.
func (c Controllers) put(ctx context.Context, image, digest string, pull bool, push func(context.Context) error) error {
	if has, err := c.Registry.Has(ctx, image); err != nil || has {
		return err
	}
	if !pull {
		return push(ctx)
	}
	c.Out.Step("pulling %s", image)
	if err := c.Registry.Copy(ctx, image, digest); err != nil {
		return fmt.Errorf("%w; to build the image instead, set IMAGES=build", err)
	}
	return nil
}

func (c Controllers) pushPause(ctx context.Context) error {
	binary, err := c.build(ctx, "pause", "./pause")
	if err != nil {
		return err
	}
	program, err := Program(binary, "/pause")
	if err != nil {
		return err
	}
	return c.Registry.Push(ctx, pauseImage, "/pause", program)
}

func (c Controllers) pushTool(ctx context.Context, t toolchain.Tool) error {
	binary, err := c.Cache.Binary(t, t.Name)
	if err != nil {
		return err
	}
	program, err := Program(binary, t.Path)
	if err != nil {
		return err
	}
	return c.Registry.Push(ctx, t.Image, t.Path, append(Base(), program)...)
}

func (c Controllers) pushArgoCD(ctx context.Context) error {
	binary, err := c.Cache.Binary(toolchain.ArgoCD, toolchain.ArgoCD.Name)
	if err != nil {
		return err
	}
	return c.Registry.PushArgoCD(ctx, binary)
}

func (c Controllers) pushPostgreSQL(ctx context.Context) error {
	native, err := postgres.Native(ctx, c.Cache)
	if err != nil {
		return err
	}
	entrypoint, err := c.build(ctx, "postgres-entrypoint", "./cmd/postgres-entrypoint")
	if err != nil {
		return err
	}
	return c.Registry.PushPostgreSQL(ctx, native, entrypoint)
}

// build builds a static program for an image.
func (c Controllers) build(ctx context.Context, name, pkg string) (string, error) {
	binary := filepath.Join(c.Programs, name)
	return binary, command.Command{
		Args: []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, pkg},
		Dir:  c.Sources, Env: toolchain.BuildEnv,
	}.Run(ctx)
}

package images

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// baseImage is what services' images are built on, below the registry's name.
const baseImage = "loja/base:1"

// Ko builds the images of the shop's programs and pushes them.
type Ko struct {
	Program  string // ko itself
	Registry string // that gets the images
	Apps     string // folder of the Go module with a folder per program
	Env      []string
	Out      *console.Console
}

// PushBase pushes the image that the others are built on.
func (k Ko) PushBase(ctx context.Context) error { return Registry(k.Registry).PushBase(ctx) }

// PushBase pushes the image that services' images are built on.
func (r Registry) PushBase(ctx context.Context) error {
	return r.Push(ctx, string(r)+"/"+baseImage, "", Base()...)
}

// Build builds the images of programs and returns their references by digest.
func (k Ko) Build(ctx context.Context, programs []string) (map[string]string, error) {
	refs := map[string]string{}
	for _, name := range programs {
		began := time.Now()
		text, err := command.Command{
			Args: []string{k.Program, "build", "--base-import-paths", "--platform=linux/" + runtime.GOARCH, "--sbom=spdx", "./" + name},
			Dir:  k.Apps,
			// GOWORK: only apps/go.sum decides what is in an image.
			Env: slices.Concat(k.Env, []string{
				"KO_DOCKER_REPO=" + k.Registry, "KO_DEFAULTBASEIMAGE=" + k.Registry + "/" + baseImage,
				"GOWORK=off", "GOFLAGS=-buildvcs=false",
			}),
		}.Text(ctx)
		if err != nil {
			return nil, fmt.Errorf("building the image of %s: %w", name, err)
		}
		ref := strings.TrimSpace(text[strings.LastIndex(text, "\n")+1:])
		if !strings.Contains(ref, "@sha256:") {
			return nil, fmt.Errorf("building the image of %s: ko printed %q, not a digest", name, ref)
		}
		refs[name] = ref
		k.Out.Step("image of %s: %s (%s)", name, ref, console.Round(time.Since(began)))
	}
	return refs, nil
}

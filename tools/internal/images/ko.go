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

// baseImage is the base image of the services' images, without the registry's name.
const baseImage = "loja/base:1"

// Ko builds the images of the shop's programs and pushes them.
type Ko struct {
	Program  string // path or name of ko
	Registry string // that the images are pushed to
	Apps     string // folder of the Go module that has a folder per program
	Env      []string
	Out      *console.Console
}

// PushBase pushes the base image.
func (k Ko) PushBase(ctx context.Context) error { return Registry(k.Registry).PushBase(ctx) }

// PushBase pushes the base image of the services' images.
func (r Registry) PushBase(ctx context.Context) error {
	return r.Push(ctx, string(r)+"/"+baseImage, "", Base()...)
}

// Build builds and pushes the images of programs. It returns their references, which contain
// the digest, by program.
func (k Ko) Build(ctx context.Context, programs []string) (map[string]string, error) {
	refs := map[string]string{}
	for _, name := range programs {
		began := time.Now()
		text, err := command.Command{
			Args: []string{k.Program, "build", "--base-import-paths", "--platform=linux/" + runtime.GOARCH, "--sbom=spdx", "./" + name},
			Dir:  k.Apps,
			// GOWORK=off makes apps/go.sum alone decide what an image contains.
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

package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// baseImage is the base image of the services' images, without the registry's name.
const baseImage = "loja/base:1"

// Ko builds the images of the shop's programs and pushes them.
type Ko struct {
	Program  string // ko itself
	Registry string // that gets the images
	// Anonymous registries need no credentials, so that Docker's configuration is not read.
	Anonymous bool
	Apps      string // folder of the Go module with a folder per program
	Fault     string // that the programs inject, for a drill; none if empty
	Scratch   string // folder for the configuration of such a build
	Env       []string
	Out       *console.Console
	// Architectures are those of the nodes, as Go names them. With more than one, an image is an
	// index with one image for each.
	Architectures []string
}

// PushBase pushes the base image.
func (k Ko) PushBase(ctx context.Context) error {
	return Registry(k.Registry).PushBase(ctx, k.credentials()...)
}

// credentials are those of Docker's configuration, as ko itself uses them.
func (k Ko) credentials() []remote.Option {
	if k.Anonymous {
		return nil
	}
	return []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

// PushBase pushes the base image of the services' images, for all architectures on which a cluster
// runs them.
func (r Registry) PushBase(ctx context.Context, options ...remote.Option) error {
	ref, err := name.ParseReference(string(r) + "/" + baseImage)
	if err != nil {
		return err
	}
	index, err := baseIndex()
	if err != nil {
		return fmt.Errorf("packing %s: %w", ref, err)
	}
	if err := remote.WriteIndex(ref, index, append(options, remote.WithContext(ctx))...); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	return nil
}

func baseIndex() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := pack(Process{}, architecture, Base())
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	return index, nil
}

const (
	// DrillFolder is where images lie that inject a fault. Environments in a cloud refuse
	// them by this part of the name.
	DrillFolder = "drill"
	// faultFlag is the linker's flag that gives a program its fault.
	faultFlag = "-X=github.com/loja-veloz/platform/apps/internal/fault.text="
)

// environ tells ko where images go, and how they are built.
func (k Ko) environ() ([]string, error) {
	env := slices.Concat(k.Env, koGo, []string{"KO_DEFAULTBASEIMAGE=" + k.Registry + "/" + baseImage})
	if k.Anonymous {
		// Without this, ko asks the credential helper that Docker's configuration names, and fails
		// if it is not installed.
		credentials := filepath.Join(k.Scratch, "ko-credentials")
		if err := os.MkdirAll(credentials, 0o755); err != nil {
			return nil, err
		}
		env = append(env, "DOCKER_CONFIG="+credentials)
	}
	if k.Fault == "" {
		return append(env, "KO_DOCKER_REPO="+k.Registry), nil
	}
	config, err := os.ReadFile(filepath.Join(k.Apps, ".ko.yaml"))
	if err != nil {
		return nil, err
	}
	const tags, flags = "-tags=", "defaultLdflags: ["
	drill := strings.NewReplacer(tags, tags+"drill,", flags, flags+faultFlag+k.Fault+", ").Replace(string(config))
	if strings.Count(drill, "drill,") != 1 || strings.Count(drill, faultFlag) != 1 {
		return nil, errors.New("apps/.ko.yaml has no line of tags, or none of linker flags, that a drill could add to")
	}
	folder := filepath.Join(k.Scratch, "ko-drill")
	if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, ".ko.yaml"), []byte(drill), 0o600)); err != nil {
		return nil, err
	}
	return append(env, "KO_CONFIG_PATH="+folder, "KO_DOCKER_REPO="+k.Registry+"/"+DrillFolder), nil
}

// arguments are those of ko, without the program to build.
func (k Ko) arguments() []string {
	return []string{k.Program, "build", "--base-import-paths", "--platform=linux/" + strings.Join(k.Architectures, ",linux/"), "--sbom=spdx"}
}

// koGo are the variables of Go in a build: only apps/go.sum decides what is in an image.
var koGo = []string{"GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0"}

// Build builds the images of programs and returns their references by digest. An image whose
// inputs have not changed since it was built, and which the registry has, is not built again.
func (k Ko) Build(ctx context.Context, programs []string) (map[string]string, error) {
	refs := map[string]string{}
	env, err := k.environ()
	if err != nil {
		return nil, err
	}
	inputs, err := k.inputs(ctx)
	if err != nil {
		return nil, err
	}
	images, err := k.readImages()
	if err != nil {
		return nil, err
	}
	for _, name := range programs {
		began := time.Now()
		if b := images[name]; b.Inputs == inputs && k.has(ctx, b.Image) {
			refs[name] = b.Image
			k.Out.Step("image of %s: %s (unchanged)", name, b.Image)
			continue
		}
		text, err := command.Command{
			Args: append(k.arguments(), "./"+name), Dir: k.Apps, Env: env,
		}.Text(ctx)
		if err != nil {
			return nil, fmt.Errorf("building the image of %s: %w", name, err)
		}
		ref := strings.TrimSpace(text[strings.LastIndex(text, "\n")+1:])
		if !strings.Contains(ref, "@sha256:") {
			return nil, fmt.Errorf("building the image of %s: ko printed %q, not a digest", name, ref)
		}
		refs[name] = ref
		if after, err := k.inputs(ctx); err != nil {
			return nil, err
		} else if after == inputs { // or else somebody changed a source during the build
			images[name] = builtImage{inputs, ref}
			if err := k.writeImages(images); err != nil {
				return nil, err
			}
		}
		k.Out.Step("image of %s: %s (%s)", name, ref, console.Round(time.Since(began)))
	}
	return refs, nil
}

package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// A builtImage is an image with the hash of what it was built from.
type builtImage struct{ Inputs, Image string }

func (k Ko) imagesFile() string { return filepath.Join(k.Scratch, "images.json") }

// readImages returns the images that were built before, by program.
func (k Ko) readImages() (map[string]builtImage, error) {
	images := map[string]builtImage{}
	b, err := os.ReadFile(k.imagesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return images, nil
	}
	if err != nil {
		return nil, err
	}
	if !json.Valid(b) { // an interrupted write: everything is built again
		return images, nil
	}
	if err := json.Unmarshal(b, &images); err != nil {
		return nil, fmt.Errorf("%s: %w; delete it", k.imagesFile(), err)
	}
	return images, nil
}

func (k Ko) writeImages(images map[string]builtImage) error {
	b, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(k.imagesFile(), b, 0o644)
}

// has reports whether the registry has the image. Whoever gets no answer builds it.
func (k Ko) has(ctx context.Context, image string) bool {
	ref, err := name.ParseReference(image)
	if err != nil {
		return false
	}
	options := append(k.credentials(), remote.WithContext(ctx), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	_, err = remote.Head(ref, options...)
	return err == nil
}

// elsewhere are the modules of this repo that apps uses from other folders, by its go.mod.
var elsewhere = regexp.MustCompile(`(?m)=> (\.\./\S+)\s*$`)

// inputs returns a hash of all that decides what is in the programs' images: ko and its arguments,
// the Go version and its settings, the base image, the registry, the processors, the fault, and every
// source file, tests and documents aside.
func (k Ko) inputs(ctx context.Context) (string, error) {
	program, err := filepath.EvalSymlinks(k.Program) // the folder in the cache has the version
	if err != nil {
		program = k.Program
	}
	h := sha256.New()
	base, err := baseIndex()
	if err != nil {
		return "", err
	}
	digest, err := base.Digest()
	if err != nil {
		return "", err
	}
	settings, err := command.Command{
		Args: []string{"go", "env", "GOVERSION", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOFIPS140"}, Dir: k.Apps, Env: koGo,
	}.Text(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, program, k.arguments()[1:], koGo, settings, k.Registry, k.Fault, digest)
	mod, err := os.ReadFile(filepath.Join(k.Apps, "go.mod"))
	if err != nil {
		return "", err
	}
	folders := []string{k.Apps}
	for _, m := range elsewhere.FindAllSubmatch(mod, -1) {
		folders = append(folders, filepath.Join(k.Apps, string(m[1])))
	}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".md") {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			fmt.Fprintln(h, path, info.Size())
			_, err = io.Copy(h, f)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

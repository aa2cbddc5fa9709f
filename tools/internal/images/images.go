// Package images pushes images to a registry: those of the shop's programs, and those of
// third-party tools, either packed from the tools that were built here or copied from the
// upstream registries. Manifests keep the upstream names, because containerd asks the
// registry on localhost first.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// User is the non-root user of every image, and its group.
const User = "65532"

// A Registry is the host:port of a registry without TLS.
type Registry string

// Local returns the name of an upstream image in this registry. Like containerd's mirrors,
// it keeps the repository's name and replaces the host.
func (r Registry) Local(upstream string) (name.Reference, error) {
	ref, err := name.ParseReference(upstream)
	if err != nil {
		return nil, err
	}
	return name.ParseReference(fmt.Sprintf("%s/%s:%s", r, ref.Context().RepositoryStr(), ref.Identifier()), name.Insecure)
}

// Has reports whether the registry holds the upstream image.
func (r Registry) Has(ctx context.Context, upstream string) (bool, error) {
	ref, err := r.Local(upstream)
	if err != nil {
		return false, err
	}
	_, err = remote.Head(ref, remote.WithContext(ctx))
	var te *transport.Error
	if errors.As(err, &te) && te.StatusCode == http.StatusNotFound {
		return false, nil
	}
	return err == nil, err
}

// Reachable reports whether the upstream registries have the images of all tools and answer
// within three seconds.
func Reachable(ctx context.Context, tools []toolchain.Tool) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, t := range tools {
		ref, err := upstreamOf(t.Image, t.Digest)
		if err != nil {
			return false
		}
		if _, err := remote.Head(ref, remote.WithContext(ctx), remote.WithRetryBackoff(remote.Backoff{Steps: 1})); err != nil {
			return false
		}
	}
	return true
}

// upstreamOf returns the reference of an upstream image, by its digest if that is known.
func upstreamOf(image, digest string) (name.Reference, error) {
	ref, err := name.ParseReference(image)
	if err != nil || digest == "" {
		return ref, err
	}
	return ref.Context().Digest(digest), nil
}

// Copy copies the upstream image to this registry. If the digest is not empty, another image with
// the same tag is refused.
func (r Registry) Copy(ctx context.Context, upstream, digest string) error {
	src, err := upstreamOf(upstream, digest)
	if err != nil {
		return err
	}
	dst, err := r.Local(upstream)
	if err != nil {
		return err
	}
	img, err := remote.Image(src, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return fmt.Errorf("pulling %s: %w", upstream, err)
	}
	if err := remote.Write(dst, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %s: %w", dst, err)
	}
	return nil
}

// A File is one file of an image, or a folder if its path ends with a slash.
type File struct {
	Path  string
	Mode  int64
	Data  []byte
	Link  string // target, if it is a symbolic link
	Owner int    // number of the user and of the group
}

// A Process says what an image runs.
type Process struct {
	Entrypoint, Args []string
	User             string // number; empty means User
	Env              []string
	StopSignal       string
}

// Push packs files into an image and pushes it under the upstream name. The same files give
// the same digest, because the image contains no time and no path of this machine.
func (r Registry) Push(ctx context.Context, upstream, entrypoint string, files ...File) error {
	var process Process
	if entrypoint != "" {
		process.Entrypoint = []string{entrypoint}
	}
	return r.PushProcess(ctx, upstream, process, files...)
}

// PushProcess is Push for an image whose process needs more than an entrypoint.
func (r Registry) PushProcess(ctx context.Context, upstream string, process Process, files ...File) error {
	ref, err := r.Local(upstream)
	if err != nil {
		return err
	}
	img, err := pack(process, runtime.GOARCH, files)
	if err != nil {
		return fmt.Errorf("packing %s: %w", upstream, err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	return nil
}

// Base returns the files of the base image of every service: its user. Root certificates are
// compiled into the programs (package x509roots/fallback), so that the image is the same on
// every machine.
func Base() []File {
	const (
		users  = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:" + User + ":" + User + ":nonroot:/:/sbin/nologin\n"
		groups = "root:x:0:\nnonroot:x:" + User + ":\n"
	)
	return []File{
		{Path: "etc/passwd", Mode: 0o644, Data: []byte(users)},
		{Path: "etc/group", Mode: 0o644, Data: []byte(groups)},
	}
}

// Program reads a binary as the file of an image.
func Program(binary, at string) (File, error) {
	b, err := os.ReadFile(binary)
	return File{Path: strings.TrimPrefix(at, "/"), Mode: 0o755, Data: b}, err
}

func pack(process Process, architecture string, files []File) (v1.Image, error) {
	content, err := archive(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		// The registry is on this machine, so fast compression saves more time than a small
		// layer.
		tarball.WithCompressionLevel(1), tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	user := process.User
	if user == "" {
		user = User
	}
	config.Config.User = user + ":" + user
	config.Config.Entrypoint, config.Config.Cmd = process.Entrypoint, process.Args
	config.Config.Env, config.Config.StopSignal = process.Env, process.StopSignal
	return mutate.ConfigFile(img, config)
}

// archive returns the tar archive of files and the folders above them.
func archive(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	written := map[string]bool{".": true}
	for _, f := range files {
		for _, dir := range parents(strings.TrimSuffix(f.Path, "/")) {
			if written[dir] {
				continue
			}
			written[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, Format: tar.FormatPAX}); err != nil {
				return nil, err
			}
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.Path, Mode: f.Mode, Size: int64(len(f.Data)), Uid: f.Owner, Gid: f.Owner, Format: tar.FormatPAX,
		}
		switch {
		case f.Link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Link, 0o777
		case strings.HasSuffix(f.Path, "/"):
			header.Typeflag = tar.TypeDir
			written[strings.TrimSuffix(f.Path, "/")] = true
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// parents returns the folders above a path, outermost first.
func parents(p string) []string {
	var dirs []string
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		dirs = append([]string{dir}, dirs...)
	}
	return dirs
}

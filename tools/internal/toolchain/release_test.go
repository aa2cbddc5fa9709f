package toolchain

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// program is the content of the program in archived. It does not compress, so that a part of the
// archive is a part of it.
var program = func() []byte {
	b := make([]byte, 0, 1<<20)
	for sum := sha256.Sum256(nil); len(b) < 1<<20; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b
}()

func tarOf(t *testing.T, at string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"dir/other", []byte("other")}, {at, program}} {
		header := &tar.Header{Name: file.name, Mode: 0o755, Size: int64(len(file.content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(file.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func archived(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(tarOf(t, "dir/x")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// releasing returns a cache and a tool whose release the handler serves.
func releasing(t *testing.T, source Source, archive []byte, handler http.HandlerFunc) (*Cache, Tool, *strings.Builder) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	var out strings.Builder
	c := &Cache{Root: t.TempDir(), Pins: t.TempDir(), Out: console.New(&out), Source: source, Stall: 200 * time.Millisecond}
	if err := os.Mkdir(filepath.Join(c.Pins, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	return c, Tool{Name: "x", Version: "1", Pin: "p", Releases: []Release{{
		URL: server.URL + "/x-{arch}.tar.gz", Sums: map[string]string{runtime.GOARCH: sha(archive)},
		From: "the project's list", Files: map[string]string{"x": "dir/x"},
	}}}, &out
}

// provided fails unless the tool's program is the released one.
func provided(t *testing.T, c *Cache, tool Tool) {
	t.Helper()
	path, err := c.Binary(tool, "x")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	info, _ := os.Stat(path)
	if err != nil || !bytes.Equal(b, program) || info.Mode().Perm()&0o111 == 0 {
		t.Fatalf("the program has %d bytes, want the %d of the release, and may run: %v", len(b), len(program), err)
	}
	if !c.Has(tool) {
		t.Error("the cache does not have the tool")
	}
	if _, err := os.Stat(c.downloads()); !os.IsNotExist(err) {
		t.Errorf("the archive was kept: %v", err)
	}
}

func serveFile(archive []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(archive))
	}
}

func TestReleaseIsTaken(t *testing.T) {
	archive := archived(t)
	c, tool, _ := releasing(t, Released, archive, func(w http.ResponseWriter, r *http.Request) {
		if want := "/x-" + runtime.GOARCH + ".tar.gz"; r.URL.Path != want {
			t.Errorf("%s %s, want %s", r.Method, r.URL.Path, want)
		}
		serveFile(archive)(w, r)
	})
	if err := c.Ensure(t.Context(), tool); err != nil {
		t.Fatal(err)
	}
	provided(t, c, tool)
	c.Source = Built
	if c.Has(tool) {
		t.Error("with TOOLS=build the release counts as a build")
	}
}

// TestBrokenDownloadGoesOn breaks the connection, or stops sending, after a part of the archive.
func TestBrokenDownloadGoesOn(t *testing.T) {
	archive := archived(t)
	for name, end := range map[string]func(r *http.Request){
		"broken":  func(*http.Request) { panic(http.ErrAbortHandler) },
		"stalled": func(r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			var gets, ranged atomic.Int32
			c, tool, _ := releasing(t, Released, archive, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					ranged.Add(1)
				}
				if r.Method == http.MethodGet && gets.Add(1) == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
					_, _ = w.Write(archive[:len(archive)/2])
					w.(http.Flusher).Flush()
					end(r)
					return
				}
				serveFile(archive)(w, r)
			})
			if err := c.Ensure(t.Context(), tool); err != nil {
				t.Fatal(err)
			}
			provided(t, c, tool)
			if ranged.Load() != 1 {
				t.Errorf("%d of %d requests asked for the rest, want 1", ranged.Load(), gets.Load())
			}
		})
	}
}

// TestServerWithoutRanges sends all of the archive again after a broken connection.
func TestServerWithoutRanges(t *testing.T) {
	archive := archived(t)
	var gets atomic.Int32
	c, tool, _ := releasing(t, Released, archive, func(w http.ResponseWriter, _ *http.Request) {
		if gets.Add(1) == 1 {
			_, _ = w.Write(archive[:len(archive)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(archive)
	})
	if err := c.Ensure(t.Context(), tool); err != nil {
		t.Fatal(err)
	}
	provided(t, c, tool)
}

// TestWrongReleaseIsRefused serves what is not the release. With TOOLS=release that is an error;
// with auto the tool is left to compile, with the reason.
func TestWrongReleaseIsRefused(t *testing.T) {
	archive := archived(t)
	changed := bytes.Clone(archive)
	changed[len(changed)/2]++
	for name, of := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"another checksum": {serveFile(changed), "the file has the checksum " + sha(changed) + ", and the project's list publishes " + sha(archive)},
		"a part":           {serveFile(archive[:len(archive)-1]), "and the project's list publishes " + sha(archive)},
		"nothing there":    {http.NotFound, "the answer is 404 Not Found"},
		"always broken": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				panic(http.ErrAbortHandler)
			}
		}, "gave up after 5 tries without progress"},
		"silent": {func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				<-r.Context().Done()
			}
		}, "no byte for 200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			c, tool, out := releasing(t, Released, archive, of.handler)
			err := c.Ensure(t.Context(), tool)
			if err == nil || !strings.Contains(err.Error(), of.want) || !strings.HasSuffix(err.Error(), "set TOOLS=build") {
				t.Errorf("TOOLS=release: %v\nwant %q, and how to compile", err, of.want)
			}
			c.Source = Auto
			left, err := c.take(t.Context(), []Tool{tool})
			if err != nil || len(left) != 1 || !strings.Contains(out.String(), "compiling x: ") {
				t.Errorf("TOOLS=auto leaves %d tools, %v, want x, and says\n%s", len(left), err, out)
			}
			if left, _ := filepath.Glob(filepath.Join(c.Root, "tools", "*.downloading")); len(left) > 0 {
				t.Errorf("the refused release left %v", left)
			}
			if c.Has(tool) {
				t.Error("the cache has the tool")
			}
		})
	}
}

// TestUnreachableReleaseIsCompiled has auto say why it compiles.
func TestUnreachableReleaseIsCompiled(t *testing.T) {
	c, tool, out := releasing(t, Auto, nil, http.NotFound)
	tool.Releases[0].URL = "http://127.0.0.1:1/x.tar.gz"
	left, err := c.take(t.Context(), []Tool{tool, {Name: "y"}})
	if err != nil || len(left) != 2 || !strings.Contains(out.String(), "compiling x: releases cannot be reached: ") {
		t.Errorf("auto leaves %d of 2 tools, %v, and says\n%s", len(left), err, out)
	}
}

func TestReleaseWithoutTheProgram(t *testing.T) {
	archive := archived(t)
	c, tool, _ := releasing(t, Released, archive, serveFile(archive))
	tool.Releases[0].Files["y"] = "dir/y"
	if err := c.Ensure(t.Context(), tool); err == nil || !strings.Contains(err.Error(), "it has no dir/y") {
		t.Errorf("an archive without dir/y: %v", err)
	}
}

// TestMirrors asks a mirror for an archive and for an image, by the host and the path of each.
func TestMirrors(t *testing.T) {
	archive := archived(t)
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	c, tool, _ := releasing(t, Auto, archive, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/") {
			images.ServeHTTP(w, r)
			return
		}
		if r.URL.Path != "/dl.example/x.tar.gz" {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		serveFile(archive)(w, r)
	})
	c.Mirror = strings.TrimSuffix(tool.Releases[0].URL, "/x-{arch}.tar.gz")
	tool.Releases[0].URL = "https://dl.example/x.tar.gz"

	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf(t, "usr/bin/y"))), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
		Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
	}})
	ref, err := name.ParseReference(strings.TrimPrefix(c.Mirror, "http://") + "/registry.example/y:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	tool.Releases = append(tool.Releases, Release{
		URL: "oci://registry.example/y", Sums: map[string]string{runtime.GOARCH: digest.String()}, Files: map[string]string{"y": "usr/bin/y"},
	})
	if err := c.Ensure(t.Context(), tool); err != nil {
		t.Fatal(err)
	}
	provided(t, c, tool)
	path, err := c.Binary(tool, "y")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, program) {
		t.Errorf("the program of the image has %d bytes, want %d: %v", len(b), len(program), err)
	}
}

// TestReleasesNameTheirSource checks the pinned releases of all tools.
func TestReleasesNameTheirSource(t *testing.T) {
	for _, tool := range append([]Tool{Kubernetes, Ko}, append(Pulumi, Images...)...) {
		for _, r := range tool.Releases {
			for _, arch := range []string{"amd64", "arm64"} {
				algorithm, sum, _ := strings.Cut(r.Sums[arch], ":")
				if want := map[string]int{"sha256": 64, "sha512": 128}[algorithm]; want == 0 || len(sum) != want {
					t.Errorf("%s, %s: the checksum %q has no known length", r.URL, arch, r.Sums[arch])
				}
			}
			if r.From == "" || len(r.Files) == 0 || !strings.HasPrefix(r.URL, "https://") && !strings.HasPrefix(r.URL, "oci://") {
				t.Errorf("the release %+v names no source, no program or no https address", r)
			}
		}
	}
}

// TestToolsAreProvidedOnce has two processes' caches ask for the same tool at the same time.
func TestToolsAreProvidedOnce(t *testing.T) {
	archive := archived(t)
	var gets atomic.Int32
	c, tool, _ := releasing(t, Released, archive, func(w http.ResponseWriter, r *http.Request) {
		gets.Add(1)
		serveFile(archive)(w, r)
	})
	other := *c
	other.Out = console.New(io.Discard)
	done := make(chan error, 1)
	go func() { done <- other.Ensure(t.Context(), tool) }()
	if err := errors.Join(c.Ensure(t.Context(), tool), <-done); err != nil {
		t.Error(err)
	}
	provided(t, c, tool)
	if gets.Load() != 1 {
		t.Errorf("the archive was downloaded %d times", gets.Load())
	}
}

package images

import (
	"archive/tar"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestPackIsReproducibleAndNonRoot(t *testing.T) {
	files := append(Base(), File{Path: "bin/program", Mode: 0o755, Data: []byte("binary")})
	first, err := pack(Process{Entrypoint: []string{"/bin/program"}}, "arm64", files)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pack(Process{Entrypoint: []string{"/bin/program"}}, "arm64", files)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := first.Digest()
	b, _ := second.Digest()
	if a != b {
		t.Errorf("the same files give the digests %s and %s", a, b)
	}
	config, err := first.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != User+":"+User {
		t.Errorf("the image runs as %q, want %s:%s", config.Config.User, User, User)
	}
	if !config.Created.IsZero() {
		t.Errorf("the image has a time of creation: %s", config.Created)
	}
}

// TestBaseForEveryProcessor pushes the base image and reads it for both processors.
func TestBaseForEveryProcessor(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	r := Registry(strings.TrimPrefix(server.URL, "http://") + "/folder")
	if err := r.PushBase(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(string(r) + "/" + baseImage) // where ko looks for it
	if err != nil {
		t.Fatal(err)
	}
	for _, architecture := range []string{"amd64", "arm64"} {
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
		if err != nil {
			t.Errorf("%s: %v", architecture, err)
			continue
		}
		if config, err := image.ConfigFile(); err != nil || config.Architecture != architecture {
			t.Errorf("the image for %s is for %s (%v)", architecture, config.Architecture, err)
		}
	}
}

func TestPackHasEveryFileAndItsFolders(t *testing.T) {
	img, err := pack(Process{}, "amd64", []File{{Path: "usr/local/bin/program", Mode: 0o755, Data: []byte("binary")}})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var names []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := []string{"usr/", "usr/local/", "usr/local/bin/", "usr/local/bin/program"}
	if len(names) != len(want) {
		t.Fatalf("the layer holds %v, want %v", names, want)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Errorf("entry %d is %s, want %s", i, names[i], want[i])
		}
	}
}

func TestLocalDropsTheHost(t *testing.T) {
	for upstream, want := range map[string]string{
		"quay.io/argoproj/argo-rollouts:v1.9.1":  "localhost:5000/argoproj/argo-rollouts:v1.9.1",
		"docker.io/library/traefik:v3.6.7":       "localhost:5000/library/traefik:v3.6.7",
		"registry.k8s.io/coredns/coredns:v1.2.0": "localhost:5000/coredns/coredns:v1.2.0",
	} {
		ref, err := Registry("localhost:5000").Local(upstream)
		if err != nil || ref.String() != want {
			t.Errorf("Local(%s) = %v, %v, want %s", upstream, ref, err, want)
		}
	}
}

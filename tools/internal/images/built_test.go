package images

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// TestUnchangedImagesAreNotBuiltAgain builds by a stand-in for ko that counts its calls and names an
// image that the registry has.
func TestUnchangedImagesAreNotBuiltAgain(t *testing.T) {
	serve := func() (Registry, string) {
		server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		t.Cleanup(server.Close)
		r := Registry(strings.TrimPrefix(server.URL, "http://"))
		if err := r.PushBase(t.Context()); err != nil {
			t.Fatal(err)
		}
		index, err := baseIndex()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return r, string(r) + "/loja/base@" + digest.String()
	}
	r, image := serve()
	root := t.TempDir()
	apps, calls, program := filepath.Join(root, "apps"), filepath.Join(root, "calls"), filepath.Join(root, "ko")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(apps, 0o755); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(apps, "go.mod"), "module apps\n")
	script := func(more string) { write(program, "#!/bin/sh\necho x >>"+calls+"\n"+more+"\necho "+image+"\n") }
	script("")
	ko := Ko{
		Program: program, Registry: string(r), Anonymous: true, Apps: apps, Scratch: root, Out: console.New(io.Discard),
		Architectures: []string{"amd64"},
	}
	built := 0
	build := func(what string, want int) {
		t.Helper()
		refs, err := ko.Build(t.Context(), []string{"shop"})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		b, err := os.ReadFile(calls)
		if err != nil {
			t.Fatal(err)
		}
		now := strings.Count(string(b), "x")
		if now-built != want || refs["shop"] != image {
			t.Errorf("%s: ko was called %d times, want %d; the image is %s", what, now-built, want, refs["shop"])
		}
		built = now
	}
	build("for the first time", 1)
	build("again", 0)
	write(filepath.Join(apps, "main.go"), "package main")
	build("after a change", 1)
	write(filepath.Join(root, "images.json"), "{")
	build("after an interrupted write", 1)
	script("echo '//' >>" + filepath.Join(apps, "main.go"))
	write(filepath.Join(apps, "main.go"), "package main // changed")
	build("with a change during the build", 1)
	script("")
	write(filepath.Join(apps, "main.go"), "package main // changed")
	build("after that change is undone", 1)
	build("again", 0)
	_, image = serve() // the image is at another registry, so that this one lacks what it should have
	write(filepath.Join(root, "images.json"), `{"shop":{"Inputs":"`+inputsOf(t, ko)+`","Image":"`+string(r)+`/shop@sha256:`+strings.Repeat("0", 64)+`"}}`)
	script("")
	build("after the registry was wiped", 1)
}

func inputsOf(t *testing.T, ko Ko) string {
	t.Helper()
	inputs, err := ko.inputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inputs
}

// TestInputsOfImages changes one thing after another. An image must be built again after each
// that could change it, and only then.
func TestInputsOfImages(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("apps/go.mod", "module apps\n\nreplace example.com/slo => ../infra/slo\n")
	write("apps/shop/main.go", "package main")
	write("infra/slo/slo.go", "package slo")
	ko := Ko{Program: "ko", Registry: "localhost:5000", Apps: filepath.Join(root, "apps"), Architectures: []string{"amd64"}}
	last, err := ko.inputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what    string
		change  func()
		another bool
	}{
		{"nothing", func() {}, false},
		{"a source file", func() { write("apps/shop/main.go", "package shop") }, true},
		{"a new file", func() { write("apps/shop/page.html", "<p>") }, true},
		{"a module elsewhere", func() { write("infra/slo/slo.go", "package other") }, true},
		{"a test", func() { write("apps/shop/main_test.go", "package shop") }, false},
		{"a document", func() { write("apps/README.md", "Read me.") }, false},
		{"ko's settings", func() { write("apps/.ko.yaml", "defaultFlags: []") }, true},
		{"the fault", func() { ko.Fault = "errors" }, true},
		{"the processors", func() { ko.Architectures = []string{"amd64", "arm64"} }, true},
		{"the registry", func() { ko.Registry = "registry.example.com" }, true},
		{"ko", func() { ko.Program = "/opt/ko" }, true},
	} {
		c.change()
		now, err := ko.inputs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (now != last) != c.another {
			t.Errorf("%s changes the inputs: %v, want %v", c.what, now != last, c.another)
		}
		last = now
	}
}

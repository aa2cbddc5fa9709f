package images

import (
	"os"
	"path/filepath"
	"testing"
)

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
	last, err := ko.inputs()
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
		now, err := ko.inputs()
		if err != nil {
			t.Fatal(err)
		}
		if (now != last) != c.another {
			t.Errorf("%s changes the inputs: %v, want %v", c.what, now != last, c.another)
		}
		last = now
	}
}

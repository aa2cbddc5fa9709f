package platform

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
)

func TestServicesShippedAreThoseWhoseImageChanged(t *testing.T) {
	before := map[string]string{"a": "x@1", "b": "x@2"}
	after := map[string]string{"a": "x@1", "b": "x@3", "c": "x@4"}
	if got := strings.Join(servicesShipped(before, after), " "); got != "b c" {
		t.Errorf("shipped %q, want b c", got)
	}
}

func newCheckout(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "tools", "pins", "kubernetes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "Pulumi.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	for _, v := range []string{"KUBE_CONTEXT", "REGISTRY", "IMAGES"} {
		t.Setenv(v, "")
	}
}

func TestSettingsThatAreWrongAreNamedAllAtOnce(t *testing.T) {
	newCheckout(t)
	t.Setenv("IMAGES", "steal")
	t.Setenv("REGISTRY", "example.com")
	_, err := Open(console.New(io.Discard))
	if err == nil || !strings.Contains(err.Error(), "IMAGES") || !strings.Contains(err.Error(), "REGISTRY") {
		t.Errorf("Open = %v, want an error that names IMAGES and REGISTRY", err)
	}
	t.Setenv("IMAGES", "")
	t.Setenv("REGISTRY", "")
	t.Setenv("KUBE_CONTEXT", "kind")
	if _, err := Open(console.New(io.Discard)); err == nil || !strings.Contains(err.Error(), "REGISTRY") {
		t.Errorf("Open with KUBE_CONTEXT alone = %v, want an error that asks for REGISTRY", err)
	}
}

func TestPassphraseIsMadeOnceAndPrivate(t *testing.T) {
	newCheckout(t)
	p, err := Open(console.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Environ(); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(p.Local("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p.Local("passphrase")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the passphrase's mode is %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := p.Environ(); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(p.Local("passphrase")); string(second) != string(first) || len(first) < 40 {
		t.Errorf("the passphrase is %d characters and changed: %v", len(first), string(second) != string(first))
	}
}

func TestConfigWithAddsOneLine(t *testing.T) {
	newCheckout(t)
	p, err := Open(console.New(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.Local(), 0o755); err != nil {
		t.Fatal(err)
	}
	before := "encryptionsalt: v1:x\nconfig:\n  loja-veloz:images:\n    a: b\n"
	if err := os.WriteFile(p.stackFile(), []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := p.configWith("waitForRollout: false")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	want := "encryptionsalt: v1:x\nconfig:\n  loja-veloz:waitForRollout: false\n  loja-veloz:images:\n    a: b\n"
	if string(got) != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	if after, _ := os.ReadFile(p.stackFile()); string(after) != before {
		t.Error("the stack's own file has changed")
	}
}

package platform

import (
	"io"
	"os"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// newWorkspace returns an empty workspace. It uses another cluster, so that it needs no pins.
func newWorkspace(t *testing.T) Workspace {
	t.Helper()
	return Open(t.TempDir(), settings.Machine{KubeContext: "kind"}, console.New(io.Discard))
}

func TestPassphraseIsCreatedOnceAndPrivate(t *testing.T) {
	w := newWorkspace(t)
	if _, err := Environ(w); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(w.Local("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(w.Local("passphrase")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the passphrase's mode is %v, %v, want 0600", info.Mode(), err)
	}
	if _, err := Environ(w); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(w.Local("passphrase")); string(second) != string(first) || len(first) < 40 {
		t.Errorf("the passphrase is %d characters and changed: %v", len(first), string(second) != string(first))
	}
}

func TestConfigWithAddsOneLine(t *testing.T) {
	p, err := openPulumi(newWorkspace(t))
	if err != nil {
		t.Fatal(err)
	}
	before := "encryptionsalt: v1:x\nconfig:\n  loja-veloz:images:\n    a: b\n"
	if err := os.WriteFile(p.stackFile, []byte(before), 0o644); err != nil {
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
	if after, _ := os.ReadFile(p.stackFile); string(after) != before {
		t.Error("the stack's own file has changed")
	}
}

func TestOnlyWhatChangesIsConfigured(t *testing.T) {
	p, err := openPulumi(newWorkspace(t))
	if err != nil {
		t.Fatal(err)
	}
	if config, err := p.configured(); err != nil || len(config) > 0 {
		t.Fatalf("without a stack file the configuration is %v (%v)", config, err)
	}
	text := "config:\n  loja-veloz:kubeContext: kind\n  loja-veloz:prometheus:\n    nodePort: 9090\n  loja-veloz:images:\n    api-gateway: r/a@sha256:1\n"
	if err := os.WriteFile(p.stackFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := p.configured()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"loja-veloz:kubeContext": "kind", "loja-veloz:prometheus.nodePort": "9090", "loja-veloz:images.api-gateway": "r/a@sha256:1",
		"loja-veloz:images.audit": "", "loja-veloz:database.localPath": "", "loja-veloz:kubeContext.x": "",
	} {
		if got := valueAt(config, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if err := os.WriteFile(p.stackFile, []byte("config: ["), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p.configured(); err == nil {
		t.Error("a broken stack file is read as an empty one")
	}
}

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

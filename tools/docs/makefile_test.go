package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFilesOfRootAreNamed runs make as another user in a folder in which root has run it.
func TestFilesOfRootAreNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can leave files of root")
	}
	folder := t.TempDir()
	for _, dir := range []string{folder, filepath.Dir(folder)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "Makefile"), []byte(read(t, "Makefile")), 0o644); err != nil {
		t.Fatal(err)
	}
	loja := func() string {
		cmd := exec.CommandContext(t.Context(), "make", "loja")
		cmd.Dir = folder
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("make loja without sources succeeded:\n%s", out)
		}
		return string(out)
	}
	const want = "files in .local belong to another user, as after a sudo make."
	if out := loja(); strings.Contains(out, want) {
		t.Errorf("without .local, make says:\n%s", out)
	}
	// The cluster's data rightly belongs to root and to the users of its pods.
	if err := os.MkdirAll(filepath.Join(folder, ".local", "cluster", "etcd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(folder, ".local"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if out := loja(); strings.Contains(out, want) {
		t.Errorf("with the cluster's data of root, make says:\n%s", out)
	}
	if err := os.MkdirAll(filepath.Join(folder, ".local", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := loja(); !strings.Contains(out, want) {
		t.Errorf("make does not name the files of root:\n%s", out)
	}
}

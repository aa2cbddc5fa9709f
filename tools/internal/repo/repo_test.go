package repo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRootIsTheFolderOfTheGoWorkspace(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(top, "apps", "pedidos")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(below)
	if root, err := Root(); err == nil || !strings.Contains(err.Error(), below) || !strings.Contains(err.Error(), "go.work") {
		t.Errorf("Root without a go.work = %q, %v; want an error that names %s and go.work", root, err, below)
	}
	if err := os.WriteFile(filepath.Join(top, "go.work"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if root, err := Root(); err != nil || root != top {
		t.Errorf("Root = %q, %v; want %s", root, err, top)
	}
}

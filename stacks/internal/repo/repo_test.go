package repo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRootIsTheFolderWithGoWork(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "stacks", "environment")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.work"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, start := range []string{root, below} {
		t.Chdir(start)
		if got, err := Root(); err != nil || got != root {
			t.Errorf("from %s the root is %q (%v), want %s", start, got, err, root)
		}
	}
}

func TestOutsideTheRepositoryRootSaysWhatToDo(t *testing.T) {
	start := t.TempDir()
	t.Chdir(start)
	_, err := Root()
	want := "neither " + start + " nor a folder above it has a go.work file; run the command inside the repository"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

package toolchain

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

func module(t *testing.T, text string) (original, dir string) {
	t.Helper()
	original, dir = t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(original, "a.go"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return original, dir
}

func TestFileReplacesEveryOccurrence(t *testing.T) {
	original, dir := module(t, "one two one")
	if err := (File{Path: "a.go", Replace: [][2]string{{"one", "1"}}}).write(original, dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "a.go")); string(b) != "1 two 1" {
		t.Errorf("a.go is %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(original, "a.go")); string(b) != "one two one" {
		t.Errorf("the original has changed to %q", b)
	}
}

func TestFileFailsWhenItsTextIsMissing(t *testing.T) {
	original, dir := module(t, "something else")
	err := File{Module: "example.com/m", Path: "a.go", Replace: [][2]string{{"one", "1"}}}.write(original, dir)
	if err == nil || !strings.Contains(err.Error(), "example.com/m/a.go") {
		t.Errorf("write = %v, want an error that names the file", err)
	}
}

func TestDirChangesWithPinAndChanges(t *testing.T) {
	pins := t.TempDir()
	if err := os.Mkdir(filepath.Join(pins, "p"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &Cache{Root: t.TempDir(), Pins: pins, Out: console.New(io.Discard)}
	dir := func(sum string, tool Tool) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(pins, "p", "go.sum"), []byte(sum), 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := c.Dir(tool)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	tool := Tool{Name: "x", Version: "1", Pin: "p", Files: []File{{Path: "a.go", With: "a", Why: "because"}}}
	base := dir("sum", tool)
	if dir("other", tool) == base {
		t.Error("another go.sum gives the same folder")
	}
	changed := tool
	changed.Files = []File{{Path: "a.go", With: "b"}}
	if dir("sum", changed) == base {
		t.Error("another change of the source gives the same folder")
	}
	changed.Files = []File{{Path: "a.go", With: "a", Why: "another reason"}}
	if dir("sum", changed) != base {
		t.Error("rewording a reason gives another folder")
	}
}

func TestToolsOfAPinFollowEachOther(t *testing.T) {
	mixed := append(append([]Tool{Ko}, Pulumi...), append([]Tool{Kubernetes}, Images...)...)
	sorted := InOrder(mixed)
	if len(sorted) != len(mixed) {
		t.Fatalf("InOrder returns %d of %d tools", len(sorted), len(mixed))
	}
	seen, last := map[string]bool{}, ""
	for _, tool := range sorted {
		if tool.Pin != last && seen[tool.Pin] {
			t.Errorf("%s is separated from the other tools of pin %s", tool.Name, tool.Pin)
		}
		seen[tool.Pin], last = true, tool.Pin
	}
}

func TestAdviceNamesTheCause(t *testing.T) {
	for tail, want := range map[string]string{
		"write /x: no space left on device":            "disk is full",
		"dial tcp: lookup host: no such host":          "cannot be reached",
		"signal: killed":                               "memory",
		"a.go:1:1: undefined: x":                       "the log above",
		"read tcp 127.0.0.1:1: connection refused, so": "cannot be reached",
	} {
		if got := advice(&command.Error{Err: errors.New("exit status 1"), Tail: tail}); !strings.Contains(got, want) {
			t.Errorf("advice for %q is %q, want it to say %q", tail, got, want)
		}
	}
}

func TestProgressSaysHowManyPackages(t *testing.T) {
	if got := progress(12, 0); got != "12 packages compiled" {
		t.Errorf("without a total: %q", got)
	}
	if got := progress(12, 40); got != "12 of at most 40 packages compiled" {
		t.Errorf("with a total: %q", got)
	}
}

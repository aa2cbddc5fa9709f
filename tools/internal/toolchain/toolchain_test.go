package toolchain

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

func TestProgressCountsPackagesOnly(t *testing.T) {
	var out strings.Builder
	p := newProgress(console.New(&out), []Tool{{Name: "x", Version: "1", Work: 60}})
	p.begin(0)
	for _, text := range []string{
		"go: downloading example.com/a v1.0.0\nexample.com/", "a\n# example.com/c\nc.go:1:2: undefined: x\n", "example.com/b\n",
	} {
		if _, err := p.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.packages(); got != ": 2 packages compiled" {
		t.Errorf("before go list has counted: %q", got)
	}
	p.expect(1, 7) // of another tool
	p.expect(0, 40)
	if got := p.packages(); got != ": 2 of 40 packages compiled" {
		t.Errorf("after go list has counted: %q", got)
	}
	p.expect(0, 1) // go list counted fewer than go build compiles
	if got := p.packages(); got != ": 2 packages compiled" {
		t.Errorf("with a bound that is passed: %q", got)
	}
	if !strings.Contains(out.String(), "[1/1] x 1; about ") {
		t.Errorf("the build began with %q", out.String())
	}
}

func TestFailedBuildShowsItsMessages(t *testing.T) {
	p := newProgress(console.New(io.Discard), []Tool{{Name: "x"}})
	noise := strings.Repeat("c\ngo: downloading example.com/d v1.0.0\n", 100)
	if _, err := p.Write([]byte("a\n# b\nb.go:1:2: undefined: x\n" + noise)); err != nil {
		t.Fatal(err)
	}
	err := p.explain(&command.Error{Args: []string{"go", "build"}, Err: errors.New("exit status 1"), Tail: "    c\n    c"})
	if want := "go build: exit status 1\n    # b\n    b.go:1:2: undefined: x"; err.Error() != want {
		t.Errorf("the error is\n%s\nwant\n%s", err, want)
	}
}

func TestProgressEstimatesTheRest(t *testing.T) {
	p := newProgress(console.New(io.Discard), []Tool{{Work: 600}, {Work: 300}, {Work: 100}})
	if got := p.left(time.Second, 2); got != 500*time.Second {
		t.Errorf("at the start, 1000 CPU seconds on 2 processors take %s, want 500 s", got)
	}
	p.current, p.stale, p.compiled = 1, 100, 0
	if got := p.left(20*time.Minute, 2); got != 20*time.Minute*400/600 {
		t.Errorf("with 600 of 1000 done in 20 min: %s, want 13m20s", got)
	}
	if got := p.left(10*time.Second, 2); got != 100*time.Second {
		t.Errorf("with 600 of 1000 done in 10 s, from the cache: %s, want half of what 400 units take", got)
	}
	p.compiled = 200 // more than expected
	if got := p.left(20*time.Minute, 2); got != 20*time.Minute*100/900 {
		t.Errorf("with more packages than expected: %s, want 2m13s", got)
	}
}

func TestFileCuts(t *testing.T) {
	original, dir := module(t, "keep\nfrom\ngone\nto\nrest\nend\ntail")
	f := File{Module: "example.com/m", Path: "a.go", Cut: [][2]string{{"from\n", "to\n"}, {"end\n", ""}}}
	if err := f.write(original, dir); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "a.go")); string(b) != "keep\nto\nrest\n" {
		t.Errorf("a.go is %q", b)
	}
	for _, cut := range [][2]string{{"missing", "to\n"}, {"from\n", "missing"}} {
		f.Cut = [][2]string{cut}
		if err := f.write(original, dir); err == nil || !strings.Contains(err.Error(), "example.com/m/a.go") || !strings.Contains(err.Error(), "missing") {
			t.Errorf("Cut %q: %v, want an error that names the file and the text", cut, err)
		}
	}
}

// TestMeanwhile says what else a person can do before a long build only. The pin is missing, so
// that the build ends at once.
func TestMeanwhile(t *testing.T) {
	for work, want := range map[int]bool{1: false, 1_000_000: true} {
		var out strings.Builder
		c := &Cache{Root: t.TempDir(), Pins: t.TempDir(), Out: console.New(&out), Meanwhile: "run make dev"}
		if err := c.Ensure(t.Context(), Tool{Name: "x", Version: "1", Pin: "missing", Work: work}); err == nil {
			t.Error("a tool without a pin is built")
		}
		if got := strings.Contains(out.String(), "run make dev"); got != want {
			t.Errorf("with %d CPU seconds to go it says so: %v, want %v\n%s", work, got, want, out.String())
		}
	}
}

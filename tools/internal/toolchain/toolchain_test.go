package toolchain

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	changed = tool
	changed.Experiment = "jsonv2"
	if dir("sum", changed) == base {
		t.Error("another experiment of Go's gives the same folder")
	}
	changed = tool
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
	b := p.begin(0)
	for _, text := range []string{
		"go: downloading example.com/a v1.0.0\nexample.com/", "a\n# example.com/c\nc.go:1:2: undefined: x\n", "example.com/b\n",
	} {
		if _, err := b.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.packages(); got != ": 2 packages compiled" {
		t.Errorf("before go list has counted: %q", got)
	}
	b.expect("fmt false\n" + strings.Repeat("example.com/a true\n", 40))
	if got := b.packages(); got != ": 2 of 40 packages compiled" {
		t.Errorf("after go list has counted: %q", got)
	}
	b.stale = 1 // go list counted fewer than go build compiles
	if got := b.packages(); got != ": 2 packages compiled" {
		t.Errorf("with a bound that is passed: %q", got)
	}
	if !strings.Contains(out.String(), "[1/1] x 1; about ") {
		t.Errorf("the build began with %q", out.String())
	}
}

// TestBuildSaysWhenItLinks: the program's own package is the last one, and nothing tells whether
// go build or go list names it first.
func TestBuildSaysWhenItLinks(t *testing.T) {
	const listed = "fmt false\nexample.com/a true\nexample.com/main true\n"
	for name, steps := range map[string][]func(*build){
		"listed first":    {func(b *build) { b.expect(listed) }, compiles("example.com/a"), compiles("example.com/main")},
		"compiled first":  {compiles("example.com/a"), compiles("example.com/main"), func(b *build) { b.expect(listed) }},
		"all in a cache":  {func(b *build) { b.expect("fmt false\nexample.com/main false\n") }},
		"without go list": {compiles("example.com/main"), func(b *build) { b.end(0) }},
	} {
		b := newProgress(console.New(io.Discard), []Tool{{Name: "x"}}).begin(0)
		for i, step := range steps {
			if b.isLinking() {
				t.Errorf("%s: the build links before step %d", name, i)
			}
			step(b)
		}
		if !b.isLinking() {
			t.Errorf("%s: the build does not link", name)
		}
	}
}

func compiles(pkg string) func(*build) {
	return func(b *build) { _, _ = b.Write([]byte(pkg + "\n")) }
}

func (b *build) isLinking() bool {
	select {
	case <-b.linking:
		return true
	default:
		return false
	}
}

func TestFailedBuildShowsItsMessages(t *testing.T) {
	b := newProgress(console.New(io.Discard), []Tool{{Name: "x"}}).begin(0)
	noise := strings.Repeat("c\ngo: downloading example.com/d v1.0.0\n", 100)
	if _, err := b.Write([]byte("a\n# b\nb.go:1:2: undefined: x\n" + noise)); err != nil {
		t.Fatal(err)
	}
	err := b.explain(&command.Error{Args: []string{"go", "build"}, Err: errors.New("exit status 1"), Tail: "    c\n    c"})
	if want := "go build: exit status 1\n    # b\n    b.go:1:2: undefined: x"; err.Error() != want {
		t.Errorf("the error is\n%s\nwant\n%s", err, want)
	}
}

func TestProgressEstimatesTheRest(t *testing.T) {
	p := newProgress(console.New(io.Discard), []Tool{{Work: 600}, {Work: 300}, {Work: 100}})
	if got := p.left(time.Second, 2); got != 500*time.Second {
		t.Errorf("at the start, 1000 CPU seconds on 2 processors take %s, want 500 s", got)
	}
	b := p.begin(1)
	b.stale = 100
	if got := p.left(20*time.Minute, 2); got != 20*time.Minute*400/600 {
		t.Errorf("with 600 of 1000 done in 20 min: %s, want 13m20s", got)
	}
	if got := p.left(10*time.Second, 2); got != 100*time.Second {
		t.Errorf("with 600 of 1000 done in 10 s, from the cache: %s, want half of what 400 units take", got)
	}
	for i := range 200 { // more than expected
		compiles(strconv.Itoa(i))(b)
	}
	if got := p.left(20*time.Minute, 2); got != 20*time.Minute*100/900 {
		t.Errorf("with more packages than expected: %s, want 2m13s", got)
	}
}

// programs returns a cache with a pin p of a module with these programs.
func programs(t *testing.T, sources map[string]string) (*Cache, *strings.Builder) {
	t.Helper()
	var out strings.Builder
	c := &Cache{Root: t.TempDir(), Pins: t.TempDir(), Out: console.New(&out), Env: []string{"GOCACHE=" + t.TempDir()}}
	files := map[string]string{
		"p/go.mod": "module example.com/pin\n\ngo 1.26\n\nrequire example.com/m v0.0.0\n\nreplace example.com/m => ../m\n",
		"p/go.sum": "", "m/go.mod": "module example.com/m\n\ngo 1.26\n",
	}
	for name, source := range sources {
		files["m/"+name+"/main.go"] = source
	}
	for path, text := range files {
		file := filepath.Join(c.Pins, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return c, &out
}

// TestEnsureBuildsEveryTool holds the first link until the next program compiles: a run that does
// one after the other does not end.
func TestEnsureBuildsEveryTool(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles or lists too much for make check; make test runs it")
	}
	const source = "package main\n\nfunc main() { println(\"it runs\") }\n"
	wrapper := filepath.Join(t.TempDir(), "toolexec")
	if err := os.WriteFile(wrapper, []byte(`#!/bin/sh
if [ "$2" != -V=full ]; then
	case "${1##*/} $TOOLEXEC_IMPORTPATH" in
	"compile example.com/m/b") touch "$0.compiles" ;;
	"link example.com/m/a")
		touch "$0.links"
		waited=0
		until [ -e "$0.compiles" ]; do
			[ $((waited += 1)) -lt 600 ] || { echo "b does not compile while a is linked"; exit 1; }
			sleep 0.1
		done ;;
	esac
fi
exec "$@"
`), 0o755); err != nil {
		t.Fatal(err)
	}
	const experimental = "package main\n\nimport _ \"encoding/json/jsontext\"\n\nfunc main() { println(\"it runs\") }\n"
	c, out := programs(t, map[string]string{"a": source, "b": source, "c": experimental})
	var tools []Tool
	for _, name := range []string{"a", "b", "c"} {
		tools = append(tools, Tool{Name: name, Version: "1", Pin: "p", Package: "example.com/m/" + name})
	}
	tools[2].Experiment = "jsonv2"
	c.Env = append(c.Env, "GOFLAGS=-mod=readonly -toolexec="+wrapper)
	if err := c.Ensure(t.Context(), tools...); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(wrapper + ".links"); err != nil {
		t.Error("the link was not held, so this test shows nothing")
	}
	for _, tool := range tools {
		path, err := c.Binary(tool, tool.Name)
		if err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command(path).CombinedOutput()
		if err != nil || string(said) != "it runs\n" {
			t.Errorf("%s says %q, %v", tool.Name, said, err)
		}
	}
	if !strings.Contains(out.String(), "[3/3] c 1") || !strings.Contains(out.String(), "tools built in ") {
		t.Errorf("the run printed\n%s", out)
	}
}

// TestEnsureReportsTheBuildThatFails: the others are ended, and begin again in the next run.
func TestEnsureReportsTheBuildThatFails(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles or lists too much for make check; make test runs it")
	}
	const source = "package main\n\nfunc main() {}\n"
	c, _ := programs(t, map[string]string{"a": source, "b": "package main\n\nfunc main() { undefined() }\n", "c": source})
	var tools []Tool
	for _, name := range []string{"a", "b", "c"} {
		tools = append(tools, Tool{Name: name, Version: "1", Pin: "p", Package: "example.com/m/" + name})
	}
	err := c.Ensure(t.Context(), tools...)
	if err == nil || !strings.HasPrefix(err.Error(), "building b 1: ") || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("Ensure = %v, want the error of the second tool", err)
	}
	if c.Has(tools[1]) || c.Has(tools[2]) {
		t.Error("the tool that failed, or the one after it, is there")
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

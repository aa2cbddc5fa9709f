// Package toolchain provides the pinned programs that the platform runs on: it builds each
// from its Go module, and caches the result by version outside the repo.
package toolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// A Cache contains built tools, in a folder for each tool, version and content of the pin.
type Cache struct {
	Root string // folder of the cache
	Pins string // the repo's folder tools/pins
	Out  *console.Console
}

// DefaultRoot returns LOJA_CACHE, or loja-veloz in the user's cache folder.
func DefaultRoot() (string, error) {
	if dir := os.Getenv("LOJA_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding a folder for built tools: %w; set LOJA_CACHE to one", err)
	}
	return filepath.Join(dir, "loja-veloz"), nil
}

// Dir returns the folder of a tool's binary, which is there once the tool is built.
func (c *Cache) Dir(t Tool) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, t.Package, t.LDFlags, t.Links)
	for _, f := range t.Files {
		fmt.Fprintln(h, f.Module, f.Path, f.From, f.Replace, f.With)
	}
	entries, err := os.ReadDir(filepath.Join(c.Pins, t.Pin))
	if err != nil {
		return "", fmt.Errorf("pin of %s: %w", t.Name, err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(c.Pins, t.Pin, e.Name()))
		if err != nil {
			return "", fmt.Errorf("pin of %s: %w", t.Name, err)
		}
		fmt.Fprintln(h, e.Name(), len(b))
		h.Write(b)
	}
	return filepath.Join(c.Root, "tools", fmt.Sprintf("%s-%s-%s", t.Name, t.Version, hex.EncodeToString(h.Sum(nil))[:10])), nil
}

// Binary returns the path of a tool's program, which is there once the tool is built. name is
// the tool's name or one of its links.
func (c *Cache) Binary(t Tool, name string) (string, error) {
	dir, err := c.Dir(t)
	return filepath.Join(dir, name), err
}

// Has reports whether all these tools are built.
func (c *Cache) Has(tools ...Tool) bool {
	return !slices.ContainsFunc(tools, func(t Tool) bool {
		path, err := c.Binary(t, t.Name)
		if err == nil {
			_, err = os.Stat(path)
		}
		return err != nil
	})
}

// Ensure builds the tools that the cache lacks. After an interruption a build resumes,
// because the Go build cache keeps each compiled package.
func (c *Cache) Ensure(ctx context.Context, tools ...Tool) error {
	var missing []Tool
	for _, t := range tools {
		if !c.Has(t) {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := checkGo(ctx); err != nil {
		return err
	}
	release, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer release()

	prefetch, stop := context.WithCancel(ctx)
	defer stop()
	go c.download(prefetch, missing[1:])

	c.Out.Step("building %d of %d tools; this happens once, and %s keeps them", len(missing), len(tools), c.Root)
	took := make([]string, 0, len(missing))
	for i, t := range missing {
		began := time.Now()
		if err := c.build(ctx, t, i, missing); err != nil {
			return err
		}
		took = append(took, fmt.Sprintf("%s %s", t.Name, console.Round(time.Since(began))))
	}
	c.Out.Step("tools built: %s", strings.Join(took, ", "))
	return nil
}

// lock takes the cache's lock, so that two repos do not build at the same time.
func (c *Cache) lock(ctx context.Context) (release func(), err error) {
	if err := os.MkdirAll(c.Root, 0o755); err != nil {
		return nil, err
	}
	lock, err := process.AwaitLock(ctx, c.Root, func(held *process.HeldError) {
		c.Out.Step("waiting for process %d, which builds tools in %s", held.PID, c.Root)
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Release() }, nil
}

// download fetches the modules of the later builds while the first one compiles. It ignores
// errors, because those builds report them.
func (c *Cache) download(ctx context.Context, tools []Tool) {
	for _, t := range tools {
		_ = command.Command{
			Args: []string{"go", "list", "-e", "-deps", "-f", "{{.ImportPath}}", t.Package},
			Dir:  filepath.Join(c.Pins, t.Pin), Env: BuildEnv,
		}.Run(ctx)
	}
}

// BuildEnv are the variables of a build of one module: only its own go.mod and go.sum, and nothing
// that a person has set for another project, decide what is built.
var BuildEnv = []string{"GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0", "GOTOOLCHAIN=local"}

func (c *Cache) build(ctx context.Context, t Tool, i int, all []Tool) error {
	dir, err := c.Dir(t)
	if err != nil {
		return err
	}
	work := dir + ".building"
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	label := fmt.Sprintf("[%d/%d] %s %s", i+1, len(all), t.Name, t.Version)
	rest := ""
	if i+1 < len(all) {
		names := make([]string, 0, len(all))
		for _, t := range all[i+1:] {
			names = append(names, t.Name)
		}
		rest = "; then " + strings.Join(names, ", ")
	}
	c.Out.Step("%s%s", label, rest)

	modfile, err := c.modfile(ctx, t, work)
	if err != nil {
		return fmt.Errorf("building %s: %w", t.Name, err)
	}
	if err := c.compile(ctx, t, work, modfile, label); err != nil {
		return fmt.Errorf("building %s %s: %w%s", t.Name, t.Version, err, advice(err))
	}
	for _, link := range t.Links {
		if err := os.Symlink(t.Name, filepath.Join(work, link)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, scratch := range []string{"src", "changed.mod", "changed.sum"} {
		if err := os.RemoveAll(filepath.Join(work, scratch)); err != nil {
			return err
		}
	}
	return os.Rename(work, dir)
}

// compile builds a tool into the folder work, and prints its progress every 20 s.
func (c *Cache) compile(ctx context.Context, t Tool, work, modfile, label string) error {
	counter := &lineCounter{}
	var total atomic.Int64
	go func() { total.Store(c.packages(ctx, t, modfile)) }()
	done := make(chan struct{})
	defer close(done)
	go func() {
		began, tick := time.Now(), time.NewTicker(20*time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				c.Out.Step("%s: %s in %s", label, progress(counter.n.Load(), total.Load()), console.Round(time.Since(began)))
			}
		}
	}()
	return command.Command{
		Args: []string{"go", "build", "-v", "-trimpath", "-buildvcs=false", "-modfile", modfile,
			"-ldflags", strings.TrimSpace("-s -w " + t.LDFlags), "-o", filepath.Join(work, t.Name), t.Package},
		Dir: filepath.Join(c.Pins, t.Pin), Env: BuildEnv, Log: filepath.Join(c.Root, "logs", t.Name+".log"), Output: counter,
	}.Run(ctx)
}

// packages returns the number of packages of a build, or 0 if go list fails.
func (c *Cache) packages(ctx context.Context, t Tool, modfile string) int64 {
	var counter lineCounter
	if err := (command.Command{
		Args: []string{"go", "list", "-deps", "-modfile", modfile, t.Package},
		Dir:  filepath.Join(c.Pins, t.Pin), Env: BuildEnv, Stdout: &counter,
	}).Run(ctx); err != nil {
		return 0
	}
	return counter.n.Load()
}

// progress says how many packages are compiled, and at most how many there are to compile:
// the compiler skips packages that are in the build cache.
func progress(compiled, total int64) string {
	if total == 0 {
		return fmt.Sprintf("%d packages compiled", compiled)
	}
	return fmt.Sprintf("%d of at most %d packages compiled", compiled, total)
}

// modfile returns the path of the go.mod for a build: the pin's own, or, if the tool changes
// files of modules, a copy that replaces these modules by changed copies.
func (c *Cache) modfile(ctx context.Context, t Tool, work string) (string, error) {
	pin := filepath.Join(c.Pins, t.Pin)
	if len(t.Files) == 0 {
		return filepath.Join(pin, "go.mod"), nil
	}
	mod, err := os.ReadFile(filepath.Join(pin, "go.mod"))
	if err != nil {
		return "", err
	}
	copies := map[string]string{}
	for _, f := range t.Files {
		original, err := c.fetch(ctx, t, f.Module)
		if err != nil {
			return "", err
		}
		dir, ok := copies[f.Module]
		if !ok {
			dir = filepath.Join(work, "src", f.Module)
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
			if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
				return "", err
			}
			copies[f.Module] = dir
			mod = fmt.Appendf(mod, "\nreplace %s => %s\n", f.Module, dir)
		}
		if err := f.write(original, dir); err != nil {
			return "", fmt.Errorf("pin of %s: %w", t.Name, err)
		}
	}
	sum, err := os.ReadFile(filepath.Join(pin, "go.sum"))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(work, "changed.sum"), sum, 0o644); err != nil {
		return "", err
	}
	path := filepath.Join(work, "changed.mod")
	return path, os.WriteFile(path, mod, 0o644)
}

// write puts the changed file into the copy of its module.
func (f File) write(original, dir string) error {
	text := f.With
	if text == "" {
		from := f.Path
		if f.From != "" {
			from = f.From
		}
		b, err := os.ReadFile(filepath.Join(original, from))
		if err != nil {
			return err
		}
		text = string(b)
	}
	for _, r := range f.Replace {
		if !strings.Contains(text, r[0]) {
			return fmt.Errorf("%s/%s does not contain the text %q, which tools/internal/toolchain/pins.go replaces", f.Module, f.Path, r[0])
		}
		n := -1
		if f.From != "" {
			n = 1 // a file with From is large, and only its beginning changes
		}
		text = strings.Replace(text, r[0], r[1], n)
	}
	return os.WriteFile(filepath.Join(dir, f.Path), []byte(text), 0o644)
}

func (c *Cache) fetch(ctx context.Context, t Tool, module string) (string, error) {
	out, err := command.Command{
		Args: []string{"go", "mod", "download", "-json", module},
		Dir:  filepath.Join(c.Pins, t.Pin), Env: BuildEnv,
	}.Text(ctx)
	if err != nil {
		return "", fmt.Errorf("%w%s", err, advice(err))
	}
	var m struct{ Dir string }
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return "", fmt.Errorf("go mod download %s: %w", module, err)
	}
	return m.Dir, nil
}

// advice says what the user can do about a failed build.
func advice(err error) string {
	var e *command.Error
	if !errors.As(err, &e) {
		return ""
	}
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(e.Tail, p) })
	}
	switch {
	case has("no space left on device"):
		return "\nThe disk is full: a first build needs about 18 GB for the Go caches, the tools and the cluster. " +
			"Free some and run the command again; it resumes."
	case has("no such host", "connection refused", "i/o timeout", "network is unreachable", "TLS handshake timeout", "server misbehaving"):
		return "\nThe Go module proxy cannot be reached: check the network (go env GOPROXY) and run the command again; it resumes."
	case has("signal: killed", "cannot allocate memory"):
		return "\nThe compiler was killed, most likely for lack of memory. Free some memory and run the command again; it resumes."
	}
	return "\nRun the command again; it resumes. If it fails the same way, the log above says why."
}

func checkGo(ctx context.Context) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("go is not on PATH: install Go 1.26 or newer")
	}
	v, err := command.Command{Args: []string{"go", "env", "GOVERSION"}, Env: []string{"GOWORK=off"}}.Text(ctx)
	if err != nil {
		return err
	}
	var minor int
	if _, err := fmt.Sscanf(v, "go1.%d", &minor); err != nil || minor < 26 {
		return fmt.Errorf("go on PATH has version %s: install Go 1.26 or newer", v)
	}
	return nil
}

type lineCounter struct{ n atomic.Int64 }

func (l *lineCounter) Write(p []byte) (int, error) {
	l.n.Add(int64(strings.Count(string(p), "\n")))
	return len(p), nil
}

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
	"sync"
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
	Env  []string // variables of the builds, in addition to the tool's own

	Source    Source        // of tools that are not there yet; empty: Built
	Mirror    string        // URL of a mirror of the releases; empty: the projects' own pages
	Meanwhile string        // what a person can do during a build that takes longer than five minutes
	Stall     time.Duration // a download without a byte for so long goes on again; 30 s if 0
}

const meanwhileFrom = 5 * time.Minute

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

// Dir returns the folder of a tool's programs, which is there once the tool is provided: that of
// its release if it is there and Source is not Built, and otherwise that of its build.
func (c *Cache) Dir(t Tool) (string, error) {
	if c.takesReleases() && len(t.Releases) > 0 {
		dir := c.releaseDir(t)
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		}
	}
	return c.buildDir(t)
}

// buildDir returns the folder of a tool that is built.
func (c *Cache) buildDir(t Tool) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, t.Package, t.LDFlags, t.Links)
	if t.Experiment != "" {
		fmt.Fprintln(h, "GOEXPERIMENT", t.Experiment)
	}
	for _, f := range t.Files {
		fmt.Fprintln(h, f.Module, f.Path, f.From, f.Replace, f.With)
		if len(f.Cut) > 0 {
			fmt.Fprintln(h, f.Cut)
		}
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
		dir, err := c.Dir(t)
		if err == nil {
			_, err = os.Stat(dir)
		}
		return err != nil
	})
}

// Ensure builds the tools that the cache lacks. After an interruption a build resumes,
// because the Go build cache keeps each compiled package.
func (c *Cache) Ensure(ctx context.Context, tools ...Tool) error {
	if c.Has(tools...) {
		return nil
	}
	release, err := c.lock(ctx, c.Root)
	if err != nil {
		return err
	}
	defer release()
	// The process that held the lock may have provided some.
	missing := slices.DeleteFunc(slices.Clone(tools), func(t Tool) bool { return c.Has(t) })
	if missing, err = c.take(ctx, missing); err != nil || len(missing) == 0 {
		return err
	}
	if err := checkGo(ctx); err != nil {
		return err
	}

	prefetch, stop := context.WithCancel(ctx)
	defer stop()
	go c.download(prefetch, missing[1:])

	p := newProgress(c.Out, missing)
	if c.Meanwhile != "" && p.left(0, runtime.GOMAXPROCS(0)) > meanwhileFrom {
		c.Out.Step("%s", c.Meanwhile)
	}
	c.Out.Step("building %d of %d tools; this happens once, and %s keeps them", len(missing), len(tools), c.Root)
	if err := c.buildAll(ctx, p); err != nil {
		return err
	}
	p.summary()
	return nil
}

// buildAll builds the tools of the run one after the other. The linker mostly uses one processor, so
// while it writes one program, the next one compiles. No third one begins before the first is
// written: a linker needs up to 2 GB of memory.
func (c *Cache) buildAll(ctx context.Context, p *progress) error {
	run, stop := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer func() {
		stop(nil)
		all.Wait()
	}()
	all.Go(func() { p.report(run) })

	last := make(chan struct{}) // closed when the build before has ended
	close(last)
	for i := range p.builds {
		b, before, ended := p.begin(i), last, make(chan struct{})
		last = ended
		all.Go(func() {
			defer close(ended)
			if err := c.build(run, b); err != nil {
				stop(err) // the first error ends the other build
			}
		})
		for _, next := range []<-chan struct{}{before, b.linking} {
			select {
			case <-next:
			case <-run.Done():
				return context.Cause(run)
			}
		}
	}
	<-last
	return context.Cause(run)
}

// lock takes the lock of a folder of the cache, so that two repos do not build at the same time.
func (c *Cache) lock(ctx context.Context, folder string) (release func(), err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, owned(err)
	}
	lock, err := process.AwaitLock(ctx, folder, func(held *process.HeldError) {
		c.Out.Step("waiting for process %d, which provides tools in %s", held.PID, folder)
	})
	err = owned(err)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Release() }, nil
}

// owned adds to a refusal what mends it.
func owned(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: another user has written this cache, as a sudo make does: give it to this user with chown -R, or set LOJA_CACHE "+
		"to another folder", err)
}

// download fetches the modules of the later builds while the first one compiles. It ignores
// errors, because those builds report them.
func (c *Cache) download(ctx context.Context, tools []Tool) {
	for _, t := range tools {
		_ = command.Command{
			Args: []string{"go", "list", "-e", "-deps", "-f", "{{.ImportPath}}", t.Package},
			Dir:  filepath.Join(c.Pins, t.Pin), Env: t.env(),
		}.Run(ctx)
	}
}

// BuildEnv are the variables of a build of one module: only its own go.mod and go.sum, and nothing
// that a person has set for another project, decide what is built.
var BuildEnv = []string{"GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0", "GOTOOLCHAIN=local"}

// env returns the variables of the tool's build.
func (t Tool) env() []string { return append(slices.Clone(BuildEnv), "GOEXPERIMENT="+t.Experiment) }

func (c *Cache) build(ctx context.Context, b *build) error {
	t := b.Tool
	dir, err := c.buildDir(t)
	if err != nil {
		return err
	}
	work := dir + ".building"
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	modfile, err := c.modfile(ctx, t, work)
	if err != nil {
		return fmt.Errorf("building %s: %w", t.Name, err)
	}
	if err := c.compile(ctx, b, work, modfile); err != nil {
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

// buildFlags select what a build writes: no paths of this machine, and no debugging information,
// which the linker would drop and which takes a ninth of the compiler's time.
var buildFlags = []string{"-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false"}

// compile builds the tool into the folder work.
func (c *Cache) compile(ctx context.Context, b *build, work, modfile string) error {
	t := b.Tool
	args := append(slices.Clone(buildFlags), "-modfile", modfile, "-ldflags", strings.TrimSpace("-s -w "+t.LDFlags))
	dir, env := filepath.Join(c.Pins, t.Pin), append(t.env(), c.Env...)

	list := command.Command{
		Args: slices.Concat([]string{"go", "list", "-deps", "-f", "{{.ImportPath}} {{.Stale}}"}, args, []string{t.Package}),
		Dir:  dir, Env: env,
	}
	counting, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	others.Go(func() {
		if listed, err := list.Text(counting); err == nil {
			b.expect(listed)
		}
	})
	defer others.Wait()
	defer stop()

	build := command.Command{
		Args: slices.Concat([]string{"go", "build", "-v"}, args, []string{"-o", filepath.Join(work, t.Name), t.Package}),
		Dir:  dir, Env: env, Log: filepath.Join(c.Root, "logs", t.Name+".log"), Output: b,
	}
	cpu, err := build.Usage(ctx)
	b.end(cpu)
	return b.explain(err)
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
	for _, c := range f.Cut {
		before, rest, found := strings.Cut(text, c[0])
		if !found {
			return f.missing(c[0])
		}
		if c[1] == "" {
			text = before
			continue
		}
		_, after, found := strings.Cut(rest, c[1])
		if !found {
			return f.missing(c[1])
		}
		text = before + c[1] + after
	}
	for _, r := range f.Replace {
		if !strings.Contains(text, r[0]) {
			return f.missing(r[0])
		}
		n := -1
		if f.From != "" {
			n = 1 // a file with From is large, and only its beginning changes
		}
		text = strings.Replace(text, r[0], r[1], n)
	}
	return os.WriteFile(filepath.Join(dir, f.Path), []byte(text), 0o644)
}

func (f File) missing(text string) error {
	return fmt.Errorf("%s/%s does not contain the text %q, which tools/internal/toolchain changes", f.Module, f.Path, text)
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
		return errors.New("go is not on PATH: install Go 1.26.3 or newer")
	}
	v, err := command.Command{Args: []string{"go", "env", "GOVERSION"}, Env: []string{"GOWORK=off"}}.Text(ctx)
	if err != nil {
		return err
	}
	var minor, patch int
	_, _ = fmt.Sscanf(v, "go1.%d.%d", &minor, &patch) // a release candidate has no patch
	if minor < 26 || minor == 26 && patch < 3 {       // the pins' go.mod
		return fmt.Errorf("go on PATH has version %s: install Go 1.26.3 or newer", v)
	}
	return nil
}

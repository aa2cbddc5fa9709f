// Package check runs what a change should pass before it is pushed: generated files up to date, lint,
// dependents that compile, and the tests of the packages that it touches. It is meant to take a
// minute with warm caches; CI runs everything.
package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Options say what to check.
type Options struct {
	Root  string // of the repository
	Self  string // path of the program loja, which starts PostgreSQL for tests
	Cache *toolchain.Cache
	Out   *console.Console
	// Against is the commit to compare the working tree with, at its last common ancestor with HEAD.
	// Empty means the branch main of the remote origin, or HEAD if there is none.
	Against string
}

// A checker runs the steps for one change.
type checker struct {
	Options
	repository fs.FS
	changed    []module
	path       string // PATH with linters and generators
}

// Run checks the working tree. It runs every step, and returns an error that names those that failed.
func Run(ctx context.Context, o Options) error {
	// A hook of git has variables that name its repository, and some tests create others.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "GIT_") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	base, err := o.base(ctx)
	if err != nil {
		return err
	}
	files, err := o.files(ctx, base)
	if err != nil {
		return err
	}
	c := checker{Options: o, repository: os.DirFS(o.Root)}
	if c.changed, err = modules(c.repository, files); err != nil {
		return err
	}
	if c.path, err = o.tools(ctx); err != nil {
		return err
	}
	packages := 0
	for _, m := range c.changed {
		packages += len(m.Packages)
	}
	o.Out.Step("%d files differ from %s, in %d packages", len(files), base[:min(len(base), 12)], packages)
	var failed []string
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"generated files", c.generated}, {"lint", c.lint}, {"dependents", c.compile},
		{"tests of the documents and of .github", c.documents}, {"tests", c.test},
	} {
		if err := step.run(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			o.Out.Plain("%v", err)
			o.Out.Step("%s: failed", step.name)
			failed = append(failed, step.name)
			continue
		}
		o.Out.Step("%s: passed", step.name)
	}
	if len(failed) > 0 {
		return fmt.Errorf("make check: %s failed; the reasons are above", strings.Join(failed, ", "))
	}
	return nil
}

// git returns the output of a git command.
func (o Options) git(ctx context.Context, args ...string) (string, error) {
	return command.Command{Args: append([]string{"git"}, args...), Dir: o.Root}.Text(ctx)
}

func (o Options) base(ctx context.Context) (string, error) {
	if o.Against != "" {
		base, err := o.git(ctx, "merge-base", "HEAD", o.Against)
		if err != nil {
			return "", fmt.Errorf("AGAINST is %q: name a commit that has an ancestor in common with HEAD: %w", o.Against, err)
		}
		return base, nil
	}
	if base, err := o.git(ctx, "merge-base", "HEAD", "origin/main"); err == nil {
		return base, nil
	}
	return o.git(ctx, "rev-parse", "HEAD")
}

// files returns the files of the working tree that differ from the commit, deleted ones too.
func (o Options) files(ctx context.Context, base string) ([]string, error) {
	differ, err := o.git(ctx, "diff", "--name-only", "-z", base)
	if err != nil {
		return nil, err
	}
	untracked, err := o.git(ctx, "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return nil, err
	}
	files := strings.FieldsFunc(differ+"\x00"+untracked, func(r rune) bool { return r == 0 })
	slices.Sort(files)
	return slices.Compact(files), nil
}

// tools builds the linters and generators, and returns a PATH that begins with them.
func (o Options) tools(ctx context.Context) (string, error) {
	tools := slices.Concat(toolchain.Lint, toolchain.Generators)
	if err := o.Cache.Ensure(ctx, tools...); err != nil {
		return "", err
	}
	var folders []string
	for _, tool := range tools {
		folder, err := o.Cache.Dir(tool)
		if err != nil {
			return "", err
		}
		folders = append(folders, folder)
	}
	return strings.Join(append(folders, os.Getenv("PATH")), string(filepath.ListSeparator)), nil
}

// run runs a program in a folder of the repository. Its whole output is the error, if it fails.
func (c checker) run(ctx context.Context, dir string, env []string, args ...string) error {
	var out bytes.Buffer
	err := command.Command{
		Args: append([]string{"env", "PATH=" + c.path}, args...), Dir: filepath.Join(c.Root, dir), Env: env, Output: &out,
	}.Run(ctx)
	var failed *command.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("%s, in %s:\n%s", strings.Join(args[:min(len(args), 3)], " "), dir, bytes.TrimSpace(out.Bytes()))
	}
	return err
}

// workspace returns the variable GOWORK with which the module is built, as in the Makefile.
func workspace(dir string) []string {
	if dir == "infra" || dir == "stacks" {
		return nil
	}
	return []string{"GOWORK=off"}
}

// generated runs the generators of what has changed, and fails if that changes a file.
func (c checker) generated(ctx context.Context) error {
	before, err := c.contents(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range c.changed {
		if len(m.Generate) > 0 {
			errs = append(errs, c.run(ctx, m.Dir, workspace(m.Dir), append([]string{"go", "generate"}, m.Generate...)...))
		}
	}
	after, err := c.contents(ctx)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(after)) {
		if before[file] != after[file] {
			errs = append(errs, fmt.Errorf("%s was out of date, and has been rewritten", file))
		}
	}
	return errors.Join(errs...)
}

// contents returns the checksums of the files that differ from HEAD.
func (c checker) contents(ctx context.Context) (map[string][sha256.Size]byte, error) {
	files, err := c.files(ctx, "HEAD")
	if err != nil {
		return nil, err
	}
	sums := map[string][sha256.Size]byte{}
	for _, file := range files {
		b, err := fs.ReadFile(c.repository, file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		sums[file] = sha256.Sum256(b)
	}
	return sums, nil
}

// lint runs the linters of make lint on the packages that have changed, and on workflows and scripts.
func (c checker) lint(ctx context.Context) error {
	errs := []error{c.run(ctx, ".", nil, "actionlint"), c.run(ctx, ".", nil, "shellcheck", ".ci/run", "tools/eks/pulumi-resource-eks")}
	for _, m := range c.changed {
		if len(m.Packages) == 0 {
			continue
		}
		env := []string{}
		if strings.HasPrefix(m.Dir, "tools/") {
			env = []string{"GOWORK=off"}
		}
		errs = append(errs, c.run(ctx, m.Dir, env, append([]string{"golangci-lint", "run", "--build-tags", "e2e"}, m.Packages...)...))
	}
	return errors.Join(errs...)
}

// compile compiles and vets the modules that have changed and those that use them, with their tests.
// Unlike go build, go vet links nothing.
func (c checker) compile(ctx context.Context) error {
	list, err := c.git(ctx, "ls-files", "*go.mod")
	if err != nil {
		return err
	}
	var all []string
	for file := range strings.Lines(list) {
		if dir := path.Dir(strings.TrimSpace(file)); !strings.HasPrefix(dir, "tools/pins/") {
			all = append(all, dir)
		}
	}
	dirs, err := dependents(c.repository, all, c.changed)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, c.run(ctx, dir, workspace(dir), "go", "vet", "-tags", "e2e", "./..."))
	}
	return errors.Join(errs...)
}

// documents tests what is written about the code. The cache of go test does not see that a file outside of the
// module has changed.
func (c checker) documents(ctx context.Context) error {
	return c.run(ctx, "tools", workspace("tools"), "go", "test", "-count=1", "./docs", "./github")
}

// test runs the short tests of the packages that have changed: those of services with PostgreSQL,
// none with a cluster's programs.
func (c checker) test(ctx context.Context) error {
	var errs []error
	for _, m := range c.changed {
		packages, err := c.testable(ctx, m)
		if err != nil || len(packages) == 0 {
			errs = append(errs, err)
			continue
		}
		args := append([]string{"go", "test", "-short"}, packages...)
		if m.Dir == "apps" {
			args = append([]string{c.Self, "postgres", "run", "--"}, args...)
		}
		errs = append(errs, c.run(ctx, m.Dir, workspace(m.Dir), args...))
	}
	return errors.Join(errs...)
}

// testable returns the packages of a module that have changed and have files without a build tag.
func (c checker) testable(ctx context.Context, m module) ([]string, error) {
	if len(m.Packages) == 0 {
		return nil, nil
	}
	const form = "{{if or .GoFiles .CgoFiles .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}"
	list, err := command.Command{
		Args: append([]string{"go", "list", "-e", "-f", form}, m.Packages...), Dir: filepath.Join(c.Root, m.Dir), Env: workspace(m.Dir),
	}.Text(ctx)
	return strings.Fields(list), err
}

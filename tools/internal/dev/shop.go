// Package dev runs the shop on the host without a cluster: PostgreSQL, the programs
// of the catalogue that have a port, and optionally Prometheus and Jaeger. All are
// child processes that end with this one. make dev, the drills and the benchmarks use it.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Options of a shop. Every field is optional.
type Options struct {
	Root      string              // folder of the repo whose programs run; default: the one of the working directory
	Dir       string              // folder of data, logs and binaries; default: .local/dev in the repo
	Ports     map[string]int      // by program; a program without an entry, or with 0, gets a free port
	Programs  []string            // names of the programs to run; nil: every program with a port
	Tags      []string            // build tags of the programs
	Overlay   string              // file for go build -overlay of the programs
	Env       map[string][]string // NAME=value by program; overrides what the catalogue and the shop set
	Postgres  postgres.Options    // of the server: its Dir, Settings, Env and Address; the shop sets the others
	Telemetry bool                // run Prometheus and Jaeger too
	Out       *console.Console    // receives steps and the programs' output; nil discards them
}

// A Shop is a running shop.
type Shop struct {
	root, dir string
	out       *console.Console
	options   Options
	lock      *process.Lock
	catalogue *catalogue.Catalogue
	declared  []catalogue.Program // the programs that run; a caller comes after those that it calls
	ports     map[string]int
	postgres  postgres.Programs
	server    *postgres.Server
	secrets   map[string]string // by variable, as the setup program writes them: PEDIDOS_DATABASE_URL and so on
	programs  []*program        // in the order of their start
	watchers  sync.WaitGroup    // one for each started process, until it ends
	failed    chan error        // the first unexpected end of a process
}

// Start builds the programs, starts the shop and returns when every program is ready. If
// Start fails, it stops what it started. It first ends the processes that an earlier shop
// of the same folder left running when it was killed.
func Start(ctx context.Context, o Options) (*Shop, error) {
	root, err := o.Root, error(nil)
	if root == "" {
		root, err = repo.Root()
	}
	if err != nil {
		return nil, err
	}
	if o.Out == nil {
		o.Out = console.New(io.Discard)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(root, ".local", "dev")
	}
	s := &Shop{root: root, out: o.Out, options: o, ports: map[string]int{}, failed: make(chan error, 1)}
	if s.catalogue, err = repo.Catalogue(root); err != nil {
		return nil, err
	}
	if s.declared, err = chosen(s.catalogue, o.Programs); err != nil {
		return nil, err
	}
	if s.dir, err = resolve(o.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = take(s.dir); err != nil {
		return nil, err
	}
	if err := s.startAll(ctx); err != nil {
		if s.server != nil {
			s.out.Step("the start failed; stopping the processes that it started")
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause // the cancellation caused the error, so report only the cancellation
		}
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// chosen returns the named programs in the catalogue's order; nil names every program with
// a port.
func chosen(c *catalogue.Catalogue, names []string) ([]catalogue.Program, error) {
	all := listening(c)
	if names == nil {
		return all, nil
	}
	for _, name := range names {
		if !slices.Contains(catalogue.Names(all), name) {
			return nil, fmt.Errorf("%s is not a program with a port: name one of %s", name, strings.Join(catalogue.Names(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(p catalogue.Program) bool { return !slices.Contains(names, p.Name) }), nil
}

// resolve creates the shop's folder and returns its path without symbolic links, as /proc
// shows it.
func resolve(dir string) (string, error) {
	for _, sub := range []string{"logs", "bin"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// take locks the shop's folder for this process.
func take(dir string) (*process.Lock, error) {
	lock, err := process.LockFolder(dir)
	var held *process.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("make dev runs already, as process %d: stop it with `make dev-down`", held.PID)
	}
	return lock, err
}

func (s *Shop) startAll(ctx context.Context) error {
	if err := sweep(s.dir); err != nil {
		return err
	}
	if err := s.choosePorts(ctx); err != nil {
		return err
	}
	tools, err := s.tools(ctx)
	if err != nil {
		return err
	}
	if err := s.build(ctx); err != nil {
		return err
	}
	// Another process may have taken a free port during the build.
	if err := s.choosePorts(ctx); err != nil {
		return err
	}
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	if err := s.setUpDatabases(ctx); err != nil {
		return err
	}
	if s.options.Telemetry {
		if err := s.scrapeConfig(); err != nil {
			return err
		}
		s.programs = s.telemetry(tools)
	}
	for _, p := range s.declared {
		s.programs = append(s.programs, s.service(p))
	}
	if err := s.startPrograms(ctx); err != nil {
		return err
	}
	return s.record()
}

// tools installs PostgreSQL and, with telemetry, Prometheus and Jaeger, whose paths it
// returns by name.
func (s *Shop) tools(ctx context.Context) (map[string]string, error) {
	cacheRoot, err := toolchain.DefaultRoot()
	if err != nil {
		return nil, err
	}
	cache := &toolchain.Cache{Root: cacheRoot, Pins: filepath.Join(s.root, "tools", "pins"), Out: s.out}
	if s.postgres, err = postgres.Ensure(ctx, cache); err != nil || !s.options.Telemetry {
		return nil, err
	}
	return telemetryTools(ctx, cache)
}

// build compiles the programs that run, those that set the databases up, and the auditors.
func (s *Shop) build(ctx context.Context) error {
	began := time.Now()
	programs := catalogue.Names(s.declared)
	for _, p := range append(s.setupPrograms(), auditors(s.catalogue, s.databases())...) {
		if !slices.Contains(programs, p.Name) {
			programs = append(programs, p.Name)
		}
	}
	args := []string{"go", "build", "-buildvcs=false", "-o", filepath.Join(s.dir, "bin") + "/"}
	if len(s.options.Tags) > 0 {
		args = append(args, "-tags", strings.Join(s.options.Tags, ","))
	}
	if s.options.Overlay != "" {
		args = append(args, "-overlay", s.options.Overlay)
	}
	for _, name := range programs {
		args = append(args, "./"+name)
	}
	s.out.Step("building %s", strings.Join(programs, ", "))
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // its supervisor ends it
	cmd.Dir, cmd.Env = filepath.Join(s.root, "apps"), append(os.Environ(), toolchain.BuildEnv...)
	run, err := process.Run(process.Spec{Name: "go build", Cmd: cmd, Mark: marker + s.dir, Log: s.log("build")})
	if err != nil {
		return err
	}
	if err := run.Wait(ctx, syscall.SIGTERM, 5*time.Second); err != nil {
		return fmt.Errorf("building %s: %w", strings.Join(programs, ", "), err)
	}
	s.out.Step("built (%s)", console.Round(time.Since(began)))
	return nil
}

// startPrograms starts all programs and waits until each is ready.
func (s *Shop) startPrograms(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, p := range s.programs {
		if err := s.start(p); err != nil {
			return err
		}
	}
	var all sync.WaitGroup
	errs := make(chan error, len(s.programs))
	for _, p := range s.programs {
		all.Go(func() {
			if err := p.waitReady(ctx); err != nil {
				errs <- err
				cancel(err) // the shop fails anyway, so do not wait for the other programs
			}
		})
	}
	all.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	s.out.Step("all programs are ready (%s)", console.Round(time.Since(began)))
	return nil
}

// Summary lists the addresses of everything that runs.
func (s *Shop) Summary() string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, p := range slices.Backward(s.declared) {
		fmt.Fprintf(&b, "  %-16s %s/\n", p.Name, s.URL(p.Name))
	}
	fmt.Fprintf(&b, "  %-16s 127.0.0.1:%d, URLs with passwords in %s/databases.env\n", "PostgreSQL", s.ports[PostgreSQL], s.dir)
	if s.options.Telemetry {
		fmt.Fprintf(&b, "  %-16s %s/, traces to %s\n", "Jaeger", s.URL(Jaeger), s.URL(otlpHTTP))
		fmt.Fprintf(&b, "  %-16s %s/\n", "Prometheus", s.URL(Prometheus))
	}
	b.WriteString("\n  Ctrl-C or make dev-down stops the shop; make dev-status lists its processes; " +
		"make trace ORDER=<id> prints an order's spans\n")
	return b.String()
}

// Wait returns nil when ctx ends. If a program ends before that, Wait returns an error that
// says which one and why; an end by Kill or Restart does not count.
func (s *Shop) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// URL returns the address of a program, without a slash at its end.
func (s *Shop) URL(name string) string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports[name]))
}

// DatabaseURL returns the superuser's URL of a database. It contains a password.
func (s *Shop) DatabaseURL(database string) string { return s.server.URL(database) }

// Postgres returns the server of the databases.
func (s *Shop) Postgres() *postgres.Server { return s.server }

// FailOver replaces the server of the databases, which the caller has ended. Another server has its data, and
// the clients reach that at the same address (Options.Postgres.Address).
func (s *Shop) FailOver(to *postgres.Server) error {
	s.server = to
	s.watch(to.Process())
	return s.record()
}

func (s *Shop) program(name string) (*program, error) {
	var names []string
	for _, p := range s.programs {
		if p.name == name {
			return p, nil
		}
		names = append(names, p.name)
	}
	return nil, fmt.Errorf("%q does not run in this shop: name one of %s, %s", name, PostgreSQL, strings.Join(names, ", "))
}

func (s *Shop) process(name string) (*process.Process, error) {
	if name == PostgreSQL {
		return s.server.Process(), nil
	}
	p, err := s.program(name)
	if err != nil {
		return nil, err
	}
	return p.process.Load(), nil
}

// PID returns the process id of a program; for PostgreSQL, the server's main process.
func (s *Shop) PID(name string) (int, error) {
	run, err := s.process(name)
	if err != nil {
		return 0, err
	}
	return run.PID(), nil
}

// Ended returns a channel that is closed when the program's current process ends.
func (s *Shop) Ended(name string) (<-chan struct{}, error) {
	run, err := s.process(name)
	if err != nil {
		return nil, err
	}
	return run.Done(), nil
}

// Kill ends a program by SIGKILL; PostgreSQL ends with all its sessions.
func (s *Shop) Kill(name string) error {
	if name == PostgreSQL {
		return s.server.Kill()
	}
	p, err := s.program(name)
	if err != nil {
		return err
	}
	return p.end(syscall.SIGKILL)
}

// Restart starts a program again and waits until it is ready. If the program runs, Restart
// ends it first: a service by SIGTERM, as a deployment does, PostgreSQL without a
// checkpoint. Restart adds env to the service's environment, for later restarts too.
func (s *Shop) Restart(ctx context.Context, name string, env ...string) error {
	if name == PostgreSQL {
		if err := s.server.Restart(ctx); err != nil {
			return err
		}
		s.watch(s.server.Process())
		return s.record()
	}
	p, err := s.program(name)
	if err != nil {
		return err
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		return err
	}
	p.env = append(p.env, env...)
	if err := s.start(p); err != nil {
		return err
	}
	if err := p.waitReady(ctx); err != nil {
		return err
	}
	return s.record()
}

// Stop ends the shop in order: each service finishes its requests before the services that
// it calls end. Prometheus and Jaeger follow, and PostgreSQL ends last.
func (s *Shop) Stop() error {
	failed := s.endAll(s.stopOrder(), syscall.SIGTERM)
	if s.server != nil {
		failed = errors.Join(failed, s.server.Stop())
	}
	return errors.Join(failed, s.release())
}

// StopNow ends the shop by SIGKILL, PostgreSQL without a checkpoint.
func (s *Shop) StopNow() error {
	failed := s.endAll([][]*program{s.programs}, syscall.SIGKILL)
	if s.server != nil {
		failed = errors.Join(failed, s.server.StopNow())
	}
	return errors.Join(failed, s.release())
}

// release removes the state file and the lock, by which other commands see that the shop
// runs.
func (s *Shop) release() error {
	err := os.Remove(filepath.Join(s.dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.lock.Release())
}

func (s *Shop) endAll(groups [][]*program, signal syscall.Signal) error {
	var failed error
	for _, group := range groups {
		errs := make([]error, len(group))
		var all sync.WaitGroup
		for i, p := range group {
			all.Go(func() { errs[i] = p.end(signal) })
		}
		all.Wait()
		failed = errors.Join(failed, errors.Join(errs...))
	}
	return failed
}

// stopOrder groups the programs. A group ends together; callers are in an earlier group
// than the services that they call, and Prometheus and Jaeger are in the last one.
func (s *Shop) stopOrder() [][]*program {
	var groups [][]*program
	left := slices.Clone(s.programs)
	for _, names := range callersFirst(s.declared) {
		var group []*program
		left = slices.DeleteFunc(left, func(p *program) bool {
			if !slices.Contains(names, p.name) {
				return false
			}
			group = append(group, p)
			return true
		})
		groups = append(groups, group)
	}
	return append(groups, left)
}

// callersFirst groups the programs' names so that every caller is in an earlier group than
// the programs that it calls.
func callersFirst(programs []catalogue.Program) [][]string {
	var groups [][]string
	for left := slices.Clone(programs); len(left) > 0; {
		called := func(p catalogue.Program) bool {
			return slices.ContainsFunc(left, func(caller catalogue.Program) bool {
				return slices.ContainsFunc(caller.Calls, func(call catalogue.Call) bool { return call.Service == p.Name })
			})
		}
		var group []string
		var rest []catalogue.Program
		for _, p := range left {
			if called(p) {
				rest = append(rest, p)
			} else {
				group = append(group, p.Name)
			}
		}
		groups, left = append(groups, group), rest
	}
	return groups
}

// Package dev runs the shop on the host without a cluster: PostgreSQL, the
// services, and, if wanted, Prometheus and Jaeger, as processes that end with
// this one. make dev uses it, and so do drills that kill parts of it.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Options of a stack. All may be left out.
type Options struct {
	Dir       string              // data, logs, programs: .local/dev of the checkout
	Ports     map[string]int      // by component, as in Ports; one that is missing gets a free one
	Services  []string            // that run: all of apps
	Tags      []string            // build tags of the services
	Env       map[string][]string // NAME=value by service, over what the stack sets
	Postgres  []string            // name=value settings of the server
	Telemetry bool                // Prometheus and Jaeger too
	Out       *console.Console    // steps, and the lines of all programs
}

// databases are the services with one of their own, of the same name.
var databases = []string{"pedidos", "pagamentos", "estoque"}

// readyTimeout bounds the wait for one component.
const readyTimeout = time.Minute

// A Stack is one that runs.
type Stack struct {
	root, dir string
	out       *console.Console
	options   Options
	lock      *os.File
	ports     map[string]int
	programs  postgres.Programs
	server    *postgres.Server
	serverLog *lines
	began     time.Time // of the server

	mu         sync.Mutex
	components map[string]*component
	secrets    map[string]string
	stopping   bool
	failed     chan error // the first end that nobody wanted
}

// Start builds the services and starts the stack; it returns when all of it is
// ready. If it fails, nothing runs. Whatever an earlier stack of the same folder
// left behind, because it was killed, is ended first.
func Start(ctx context.Context, o Options) (*Stack, error) {
	root, err := repo.Root()
	if err != nil {
		return nil, err
	}
	if o.Out == nil {
		o.Out = console.New(io.Discard)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(root, ".local", "dev")
	}
	if o.Services == nil {
		if o.Services, err = repo.Services(root); err != nil {
			return nil, err
		}
	}
	dir, err := resolve(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Stack{root: root, dir: dir, out: o.Out, options: o, ports: map[string]int{}, components: map[string]*component{}, failed: make(chan error, 1)}
	if s.lock, err = take(dir); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		if s.server != nil {
			s.out.Step("stopping what was started")
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause // what it made fail is of no interest
		}
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// resolve makes the folder and names it as /proc does.
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

func (s *Stack) start(ctx context.Context) error {
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
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	if err := s.setUpDatabases(ctx); err != nil {
		return err
	}
	if err := s.scrapeConfig(); err != nil {
		return err
	}
	for _, c := range s.telemetry(tools) {
		s.add(c)
	}
	for _, name := range s.order() {
		s.add(s.service(name))
	}
	return s.startAll(ctx)
}

// order is the services, those first that others call.
func (s *Stack) order() []string {
	known := []string{"pagamentos", "estoque", "pedidos", "api-gateway", "sample-web-app"}
	names := slices.Clone(s.options.Services)
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(known, a) - slices.Index(known, b) })
	return names
}

func (s *Stack) add(c *component) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.components[c.name] = c
}

func (s *Stack) component(name string) (*component, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.components[name]
	if c == nil {
		return nil, fmt.Errorf("%q is no component of this stack: there are %s, %s", name, PostgreSQL, strings.Join(slices.Sorted(maps.Keys(s.components)), ", "))
	}
	return c, nil
}

// wanted are the ports that the stack needs.
func (s *Stack) wanted() []string {
	names := append([]string{PostgreSQL}, s.order()...)
	if s.options.Telemetry {
		names = append(names, Jaeger, otlpHTTP, otlpGRPC, Prometheus)
	}
	return names
}

// choosePorts gives each component its port, and fails if one is taken.
func (s *Stack) choosePorts(ctx context.Context) error {
	var faults []error
	var held []net.Listener // until all are chosen, so that none is chosen twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, name := range s.wanted() {
		port := s.options.Ports[name]
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			by := process.Holder(port)
			if by == "" {
				by = "a process of another user"
			}
			if !errors.Is(err, syscall.EADDRINUSE) {
				by = "no process, but: " + err.Error()
			}
			faults = append(faults, fmt.Errorf("port %d on 127.0.0.1, which %s needs, is taken by %s", port, name, by))
			continue
		}
		held = append(held, l)
		s.ports[name] = l.Addr().(*net.TCPAddr).Port
	}
	return errors.Join(faults...)
}

// build compiles the services, and the program that makes their databases.
func (s *Stack) build(ctx context.Context) error {
	began := time.Now()
	args := []string{"go", "build", "-buildvcs=false", "-o", filepath.Join(s.dir, "bin") + "/"}
	if len(s.options.Tags) > 0 {
		args = append(args, "-tags", strings.Join(s.options.Tags, ","))
	}
	programs := s.order()
	if len(s.ownDatabases()) > 0 {
		programs = append(programs, repo.Database)
	}
	for _, name := range programs {
		args = append(args, "./"+name)
	}
	s.out.Step("building %s", strings.Join(programs, ", "))
	log := &said{}
	if err := s.run(ctx, log, filepath.Join(s.root, "apps"), append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0"), args...); err != nil {
		return fmt.Errorf("building %s: %w\n%s", strings.Join(programs, ", "), err, log)
	}
	s.out.Step("built (%s)", console.Round(time.Since(began)))
	return nil
}

// said collects what a short program printed.
type said struct{ b []byte }

func (w *said) Write(p []byte) (int, error) { w.b = append(w.b, p...); return len(p), nil }
func (w *said) String() string {
	lines := strings.Split(strings.TrimSpace(string(w.b)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-30):], "\n    ")
}

func (s *Stack) startPostgres(ctx context.Context) error {
	log, err := s.lines(PostgreSQL, false)
	if err != nil {
		return err
	}
	password, err := s.password()
	if err != nil {
		return err
	}
	began := time.Now()
	server, err := s.programs.Start(ctx, postgres.Options{
		Dir: filepath.Join(s.dir, "postgres"), Port: s.ports[PostgreSQL], Password: password,
		Settings: append([]string{"max_connections=200"}, s.options.Postgres...), Env: []string{marker + s.dir}, Log: log,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server, s.serverLog, s.began = server, log, time.Now()
	s.mu.Unlock()
	s.watchPostgres(server)
	s.out.Step("PostgreSQL is ready on port %d (%s)", server.Port, console.Round(time.Since(began)))
	return nil
}

// watchPostgres tells of an end of the server that nobody wanted.
func (s *Stack) watchPostgres(server *postgres.Server) {
	done := server.Done()
	go func() {
		<-done
		s.mu.Lock()
		current := s.server == server && !s.stopping
		s.mu.Unlock()
		if current && !server.Wanted() {
			s.crashed(PostgreSQL, server.Err(), text(server.Log()))
		}
	}()
}

// text is what a server that keeps its own last lines has of them.
type text string

func (t text) String() string { return string(t) }

// password is the superuser's, made with the data directory.
func (s *Stack) password() (string, error) {
	path := filepath.Join(s.dir, "postgres-password")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(s.dir, "postgres")); err == nil {
		return "", fmt.Errorf("%s is missing, without which %s cannot be opened: delete both", path, filepath.Join(s.dir, "postgres"))
	}
	password := postgres.NewPassword()
	return password, os.WriteFile(path, []byte(password+"\n"), 0o600)
}

// ownDatabases are those of the services that run.
func (s *Stack) ownDatabases() []string {
	return slices.DeleteFunc(slices.Clone(databases), func(name string) bool { return !slices.Contains(s.options.Services, name) })
}

// setUpDatabases makes databases and roles and migrates the schemas.
func (s *Stack) setUpDatabases(ctx context.Context) error {
	names := s.ownDatabases()
	if len(names) == 0 {
		return nil
	}
	began := time.Now()
	file := filepath.Join(s.dir, "databases.env")
	log, err := s.lines(repo.Database, true)
	if err != nil {
		return err
	}
	defer log.end()
	env := append(s.baseEnv(), "LOG_FORMAT=text", "ADMIN_DATABASE_URL="+s.server.URL("postgres"), "DATABASES="+strings.Join(names, ","), "SECRETS_FILE="+file)
	if err := s.run(ctx, log, s.dir, env, s.program(repo.Database), "setup"); err != nil {
		return fmt.Errorf("making the databases: %w; its last lines:\n%s", err, log)
	}
	secrets, err := readEnvFile(file)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.secrets = secrets
	s.mu.Unlock()
	for _, name := range names {
		if secrets[prefix(name)+"DATABASE_URL"] == "" || secrets[prefix(name)+"DATABASE_OWNER_URL"] == "" {
			return fmt.Errorf("%s has no %sDATABASE_URL and %sDATABASE_OWNER_URL", file, prefix(name), prefix(name))
		}
	}
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			log, err := s.lines(name+"-migrate", true)
			if err != nil {
				errs[i] = err
				return
			}
			defer log.end()
			env := append(s.baseEnv(), "LOG_FORMAT=text", "DATABASE_URL="+secrets[prefix(name)+"DATABASE_OWNER_URL"])
			if err := s.run(ctx, log, s.dir, env, s.program(name), "migrate"); err != nil {
				errs[i] = fmt.Errorf("migrating the database of %s: %w; its last lines:\n%s", name, err, log)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.out.Step("databases are made and migrated: %s (%s)", strings.Join(names, ", "), console.Round(time.Since(began)))
	return nil
}

func (s *Stack) program(name string) string { return filepath.Join(s.dir, "bin", name) }

// baseEnv is what every program of the stack gets of this one's environment: a
// setting of a service in a person's shell is not meant for these.
func (s *Stack) baseEnv() []string {
	env := []string{marker + s.dir}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// service is one with its settings.
func (s *Stack) service(name string) *component {
	env := []string{
		"PORT=" + strconv.Itoa(s.ports[name]), "BIND_ADDRESS=127.0.0.1", "LOG_FORMAT=text", "DRAIN_PAUSE=0s",
		"POD_NAME=" + name,
	}
	if s.options.Telemetry {
		env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.URL(otlpHTTP))
	}
	for _, k := range knobs {
		if k.value != "" && (k.services == nil || slices.Contains(k.services, name)) {
			env = append(env, k.name+"="+k.value)
		}
	}
	calls := map[string][]string{"pedidos": {"estoque", "pagamentos"}, "api-gateway": {"estoque", "pagamentos", "pedidos"}}
	for _, other := range calls[name] {
		env = append(env, prefix(other)+"URL="+s.URL(other))
	}
	if name == "sample-web-app" && s.ports["api-gateway"] != 0 {
		env = append(env, "API_URL="+s.URL("api-gateway"))
	}
	if name == "pedidos" {
		env = append(env, auditEnv(s.secrets)...)
	}
	if slices.Contains(databases, name) {
		env = append(env, "DATABASE_URL="+s.secrets[prefix(name)+"DATABASE_URL"])
	}
	return &component{
		name: name, port: s.ports[name], args: []string{s.program(name)}, env: append(env, s.options.Env[name]...),
		ready: s.URL(name) + "/ready", grace: 25 * time.Second,
	}
}

// startAll starts the components and waits until each is ready.
func (s *Stack) startAll(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	errs := make(chan error, len(s.components))
	for _, c := range s.components {
		if err := c.start(s); err != nil {
			return err
		}
	}
	for _, c := range s.components {
		all.Go(func() {
			if err := c.waitReady(ctx); err != nil {
				errs <- err
				cancel(err) // the first tells why; the others need not be waited for
			}
		})
	}
	all.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	s.out.Step("all is ready (%s)", console.Round(time.Since(began)))
	return s.record()
}

// Summary says where what is.
func (s *Stack) Summary() string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, name := range slices.Backward(s.order()) {
		fmt.Fprintf(&b, "  %-16s %s/\n", name, s.URL(name))
	}
	fmt.Fprintf(&b, "  %-16s 127.0.0.1:%d, addresses with passwords in %s\n", "PostgreSQL", s.ports[PostgreSQL], filepath.Join(s.dir, "databases.env"))
	if s.options.Telemetry {
		fmt.Fprintf(&b, "  %-16s %s/, traces to %s\n  %-16s %s/\n", "Jaeger", s.URL(Jaeger), s.URL(otlpHTTP), "Prometheus", s.URL(Prometheus))
	}
	b.WriteString("\n  Ctrl-C or make dev-down ends it; make dev-status: what runs; make trace ORDER=<id>: an order's spans\n")
	return b.String()
}

// crashed notes the end of a component that nobody wanted, if it is the first.
func (s *Stack) crashed(name string, err error, log fmt.Stringer) {
	select {
	case s.failed <- fateOf(name, err, log):
	default:
	}
}

// Wait returns nil when ctx ends, or says which component ended before and why.
// Those that Kill or Restart ended do not count.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// URL is the address of a component, without a slash at its end.
func (s *Stack) URL(name string) string {
	return "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports[name]))
}

// DatabaseURL is the address of a database for the superuser, a secret.
func (s *Stack) DatabaseURL(database string) string { return s.server.URL(database) }

// Secrets are the credentials of the databases by name, as the program database
// writes them: PEDIDOS_DATABASE_URL, PEDIDOS_DATABASE_OWNER_URL,
// AUDITOR_PEDIDOS_DATABASE_URL and so on.
func (s *Stack) Secrets() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.secrets)
}

// PID is the process of a component.
func (s *Stack) PID(name string) (int, error) {
	if name == PostgreSQL {
		return s.server.PID(), nil
	}
	c, err := s.component(name)
	if err != nil {
		return 0, err
	}
	return c.pid(), nil
}

// Ended is closed when the present process of a service has ended, by whatever.
func (s *Stack) Ended(name string) (<-chan struct{}, error) {
	if name == PostgreSQL {
		return s.server.Done(), nil
	}
	c, err := s.component(name)
	if err != nil {
		return nil, err
	}
	return c.ended(), nil
}

// Kill ends a component at once, by SIGKILL; PostgreSQL with all its sessions.
func (s *Stack) Kill(name string) error {
	if name == PostgreSQL {
		return s.server.Kill()
	}
	c, err := s.component(name)
	if err != nil {
		return err
	}
	return c.end(syscall.SIGKILL)
}

// Restart starts a component again and waits until it is ready, ending it first
// if it still runs: a service as a deployment would, PostgreSQL without a
// checkpoint. A service gets the further variables from now on.
func (s *Stack) Restart(ctx context.Context, name string, env ...string) error {
	if name == PostgreSQL {
		if err := s.server.Restart(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		s.began = time.Now()
		s.mu.Unlock()
		s.watchPostgres(s.server)
		return s.record()
	}
	c, err := s.component(name)
	if err != nil {
		return err
	}
	if err := c.end(syscall.SIGTERM); err != nil {
		return err
	}
	c.env = append(c.env, env...)
	if err := c.start(s); err != nil {
		return err
	}
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	return s.record()
}

// Stop ends the stack in order: each service has its time to finish, PostgreSQL
// comes last.
func (s *Stack) Stop() error { return s.stop(syscall.SIGTERM) }

// StopNow ends it at once.
func (s *Stack) StopNow() error { return s.stop(syscall.SIGKILL) }

func (s *Stack) stop(signal syscall.Signal) error {
	s.mu.Lock()
	s.stopping = true
	components := maps.Clone(s.components)
	server := s.server
	s.mu.Unlock()
	last := [][]string{{"pedidos"}, {"pagamentos", "estoque"}, {Prometheus, Jaeger}}
	var first []string // those that others do not call
	for name := range components {
		if !slices.ContainsFunc(last, func(group []string) bool { return slices.Contains(group, name) }) {
			first = append(first, name)
		}
	}
	groups := append([][]string{first}, last...)
	if signal == syscall.SIGKILL {
		groups = [][]string{slices.Collect(maps.Keys(components))}
	}
	var failed error
	for _, group := range groups {
		errs := make([]error, len(group))
		var all sync.WaitGroup
		for i, name := range group {
			if c := components[name]; c != nil {
				all.Go(func() { errs[i] = c.end(signal) })
			}
		}
		all.Wait()
		failed = errors.Join(append(errs, failed)...)
	}
	if server != nil {
		end := server.Stop
		if signal == syscall.SIGKILL {
			end = server.StopNow
		}
		failed = errors.Join(failed, end())
		s.serverLog.end()
	}
	if err := os.Remove(filepath.Join(s.dir, stateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		failed = errors.Join(failed, err)
	}
	s.lock.Close() // and so free
	return failed
}

// tools provides what runs beside the services.
func (s *Stack) tools(ctx context.Context) (map[string]string, error) {
	cacheRoot, err := toolchain.DefaultRoot()
	if err != nil {
		return nil, err
	}
	cache := &toolchain.Cache{Root: cacheRoot, Pins: filepath.Join(s.root, "tools", "pins"), Out: s.out}
	if s.programs, err = postgres.Ensure(ctx, cache); err != nil || !s.options.Telemetry {
		return nil, err
	}
	return telemetryTools(ctx, cache)
}

var client = &http.Client{Timeout: 2 * time.Second}

// answers fails unless a GET of the address is answered with 200.
func answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

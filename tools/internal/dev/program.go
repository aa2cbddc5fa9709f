package dev

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// marker is an environment variable of every process of a shop, with the shop's folder as
// its value. Down and the next Start find by it the processes of a shop whose owner was
// killed.
const marker = "LOJA_VELOZ_DEV="

// readyTimeout bounds the wait for one program.
const readyTimeout = time.Minute

// A program says how the shop starts one of its programs, and holds its current process.
type program struct {
	name  string
	port  int
	args  []string
	env   []string      // NAME=value, in addition to inheritedEnv
	ready string        // URL that answers 200 once the program is ready
	quiet bool          // its output goes to the log file only
	grace time.Duration // from SIGTERM to SIGKILL

	process atomic.Pointer[process.Process]
}

// start starts the process. If it ends unexpectedly, the shop fails.
func (s *Shop) start(p *program) error {
	run, err := s.run(p.name, p.quiet, p.env, p.args...)
	if err != nil {
		return err
	}
	p.process.Store(run)
	s.watch(run)
	return nil
}

// watch fails the shop when the process ends unexpectedly.
func (s *Shop) watch(run *process.Process) {
	s.watchers.Go(func() {
		<-run.Done()
		if run.Wanted() {
			return
		}
		select {
		case s.failed <- run.Ended():
		default: // Wait reports only the first unexpected end
		}
	})
}

func (p *program) waitReady(ctx context.Context) error {
	check := func(ctx context.Context) error { return process.Answers(ctx, p.ready) }
	return p.process.Load().Ready(ctx, readyTimeout, 25*time.Millisecond, check)
}

func (p *program) end(signal syscall.Signal) error {
	run := p.process.Load()
	if run == nil {
		return nil
	}
	return run.End(signal, p.grace)
}

// run starts a program in the shop's folder, with its own log file.
func (s *Shop) run(name string, quiet bool, env []string, args ...string) (*process.Process, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // its supervisor ends it
	cmd.Dir, cmd.Env = s.dir, append(inheritedEnv(), env...)
	spec := process.Spec{Name: name, Cmd: cmd, Mark: marker + s.dir, Log: s.log(name)}
	if !quiet {
		spec.Line = s.show(name)
	}
	return process.Run(spec)
}

// runToEnd runs a program until it ends by itself.
func (s *Shop) runToEnd(ctx context.Context, name string, env []string, args ...string) error {
	run, err := s.run(name, true, append([]string{"LOG_FORMAT=text"}, env...), args...)
	if err != nil {
		return err
	}
	return run.Wait(ctx, syscall.SIGTERM, 5*time.Second)
}

func (s *Shop) log(name string) string { return filepath.Join(s.dir, "logs", name+".log") }

func (s *Shop) binary(name string) string { return filepath.Join(s.dir, "bin", name) }

// show returns a function that prints a program's lines in the services' log format.
func (s *Shop) show(name string) func(string) {
	return func(line string) { s.out.Plain("%s", inFormat(time.Now(), name, line)) }
}

// inheritedEnv returns the variables that every program inherits. Programs inherit no
// others: a variable in the user's shell may share its name with a service's setting and
// mean something else.
func inheritedEnv() []string {
	var env []string
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
	} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// service returns how to start a program of the catalogue.
func (s *Shop) service(p catalogue.Program) *program {
	env := []string{
		"PORT=" + strconv.Itoa(s.ports[p.Name]), "BIND_ADDRESS=127.0.0.1", "LOG_FORMAT=text", "DRAIN_PAUSE=0s",
		"POD_NAME=" + p.Name,
	}
	if s.options.Telemetry {
		env = append(env, "OTEL_EXPORTER_OTLP_ENDPOINT="+s.URL(otlpHTTP))
	}
	env = append(env, environment(p, func(_, unset string) string { return unset })...)
	for _, call := range p.Calls {
		if s.ports[call.Service] != 0 {
			env = append(env, call.Variable+"="+s.URL(call.Service))
		}
	}
	env = append(env, auditorEnv(p, s.secrets)...)
	if p.Database {
		env = append(env, "DATABASE_URL="+s.secrets[prefix(p.Name)+"DATABASE_URL"])
	}
	return &program{
		name: p.Name, port: s.ports[p.Name], args: []string{s.binary(p.Name)}, env: append(env, s.options.Env[p.Name]...),
		ready: s.URL(p.Name) + "/ready", grace: 25 * time.Second,
	}
}

var (
	inOurForm = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| `)
	severity  = regexp.MustCompile(`^(LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DEBUG\d?): +`) // PostgreSQL's
)

// inFormat returns a line of another program in the services' log format.
func inFormat(now time.Time, name, line string) string {
	if inOurForm.MatchString(line) {
		return line
	}
	level := "INFO"
	if m := severity.FindStringSubmatch(line); m != nil {
		line = line[len(m[0]):]
		switch m[1] {
		case "WARNING":
			level = "WARN"
		case "ERROR", "FATAL", "PANIC":
			level = "ERROR"
		}
	}
	return fmt.Sprintf("%s | %s | %s | %s", now.UTC().Format(time.DateTime), level, name, line)
}

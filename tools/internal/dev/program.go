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

// marker is the variable, with the shop's folder as value, by which Down and the next
// Start find the processes of a shop whose owner was killed.
const marker = "LOJA_VELOZ_DEV="

// readyTimeout bounds the wait for one program.
const readyTimeout = time.Minute

// A program is one that the shop runs, with the process of its last start.
type program struct {
	name  string
	port  int
	args  []string
	env   []string      // in addition to that of every program
	ready string        // URL that answers 200 once the program is ready
	quiet bool          // its lines go to the log file only
	grace time.Duration // from SIGTERM to SIGKILL

	process atomic.Pointer[process.Process]
}

// start starts the process; an end that nobody asked for fails the shop.
func (s *Shop) start(p *program) error {
	run, err := s.run(p.name, p.quiet, p.env, p.args...)
	if err != nil {
		return err
	}
	p.process.Store(run)
	s.watch(run)
	return nil
}

// watch fails the shop when the process ends by itself.
func (s *Shop) watch(run *process.Process) {
	go func() {
		<-run.Done()
		if run.Wanted() {
			return
		}
		select {
		case s.failed <- run.Ended():
		default: // another has ended before
		}
	}()
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

// run starts a program in the shop's folder, with a log of its own.
func (s *Shop) run(name string, quiet bool, env []string, args ...string) (*process.Process, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // its supervisor ends it
	cmd.Dir, cmd.Env = s.dir, append(inheritedEnv(), env...)
	spec := process.Spec{Name: name, Cmd: cmd, Mark: marker + s.dir, Log: s.log(name)}
	if !quiet {
		spec.Line = s.show(name)
	}
	return process.Run(spec)
}

// runToEnd runs a program that does its work and ends.
func (s *Shop) runToEnd(ctx context.Context, name string, env []string, args ...string) error {
	run, err := s.run(name, true, append([]string{"LOG_FORMAT=text"}, env...), args...)
	if err != nil {
		return err
	}
	return run.Wait(ctx, syscall.SIGTERM, 5*time.Second)
}

func (s *Shop) log(name string) string { return filepath.Join(s.dir, "logs", name+".log") }

func (s *Shop) binary(name string) string { return filepath.Join(s.dir, "bin", name) }

// show prints lines of a program in the form of the services' own.
func (s *Shop) show(name string) func(string) {
	return func(line string) { s.out.Plain("%s", inFormat(time.Now(), name, line)) }
}

// inheritedEnv is what every program gets of this process's environment. A setting of
// a service in a person's shell may be meant for something else.
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

// service is a program of the catalogue with its environment.
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

// inFormat gives a line of another program the form of the services' own.
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

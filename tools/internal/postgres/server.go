package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// Options of a server.
type Options struct {
	Dir      string   // its data; made and filled where it is missing
	Port     int      // on 127.0.0.1; 0 takes a free one
	Password string   // of the superuser postgres, with which the data was made
	Settings []string // name=value, over postgresql.conf
	Env      []string // beside what the server needs
	Log      io.Writer
}

// A Server is one that runs, or ran.
type Server struct {
	Dir  string
	Port int

	programs Programs
	options  Options
	run      atomic.Pointer[run]
}

// A run is one process of a server, from its start to its end.
type run struct {
	cmd    *exec.Cmd
	wanted atomic.Bool   // its end
	done   chan struct{} // closed when the process has ended
	err    error         // then: how
	last   *lastLines
}

// NewPassword makes one.
func NewPassword() string {
	b := make([]byte, 24)
	rand.Read(b) //nolint:errcheck // it never fails (Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b)
}

// startTimeout bounds the start: recovery from a crash replays the log since the
// last checkpoint.
const startTimeout = 2 * time.Minute

// Start makes the data if there is none, starts the server and returns when it
// takes connections. Whatever an earlier server of the same data left behind is
// ended and removed first: that nobody else uses them is the caller's to know.
// The server is shut down at once when this process dies.
func (p Programs) Start(ctx context.Context, o Options) (*Server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir)) // as /proc names it
	}
	o.Dir = dir
	if o.Log == nil {
		o.Log = io.Discard
	}
	if err := p.initialise(ctx, o); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	s := &Server{Dir: dir, Port: o.Port, programs: p, options: o}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	return s, nil
}

// initialise fills the data directory, at a name of its own first: what an
// interrupted run leaves is not taken for a whole one.
func (p Programs) initialise(ctx context.Context, o Options) error {
	version, err := os.ReadFile(filepath.Join(o.Dir, "PG_VERSION"))
	if err == nil {
		if v := strings.TrimSpace(string(version)); v != Version {
			return fmt.Errorf("%s holds data of version %s, this is %s: move it away, or dump and load it", o.Dir, v, Version)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	work := o.Dir + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	password, err := os.CreateTemp("", "loja-")
	if err != nil {
		return err
	}
	defer password.Close()
	if err := os.Remove(password.Name()); err != nil {
		return err
	}
	if _, err := password.WriteString(o.Password + "\n"); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(work, unprivileged, unprivileged), password.Chown(unprivileged, unprivileged)); err != nil {
			return err
		}
	}
	folder, err := os.Open(work)
	if err != nil {
		return err
	}
	defer folder.Close()
	args := []string{
		"--pgdata=" + inherited(0), "--pwfile=" + inherited(1), "--username=postgres", "--encoding=UTF8", "--locale=C",
		"--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--no-instructions",
	}
	for _, s := range o.Settings {
		if s == "fsync=off" {
			args = append(args, "--no-sync")
		}
	}
	cmd := p.command(ctx, "initdb", o.Env, args...)
	cmd.ExtraFiles = []*os.File{folder, password}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := process.Start(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("starting initdb: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, strings.TrimSpace(out.String()))
	}
	return os.Rename(work, o.Dir)
}

// inherited is the path of the nth of a command's ExtraFiles. It leads to the
// file whatever folders above it are closed to the server's user.
func inherited(n int) string { return "/proc/self/fd/" + strconv.Itoa(3+n) }

func (p Programs) command(ctx context.Context, program string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.native, "bin", program), args...)
	cmd.Dir = "/"
	cmd.Env = append([]string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged, Groups: []uint32{}}
	}
	return cmd
}

func (s *Server) start(ctx context.Context) error {
	if err := clean(s.Dir); err != nil {
		return fmt.Errorf("removing what an earlier server left in %s: %w", s.Dir, err)
	}
	for try := 1; ; try++ {
		if s.options.Port == 0 && try > 1 || s.Port == 0 {
			port, err := process.FreePort(ctx)
			if err != nil {
				return err
			}
			s.Port = port
		}
		err := s.launch(ctx)
		// Another process may have taken the port that was free before.
		if err == nil || s.options.Port != 0 || try == 3 || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
	}
}

func (s *Server) launch(ctx context.Context) error {
	folder, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	args := []string{
		"-D", inherited(0), "-p", strconv.Itoa(s.Port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "timezone=UTC", "-c", "log_timezone=UTC", "-c", "log_line_prefix=", "-c", "logging_collector=off", "-c", "log_checkpoints=off",
	}
	for _, setting := range s.options.Settings {
		args = append(args, "-c", setting)
	}
	// Not of ctx: the server is stopped in its own order.
	r := &run{
		cmd:  s.programs.command(context.WithoutCancel(ctx), "postgres", s.options.Env, args...),
		done: make(chan struct{}), last: &lastLines{},
	}
	r.cmd.ExtraFiles = []*os.File{folder}
	r.cmd.Stdout = io.MultiWriter(r.last, s.options.Log)
	r.cmd.Stderr = r.cmd.Stdout
	r.cmd.WaitDelay = 5 * time.Second
	if err := process.Start(r.cmd, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("starting it: %w", err)
	}
	s.run.Store(r)
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("it takes no connections after %s", startTimeout))
	defer cancel()
	for !s.ready() {
		select {
		case <-r.done:
			return fmt.Errorf("it ended: %w\n%s", s.Err(), r.last)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w\n%s", context.Cause(ctx), r.last), s.Stop())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// ready reads the file that the server tells its state by.
func (s *Server) ready() bool {
	lines := pidFile(s.Dir)
	return len(lines) > 7 && lines[0] == strconv.Itoa(s.PID()) && lines[7] == "ready"
}

// pidFile are the lines of postmaster.pid: process, folder, start, port, socket,
// address, key and id of the shared memory, state.
func pidFile(dir string) []string {
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// clean ends the processes that work in a data directory and removes the lock and
// the shared memory of a server that could not do so itself.
func clean(dir string) error {
	pids, err := process.In(dir)
	if err != nil {
		return err
	}
	if err := process.End(pids, syscall.SIGQUIT, 5*time.Second); err != nil {
		return err
	}
	if lines := pidFile(dir); len(lines) > 6 {
		if _, id, ok := strings.Cut(lines[6], " "); ok {
			if id, err := strconv.Atoi(strings.TrimSpace(id)); err == nil {
				removeSharedMemory(id)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PID is the process.
func (s *Server) PID() int { return s.run.Load().cmd.Process.Pid }

// PIDs are its process and those of its sessions and workers.
func (s *Server) PIDs() ([]int, error) { return process.In(s.Dir) }

// Done is closed when the server's present process has ended.
func (s *Server) Done() <-chan struct{} { return s.run.Load().done }

// Wanted tells whether the end of the present process was asked for.
func (s *Server) Wanted() bool { return s.run.Load().wanted.Load() }

// Err is how the process ended; to be asked after Done.
func (s *Server) Err() error {
	if err := s.run.Load().err; err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// Log are the last lines that the server logged.
func (s *Server) Log() string { return s.run.Load().last.String() }

// URL is the address of a database for the superuser postgres.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", s.options.Password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Stop shuts the server down with a checkpoint; sessions are ended. What takes
// longer than half a minute is cut short, which the next start recovers from.
func (s *Server) Stop() error { return s.end(syscall.SIGINT, 30*time.Second) }

// StopNow shuts it down without a checkpoint.
func (s *Server) StopNow() error { return s.end(syscall.SIGQUIT, 5*time.Second) }

func (s *Server) end(signal syscall.Signal, grace time.Duration) error {
	r := s.run.Load()
	r.wanted.Store(true)
	if err := r.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-r.done:
	case <-time.After(grace):
	}
	return s.Kill()
}

// Kill ends the server and its sessions as a failure of the machine would.
func (s *Server) Kill() error {
	r := s.run.Load()
	r.wanted.Store(true)
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	pids, err := process.In(s.Dir)
	if err != nil {
		return err
	}
	if err := process.End(pids, syscall.SIGKILL, 0); err != nil {
		return err
	}
	<-r.done
	return clean(s.Dir)
}

// Restart starts the server again on the same port, ending it first if it runs.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.StopNow(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}

// lastLines keeps the end of what was written to it.
type lastLines struct {
	mu sync.Mutex
	b  []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 8000 {
		l.b = append(l.b[:0], l.b[len(l.b)-4000:]...)
	}
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(l.b)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-8):], "\n    ")
}

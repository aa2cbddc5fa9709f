package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// Options of a server.
type Options struct {
	Dir      string            // data directory; created if missing
	Port     int               // on 127.0.0.1; 0 selects a free one
	Password string            // of the superuser postgres; must be the same at every start
	Settings []string          // name=value; override postgresql.conf
	Env      []string          // NAME=value, of the server's processes
	Address  string            // host:port in the URLs, of a proxy in front of the server; "": the server's own
	Mark     string            // see process.Spec
	Log      string            // see process.Spec
	Line     func(line string) // see process.Spec
}

// A Server is a running server of one data directory, or one that has ended.
type Server struct {
	Dir  string
	Port int

	programs Programs
	options  Options
	process  atomic.Pointer[process.Process]
}

// startTimeout bounds the start. A server that was killed first replays its log since the
// last checkpoint.
const startTimeout = 2 * time.Minute

// Start creates the data directory if it is missing, starts the server and returns when it
// accepts connections. It first ends the processes that an earlier server of the same data
// left behind, so the caller must make sure that no other process uses the data. When this
// process ends, the server shuts down without a checkpoint.
func (p Programs) Start(ctx context.Context, o Options) (*Server, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(parent, filepath.Base(dir)) // without symbolic links, as /proc shows it
	}
	o.Dir = dir
	if err := p.initialise(ctx, o); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	s := &Server{Dir: dir, Port: o.Port, programs: p, options: o}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	return s, nil
}

// initialise creates the data directory if it is missing. It renames the directory to its
// final name last, so that an interrupted run leaves no incomplete data under that name.
func (p Programs) initialise(ctx context.Context, o Options) error {
	version, err := os.ReadFile(filepath.Join(o.Dir, "PG_VERSION"))
	if err == nil {
		if v := strings.TrimSpace(string(version)); v != Version {
			return fmt.Errorf("%s contains data of version %s, and the server has version %s: move the folder away, "+
				"or dump and reload its data", o.Dir, v, Version)
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
	if err := p.initdb(ctx, work, o); err != nil {
		return err
	}
	return os.Rename(work, o.Dir)
}

func (p Programs) initdb(ctx context.Context, dir string, o Options) error {
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
		if err := errors.Join(os.Chown(dir, unprivileged, unprivileged), password.Chown(unprivileged, unprivileged)); err != nil {
			return err
		}
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	args := []string{
		"--pgdata=" + inherited(0), "--pwfile=" + inherited(1), "--username=postgres", "--encoding=UTF8", "--locale=C",
		"--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--no-instructions",
	}
	if slices.Contains(o.Settings, "fsync=off") {
		args = append(args, "--no-sync")
	}
	cmd := p.command("initdb", args...)
	cmd.ExtraFiles = []*os.File{folder, password}
	run, err := process.Run(process.Spec{Name: "initdb", Cmd: cmd, Mark: o.Mark})
	if err != nil {
		return err
	}
	return run.Wait(ctx, syscall.SIGKILL, 0)
}

// inherited returns the path of the nth of a command's ExtraFiles. By this path the server's
// user can open the file even if it cannot read a folder above.
func inherited(n int) string { return "/proc/self/fd/" + strconv.Itoa(3+n) }

func (p Programs) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.native, "bin", program), args...) //nolint:noctx // its supervisor ends it
	cmd.Dir = "/"
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin"}
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
		// Another process may have taken the port meanwhile.
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
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "timezone=UTC", "-c", "log_timezone=UTC",
		"-c", "log_line_prefix=", "-c", "logging_collector=off", "-c", "log_checkpoints=off",
	}
	for _, setting := range s.options.Settings {
		args = append(args, "-c", setting)
	}
	cmd := s.programs.command("postgres", args...)
	cmd.Env = append(cmd.Env, s.options.Env...)
	cmd.ExtraFiles = []*os.File{folder}
	run, err := process.Run(process.Spec{
		Name: "postgresql", Cmd: cmd, Mark: s.options.Mark, Log: s.options.Log, Line: s.options.Line, OnDeath: syscall.SIGQUIT,
	})
	if err != nil {
		return err
	}
	s.process.Store(run)
	err = run.Ready(ctx, startTimeout, 10*time.Millisecond, s.ready)
	select {
	case <-run.Done():
	default:
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}
	return err
}

// ready reads the server's state from postmaster.pid. A standby that can be read has the state standby.
func (s *Server) ready(context.Context) error {
	lines := pidFile(s.Dir)
	if len(lines) < 8 || lines[0] != strconv.Itoa(s.Process().PID()) || lines[7] != "ready" && lines[7] != "standby" {
		return errors.New("it does not accept connections yet")
	}
	return nil
}

// pidFile returns the lines of postmaster.pid, or nil if it cannot be read. The lines are:
// process id, data directory, start time, port, socket folder, address, key and id of the
// shared memory, state.
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

// clean ends the processes of a data directory, and removes the shared memory and the lock
// file that a killed server left.
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

// Process returns the server's main process, of its last start.
func (s *Server) Process() *process.Process { return s.process.Load() }

// PIDs returns the ids of the main process, the sessions and the workers.
func (s *Server) PIDs() ([]int, error) { return process.In(s.Dir) }

// URL returns the superuser's URL of a database. It contains the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", s.options.Password),
		Host: cmp.Or(s.options.Address, s.Own()), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Own returns the host:port on which the server listens.
func (s *Server) Own() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Stop ends all sessions and shuts the server down with a checkpoint. If that takes longer
// than 30 s, Stop kills the server, which then recovers at the next start.
func (s *Server) Stop() error { return s.end(syscall.SIGINT, 30*time.Second) }

// StopNow shuts the server down without a checkpoint.
func (s *Server) StopNow() error { return s.end(syscall.SIGQUIT, 5*time.Second) }

// Kill ends the server and its sessions by SIGKILL, as a crash of the machine would.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL, 0) }

func (s *Server) end(signal syscall.Signal, grace time.Duration) error {
	sessions := make(chan error, 1)
	if signal == syscall.SIGKILL { // sessions do not notice at once that the server was killed
		go func() { sessions <- process.EndFound(s.PIDs, signal, 0) }()
	} else {
		sessions <- nil
	}
	if err := errors.Join(s.process.Load().End(signal, grace), <-sessions); err != nil {
		return err
	}
	return clean(s.Dir)
}

// Restart starts the server again on the same port. If the server runs, Restart stops it
// first, without a checkpoint.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.StopNow(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}

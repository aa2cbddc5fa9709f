package postgres

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/process"
)

// URLVariable is the environment variable with the superuser's URL of a temporary server, in
// which tests may create databases.
const URLVariable = "LOJA_POSTGRES_URL"

// An ExitError is the exit code of a command that Run ran and that failed.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// temporary are the settings of a server whose data is deleted with it: durability does not
// matter.
var temporary = []string{"fsync=off", "full_page_writes=off", "synchronous_commit=on", "max_connections=300", "max_wal_size=4GB"}

// Run starts a server, runs one command with the server's URL in URLVariable, and returns
// an ExitError if the command fails. A second process, with the command line supervise,
// must call Supervise, which runs the server. When this process ends, even by SIGKILL, the
// pipe between the two closes, and Supervise ends the server and deletes its data.
func Run(ctx context.Context, supervise, command []string) error {
	path, err := exec.LookPath(command[0]) // fail before starting the server
	if err != nil {
		return err
	}
	supervisor := exec.Command(supervise[0], supervise[1:]...) //nolint:noctx // it ends when its pipe closes
	supervisor.Stderr = os.Stderr
	supervisor.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // so that a Ctrl-C does not reach it
	alive, err := supervisor.StdinPipe()
	if err != nil {
		return err
	}
	out, err := supervisor.StdoutPipe()
	if err != nil {
		return err
	}
	if err := supervisor.Start(); err != nil {
		return fmt.Errorf("starting the supervisor of PostgreSQL: %w", err)
	}
	var folder string
	stop := func() error {
		alive.Close()
		_, _ = io.Copy(io.Discard, out)
		err := supervisor.Wait()
		// The supervisor has removed the folder, unless it was killed itself.
		if folder != "" {
			return errors.Join(err, remove(folder))
		}
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, at, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if err != nil || !ok {
		if failed := stop(); failed != nil {
			return errors.New("PostgreSQL did not start; the reason is above") // printed by the supervisor
		}
		return ctx.Err()
	}
	folder = at
	if err := ctx.Err(); err != nil {
		return errors.Join(err, stop())
	}
	ran := runCommand(ctx, path, command, url)
	if err := stop(); err != nil && ran == nil {
		return fmt.Errorf("stopping the temporary PostgreSQL server: %w", err)
	}
	return ran
}

// runCommand runs the command in this process's group, so that a Ctrl-C reaches it as if
// the user had called it directly.
func runCommand(ctx context.Context, path string, command []string, url string) error {
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Args[0] = command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), URLVariable+"="+url)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := process.StartInGroup(cmd, syscall.SIGTERM); err != nil {
		return fmt.Errorf("starting %s: %w", command[0], err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return ExitError(128 + int(status.Signal()))
	}
	return ExitError(exit.ExitCode())
}

const folderPattern = "loja-postgres-"

// Supervise starts a server in a temporary folder, and prints its URL and the folder on one
// line. When in ends, Supervise stops the server and removes the folder.
func (p Programs) Supervise(ctx context.Context, in io.Reader, out io.Writer) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
		close(gone)
	}()
	sweep(os.TempDir())
	folder, err := os.MkdirTemp("", folderPattern)
	if err != nil {
		return err
	}
	lock, err := process.LockFolder(folder)
	if err != nil {
		return err
	}
	defer lock.Release() //nolint:errcheck // this process ends
	s, err := p.Start(ctx, Options{Dir: filepath.Join(folder, "data"), Password: rand.Text(), Settings: temporary})
	if err != nil {
		return errors.Join(err, remove(folder))
	}
	fmt.Fprintln(out, s.URL("postgres"), folder)
	select {
	case <-gone:
	case <-s.Process().Done():
		fmt.Fprintln(os.Stderr, s.Process().Ended())
		<-gone
	}
	return errors.Join(s.StopNow(), remove(folder))
}

// sweep removes the folders that this user's killed supervisors left. It ignores errors,
// because the caller's own server does not depend on it.
func sweep(parent string) {
	folders, err := filepath.Glob(filepath.Join(parent, folderPattern+"*"))
	if err != nil {
		return
	}
	for _, folder := range folders {
		info, err := os.Lstat(folder)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		lock, err := process.LockFolder(folder)
		if err != nil {
			continue // its supervisor still runs
		}
		_ = remove(folder)
		_ = lock.Release()
	}
}

// remove ends the processes in a supervisor's folder and deletes the folder.
func remove(folder string) error {
	for _, data := range []string{"data", "data.new"} {
		dir := filepath.Join(folder, data)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := clean(dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(folder)
}

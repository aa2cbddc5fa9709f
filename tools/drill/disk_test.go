//go:build e2e

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/process"
)

// A disk is a file system of its own, in a file that it has as a loop device. So it can be full, and it can
// stop, without the machine's disk.
type disk struct {
	dir     string // where it is mounted
	log     string // of its server
	ballast int64  // bytes
	removed bool
}

const (
	// diskSize is more than the longest drill needs. The file has holes: it takes only what was written.
	diskSize = 16 << 30
	// diskPattern begins the names of the folders of disks; the drill's process id follows.
	diskPattern = "loja-drill-"
)

// newDisk creates a disk.
func (d *database) newDisk(ctx context.Context) (*disk, error) {
	if d.folder == "" {
		if os.Geteuid() != 0 {
			return nil, errors.New("the drill mounts disks of its own, which it fills and stops: run it as root")
		}
		if err := sweepDisks(); err != nil {
			return nil, fmt.Errorf("removing the disks of a drill that was killed: %w", err)
		}
		var err error
		if d.folder, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", diskPattern, os.Getpid())); err != nil {
			return nil, err
		}
		if err := os.Chmod(d.folder, 0o755); err != nil {
			return nil, err
		}
		if d.fakeTime, err = fakeTime(ctx, d.folder); err != nil {
			return nil, err
		}
	}
	d.number++
	one := &disk{dir: filepath.Join(d.folder, fmt.Sprint("disk", d.number))}
	one.log = one.dir + ".log"
	if err := one.setClock(0); err != nil {
		return nil, err
	}
	image, err := os.Create(one.image())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(image.Truncate(diskSize), image.Close(), os.Mkdir(one.dir, 0o755)); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", "-N", "32768", "-E", "nodiscard", one.image()}, // nothing is kept for root
		{"mount", "-o", "loop", one.image(), one.dir},
	} {
		if err := (command.Command{Args: args}).Run(ctx); err != nil {
			return nil, err
		}
	}
	return one, nil
}

func (d *disk) image() string { return d.dir + ".img" }

// data is the folder of a server's data.
func (d *disk) data() string { return filepath.Join(d.dir, "data") }

// server returns the address of the disk's server, from its lock file: the shop uses the server before the
// drill has it.
func (d *disk) server() string {
	file, err := os.ReadFile(filepath.Join(d.data(), "postmaster.pid"))
	lines := strings.Split(string(file), "\n")
	if err != nil || len(lines) < 4 {
		return ""
	}
	return "127.0.0.1:" + strings.TrimSpace(lines[3])
}

func (d *disk) remove() error {
	if d.removed {
		return nil
	}
	if err := (command.Command{Args: []string{"umount", d.dir}}).Run(context.Background()); err != nil {
		return err
	}
	d.removed = true
	return errors.Join(os.Remove(d.dir), os.Remove(d.image()))
}

// sweepDisks removes the disks of drills that were killed: nothing else unmounts them.
func sweepDisks() error {
	folders, err := filepath.Glob(filepath.Join(os.TempDir(), diskPattern+"*"))
	if err != nil {
		return err
	}
	var failed error
	for _, folder := range folders {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), diskPattern), "-")
		if pid, err := strconv.Atoi(pid); err != nil || !process.Dead(pid) {
			continue
		}
		disks, err := filepath.Glob(filepath.Join(folder, "disk*.img"))
		failed = errors.Join(failed, err)
		for _, image := range disks {
			_ = syscall.Unmount(strings.TrimSuffix(image, ".img"), 0) // it may not be mounted
		}
		failed = errors.Join(failed, os.RemoveAll(folder))
	}
	return failed
}

// fill takes all space that is free.
func (d *disk) fill() error {
	file, err := os.OpenFile(filepath.Join(d.dir, "ballast"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for chunk := int64(1 << 30); chunk >= 4096; {
		switch err := syscall.Fallocate(int(file.Fd()), 0, d.ballast, chunk); {
		case err == nil:
			d.ballast += chunk
		case errors.Is(err, syscall.ENOSPC):
			chunk /= 2
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("filling the disk: %w", err)
		}
	}
	return nil
}

// free returns the space that fill took.
func (d *disk) free() error {
	d.ballast = 0
	err := os.Remove(filepath.Join(d.dir, "ballast"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// said tells whether the disk's server has logged all texts in one line, after the first bytes of its log.
func (d *disk) said(after int64, texts ...string) (bool, error) {
	log, err := os.ReadFile(d.log)
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(log[min(after, int64(len(log))):]) {
		all := true
		for _, text := range texts {
			all = all && bytes.Contains(line, []byte(text))
		}
		if all {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s has no line with %q", d.log, texts)
}

const noSpace = "No space left on device"

// fillDisk fills the primary's disk until a table cannot grow, and then until the log cannot, with which
// PostgreSQL panics. It frees the disk, and waits until the shop goes on. If the log needs space before any
// table does, it fills the disk once more.
func (h *history) fillDisk(ctx context.Context) error {
	for range 5 {
		table, err := h.fillDiskOnce(ctx)
		if err != nil || table {
			return err
		}
	}
	return errors.New("the disk was full 5 times, and each time the log needed space before a table did")
}

// fillDiskOnce fills the disk until PostgreSQL panics. table says that a table could not grow before.
func (h *history) fillDiskOnce(ctx context.Context) (table bool, err error) {
	primary := h.Postgres()
	on := h.database.disks[primary]
	info, err := os.Stat(on.log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, on.free()) }()
	err = until(ctx, "PostgreSQL panics", func() (bool, error) {
		if err := on.fill(); err != nil {
			return false, err
		}
		if table, _ = on.said(info.Size(), "could not extend file", noSpace); table {
			// The log goes on in files that are there already. The next file is needed the sooner.
			_, _ = ask(ctx, primary, "SELECT pg_switch_wal()::text")
		}
		return on.said(info.Size(), "PANIC:", noSpace)
	})
	if err != nil {
		return table, err
	}
	if err := on.free(); err != nil {
		return table, err
	}
	if err := h.restarts(ctx, primary); err != nil {
		return table, err
	}
	if err := h.goesOn(ctx); err != nil {
		return table, err
	}
	return table, h.database.follows(ctx)
}

// restarts waits until a server that has panicked is there again: it tries so itself, and ends if it cannot.
func (h *history) restarts(ctx context.Context, server *postgres.Server) error {
	return until(ctx, "PostgreSQL restarts", func() (bool, error) {
		select {
		case <-server.Process().Done():
			return true, h.Restart(ctx, dev.PostgreSQL)
		default:
			_, err := ask(ctx, server, "SELECT 'up'")
			return err == nil, err
		}
	})
}

// stalls is a program that stops a disk for two seconds, and then lets only a little through for two seconds
// more: what writes to the disk, or waits until something is written, waits meanwhile. It ends by itself,
// also if the drill is killed, so that no disk stays stopped.
const stalls = `trap '' INT TERM HUP PIPE
for pause in 2 0.4 0.4 0.4 0.4 0.4; do
	fsfreeze --freeze "$1" || exit 1
	sleep $pause
	fsfreeze --unfreeze "$1" || exit 1
	sleep 0.05
done`

// slowDisk makes a server's disk slow, and fails unless a commit waited for it.
func (h *history) slowDisk(ctx context.Context, server *postgres.Server) error {
	conn, err := pgx.Connect(ctx, own(h.Postgres()).String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	args := []string{"sh", "-c", stalls, "stalls", h.database.disks[server].dir}
	ended := make(chan error, 1)
	go func() { ended <- (command.Command{Args: args}).Run(context.WithoutCancel(ctx)) }()
	for longest := time.Duration(0); ; {
		select {
		case err := <-ended:
			if err == nil && longest < time.Second {
				err = fmt.Errorf("the disk stopped for 2 s, and no commit took longer than %s", longest)
			}
			return err
		default:
		}
		began := time.Now() // the statement commits, and changes no table
		if _, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'drill', 'slow')"); err != nil {
			return errors.Join(err, <-ended)
		}
		longest = max(longest, time.Since(began))
	}
}

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Lock is the lock of a folder. One process at a time holds it, and the kernel releases
// it when that process ends.
type Lock struct{ file *os.File }

// A HeldError is returned by LockFolder when another process holds the lock.
type HeldError struct {
	Folder string
	PID    int // of the holder; 0 if unknown
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("process %d holds the lock of %s", e.PID, e.Folder)
}

// LockFolder takes the lock of a folder, which must exist. It fails with a *HeldError if
// another process holds the lock. The file "lock" in the folder contains the holder's id.
func LockFolder(folder string) (*Lock, error) {
	f, err := os.OpenFile(lockFile(folder), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, folder); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	id := []byte(strconv.Itoa(os.Getpid()))
	_, err = f.WriteAt(id, 0)
	if err := errors.Join(err, f.Truncate(int64(len(id)))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// AwaitLock takes the lock of a folder as LockFolder does, but waits while another process
// holds it. It calls waiting once if it has to wait.
func AwaitLock(ctx context.Context, folder string, waiting func(*HeldError)) (*Lock, error) {
	for told := false; ; told = true {
		lock, err := LockFolder(folder)
		var held *HeldError
		if !errors.As(err, &held) {
			return lock, err
		}
		if !told {
			waiting(held)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Release releases the lock.
func (l *Lock) Release() error { return l.file.Close() }

// LockHolder returns the id of the process that holds the lock of a folder, or 0 if the
// folder is not locked.
func LockHolder(folder string) (int, error) {
	f, err := os.OpenFile(lockFile(folder), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = flock(f, folder)
	var held *HeldError
	if !errors.As(err, &held) {
		return 0, err
	}
	if held.PID == 0 {
		return 0, fmt.Errorf("%s is locked but contains no process id", f.Name())
	}
	return held.PID, nil
}

func lockFile(folder string) string { return filepath.Join(folder, "lock") }

func flock(f *os.File, folder string) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		b, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return &HeldError{Folder: folder, PID: pid}
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return nil
}

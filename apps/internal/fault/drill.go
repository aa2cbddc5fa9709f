//go:build drill

package fault

import (
	"os"
	"sync/atomic"
	"syscall"
)

// spent tells whether this process has reached its fault point.
var spent atomic.Bool

// Here kills the process with SIGKILL if the variable FAULT names the point and the
// file at the path FAULT_ONCE does not exist. It creates the file first, so that the
// process that is started in its place continues.
func Here(point Point) {
	if os.Getenv("FAULT") != string(point) || spent.Swap(true) {
		return
	}
	once, err := os.OpenFile(os.Getenv("FAULT_ONCE"), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	_ = once.Close()
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

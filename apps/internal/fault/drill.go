//go:build drill

package fault

import (
	"os"
	"sync/atomic"
	"syscall"
)

// spent says that this process has had its fault.
var spent atomic.Bool

// Here kills the process, as kill -9 does, if the variable FAULT names the point and the
// file that FAULT_ONCE names does not exist. It creates that file first, so that the
// process that replaces this one survives.
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

package postgres

import (
	"golang.org/x/sys/unix"
)

// removeSharedMemory removes a segment of System V shared memory that no process uses.
func removeSharedMemory(id int) {
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil || desc.Nattch > 0 {
		return
	}
	_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
}

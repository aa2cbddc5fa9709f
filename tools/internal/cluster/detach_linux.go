package cluster

import (
	"errors"

	"golang.org/x/sys/unix"
)

// detach unmounts the mount at once. If a process still uses it, the kernel releases it when
// that process ends (umount2(2), MNT_DETACH).
func detach(mount string) error {
	err := unix.Unmount(mount, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil // it is no longer a mount
	}
	return err
}

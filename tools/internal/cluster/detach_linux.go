package cluster

import (
	"errors"

	"golang.org/x/sys/unix"
)

// detach unmounts at once what nobody uses, the rest when its last user ends.
func detach(mount string) error {
	err := unix.Unmount(mount, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		return nil // it is no longer a mount
	}
	return err
}

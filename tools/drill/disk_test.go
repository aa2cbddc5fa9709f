//go:build e2e

package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// A disk is a file system of its own, in a file.
type disk struct {
	dir     string // where it is mounted
	removed bool
}

// diskSize is more than the drill ever needs. The file has holes: it takes only what was written.
const diskSize = 16 << 30

// diskPattern begins the names of the folders of disks; the drill's process id follows.
const diskPattern = "loja-drill-"

// newDisk creates a disk.
func (d *database) newDisk(ctx context.Context) (*disk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the drill mounts disks of its own, which it fills and stops: run it as root")
	}
	if d.folder == "" {
		var err error
		if d.folder, err = os.MkdirTemp("", fmt.Sprintf("%s%d-", diskPattern, os.Getpid())); err != nil {
			return nil, err
		}
	}
	d.number++
	one := &disk{dir: filepath.Join(d.folder, fmt.Sprint("disk", d.number))}
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

package benchshop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// debian finds programs of Debian's packages on PATH or where the packages install them, and
// otherwise unpacks the packages. It does not install them, because nginx and PostgreSQL
// would then start as services of this machine.
type debian struct {
	dir string // folder in the tool cache for unpacked packages
}

// find returns the program's path and the environment that it needs.
func (d debian) find(ctx context.Context, program string, packages ...string) (string, []string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil, nil
	}
	if path := installed("", program); path != "" {
		return path, nil, nil
	}
	if installed(d.dir, program) == "" {
		if err := d.unpack(ctx, packages); err != nil {
			return "", nil, fmt.Errorf("%s is not installed, and unpacking Debian's packages failed: %w\ninstall the packages %s",
				program, err, strings.Join(packages, ", "))
		}
	}
	path := installed(d.dir, program)
	if path == "" {
		return "", nil, fmt.Errorf("Debian's packages %s do not contain %s: install it", strings.Join(packages, ", "), program)
	}
	return path, []string{"LD_LIBRARY_PATH=" + strings.Join(libraries(d.dir), ":")}, nil
}

func installed(root, program string) string {
	for _, pattern := range []string{"usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin"} {
		found, err := filepath.Glob(filepath.Join("/", root, pattern, program))
		slices.Sort(found)
		if err == nil && len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}

func libraries(root string) []string {
	found, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	if err != nil {
		return nil
	}
	return found
}

func (d debian) unpack(ctx context.Context, packages []string) error {
	work, err := os.MkdirTemp("", "loja-debian-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.Chmod(work, 0o755); err != nil { // apt downloads as an unprivileged user
		return err
	}
	do := func(name string, args ...string) error {
		return command.Command{Args: append([]string{name}, args...), Dir: work}.Run(ctx)
	}
	if err := do("apt-get", append([]string{"download", "-q"}, packages...)...); err != nil {
		if os.Geteuid() != 0 {
			return err
		}
		if err := do("apt-get", "update", "-q"); err != nil {
			return err
		}
		if err := do("apt-get", append([]string{"download", "-q"}, packages...)...); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	for _, deb := range debs {
		if err := do("dpkg", "-x", deb, d.dir); err != nil {
			return err
		}
	}
	return nil
}

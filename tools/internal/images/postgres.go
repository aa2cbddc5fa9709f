package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// PostgreSQL is the upstream name of the image of the cluster's database server.
const PostgreSQL = "docker.io/library/postgres:15.18"

const (
	postgresUser       = 999 // as in the official image
	postgresHome       = "usr/lib/postgresql/15"
	postgresEntrypoint = "/usr/local/bin/postgres-entrypoint"
)

// PushPostgreSQL packs the image from the pinned binaries, the libraries of this machine that
// they load, and the entrypoint. native is the folder with bin, lib and share.
func (r Registry) PushPostgreSQL(ctx context.Context, native, entrypoint string) error {
	files, err := postgresFiles(ctx, native, entrypoint)
	if err != nil {
		return fmt.Errorf("collecting the files of %s: %w", PostgreSQL, err)
	}
	return r.PushProcess(ctx, PostgreSQL, postgresProcess(), files...)
}

func postgresProcess() Process {
	return Process{
		Entrypoint: []string{postgresEntrypoint}, Args: []string{"postgres"}, User: fmt.Sprint(postgresUser),
		Env: []string{
			"PATH=/usr/local/bin:/" + postgresHome + "/bin:/usr/bin:/bin", "LANG=C", "PG_MAJOR=15", "PG_VERSION=15.18",
			"PGDATA=/var/lib/postgresql/data",
		},
		StopSignal: "SIGINT", // a fast shutdown; SIGTERM would wait for every session
	}
}

func postgresFiles(ctx context.Context, native, entrypoint string) ([]File, error) {
	files := []File{
		// initdb needs a name for its user. nonroot and nobody are for pods that run as one
		// of them instead of 999.
		{Path: "etc/passwd", Mode: 0o644, Data: []byte("root:x:0:0:root:/root:/sbin/nologin\n" +
			"postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/sbin/nologin\n" +
			"nonroot:x:" + User + ":" + User + ":nonroot:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
		{Path: "etc/group", Mode: 0o644, Data: []byte("root:x:0:\npostgres:x:999:\nnonroot:x:" + User + ":\nnogroup:x:65534:\n")},
		{Path: "tmp/", Mode: 0o1777},
		{Path: "var/lib/postgresql/", Mode: 0o755, Owner: postgresUser},
		{Path: "var/lib/postgresql/data/", Mode: 0o700, Owner: postgresUser},
		{Path: "var/run/postgresql/", Mode: 0o3777, Owner: postgresUser},
	}
	program, err := Program(entrypoint, postgresEntrypoint)
	if err != nil {
		return nil, err
	}
	files = append(files, program, File{Path: "bin/sh", Link: postgresEntrypoint})
	programs, linked, err := nativeFiles(native)
	if err != nil {
		return nil, err
	}
	libraries, err := hostLibraries(ctx, native, linked)
	return slices.Concat(files, programs, libraries), err
}

// nativeFiles returns the package's files for the image, and the paths of the programs and
// libraries among them.
func nativeFiles(native string) (files []File, linked []string, err error) {
	err = filepath.WalkDir(native, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(native, path)
		if err != nil {
			return err
		}
		if !inImage(rel) {
			return nil
		}
		f := File{Path: postgresHome + "/" + filepath.ToSlash(rel), Mode: 0o644}
		if d.Type()&fs.ModeSymlink != 0 {
			if f.Link, err = os.Readlink(path); err != nil {
				return err
			}
			files = append(files, f)
			return nil
		}
		if f.Data, err = os.ReadFile(path); err != nil {
			return err
		}
		if strings.HasPrefix(string(f.Data[:min(4, len(f.Data))]), "\x7fELF") {
			f.Mode = 0o755
			linked = append(linked, path)
		}
		files = append(files, f)
		return nil
	})
	return files, linked, err
}

// inImage reports whether the image has the file. It leaves out the files for compilers and
// embedded SQL, and the procedural languages that need this machine's Perl, Python or Tcl.
func inImage(rel string) bool {
	name := filepath.Base(rel)
	for _, prefix := range []string{"libecpg", "libpgtypes", "plperl", "plpython", "pltcl"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return rel != "pg-symlinks.json" && !strings.HasSuffix(rel, ".a") &&
		!strings.Contains(rel, "/pkgconfig/") && !strings.Contains(rel, "/pgxs/")
}

// hostLibraries returns the files outside the package that the programs load: the C library
// and others, as this machine's loader finds them, and the loader itself.
func hostLibraries(ctx context.Context, native string, programs []string) ([]File, error) {
	out, err := command.Command{
		Args: append([]string{"ldd"}, programs...), Env: []string{"LD_LIBRARY_PATH=", "LD_PRELOAD=", "LC_ALL=C"},
	}.Text(ctx)
	var failed *command.Error // ldd fails for files that it cannot load, but its output is complete
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	paths, err := loaded(out, native)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: strings.TrimPrefix(path, "/"), Mode: 0o755, Data: b})
	}
	return files, nil
}

// loaded parses ldd's output into the paths of the libraries outside native. A missing
// library is an error if a program in bin needs it, and ignored if only an extension does.
func loaded(ldd, native string) ([]string, error) {
	found := map[string]bool{}
	essential := false
	for line := range strings.Lines(ldd) {
		if !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, " ") {
			essential = strings.HasPrefix(line, filepath.Join(native, "bin")+"/")
			continue
		}
		name, rest, arrow := strings.Cut(strings.TrimSpace(line), " => ")
		if !arrow {
			rest = name // the loader itself, by its absolute path
		}
		path, _, _ := strings.Cut(rest, " (")
		switch {
		case strings.HasPrefix(rest, "not found") && essential:
			return nil, fmt.Errorf("this machine lacks the library %s, which PostgreSQL needs: install its package", name)
		case !filepath.IsAbs(path):
		case strings.HasPrefix(filepath.Clean(path), native+"/"):
		default:
			found[filepath.Clean(path)] = true
		}
	}
	if len(found) == 0 {
		return nil, errors.New("ldd names no library that PostgreSQL loads")
	}
	paths := make([]string, 0, len(found))
	for path := range found {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths, nil
}

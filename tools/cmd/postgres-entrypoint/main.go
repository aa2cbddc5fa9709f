// Command postgres-entrypoint is the entrypoint of the PostgreSQL image that this
// repository builds. It implements what the platform uses of the official image's
// contract: PGDATA, POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD or
// POSTGRES_PASSWORD_FILE, POSTGRES_INITDB_ARGS, and the server's own arguments. It fills
// an empty PGDATA and then becomes the server. It runs as the container's user, which
// must not be root, and writes only to PGDATA. Called as sh, it is the shell that initdb
// needs.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// programs is the folder of the server in the image.
const programs = "/usr/lib/postgresql/15/bin"

func main() {
	if filepath.Base(os.Args[0]) == "sh" {
		err := shell(os.Args[1:])
		fmt.Fprintf(os.Stderr, "sh: %v\n", err) // shell returns only after an error
		os.Exit(127)
	}
	err := run(os.Args[1:], programs, os.Getenv, func(program string, args []string) error {
		return syscall.Exec(program, args, environment(os.Environ()))
	})
	fmt.Fprintf(os.Stderr, "postgres-entrypoint: %v\n", err) // run returns only after an error
	os.Exit(1)
}

func run(args []string, bin string, getenv func(string) string, become func(program string, args []string) error) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"postgres"}, args...)
	}
	if args[0] != "postgres" {
		program, err := exec.LookPath(args[0])
		if err != nil {
			return err
		}
		return become(program, args)
	}
	if os.Geteuid() == 0 {
		return errors.New("PostgreSQL refuses to run as root: give the container a user, such as 999")
	}
	data := getenv("PGDATA")
	if data == "" {
		data = "/var/lib/postgresql/data"
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := initialise(data, bin, getenv); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("PGDATA: %w", err)
	}
	return become(filepath.Join(bin, "postgres"), append([]string{"postgres", "-D", data}, args[1:]...))
}

// environment returns env without the password, which the server does not need.
func environment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "POSTGRES_PASSWORD=") })
}

// begun is the folder in PGDATA in which the data is created before it is moved up. PGDATA
// itself may be the mount point of a volume, which a rename cannot replace.
const begun = "initialising"

// initialise fills PGDATA. It moves PG_VERSION last, because that file marks the data as
// complete: without it, the next container removes what a killed one left.
func initialise(data, bin string, getenv func(string) string) error {
	password, err := password(getenv)
	if err != nil {
		return err
	}
	initdbArgs := getenv("POSTGRES_INITDB_ARGS")
	if strings.ContainsAny(initdbArgs, `'"\`) {
		return errors.New("POSTGRES_INITDB_ARGS contains a quote or a backslash: this image splits the arguments at blanks only")
	}
	work := filepath.Join(data, begun)
	if err := prepare(data, work); err != nil {
		return fmt.Errorf("PGDATA: %w", err)
	}
	user := cmp.Or(getenv("POSTGRES_USER"), "postgres")
	if err := initdb(work, bin, user, password, strings.Fields(initdbArgs)); err != nil {
		return err
	}
	if database := cmp.Or(getenv("POSTGRES_DB"), user); database != "postgres" {
		if err := createDatabase(work, bin, user, database); err != nil {
			return err
		}
	}
	return publish(data, work)
}

// prepare creates an empty work folder in PGDATA, and removes what a killed container left
// there. It refuses a folder with other files.
func prepare(data, work string) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if !has(begun) {
			return fmt.Errorf("%s has no PG_VERSION but contains %s: name an empty folder or one with PostgreSQL's data", data, e.Name())
		}
		// The work folder goes last: without it the other files would be refused.
		if e.Name() != begun {
			if err := os.RemoveAll(filepath.Join(data, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	return os.Mkdir(work, 0o700)
}

// publish moves the data from the work folder to PGDATA.
func publish(data, work string) error {
	created, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range created {
		if e.Name() != "PG_VERSION" {
			if err := os.Rename(filepath.Join(work, e.Name()), filepath.Join(data, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Chmod(data, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err // a volume's folder may belong to another user; then the server checks its mode
	}
	if err := os.Rename(filepath.Join(work, "PG_VERSION"), filepath.Join(data, "PG_VERSION")); err != nil {
		return err
	}
	return os.Remove(work)
}

func password(getenv func(string) string) (string, error) {
	value, path := getenv("POSTGRES_PASSWORD"), getenv("POSTGRES_PASSWORD_FILE")
	switch {
	case value != "" && path != "":
		return "", errors.New("POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set: set one of them")
	case path != "":
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("POSTGRES_PASSWORD_FILE: %w", err)
		}
		value = strings.TrimRight(string(b), "\r\n")
	}
	if value == "" {
		return "", errors.New("the superuser has no password: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD")
	}
	if strings.ContainsAny(value, "\r\n") {
		return "", errors.New("the superuser's password in POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD has more than one line")
	}
	return value, nil
}

// initdb creates the data. Like the official image, it lets clients from any address
// connect with a password.
func initdb(data, bin, user, password string, args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := w.WriteString(password + "\n"); err != nil {
		return err
	}
	w.Close()
	cmd := exec.Command(filepath.Join(bin, "initdb"), append([]string{ //nolint:noctx // it ends with the container
		"--pgdata=" + data, "--username=" + user, "--pwfile=/proc/self/fd/3", "--no-instructions",
	}, args...)...)
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(data, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString("\nhost all all all scram-sha-256\n"); err != nil {
		return err
	}
	return f.Sync()
}

// createDatabase uses the server's single-user mode, in which nobody else connects.
func createDatabase(data, bin, user, database string) error {
	if strings.ContainsAny(database, "\x00\n\r") {
		return errors.New("POSTGRES_DB: the name contains a line break or a NUL character")
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), "--single", "-D", data, "postgres") //nolint:noctx // it ends with the container
	cmd.Env = append(environment(os.Environ()), "PGUSER="+user, "USER="+user)
	cmd.Stdin = strings.NewReader(`CREATE DATABASE "` + strings.ReplaceAll(database, `"`, `""`) + "\"\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || bytes.Contains(out.Bytes(), []byte("ERROR:")) {
		return fmt.Errorf("POSTGRES_DB: creating the database: %w\n%s", err, out.Bytes())
	}
	return nil
}

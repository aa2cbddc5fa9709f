package dev

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// databases returns the names of the programs that run and have a database, which has the
// same name.
func (s *Shop) databases() []string {
	var names []string
	for _, p := range s.declared {
		if p.Database {
			names = append(names, p.Name)
		}
	}
	return names
}

// setupPrograms returns the programs that create the databases, or nil if no program that
// runs has one. They run to their end before all others.
func (s *Shop) setupPrograms() []catalogue.Program {
	if len(s.databases()) == 0 {
		return nil
	}
	return slices.DeleteFunc(s.catalogue.Programs(), func(p catalogue.Program) bool { return p.Kind != catalogue.Setup })
}

func (s *Shop) startPostgres(ctx context.Context) error {
	password, err := s.password()
	if err != nil {
		return err
	}
	began := time.Now()
	o := s.options.Postgres
	o.Dir = cmp.Or(o.Dir, filepath.Join(s.dir, "postgres"))
	o.Port, o.Password, o.Settings = s.ports[PostgreSQL], password, append([]string{"max_connections=200"}, o.Settings...)
	o.Mark, o.Log, o.Line = marker+s.dir, s.log(PostgreSQL), s.show(PostgreSQL)
	if s.server, err = s.postgres.Start(ctx, o); err != nil {
		return err
	}
	s.watch(s.server.Process())
	s.out.Step("PostgreSQL is ready on port %d (%s)", s.server.Port, console.Round(time.Since(began)))
	return nil
}

// password returns the superuser's password, and creates it on the first start, as the data
// directory is.
func (s *Shop) password() (string, error) {
	path, data := filepath.Join(s.dir, "postgres-password"), filepath.Join(s.dir, "postgres")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if _, err := os.Stat(data); err == nil {
		return "", fmt.Errorf("%s is missing, and nobody can use the databases in %s without that password: "+
			"delete the folder to start with empty databases", path, data)
	}
	password := rand.Text()
	return password, os.WriteFile(path, []byte(password+"\n"), 0o600)
}

// setUpDatabases creates the databases and roles, and migrates the schemas.
func (s *Shop) setUpDatabases(ctx context.Context) error {
	began := time.Now()
	names, file := s.databases(), filepath.Join(s.dir, "databases.env")
	for _, p := range s.setupPrograms() {
		env := []string{"ADMIN_DATABASE_URL=" + s.server.URL("postgres"), "DATABASES=" + strings.Join(names, ","), "SECRETS_FILE=" + file}
		if err := s.runToEnd(ctx, p.Name, env, s.binary(p.Name), "setup"); err != nil {
			return fmt.Errorf("creating the databases: %w", err)
		}
	}
	if len(names) == 0 {
		return nil
	}
	var err error
	if s.secrets, err = readEnvFile(file); err != nil {
		return err
	}
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = s.migrate(ctx, name) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.out.Step("databases are created and migrated: %s (%s)", strings.Join(names, ", "), console.Round(time.Since(began)))
	return nil
}

// migrate brings the schema of one database up to date, as its owner.
func (s *Shop) migrate(ctx context.Context, name string) error {
	owner := s.secrets[prefix(name)+"DATABASE_OWNER_URL"]
	if owner == "" || s.secrets[prefix(name)+"DATABASE_URL"] == "" {
		return fmt.Errorf("databases.env lacks %[1]sDATABASE_URL or %[1]sDATABASE_OWNER_URL", prefix(name))
	}
	if err := s.runToEnd(ctx, name+"-migrate", []string{"DATABASE_URL=" + owner}, s.binary(name), "migrate"); err != nil {
		return fmt.Errorf("migrating the database of %s: %w", name, err)
	}
	return nil
}

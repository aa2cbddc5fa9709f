// Package postgrestest gives every test its own database on the real server at
// LOJA_POSTGRES_URL, provisioned and migrated as in production.
//
// For each set of migrations it creates a template with three roles, which all test
// processes share. A test's database is a copy of the template. If a process is
// killed, its databases stay, and the next process drops them.
package postgrestest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/postgres"
)

// Variable holds the URL of the server, as a superuser.
const Variable = "LOJA_POSTGRES_URL"

// Names on the server: template_<hash of migrations>, its roles of the same
// name, and test_<hash>_<process>_<number>.
const (
	templatePrefix = "template_"
	testPrefix     = "test_"
)

// templateAge is how long a template is kept that no process uses.
const templateAge = "24 hours"

// Database is the database of one test. It is dropped when the test ends.
type Database struct {
	Name       string
	URL        string        // as the runtime role
	OwnerURL   string        // as the owner role
	AuditorURL string        // as the auditor
	AdminURL   string        // as the superuser
	Pool       *pgxpool.Pool // of URL
}

// ServerURL returns the superuser's URL, or ends the test.
func ServerURL(t testing.TB) string {
	t.Helper()
	raw := os.Getenv(Variable)
	if raw == "" {
		t.Fatalf("%s is not set: run make test", Variable)
	}
	return raw
}

// New returns a database with the migrations at the root of migrations, or an empty one
// if it is nil. The pool uses the runtime role, so that a test fails if the service
// lacks a privilege.
func New(t testing.TB, migrations fs.FS) Database {
	t.Helper()
	ServerURL(t)
	server, err := connect()
	if err != nil {
		t.Fatalf("preparing the server of the test databases: %v", err)
	}
	template, err := server.template(migrations)
	if err != nil {
		t.Fatalf("preparing the template of the test databases: %v", err)
	}
	name, err := server.create(template)
	if err != nil {
		t.Fatalf("creating the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := server.drop(name); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})

	database := Database{
		Name:       name,
		URL:        server.address(name, template.roles.Runtime),
		OwnerURL:   server.address(name, template.roles.Owner),
		AuditorURL: server.address(name, template.roles.Auditor),
		AdminURL:   server.address(name, postgres.Role{}),
	}
	database.Pool, err = postgres.Open(context.Background(), postgres.Settings{URL: database.URL, MaxConnections: 8},
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	if err != nil {
		t.Fatalf("opening the test's database: %v", err)
	}
	t.Cleanup(database.Pool.Close)
	return database
}

// server is the process's only connection as the superuser. An advisory lock of its
// session shows other processes that this one is alive.
type server struct {
	url  *url.URL
	mu   sync.Mutex // guards the fields below
	conn *pgx.Conn

	process   int32
	created   int
	templates map[string]template
}

type template struct {
	hash  string
	roles postgres.Roles
}

func (t template) database() string { return templatePrefix + t.hash }

// Advisory locks in the superuser's database. processLocks and hashLocks are the first
// of two numbers; the second identifies the process or the template.
const (
	setupLock    = 0x6c6f6a6174657374 // held while a process creates templates or drops leftovers
	processLocks = 0x6c6f6a61         // held by each running process
	hashLocks    = 0x6c6f6a62         // shared by the processes that use a template
)

// timeout limits each operation on the server.
const timeout = time.Minute

var connect = sync.OnceValues(func() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	address, err := url.Parse(os.Getenv(Variable))
	if err != nil {
		return nil, fmt.Errorf("%s is not a URL", Variable)
	}
	conn, err := pgx.Connect(ctx, address.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Variable, err)
	}
	s := &server{url: address, conn: conn, process: rand.Int32(), templates: map[string]template{}}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1, $2)`, processLocks, s.process); err != nil {
		return nil, fmt.Errorf("locking the process's number: %w", err)
	}
	return s, s.alone(ctx, s.sweep)
})

// alone runs work while no other process prepares templates.
func (s *server) alone(ctx context.Context, work func(context.Context) error) error {
	if _, err := s.conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(setupLock)); err != nil {
		return fmt.Errorf("waiting for another test process: %w", err)
	}
	err := work(ctx)
	if _, unlockErr := s.conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, int64(setupLock)); err == nil && unlockErr != nil {
		return fmt.Errorf("releasing the lock of the test processes: %w", unlockErr)
	}
	return err
}

// sweep drops the databases of dead processes, and old templates that no process uses.
func (s *server) sweep(ctx context.Context) error {
	names, err := s.names(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, testPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		parts := strings.Split(name, "_")
		if len(parts) != 4 {
			continue
		}
		process, err := strconv.ParseInt(parts[2], 16, 32)
		if err != nil || int32(process) == s.process {
			continue
		}
		if err := s.ifUnused(ctx, processLocks, int32(process), func() error { return s.dropDatabase(ctx, name) }); err != nil {
			return err
		}
	}

	names, err = s.names(ctx, `
		SELECT datname FROM pg_database WHERE starts_with(datname, $1)
		AND (pg_stat_file(format('base/%s/PG_VERSION', oid), true)).modification < now() - $2::interval`,
		templatePrefix, templateAge)
	if err != nil {
		return err
	}
	for _, name := range names {
		old := newTemplate(strings.TrimPrefix(name, templatePrefix))
		if err := s.ifUnused(ctx, hashLocks, old.key(), func() error { return s.dropTemplate(ctx, old) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) names(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("listing databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing databases: %w", err)
	}
	return names, nil
}

// ifUnused runs work if no session holds the lock.
func (s *server) ifUnused(ctx context.Context, class, key int32, work func() error) error {
	var free bool
	if err := s.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, class, key).Scan(&free); err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	if !free {
		return nil
	}
	err := work()
	if _, unlockErr := s.conn.Exec(ctx, `SELECT pg_advisory_unlock($1, $2)`, class, key); err == nil && unlockErr != nil {
		return fmt.Errorf("looking for leftovers: %w", unlockErr)
	}
	return err
}

func newTemplate(hash string) template {
	name := templatePrefix + hash
	password := "of-tests-" + hash
	return template{hash: hash, roles: postgres.Roles{
		Owner:   postgres.Role{Name: name + "_owner", Password: password},
		Runtime: postgres.Role{Name: name, Password: password},
		Auditor: postgres.Role{Name: name + "_auditor", Password: password},
	}}
}

// key is the template's advisory lock among hashLocks.
func (t template) key() int32 {
	number, _ := strconv.ParseUint(t.hash[:min(8, len(t.hash))], 16, 32) // 0, on an error, is a valid key too
	return int32(uint32(number))
}

// template returns the template of migrations. It creates the template if there is none.
func (s *server) template(migrations fs.FS) (template, error) {
	hash, empty, err := hashOf(migrations)
	if err != nil {
		return template{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.templates[hash]; ok {
		return known, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	wanted := newTemplate(hash)
	err = s.alone(ctx, func(ctx context.Context) error {
		if _, err := s.conn.Exec(ctx, `SELECT pg_advisory_lock_shared($1, $2)`, hashLocks, wanted.key()); err != nil {
			return fmt.Errorf("locking the template: %w", err)
		}
		// Only a complete template has datistemplate; see the end of this function.
		var complete bool
		err := s.conn.QueryRow(ctx, `SELECT coalesce(bool_or(datistemplate), false) FROM pg_database WHERE datname = $1`, wanted.database()).
			Scan(&complete)
		if err != nil || complete {
			return err
		}
		if err := s.dropTemplate(ctx, wanted); err != nil {
			return err
		}
		if err := postgres.Provision(ctx, s.conn, wanted.database(), wanted.roles); err != nil {
			return err
		}
		if !empty {
			owner := s.address(wanted.database(), wanted.roles.Owner)
			if err := postgres.Migrate(ctx, owner, migrations, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
		}
		// Refuse connections: a database with a connection cannot be copied.
		_, err = s.conn.Exec(ctx, "ALTER DATABASE "+quote(wanted.database())+" ALLOW_CONNECTIONS false IS_TEMPLATE true")
		return err
	})
	if err == nil {
		s.templates[hash] = wanted
	}
	return wanted, err
}

// hashOf returns a hash of the migrations and of the code that applies them.
func hashOf(migrations fs.FS) (hash string, empty bool, err error) {
	sum := sha256.New()
	add := func(name string, content []byte) { fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content) }
	if _, here, _, ok := runtime.Caller(0); ok {
		for _, name := range []string{"provision.go", "migrate.go"} {
			content, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", name))
			if err != nil {
				return "", false, fmt.Errorf("reading the code that creates a database: %w", err)
			}
			add(name, content)
		}
	}
	var names []string
	if migrations != nil {
		if names, err = fs.Glob(migrations, "*.sql"); err != nil {
			return "", false, fmt.Errorf("listing the migrations: %w", err)
		}
	}
	for _, name := range names {
		content, err := fs.ReadFile(migrations, name)
		if err != nil {
			return "", false, fmt.Errorf("reading the migrations: %w", err)
		}
		add(name, content)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], len(names) == 0, nil
}

// create copies the template and sets the privileges on the copy, which PostgreSQL does
// not copy.
func (s *server) create(of template) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s.created++
	name := fmt.Sprintf("%s%s_%08x_%d", testPrefix, of.hash, s.process, s.created)
	_, err := s.conn.Exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(of.database())+" OWNER "+quote(of.roles.Owner.Name))
	if err != nil {
		return "", err
	}
	_, err = s.conn.Exec(ctx, "REVOKE ALL ON DATABASE "+quote(name)+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+quote(name)+
		" TO "+quote(of.roles.Runtime.Name)+", "+quote(of.roles.Auditor.Name))
	return name, err
}

func (s *server) drop(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.dropDatabase(ctx, name)
}

func (s *server) dropDatabase(ctx context.Context, name string) error {
	if _, err := s.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("dropping %s: %w", name, err)
	}
	return nil
}

// dropTemplate drops the template and its roles, as far as they exist.
func (s *server) dropTemplate(ctx context.Context, old template) error {
	var exists bool
	if err := s.conn.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_database WHERE datname = $1`, old.database()).Scan(&exists); err != nil {
		return fmt.Errorf("looking up %s: %w", old.database(), err)
	}
	if exists {
		if _, err := s.conn.Exec(ctx, "ALTER DATABASE "+quote(old.database())+" IS_TEMPLATE false"); err != nil {
			return fmt.Errorf("dropping %s: %w", old.database(), err)
		}
		if err := s.dropDatabase(ctx, old.database()); err != nil {
			return err
		}
	}
	for _, role := range []postgres.Role{old.roles.Owner, old.roles.Runtime, old.roles.Auditor} {
		if _, err := s.conn.Exec(ctx, "DROP ROLE IF EXISTS "+quote(role.Name)); err != nil {
			return fmt.Errorf("dropping role %s: %w", role, err)
		}
	}
	return nil
}

// address is the URL of a database as role, or as the superuser.
func (s *server) address(database string, role postgres.Role) string {
	address := *s.url
	address.Path = "/" + database
	if role.Name != "" {
		address.User = url.UserPassword(role.Name, role.Password)
	}
	return address.String()
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

// connectAs connects to a database of the test server; role "" is its superuser.
func connectAs(t *testing.T, database string, role postgres.Role) (*pgx.Conn, error) {
	t.Helper()
	address, err := url.Parse(postgrestest.ServerURL(t))
	if err != nil {
		t.Fatal(err)
	}
	if database != "" {
		address.Path = "/" + database
	}
	if role.Name != "" {
		address.User = url.UserPassword(role.Name, role.Password)
	}
	conn, err := pgx.Connect(t.Context(), address.String())
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func mustConnect(t *testing.T, database string, role postgres.Role) *pgx.Conn {
	t.Helper()
	conn, err := connectAs(t, database, role)
	if err != nil {
		t.Fatalf("connecting to %s as %q: %v", database, role, err)
	}
	return conn
}

// newRoles returns unused names of a database and its roles, and drops them after the test.
func newRoles(t *testing.T) (string, postgres.Roles) {
	t.Helper()
	name := fmt.Sprintf("provision_%08x", rand.Uint32())
	roles := postgres.Roles{
		Owner:   postgres.Role{Name: name + "_owner", Password: "owner-secret"},
		Runtime: postgres.Role{Name: name, Password: "runtime-secret"},
		Auditor: postgres.Role{Name: name + "_auditor", Password: "auditor-secret"},
	}
	admin := mustConnect(t, "", postgres.Role{})
	t.Cleanup(func() {
		for _, statement := range []string{
			"DROP DATABASE IF EXISTS " + name + " WITH (FORCE)",
			"DROP ROLE IF EXISTS " + name + ", " + name + "_owner, " + name + "_auditor",
		} {
			if _, err := admin.Exec(context.Background(), statement); err != nil {
				t.Error(err)
			}
		}
	})
	return name, roles
}

// newAdmin creates an administrator with the attributes that the master user has in RDS.
func newAdmin(t *testing.T) postgres.Role {
	t.Helper()
	role := postgres.Role{Name: fmt.Sprintf("admin_%08x", rand.Uint32()), Password: "admin-secret"}
	super := mustConnect(t, "", postgres.Role{})
	if _, err := super.Exec(t.Context(), "CREATE ROLE "+role.Name+" LOGIN CREATEDB CREATEROLE PASSWORD '"+role.Password+"'"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := super.Exec(context.Background(), "DROP ROLE "+role.Name); err != nil {
			t.Error(err)
		}
	})
	return role
}

func TestProvisionGivesEachRoleWhatItNeedsAndNoMore(t *testing.T) {
	for _, kind := range []string{"superuser", "managed server's administrator"} {
		t.Run(kind, func(t *testing.T) {
			var adminRole postgres.Role
			if kind != "superuser" {
				adminRole = newAdmin(t)
			}
			database, roles := newRoles(t)
			stranger, strangers := newRoles(t)
			admin := mustConnect(t, "postgres", adminRole)
			for range 2 { // the second run changes nothing and succeeds
				if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
					t.Fatal(err)
				}
			}
			if err := postgres.Provision(t.Context(), admin, stranger, strangers); err != nil {
				t.Fatal(err)
			}
			conns := map[string]*pgx.Conn{
				"owner":   mustConnect(t, database, roles.Owner),
				"runtime": mustConnect(t, database, roles.Runtime),
				"auditor": mustConnect(t, database, roles.Auditor),
			}
			const refused = "42501"
			for _, step := range []struct{ role, sql, code string }{
				{"runtime", `CREATE TABLE t (id int)`, refused},
				{"auditor", `CREATE TABLE t (id int)`, refused},
				{"owner", `CREATE TABLE t (id bigserial PRIMARY KEY, n int)`, ""},
				{"runtime", `INSERT INTO t (n) VALUES (1), (2)`, ""},
				{"runtime", `UPDATE t SET n = 3 WHERE n = 2`, ""},
				{"runtime", `DELETE FROM t WHERE n = 3`, ""},
				{"runtime", `SELECT * FROM t FOR UPDATE`, ""},
				{"runtime", `TRUNCATE t`, refused},
				{"runtime", `ALTER TABLE t ADD COLUMN m int`, refused},
				{"runtime", `DROP TABLE t`, refused},
				{"runtime", `CREATE INDEX ON t (n)`, refused},
				{"runtime", `CREATE SCHEMA s`, refused},
				{"runtime", `CREATE TEMPORARY TABLE s (id int)`, refused},
				{"runtime", `SET ROLE ` + roles.Owner.Name, refused},
				{"auditor", `SELECT * FROM t`, ""},
				{"auditor", `SELECT last_value FROM t_id_seq`, ""},
				{"auditor", `INSERT INTO t (n) VALUES (1)`, refused},
				{"auditor", `UPDATE t SET n = 0`, refused},
				{"auditor", `DELETE FROM t`, refused},
				{"auditor", `SELECT nextval('t_id_seq')`, refused},
				{"owner", `CREATE TABLE audit.t (n int)`, ""},
				{"auditor", `INSERT INTO audit.t VALUES (1)`, ""},
				{"auditor", `UPDATE audit.t SET n = 2`, ""},
				{"auditor", `DELETE FROM audit.t`, ""},
				{"auditor", `TRUNCATE audit.t`, refused},
				{"auditor", `CREATE TABLE audit.s (n int)`, refused},
				{"runtime", `SELECT FROM audit.t`, refused},
				{"owner", `CREATE DATABASE other`, refused},
				{"owner", `CREATE ROLE other`, refused},
			} {
				_, err := conns[step.role].Exec(t.Context(), step.sql)
				if got := postgres.Code(err); got != step.code {
					t.Errorf("%s: %s: %q (%v), want %q", step.role, step.sql, got, err, step.code)
				}
			}
			for _, role := range []postgres.Role{roles.Owner, roles.Runtime, roles.Auditor} {
				if _, err := connectAs(t, stranger, role); postgres.Code(err) != refused {
					t.Errorf("%s can connect to another service's database: %v", role, err)
				}
			}
			var owner string
			if err := admin.QueryRow(t.Context(), `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1`, database).Scan(&owner); err != nil || owner != roles.Owner.Name {
				t.Errorf("the database belongs to %s (%v), want %s", owner, err, roles.Owner.Name)
			}
		})
	}
}

func TestProvisionCompletesAnInterruptedRun(t *testing.T) {
	admin := mustConnect(t, "", postgres.Role{})
	database, roles := newRoles(t)
	for _, statement := range []string{
		"CREATE ROLE " + roles.Owner.Name, // without LOGIN
		"CREATE DATABASE " + database,     // owned by the superuser, and anyone may connect
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
		t.Fatal(err)
	}
	owner := mustConnect(t, database, roles.Owner)
	if _, err := owner.Exec(t.Context(), `CREATE TABLE before (id int)`); err != nil {
		t.Fatal(err)
	}
	// An auditor that is added later can also read the older tables.
	later := roles
	later.Auditor.Name = roles.Auditor.Name + "_later"
	t.Cleanup(func() {
		for _, statement := range []string{"DROP DATABASE " + database + " WITH (FORCE)", "DROP ROLE " + later.Auditor.Name} {
			if _, err := admin.Exec(context.Background(), statement); err != nil {
				t.Error(err)
			}
		}
	})
	if err := postgres.Provision(t.Context(), admin, database, later); err != nil {
		t.Fatal(err)
	}
	if _, err := mustConnect(t, database, later.Auditor).Exec(t.Context(), `SELECT * FROM before`); err != nil {
		t.Error(err)
	}
}

func TestProvisionLeavesTheHistoryLocked(t *testing.T) {
	admin := mustConnect(t, "", postgres.Role{})
	database, roles := newRoles(t)
	if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
		t.Fatal(err)
	}
	address, _ := url.Parse(postgrestest.ServerURL(t))
	address.Path, address.User = "/"+database, url.UserPassword(roles.Owner.Name, roles.Owner.Password)
	if err := postgres.Migrate(t.Context(), address.String(), things, silent); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
		t.Fatal(err)
	}
	_, err := mustConnect(t, database, roles.Runtime).Exec(t.Context(), `DELETE FROM goose_db_version`)
	if postgres.Code(err) != "42501" {
		t.Errorf("after the second setup, deleting the history: %v, want it refused", err)
	}
}

func TestConcurrentProvisionsSucceed(t *testing.T) {
	database, roles := newRoles(t)
	var wait sync.WaitGroup
	for range 4 {
		admin := mustConnect(t, "", postgres.Role{})
		wait.Go(func() {
			if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	mustConnect(t, database, roles.Runtime)
}

func TestProvisionWaitsForAnotherUntilItsDeadline(t *testing.T) {
	database, roles := newRoles(t)
	holder, admin := mustConnect(t, "", postgres.Role{}), mustConnect(t, "", postgres.Role{})
	err := postgres.Exclusively(t.Context(), holder, func(context.Context) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := postgres.Provision(ctx, admin, database, roles)
		if err == nil || !strings.Contains(err.Error(), "waiting for another setup") {
			t.Errorf("%v, want an error about waiting for the other setup", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestProvisionSetsThePasswordAsAVerifier(t *testing.T) {
	admin := mustConnect(t, "", postgres.Role{})
	database, roles := newRoles(t)
	for _, password := range []string{"first", `quote ' and \ and "`} {
		roles.Runtime.Password = password
		if err := postgres.Provision(t.Context(), admin, database, roles); err != nil {
			t.Fatal(err)
		}
		if name := roles.Runtime.Name; !postgrestest.HasPassword(t, name, password) || postgrestest.HasPassword(t, name, password+"x") {
			t.Errorf("the server's verifier does not match %q", password)
		}
	}
	for _, password := range []string{"", "pässword", "two\nlines"} {
		roles.Runtime.Password = password
		err := postgres.Provision(t.Context(), admin, database, roles)
		if err == nil || !strings.Contains(err.Error(), roles.Runtime.Name) || password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v, want an error that does not show the password", password, err)
		}
	}
}

func TestProvisionNeverSendsThePassword(t *testing.T) {
	admin := mustConnect(t, "", postgres.Role{})
	database, roles := newRoles(t)
	var sent strings.Builder
	watched := admin.Config()
	watched.Tracer = statements{&sent}
	conn, err := pgx.ConnectConfig(t.Context(), watched)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := postgres.Provision(t.Context(), conn, database, roles); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(sent.String(), "CREATE ROLE") || strings.Contains(sent.String(), "-secret") {
		t.Errorf("a statement has a password, or no statement was recorded:\n%s", sent.String())
	}
}

// statements records what is sent to the server.
type statements struct{ sent *strings.Builder }

func (s statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	fmt.Fprintln(s.sent, data.SQL, data.Args)
	return ctx
}

func (s statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestProvisionRefusesAPrivilegedRole(t *testing.T) {
	admin := mustConnect(t, "", postgres.Role{})
	database, roles := newRoles(t)
	if _, err := admin.Exec(t.Context(), "CREATE ROLE "+roles.Runtime.Name+" CREATEDB"); err != nil {
		t.Fatal(err)
	}
	err := postgres.Provision(t.Context(), admin, database, roles)
	if err == nil || !strings.Contains(err.Error(), "may do more") {
		t.Errorf("%v, want the role refused", err)
	}
}

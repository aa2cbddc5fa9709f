package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"
)

// Role is a login role's name and password.
type Role struct{ Name, Password string }

// String shows the name only.
func (r Role) String() string { return r.Name }

// GoString is String, so that %#v shows no password either.
func (r Role) GoString() string { return r.Name }

// Roles are the roles of one database.
type Roles struct {
	Owner   Role // owns the database and the schema; runs migrations
	Runtime Role // reads and writes rows; the service's
	Auditor Role // reads rows, and writes those of the schema audit; may be the same for several databases
}

// provisionLock is the advisory lock of Provision in the administrator's database. One
// lock serves all databases, since roles belong to the whole server.
const provisionLock = 0x6c6f6a6161646d69

// Provision creates the database and its roles, or corrects those that exist. It can
// run again after it was interrupted. The roles get the given passwords, which
// Provision sends to the server as SCRAM verifiers only. Concurrent calls run one after
// the other.
//
// The administrator must be a superuser, or have CREATEDB and CREATEROLE. In the second
// case Provision makes it a member of the owner role, which PostgreSQL requires of a
// role that changes a database's owner:
// https://www.postgresql.org/docs/15/sql-alterdatabase.html
func Provision(ctx context.Context, admin *pgx.Conn, database string, roles Roles) error {
	return Exclusively(ctx, admin, func(ctx context.Context) error {
		return provision(ctx, admin, database, roles)
	})
}

// Exclusively runs work while no other process runs Provision or Exclusively on the
// server. Work may call Provision with the same connection.
func Exclusively(ctx context.Context, admin *pgx.Conn, work func(context.Context) error) (err error) {
	if err := waitLock(ctx, admin, provisionLock); err != nil {
		return fmt.Errorf("waiting for another setup of the server: %w", err)
	}
	defer func() {
		unlocking, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if _, unlockErr := admin.Exec(unlocking, `SELECT pg_advisory_unlock($1)`, int64(provisionLock)); unlockErr != nil && err == nil {
			err = fmt.Errorf("releasing the lock of the server's setup: %w", unlockErr)
		}
	}()
	return work(ctx)
}

func provision(ctx context.Context, admin *pgx.Conn, database string, roles Roles) error {
	for _, role := range []Role{roles.Owner, roles.Runtime, roles.Auditor} {
		if err := ensureRole(ctx, admin, role); err != nil {
			return fmt.Errorf("role %s: %w", role.Name, err)
		}
	}
	if err := joinOwner(ctx, admin, roles.Owner.Name); err != nil {
		return fmt.Errorf("role %s: %w", roles.Owner.Name, err)
	}
	if err := ensureDatabase(ctx, admin, database, roles.Owner.Name); err != nil {
		return fmt.Errorf("database %s: %w", database, err)
	}
	if err := grant(ctx, admin, database, roles); err != nil {
		return fmt.Errorf("database %s: granting privileges: %w", database, err)
	}
	return nil
}

// waitLock polls for the lock. A session that waits for it inside the server would
// block CREATE DATABASE and CREATE INDEX CONCURRENTLY.
func waitLock(ctx context.Context, conn *pgx.Conn, key int64) error {
	return poll(ctx, func(ctx context.Context) error {
		var locked bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			return errors.New("it still holds the lock")
		}
		return nil
	})
}

func ensureRole(ctx context.Context, admin *pgx.Conn, role Role) error {
	verifier, err := scramVerifier(role.Password)
	if err != nil {
		return err
	}
	var exists, privileged bool
	err = admin.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls), false)
		FROM pg_roles WHERE rolname = $1`, role.Name).Scan(&exists, &privileged)
	if err != nil {
		return fmt.Errorf("looking it up: %w", err)
	}
	if privileged {
		return errors.New("it exists and may do more than a service's role, such as create roles: choose another name, or drop it")
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	// A utility statement takes no parameters. The verifier contains no quote.
	_, err = admin.Exec(ctx, verb+" ROLE "+quote(role.Name)+" LOGIN PASSWORD '"+verifier+"'")
	if err != nil {
		return fmt.Errorf("setting its password: %w", err)
	}
	return nil
}

// joinOwner adds the administrator to the owner role.
func joinOwner(ctx context.Context, admin *pgx.Conn, owner string) error {
	var member bool
	if err := admin.QueryRow(ctx, `SELECT pg_has_role($1, 'USAGE')`, owner).Scan(&member); err != nil {
		return fmt.Errorf("looking up its members: %w", err)
	}
	if member {
		return nil
	}
	if _, err := admin.Exec(ctx, "GRANT "+quote(owner)+" TO CURRENT_USER"); err != nil {
		return fmt.Errorf("adding the administrator as a member: %w", err)
	}
	return nil
}

func ensureDatabase(ctx context.Context, admin *pgx.Conn, database, owner string) error {
	var current string
	err := admin.QueryRow(ctx, `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1`, database).Scan(&current)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// Use the collation C, whatever the server's locale is. Its order is the same
		// everywhere, and an upgrade of the C library does not corrupt indexes.
		_, err = admin.Exec(ctx, "CREATE DATABASE "+quote(database)+" OWNER "+quote(owner)+
			" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	case err == nil && current != owner:
		_, err = admin.Exec(ctx, "ALTER DATABASE "+quote(database)+" OWNER TO "+quote(owner))
	}
	return err
}

// grant connects to the database and sets the privileges there, as its owner.
func grant(ctx context.Context, admin *pgx.Conn, database string, roles Roles) error {
	connConfig := admin.Config()
	connConfig.Database = database
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer closeConn(ctx, conn)

	owner, runtime, auditor := quote(roles.Owner.Name), quote(roles.Runtime.Name), quote(roles.Auditor.Name)
	name := quote(database)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// A migration changes the same rows of PostgreSQL's catalog.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lock.DefaultLockID); err != nil {
			return fmt.Errorf("waiting for a migration: %w", err)
		}
		for _, statement := range []string{
			"SET LOCAL ROLE " + owner,
			"REVOKE ALL ON DATABASE " + name + " FROM PUBLIC",
			"GRANT CONNECT ON DATABASE " + name + " TO " + runtime + ", " + auditor,
			"REVOKE ALL ON SCHEMA public FROM PUBLIC",
			"GRANT USAGE ON SCHEMA public TO " + runtime + ", " + auditor,

			"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO " + runtime,
			"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO " + runtime,
			"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO " + auditor,
			"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO " + auditor,

			// The defaults above apply only to tables that are created later.
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + runtime,
			"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO " + runtime,
			"GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + auditor,
			"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO " + auditor,

			// Only the auditor writes what it remembers from audit to audit.
			"CREATE SCHEMA IF NOT EXISTS audit",
			"GRANT USAGE ON SCHEMA audit TO " + auditor,
			"ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO " + auditor,
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA audit TO " + auditor,
			lockVersions,
		} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server notices either way
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

// RFC 5803 and PostgreSQL's own defaults.
const (
	scramIterations = 4096
	scramSaltLength = 16
)

// scramVerifier returns the verifier that the server stores for a password:
// SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func scramVerifier(password string) (string, error) {
	if password == "" {
		return "", errors.New("its password is empty")
	}
	for _, char := range password {
		// Other characters would have to be normalised first (RFC 4013).
		if char < ' ' || char > '~' {
			return "", errors.New("its password has a character that is not printable ASCII")
		}
	}
	salt := make([]byte, scramSaltLength)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving its key: %w", err)
	}
	mac := func(text string) []byte {
		hash := hmac.New(sha256.New, salted)
		hash.Write([]byte(text))
		return hash.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$" + strconv.Itoa(scramIterations) + ":" + encode(salt) + "$" +
		encode(stored[:]) + ":" + encode(mac("Server Key")), nil
}

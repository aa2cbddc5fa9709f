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

// String shows the name alone.
func (r Role) String() string { return r.Name }

// GoString is String, so that %#v shows no password either.
func (r Role) GoString() string { return r.Name }

// Roles are those of one database.
type Roles struct {
	Owner   Role // owns database and schema: migrations
	Runtime Role // reads and writes rows: the service
	Auditor Role // reads rows; may be the same for several databases
}

// provisionLock is the advisory lock of Provision, in the administrator's
// database: roles belong to the whole server.
const provisionLock = 0x6c6f6a6161646d69

// Provision creates the database and its roles, or completes and corrects those that
// exist. The roles get the given passwords, which the server only sees as SCRAM
// verifiers. Concurrent calls wait for each other.
//
// The administrator needs CREATEDB and CREATEROLE, and becomes a member of the owner role:
// PostgreSQL demands that of a role that transfers a database to another. A superuser
// needs neither.
func Provision(ctx context.Context, admin *pgx.Conn, database string, roles Roles) error {
	return Exclusively(ctx, admin, func(ctx context.Context) error {
		return provision(ctx, admin, database, roles)
	})
}

// Exclusively runs work while no other process provisions on the server, or
// does anything else by Exclusively; a Provision in work is part of it.
func Exclusively(ctx context.Context, admin *pgx.Conn, work func(context.Context) error) (err error) {
	if err := waitLock(ctx, admin, provisionLock); err != nil {
		return fmt.Errorf("waiting for another setup of the server: %w", err)
	}
	defer func() {
		unlocking, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if _, unlockErr := admin.Exec(unlocking, `SELECT pg_advisory_unlock($1)`, int64(provisionLock)); unlockErr != nil && err == nil {
			err = fmt.Errorf("letting other setups of the server go on: %w", unlockErr)
		}
	}()
	return work(ctx)
}

func provision(ctx context.Context, admin *pgx.Conn, database string, roles Roles) error {
	for _, role := range []Role{roles.Owner, roles.Runtime, roles.Auditor} {
		if err := makeRole(ctx, admin, role); err != nil {
			return fmt.Errorf("role %s: %w", role.Name, err)
		}
	}
	if err := joinOwner(ctx, admin, roles.Owner.Name); err != nil {
		return fmt.Errorf("role %s: %w", roles.Owner.Name, err)
	}
	if err := makeDatabase(ctx, admin, database, roles.Owner.Name); err != nil {
		return fmt.Errorf("database %s: %w", database, err)
	}
	if err := grant(ctx, admin, database, roles); err != nil {
		return fmt.Errorf("database %s: granting privileges: %w", database, err)
	}
	return nil
}

// waitLock polls: a session that waits for a lock inside the server would be in
// the way of CREATE DATABASE and of CREATE INDEX CONCURRENTLY.
func waitLock(ctx context.Context, conn *pgx.Conn, key int64) error {
	return poll(ctx, func(ctx context.Context) error {
		var locked bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			return errors.New("it holds the lock")
		}
		return nil
	})
}

func makeRole(ctx context.Context, admin *pgx.Conn, role Role) error {
	verifier, err := scramVerifier(role.Password)
	if err != nil {
		return err
	}
	var exists, tooMuch bool
	err = admin.QueryRow(ctx, `
		SELECT count(*) > 0, coalesce(bool_or(rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls), false)
		FROM pg_roles WHERE rolname = $1`, role.Name).Scan(&exists, &tooMuch)
	if err != nil {
		return fmt.Errorf("looking it up: %w", err)
	}
	if tooMuch {
		return errors.New("there is one of this name that may do more than a service's")
	}
	verb := "CREATE"
	if exists {
		verb = "ALTER"
	}
	// A utility statement takes no parameters; the verifier holds no quote.
	_, err = admin.Exec(ctx, verb+" ROLE "+quote(role.Name)+" LOGIN PASSWORD '"+verifier+"'")
	if err != nil {
		return fmt.Errorf("setting its password: %w", err)
	}
	return nil
}

// joinOwner adds the administrator to the owner role.
func joinOwner(ctx context.Context, admin *pgx.Conn, owner string) error {
	var may bool
	if err := admin.QueryRow(ctx, `SELECT pg_has_role($1, 'USAGE')`, owner).Scan(&may); err != nil {
		return fmt.Errorf("looking up its members: %w", err)
	}
	if may {
		return nil
	}
	if _, err := admin.Exec(ctx, "GRANT "+quote(owner)+" TO CURRENT_USER"); err != nil {
		return fmt.Errorf("adding the administrator to the owner role: %w", err)
	}
	return nil
}

func makeDatabase(ctx context.Context, admin *pgx.Conn, database, owner string) error {
	var current string
	err := admin.QueryRow(ctx, `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1`, database).Scan(&current)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		// The same order and letters everywhere, whatever the server's locale:
		// an index outlives an upgrade of the C library.
		_, err = admin.Exec(ctx, "CREATE DATABASE "+quote(database)+" OWNER "+quote(owner)+
			" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	case err == nil && current != owner:
		_, err = admin.Exec(ctx, "ALTER DATABASE "+quote(database)+" OWNER TO "+quote(owner))
	}
	return err
}

// grant sets the privileges, in the database and as its owner.
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
		// A migration changes the same rows of the catalogue.
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

			// For tables that are older than their reader.
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + runtime,
			"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO " + runtime,
			"GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + auditor,
			"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO " + auditor,
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

// scramVerifier returns what the server stores of a password, in the form in
// which it takes one for it: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func scramVerifier(password string) (string, error) {
	if password == "" {
		return "", errors.New("its password is empty")
	}
	for _, char := range password {
		// Others would have to be normalised first (RFC 4013).
		if char < ' ' || char > '~' {
			return "", errors.New("its password is not all of printable ASCII")
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

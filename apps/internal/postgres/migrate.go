package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/logging"
)

const (
	// migrateWait limits the wait for a server that is not up, and the wait for another
	// migration.
	migrateWait = 2 * time.Minute
	// A migration that waits for a table's lock blocks all later statements on the
	// table. So it gives up early, and Kubernetes retries the Job.
	migrateLockTimeout = "5s"
	// schemaTimeout is how long a service waits for its database and its schema.
	schemaTimeout = time.Minute
	minPause      = 50 * time.Millisecond // between the calls of poll
	maxPause      = 2 * time.Second
)

var errNoMigrations = errors.New("there are no migrations: *.sql files must be at the root")

// lockVersions revokes the runtime role's right to change the schema's history, which
// it has by default as on every table of the owner.
const lockVersions = `
DO $$
DECLARE entry record;
BEGIN
	FOR entry IN
		SELECT acl.privilege_type, pg_get_userbyid(acl.grantee) AS grantee
		FROM pg_class, aclexplode(relacl) AS acl
		WHERE oid = to_regclass('public.goose_db_version') AND acl.grantee NOT IN (0, relowner)
			AND acl.privilege_type <> 'SELECT'
	LOOP
		EXECUTE format('REVOKE %s ON public.goose_db_version FROM %I', entry.privilege_type, entry.grantee);
	END LOOP;
END $$`

// Migrate applies the migrations NNNNN_name.sql at the root of files to the database at
// url, which is the owner role's. Only one process migrates at a time. Migrate waits up
// to two minutes for another migration, and as long for a server that is not up. It
// refuses to apply a migration that is older than the newest applied one. It leaves a
// database that is newer than files as it is, since that is normal after a rollback. It
// fails if the schema has an invalid index, also if all migrations are applied.
func Migrate(ctx context.Context, url string, files fs.FS, logger *slog.Logger) error {
	if err := checkURL(url); err != nil {
		return fmt.Errorf("migrating: the database's URL: %w", err)
	}
	connConfig, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("migrating: reading the database's URL: %w", err)
	}
	prepareConn(connConfig, connConfig.User)
	connConfig.RuntimeParams["lock_timeout"] = migrateLockTimeout

	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(migrateWait/time.Second)))
	if err != nil {
		return fmt.Errorf("migrating: preparing the lock: %w", err)
	}
	db := stdlib.OpenDB(*connConfig)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()),
	)
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}

	waiting, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	err = poll(waiting, func(ctx context.Context) error {
		err := ExplainTLS(db.PingContext(ctx))
		if err != nil {
			logger.WarnContext(ctx, "waiting for the database", "error", err.Error())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("migrating: connecting to %s: %w", Redact(url), err)
	}

	results, err := provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, result := range results {
		logger.InfoContext(ctx, "migrated", "migration", path.Base(result.Source.Path),
			"version", result.Source.Version, "duration", result.Duration.String())
	}
	switch {
	case partial != nil:
		return fmt.Errorf("migration %s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
	case err != nil:
		return fmt.Errorf("migrating: %w", err)
	}
	if err := protectVersions(ctx, db); err != nil {
		return err
	}
	if err := checkIndexes(ctx, db); err != nil {
		return err
	}
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	logger.InfoContext(ctx, "the schema is up to date", "version", version, "applied", len(results))
	return nil
}

// invalidIndexes are those that a CREATE INDEX CONCURRENTLY left when it failed: they cost
// writes, and no query uses them. One that is being created is not valid yet either, so its
// table has a lock.
const invalidIndexes = `
SELECT coalesce(string_agg(i.indexrelid::regclass::text, ', ' ORDER BY 1), '') FROM pg_index AS i
WHERE NOT i.indisvalid AND NOT EXISTS (
	SELECT FROM pg_locks AS l WHERE l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted)`

func checkIndexes(ctx context.Context, db *sql.DB) error {
	var names string
	if err := db.QueryRowContext(ctx, invalidIndexes).Scan(&names); err != nil {
		return fmt.Errorf("looking for invalid indexes: %w", err)
	}
	if names != "" {
		return fmt.Errorf("invalid indexes: %s: their creation failed; drop them, and create them again in a new migration", names)
	}
	return nil
}

func protectVersions(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("protecting the schema's history: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // has no effect after the commit
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, lock.DefaultLockID); err != nil {
		return fmt.Errorf("protecting the schema's history: waiting for another migration: %w", err)
	}
	if _, err := tx.ExecContext(ctx, lockVersions); err != nil {
		return fmt.Errorf("protecting the schema's history: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("protecting the schema's history: %w", err)
	}
	return nil
}

// MigrateCommand returns the command that applies the migrations of files to the
// database at DATABASE_URL. Before that it runs the functions of first in order.
func MigrateCommand(
	name string, files fs.FS, first ...func(ctx context.Context, url string, logger *slog.Logger) error,
) func(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	return func(ctx context.Context, env *config.Reader, stdout io.Writer) error {
		log := logging.ReadSettings(env, env.Identity(name).Service)
		database := ReadSettings(env)
		if err := env.Err(); err != nil {
			return err
		}
		logger := logging.New(stdout, log)
		for _, run := range first {
			if err := run(ctx, database.URL, logger); err != nil {
				return err
			}
		}
		if err := fault.Migration(); err != nil {
			return err
		}
		return Migrate(ctx, database.URL, files, logger)
	}
}

// Connect opens the pool like Open. It waits up to a minute until the schema has at
// least the version of the newest migration in files.
func Connect(
	ctx context.Context, settings Settings, files fs.FS, logger *slog.Logger, provider trace.TracerProvider,
) (*pgxpool.Pool, error) {
	pool, err := Open(ctx, settings, logger, provider)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	if err := WaitSchema(ctx, pool, files); err != nil {
		pool.Close()
		return nil, fmt.Errorf("waiting for the schema: %w", err)
	}
	return pool, nil
}

// WaitSchema waits until the database's schema has at least the version of the newest
// migration in files. The server need not be up. If ctx is done first, the error has
// the version found, or why the database could not be read.
func WaitSchema(ctx context.Context, pool *pgxpool.Pool, files fs.FS) error {
	needed, err := newest(files)
	if err != nil {
		return err
	}
	role := pool.Config().ConnConfig.User
	return poll(ctx, func(ctx context.Context) error {
		var found int64
		err := pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&found)
		if Code(err) == undefinedTable {
			err = nil // no migration ran yet: version 0
		}
		switch {
		case err != nil:
			return fmt.Errorf("reading the schema's version: %w", ExplainTLS(err))
		case found < needed:
			return fmt.Errorf("the database has schema version %d and version %d is needed: run `%s migrate`", found, needed, role)
		}
		return nil
	})
}

// newest returns the highest version among the migrations.
func newest(files fs.FS) (int64, error) {
	names, err := migrationNames(files)
	if err != nil {
		return 0, err
	}
	if len(names) == 0 {
		return 0, errNoMigrations
	}
	last := names[len(names)-1]
	digits, _, _ := strings.Cut(last, "_")
	version, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("migration %s: its name does not begin with a version", last)
	}
	return version, nil
}

func migrationNames(files fs.FS) ([]string, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("listing the migrations: %w", err)
	}
	return names, nil
}

// poll calls try with growing pauses until it returns nil or ctx is done. It then
// returns try's last error from before ctx was done, which tells more than ctx's.
func poll(ctx context.Context, try func(context.Context) error) error {
	var last error
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last
		}
	}
}

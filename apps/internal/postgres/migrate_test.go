package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

func files(statements ...string) fstest.MapFS {
	set := fstest.MapFS{}
	for i, statement := range statements {
		set["0000"+string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + statement + "\n")}
	}
	return set
}

func TestMigrateAppliesNewMigrations(t *testing.T) {
	db := postgrestest.New(t, nil)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	first := files(`CREATE TABLE a (id int);`)
	both := files(`CREATE TABLE a (id int);`, `CREATE TABLE b (id int);`)
	for _, step := range []struct {
		files fstest.MapFS
		log   string
	}{
		{first, "migration=00001_step.sql version=1"},
		{first, "version=1 applied=0"},
		{both, "migration=00002_step.sql version=2"},
		{first, "version=2 applied=0"}, // a service rolled back
	} {
		log.Reset()
		if err := postgres.Migrate(t.Context(), db.OwnerURL, step.files, logger); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), step.log) {
			t.Errorf("log: %s\nwant %s", &log, step.log)
		}
		if strings.Contains(log.String(), "of-tests-") {
			t.Errorf("the log shows the password: %s", &log)
		}
	}
	if _, err := db.Pool.Exec(t.Context(), `INSERT INTO b SELECT 1`); err != nil {
		t.Errorf("the runtime role cannot use the new table: %v", err)
	}
}

func TestTheRuntimeRoleCannotChangeTheHistory(t *testing.T) {
	db := postgrestest.New(t, nil)
	if err := postgres.Migrate(t.Context(), db.OwnerURL, things, silent); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Pool.Exec(t.Context(), `DELETE FROM goose_db_version`); postgres.Code(err) != "42501" {
		t.Errorf("deleting the history: %v, want it refused", err)
	}
	if err := postgres.WaitSchema(t.Context(), db.Pool, things); err != nil {
		t.Errorf("reading the history: %v", err)
	}
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	db := postgrestest.New(t, nil)
	err := postgres.Migrate(t.Context(), db.OwnerURL, files(`CREATE TABLE a (id int);`, "CREATE TABLE b (id int);\nSELECT nothing FROM nowhere;"), silent)
	if err == nil || !strings.Contains(err.Error(), "00002_step.sql") || postgres.Code(err) != "42P01" {
		t.Fatalf("%v, want the second migration's error", err)
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, files(`CREATE TABLE a (id int);`, `CREATE TABLE b (id int);`), silent); err != nil {
		t.Errorf("the corrected migration: %v", err)
	}
}

// A transaction runs for longer than a migration waits for a lock, and the first attempt is
// interrupted. The second one succeeds, and its index is valid.
func TestAnIndexIsCreatedBesideALongTransaction(t *testing.T) {
	db := postgrestest.New(t, files(`CREATE TABLE a (id int);`))
	set := files(`CREATE TABLE a (id int);`)
	set["00002_index.sql"] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nSET lock_timeout = 0;\n" +
		"DROP INDEX CONCURRENTLY IF EXISTS a_id;\nCREATE INDEX CONCURRENTLY a_id ON a (id);\nRESET lock_timeout;\n")}
	if err := postgres.Lint(set); err != nil {
		t.Fatal(err)
	}
	long, err := db.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = long.Rollback(context.Background()) }()
	if _, err := long.Exec(t.Context(), `INSERT INTO a VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	// CREATE INDEX waits for the transaction, longer than the 5 s of other migrations.
	interrupted, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	defer cancel()
	if err := postgres.Migrate(interrupted, db.OwnerURL, set, silent); err == nil || postgres.Code(err) == "55P03" {
		t.Fatalf("%v, want that it waits until it is interrupted", err)
	}
	valid := func() (is bool) {
		err := db.Pool.QueryRow(t.Context(), `SELECT coalesce(bool_and(indisvalid), false) FROM pg_index WHERE indexrelid = to_regclass('a_id')`).Scan(&is)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if valid() {
		t.Error("the index is valid before its creation could finish")
	}
	if err := long.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, set, silent); err != nil || !valid() {
		t.Errorf("the second attempt: %v, valid %t", err, valid())
	}
}

func TestMigrateReportsAnInvalidIndex(t *testing.T) {
	db := postgrestest.New(t, files("CREATE TABLE a (id int);\nINSERT INTO a VALUES (1), (1);"))
	if _, err := db.Pool.Exec(t.Context(), `SELECT 1`); err != nil {
		t.Fatal(err)
	}
	set := files("CREATE TABLE a (id int);\nINSERT INTO a VALUES (1), (1);")
	owner := open(t, postgres.Settings{URL: db.OwnerURL})
	if _, err := owner.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY a_once ON a (id)`); postgres.Code(err) != "23505" {
		t.Fatalf("creating a unique index of values that are not: %v", err)
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, set, silent); err == nil || !strings.Contains(err.Error(), "a_once") {
		t.Errorf("%v, want an error that names the invalid index", err)
	}
}

func TestMigrateRefusesAMigrationOlderThanTheNewestApplied(t *testing.T) {
	db := postgrestest.New(t, nil)
	late := files(`CREATE TABLE a (id int);`, `CREATE TABLE b (id int);`, `CREATE TABLE c (id int);`)
	early := fstest.MapFS{"00001_step.sql": late["00001_step.sql"], "00003_step.sql": late["00003_step.sql"]}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, early, silent); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, late, silent); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("%v, want the second migration refused", err)
	}
}

func TestConcurrentMigrationsRunOneAfterTheOther(t *testing.T) {
	db := postgrestest.New(t, nil)
	// Without the lock all three would create the table at once.
	set := files("CREATE TABLE a (id int);\nSELECT pg_sleep(0.2);")
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			if err := postgres.Migrate(t.Context(), db.OwnerURL, set, silent); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func TestWaitSchemaWaitsForTheMigration(t *testing.T) {
	db := postgrestest.New(t, nil)
	waited := make(chan error, 1)
	go func() { waited <- postgres.WaitSchema(t.Context(), db.Pool, things) }()
	// Wait until it has read the empty database once.
	for db.Pool.Stat().AcquireCount() == 0 || db.Pool.Stat().AcquiredConns() > 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-waited:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := postgres.Migrate(t.Context(), db.OwnerURL, things, silent); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestWaitSchemaReportsTheMissingVersion(t *testing.T) {
	db := postgrestest.New(t, files(`CREATE TABLE a (id int);`))
	newer := files(`CREATE TABLE a (id int);`, `CREATE TABLE b (id int);`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := postgres.WaitSchema(ctx, db.Pool, newer)
	if err == nil || !strings.Contains(err.Error(), "version 1 and version 2 is needed") || !strings.Contains(err.Error(), " migrate`") {
		t.Errorf("%v, want both versions and the command", err)
	}
	if err := postgres.WaitSchema(t.Context(), db.Pool, fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "no migrations") {
		t.Errorf("%v, want that there are no migrations", err)
	}

	down := open(t, postgres.Settings{URL: "postgres://a:hunter2@" + closedAddress(t) + "/d?sslmode=disable"})
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := postgres.WaitSchema(ctx, down, newer); !postgres.Down(err) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v, want that the server is down", err)
	}
}

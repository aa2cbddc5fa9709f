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

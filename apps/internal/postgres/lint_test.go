package postgres_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/loja-veloz/platform/apps/internal/postgres"
)

func migration(statements string) fstest.MapFS {
	return fstest.MapFS{"00001_change.sql": {Data: []byte("-- +goose Up\n" + statements + "\n")}}
}

func TestLintRefusesWhatBreaksThePreviousVersion(t *testing.T) {
	for _, test := range []struct{ sql, want string }{
		{`DROP TABLE pedidos;`, "DROP"},
		{`drop view orders;`, "DROP"},
		{`DROP INDEX by_name;`, "DROP"},
		{`ALTER TABLE pedidos DROP COLUMN note;`, "DROP"},
		{`ALTER TABLE pedidos ADD COLUMN a int, DROP note;`, "DROP"},
		{`ALTER TABLE IF EXISTS ONLY public.pedidos DROP CONSTRAINT pedidos_pkey;`, "DROP"},
		{`ALTER TABLE pedidos ALTER COLUMN total TYPE bigint;`, "TYPE"},
		{`ALTER TABLE pedidos ALTER total SET DATA TYPE bigint;`, "TYPE"},
		{`ALTER TABLE pedidos ALTER total SET NOT NULL;`, "NOT NULL"},
		{`ALTER TABLE pedidos ALTER total DROP DEFAULT;`, "default"},
		{`ALTER TABLE pedidos RENAME TO orders;`, "RENAME"},
		{`ALTER TABLE pedidos RENAME COLUMN a TO b;`, "RENAME"},
		{`ALTER INDEX by_name RENAME TO by_title;`, "RENAME"},
		{`ALTER TYPE state RENAME VALUE 'a' TO 'b';`, "RENAME"},
		{`ALTER TABLE pedidos SET SCHEMA other;`, "SCHEMA"},
		{`TRUNCATE pedidos;`, "TRUNCATE"},
		{`DELETE FROM pedidos;`, "DELETE"},
		{`WITH gone AS (DELETE FROM pedidos RETURNING id) SELECT * FROM gone WHERE id > 1;`, "DELETE"},
		{`DELETE FROM pedidos USING (SELECT 1 WHERE true) AS one;`, "DELETE"},
		{`ALTER TABLE pedidos ADD COLUMN note text NOT NULL;`, "without DEFAULT"},
		{`ALTER TABLE pedidos ADD note text NOT NULL;`, "without DEFAULT"},
		{`ALTER TABLE pedidos ADD COLUMN note text UNIQUE;`, "constraint"},
		{`ALTER TABLE pedidos ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;`, "GENERATED"},
		{`CREATE INDEX by_name ON pedidos (name);`, "CONCURRENTLY"},
		{`CREATE UNIQUE INDEX IF NOT EXISTS by_name ON ONLY pedidos (name);`, "CONCURRENTLY"},
		{`CREATE TABLE other (id int); CREATE INDEX ON pedidos (name);`, "CONCURRENTLY"},
		{`ALTER TABLE pedidos ADD CONSTRAINT positive CHECK (total > 0);`, "NOT VALID"},
		{`ALTER TABLE pedidos ADD CHECK (total > 0);`, "NOT VALID"},
		{`ALTER TABLE pedidos ADD CONSTRAINT item FOREIGN KEY (sku) REFERENCES estoque (sku);`, "NOT VALID"},
		{`ALTER TABLE pedidos ADD CONSTRAINT one UNIQUE (name);`, "USING INDEX"},
		{"DO $$ BEGIN DROP TABLE pedidos; END $$;", "DO block"},
		{"DO 'BEGIN EXECUTE ''DR'' || ''OP TABLE pedidos''; END';", "DO block"},
		{"DO $$ BEGIN DELETE FROM pedidos; UPDATE a SET b = 1 WHERE true; END $$;", "DELETE"},

		// Comments and strings hide no statement. Text in them is no `-- contract`.
		{"/* one /* two */ three */ DROP TABLE pedidos;", "DROP"},
		{"SELECT '--'; DROP TABLE pedidos;", "DROP"},
		{"SELECT E'\\'; --'; DROP TABLE pedidos;", "DROP"},
		{"SELECT $a$ $$ /* $a$; DROP TABLE pedidos;", "DROP"},
		{"DROP/**/TABLE pedidos;", "DROP"},
		{"SELECT '\n-- contract\n'; DROP TABLE pedidos;", "DROP"},
		{"/*\n-- contract\n*/ DROP TABLE pedidos;", "DROP"},
		{"-- contractor's work\nDROP TABLE pedidos;", "DROP"},
		{`DELETE FROM pedidos; -- WHERE id = 1`, "DELETE"},
		{`CREATE TABLE "Pedidos" (id int); ALTER TABLE pedidos DROP note;`, "DROP"},
		{"DROP TABLE\npedidos", "DROP"},
	} {
		err := postgres.Lint(migration(test.sql))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\n got %v, want an error with %q", test.sql, err, test.want)
			continue
		}
		if err := postgres.Lint(migration("-- contract: nobody uses it since version 3\n" + test.sql)); err != nil {
			t.Errorf("with -- contract: %s\n got %v, want no error", test.sql, err)
		}
	}
}

func TestLintAcceptsWhatThePreviousVersionTolerates(t *testing.T) {
	for _, sql := range []string{
		`CREATE TABLE pedidos (id uuid PRIMARY KEY, total bigint NOT NULL CHECK (total > 0), note text REFERENCES notes ON DELETE CASCADE);`,
		`CREATE TABLE a (id int); CREATE INDEX ON a (id); ALTER TABLE a ADD COLUMN b int NOT NULL, ADD CONSTRAINT c UNIQUE (b), ALTER b TYPE bigint; DELETE FROM a;`,
		`CREATE TABLE IF NOT EXISTS public.A (id int); CREATE UNIQUE INDEX by_id ON a (id);`,
		`ALTER TABLE pedidos ADD COLUMN note text;`,
		`ALTER TABLE pedidos ADD COLUMN note text NOT NULL DEFAULT 'DROP TABLE; TRUNCATE';`,
		`ALTER TABLE pedidos ADD COLUMN total numeric(10, 2), ADD COLUMN "drop" text;`,
		`ALTER TABLE pedidos ALTER note DROP NOT NULL, ALTER note SET DEFAULT '';`,
		`ALTER TABLE pedidos ADD CONSTRAINT positive CHECK (total > 0) NOT VALID;`,
		`ALTER TABLE pedidos VALIDATE CONSTRAINT positive;`,
		`ALTER TABLE pedidos ADD CONSTRAINT one UNIQUE USING INDEX by_name;`,
		`ALTER TYPE state ADD VALUE 'refunded';`,
		`DELETE FROM pedidos WHERE id = 1;`,
		`WITH gone AS (DELETE FROM pedidos WHERE id > 1 RETURNING id) SELECT * FROM gone;`,
		`GRANT SELECT, DELETE ON pedidos TO someone;`,
		`CREATE TRIGGER t AFTER DELETE ON pedidos FOR EACH ROW EXECUTE FUNCTION f();`,
		"CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM pedidos; DROP TABLE pedidos; $$;",
		"-- DROP TABLE pedidos;\nSELECT 1;",
		"/* TRUNCATE pedidos; /* nested */ DROP TABLE pedidos; */ SELECT 1;",
		`SELECT 'a''; DROP TABLE pedidos; --';`,
		concurrently + "DROP INDEX CONCURRENTLY IF EXISTS by_name;\nCREATE INDEX CONCURRENTLY by_name ON pedidos (name);\nRESET lock_timeout;",
		concurrently + "DROP INDEX CONCURRENTLY IF EXISTS public.By_Name; CREATE UNIQUE INDEX CONCURRENTLY by_name ON pedidos (name);",
		concurrently + "DROP INDEX CONCURRENTLY IF EXISTS by_name;",
		"-- +goose NO TRANSACTION\nset lock_timeout to '0';\nDROP INDEX CONCURRENTLY IF EXISTS by_name;",
		"CREATE TABLE a (id int);\n-- +goose Down\nDROP TABLE a;",
	} {
		if err := postgres.Lint(migration(sql)); err != nil {
			t.Errorf("%s\n got %v, want no error", sql, err)
		}
	}
}

// concurrently begins a migration that may wait for other transactions.
const concurrently = "-- +goose NO TRANSACTION\nSET lock_timeout = 0;\n"

func TestLintRefusesIndexesThatCannotBeCreatedAgain(t *testing.T) {
	for _, test := range []struct{ sql, want string }{
		{concurrently + "CREATE INDEX CONCURRENTLY by_name ON pedidos (name);", "directly before it"},
		{concurrently + "DROP INDEX CONCURRENTLY IF EXISTS by_name; SELECT 1; CREATE INDEX CONCURRENTLY by_name ON pedidos (name);", "directly before it"},
		{concurrently + "DROP INDEX CONCURRENTLY IF EXISTS other; CREATE INDEX CONCURRENTLY by_name ON pedidos (name);", "directly before it"},
		{concurrently + "DROP INDEX CONCURRENTLY IF EXISTS by_name; CREATE INDEX CONCURRENTLY ON pedidos (name);", "needs a name"},
		{concurrently + "DROP INDEX CONCURRENTLY IF EXISTS a; CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c);", "IF NOT EXISTS"},
		{concurrently + "DROP INDEX CONCURRENTLY by_name;", "needs IF EXISTS"},
		{"-- +goose NO TRANSACTION\nDROP INDEX CONCURRENTLY IF EXISTS a; CREATE INDEX CONCURRENTLY a ON b (c);", "lock_timeout"},
		{"-- +goose NO TRANSACTION\nSET lock_timeout = 0; RESET lock_timeout; DROP INDEX CONCURRENTLY IF EXISTS a;", "lock_timeout"},
		{"-- +goose NO TRANSACTION\nSET lock_timeout = '1s'; DROP INDEX CONCURRENTLY IF EXISTS a;", "lock_timeout"},
		{"SET lock_timeout = 0; DROP INDEX CONCURRENTLY IF EXISTS a;", "NO TRANSACTION"},
	} {
		for _, contract := range []string{"", "-- contract: all\n"} {
			if err := postgres.Lint(migration(contract + test.sql)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s\n got %v, want an error with %q", contract+test.sql, err, test.want)
			}
		}
	}
}

func TestLintRefusesWrongNamesAndEmptyMigrations(t *testing.T) {
	good := &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE a (id int);\n")}
	for _, test := range []struct {
		files fstest.MapFS
		want  string
	}{
		{fstest.MapFS{}, "no migrations"},
		{fstest.MapFS{"migrations/00001_a.sql": good}, "at the root"},
		{fstest.MapFS{"00002_a.sql": good}, "00002_a.sql: number 00001"},
		{fstest.MapFS{"00001_a.sql": good, "00003_b.sql": good}, "00003_b.sql: number 00002"},
		{fstest.MapFS{"00001_a.sql": good, "00001_b.sql": good}, "00001_b.sql: number 00002"},
		{fstest.MapFS{"1_a.sql": good}, "00001_what"},
		{fstest.MapFS{"00001-a.sql": good}, "00001_what"},
		{fstest.MapFS{"00001_a.sql": {Data: []byte("CREATE TABLE a (id int);")}}, "+goose Up"},
		{fstest.MapFS{"00001_a.sql": {Data: []byte("-- +goose Up\n-- to do\n")}}, "no statement"},
		{fstest.MapFS{"00001_a.sql": {Data: []byte("-- contract\n-- +goose Up\nCREATE INDEX CONCURRENTLY i ON a (b);")}}, "NO TRANSACTION"},
	} {
		if err := postgres.Lint(test.files); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want an error with %q", test.files, err, test.want)
		}
	}
}

func TestLintReportsAllErrorsWithTheirLines(t *testing.T) {
	err := postgres.Lint(migration("SELECT 1;\nDROP TABLE a;\n\nTRUNCATE\n b;"))
	for _, want := range []string{"00001_change.sql:3: DROP", "00001_change.sql:5: TRUNCATE"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q too", err, want)
		}
	}
}

package postgrestest_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

func TestAQueryWithoutAnIndexIsFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queries.sql.go")
	if err := os.WriteFile(file, []byte("package store\n"+
		"const byID = `-- name: ByID :one\nSELECT * FROM things WHERE id = $1`\n"+
		"const byName = `-- name: ByName :one\nSELECT * FROM things WHERE name = $1`\n"+
		"const change = `-- name: Change :exec\nUPDATE things SET name = $1 WHERE name = $2`\n"+
		"const ordered = `-- name: Ordered :many\nSELECT * FROM things WHERE name = $1 ORDER BY id LIMIT 1`\n"+
		"const sorted = `-- name: Sorted :many\nSELECT * FROM things WHERE id < $1 ORDER BY name LIMIT 1`\n"+
		"const filtered = `-- name: Filtered :many\nSELECT * FROM things WHERE id < $1 AND name = $2 ORDER BY id LIMIT 1`\n"+
		"const due = `-- name: Due :many\nSELECT * FROM things WHERE due IS NOT NULL ORDER BY due`\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := postgrestest.New(t, fstest.MapFS{"00001_things.sql": {Data: []byte("-- +goose Up\n" +
		"CREATE TABLE things (id int PRIMARY KEY, name text, due int); CREATE INDEX things_due ON things (due) WHERE due IS NOT NULL;\n")}})
	got := postgrestest.Unbounded(t, d, postgrestest.Queries(t, file))
	want := map[string]string{
		"ByName": "reads the whole table things", "Change": "reads the whole table things",
		"Ordered": "reads the whole index things_pkey", "Sorted": "sorts all rows before its limit",
		"Filtered": "leaves rows of the index things_pkey out before its limit",
	}
	if !maps.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

package main

import (
	"testing"

	"github.com/loja-veloz/platform/apps/estoque/migrations"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
)

func TestEveryQueryHasItsIndex(t *testing.T) {
	postgrestest.CheckPlans(t, postgrestest.New(t, migrations.Files), "store/queries.sql.go", map[string]string{
		"PruneReservations": "leaves those out that changed long after their order was placed: they are few",
		"Seed":              "runs once, when a process starts",
		"Units":             "reads at most 1000 items in the order of the index, for a metric and at most every 5 s",
	})
}

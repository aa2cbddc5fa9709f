package main

import (
	"testing"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/pedidos/migrations"
)

func TestEveryQueryHasItsIndex(t *testing.T) {
	postgrestest.CheckPlans(t, postgrestest.New(t, migrations.Files), "store/queries.sql.go", map[string]string{
		"PruneTransitions":       "leaves those of unfinished orders out, which are few",
		"FilteredOrdersOfClient": "sorts at most a page for each state, shipped or not",
	})
}

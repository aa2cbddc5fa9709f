package main

import (
	"testing"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

func TestEveryQueryHasItsIndex(t *testing.T) {
	postgrestest.CheckPlans(t, postgrestest.New(t, migrations.Files), "store/queries.sql.go", map[string]string{
		"NeedingPerson":    "sorts the unfinished payments that it has found by their partial index: they are few",
		"PruneTransitions": "leaves those of unfinished payments out, which are few",
	})
}

// The simulator's books grow as the payments do.
func TestEveryStatementOfTheSimulatorHasItsIndex(t *testing.T) {
	postgrestest.CheckPlans(t, postgrestest.New(t, migrations.Files), "acquirer/simulator/simulator.go", nil)
}

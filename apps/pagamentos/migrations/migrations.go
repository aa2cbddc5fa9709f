// Package migrations contains the schema of the database pagamentos.
package migrations

import "embed"

// Files contains the migrations, one file NNNNN_name.sql each.
//
//go:embed *.sql
var Files embed.FS

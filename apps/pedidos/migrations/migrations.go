// Package migrations has the schema of the database pedidos.
package migrations

import "embed"

// Files are the migrations, one NNNNN_name.sql each.
//
//go:embed *.sql
var Files embed.FS

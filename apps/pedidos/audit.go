package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/pedidos/audit"
	"github.com/loja-veloz/platform/apps/pedidos/store"
)

// auditSettings are the databases that the audit reads, by the role auditor,
// which may do nothing else. All three or none.
type auditSettings struct{ pedidos, pagamentos, estoque string }

func readAuditSettings(env *config.Reader) auditSettings {
	s := auditSettings{
		pedidos:    env.Text("AUDIT_PEDIDOS_DATABASE_URL", ""),
		pagamentos: env.Text("AUDIT_PAGAMENTOS_DATABASE_URL", ""),
		estoque:    env.Text("AUDIT_ESTOQUE_DATABASE_URL", ""),
	}
	for variable, url := range map[string]string{
		"AUDIT_PEDIDOS_DATABASE_URL": s.pedidos, "AUDIT_PAGAMENTOS_DATABASE_URL": s.pagamentos, "AUDIT_ESTOQUE_DATABASE_URL": s.estoque,
	} {
		if url == "" {
			if s != (auditSettings{}) {
				env.Reject(variable, "missing, and the other databases to audit are given")
			}
			continue
		}
		if _, err := pgxpool.ParseConfig(url); err != nil {
			env.Reject(variable, "is no URL of a PostgreSQL database") // which may hold a password
		}
	}
	return s
}

func (s auditSettings) configured() bool { return s != (auditSettings{}) }

// auditor has a connection to each of the databases.
type auditor struct {
	databases audit.Databases
	pools     []*pgxpool.Pool
}

func newAuditor(s auditSettings) (*auditor, error) {
	a := &auditor{}
	open := func(url string) (*pgxpool.Pool, error) {
		settings, err := pgxpool.ParseConfig(url)
		if err != nil {
			return nil, errors.New("a database to audit has no usable URL")
		}
		settings.MaxConns = 1
		pool, err := pgxpool.NewWithConfig(context.Background(), settings)
		if err != nil {
			return nil, fmt.Errorf("preparing a database to audit: %w", err)
		}
		a.pools = append(a.pools, pool)
		return pool, nil
	}
	var err error
	if a.databases.Pedidos, err = open(s.pedidos); err != nil {
		return nil, err
	}
	if a.databases.Pagamentos, err = open(s.pagamentos); err != nil {
		return nil, err
	}
	if a.databases.Estoque, err = open(s.estoque); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *auditor) close() {
	for _, pool := range a.pools {
		pool.Close()
	}
}

// auditMost is how many orders a serving process audits, which holds a few hundred
// bytes of each: 100,000 of them are about 40 MB.
const auditMost = 100_000

// record audits, stores how many violations there are, and logs each.
func (a *auditor) record(ctx context.Context, queries *store.Queries, logger *slog.Logger) error {
	var many bool
	if err := a.databases.Pedidos.QueryRow(ctx, "SELECT count(*) > $1 FROM (SELECT FROM pedidos LIMIT $1 + 1) AS some", auditMost).Scan(&many); err != nil {
		return fmt.Errorf("auditing: %w", err)
	}
	if many {
		return fmt.Errorf("auditing: there are more than %d orders, too many for a process that serves: run pedidos audit by itself", auditMost)
	}
	report, err := audit.Run(ctx, a.databases)
	if err != nil {
		return fmt.Errorf("auditing: %w", err)
	}
	arguments := store.RecordAuditParams{}
	for _, invariant := range audit.Invariants {
		arguments.Invariants = append(arguments.Invariants, string(invariant))
		arguments.Violations = append(arguments.Violations, int64(len(report.Violations[invariant])))
		for _, violation := range report.Violations[invariant] {
			logger.ErrorContext(ctx, "audit: an invariant is violated", "invariant", string(invariant),
				"subject", violation.Subject, "detail", violation.Detail)
		}
	}
	if err := queries.RecordAudit(ctx, arguments); err != nil {
		return fmt.Errorf("storing the audit: %w", err)
	}
	return nil
}

// auditOnce is the subcommand audit: it prints what it finds, and fails if an
// invariant is violated.
func auditOnce(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	env := config.NewReader(args, getenv)
	s := readAuditSettings(env)
	if !s.configured() {
		env.Reject("AUDIT_PEDIDOS_DATABASE_URL", "missing")
	}
	if err := env.Err(); err != nil {
		return err
	}
	a, err := newAuditor(s)
	if err != nil {
		return err
	}
	defer a.close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	report, err := audit.Run(ctx, a.databases)
	if err != nil {
		return fmt.Errorf("auditing: %w", err)
	}
	return report.Print(stdout)
}

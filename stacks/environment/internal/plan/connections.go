package plan

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

const (
	poolVariable = "DATABASE_MAX_CONNECTIONS"
	// defaultPool is the pool size of a program without poolVariable: defaultMaxConnections in
	// apps/internal/postgres, which a test compares.
	defaultPool = 8
	// reservedConnections is PostgreSQL's default of superuser_reserved_connections.
	reservedConnections = 3
	// auditConnections is how many connections a program opens to each database that it reads as
	// auditor. auditRuns is how many runs there are at a time: the scheduled one, and one that a
	// person starts.
	auditConnections, auditRuns = 2, 2
)

// checkConnections refuses pools that could open more connections than the server accepts, with
// every service at its autoscaler's limit and one canary pod in addition.
func checkConnections(cfg *config.Config, programs *catalogue.Catalogue, server Server) error {
	databases := len(programs.Databases())
	if databases == 0 || server.MaxConnections == 0 {
		return nil
	}
	needed, terms := 0, []string{}
	add := func(connections int, format string, args ...any) {
		needed += connections
		terms = append(terms, fmt.Sprintf(format, args...))
	}
	for _, program := range programs.Programs() {
		pods := 1
		if program.Kind == catalogue.Service {
			pods = int(cfg.Services[program.Name].MaxReplicas) + 1
		}
		if program.Database {
			pool, err := pool(cfg, program)
			if err != nil {
				return err
			}
			add(pods*pool, "%d pods of %s with %d each", pods, program.Name, pool)
		}
		if reads := len(program.Reads); reads > 0 {
			add(auditRuns*auditConnections*reads, "%d runs of %s with %d in each of %d databases", auditRuns, program.Name, auditConnections, reads)
		}
	}
	add(databases, "%d migrations", databases)
	add(1, "1 setup")
	add(reservedConnections, "%d that PostgreSQL reserves for superusers", reservedConnections)
	if needed <= int(server.MaxConnections) {
		return nil
	}
	return fmt.Errorf("database connections: up to %d are needed (%s), but %s accepts %d: "+
		"lower %s in %s:services.NAME.env or maxReplicas, or use a larger server",
		needed, strings.Join(terms, ", "), server.Limit, server.MaxConnections, poolVariable, config.Namespace)
}

func pool(cfg *config.Config, program catalogue.Program) (int, error) {
	value, set := variables(cfg, program)[poolVariable]
	if !set {
		return defaultPool, nil
	}
	pool, err := strconv.Atoi(value)
	if err != nil || pool < 1 {
		return 0, fmt.Errorf("%s:services.%s.env.%s is %q: use a whole number from 1", config.Namespace, program.Name, poolVariable, value)
	}
	return pool, nil
}

package dev

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// auditorEnv returns the variables with the URLs of the databases that a program reads in
// the role of the auditor. secrets are the credentials that the setup program wrote.
func auditorEnv(p catalogue.Program, secrets map[string]string) []string {
	var env []string
	for _, read := range p.Reads {
		if url := secrets["AUDITOR_"+prefix(read.Database)+"DATABASE_URL"]; url != "" {
			env = append(env, read.Variable+"="+url)
		}
	}
	return env
}

// auditors returns the programs that read other programs' databases, without those that
// need a database which is not among the given ones.
func auditors(c *catalogue.Catalogue, databases []string) []catalogue.Program {
	return slices.DeleteFunc(c.Programs(), func(p catalogue.Program) bool {
		return len(p.Reads) == 0 ||
			slices.ContainsFunc(p.Reads, func(r catalogue.Read) bool { return !slices.Contains(databases, r.Database) })
	})
}

// audit runs each auditor once and returns what they print. It does not pass on their
// declared settings, because one of those may tell an auditor to keep running.
func audit(ctx context.Context, dir string, programs []catalogue.Program, secrets map[string]string) (string, error) {
	if len(programs) == 0 {
		return "", errors.New("no program of the catalogue can audit these databases: each needs a database that does not run here")
	}
	var report strings.Builder
	for _, p := range programs {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, "bin", p.Name))
		cmd.Env = auditorEnv(p, secrets)
		text, err := cmd.CombinedOutput()
		report.Write(text)
		if err != nil {
			return report.String(), fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return report.String(), nil
}

// Runs reports whether the shop of the folder runs.
func Runs(dir string) (bool, error) {
	dir, err := resolve(dir)
	if err != nil {
		return false, err
	}
	pid, err := process.LockHolder(dir)
	return pid != 0, err
}

// Audit checks the shop's invariants in the databases of the folder's shop, prints the
// report, and fails if one is violated.
func Audit(ctx context.Context, dir string, out *console.Console) error {
	root, err := repo.Root()
	if err != nil {
		return err
	}
	c, err := repo.Catalogue(root)
	if err != nil {
		return err
	}
	secrets, err := readEnvFile(filepath.Join(dir, "databases.env"))
	if err != nil {
		return err
	}
	report, err := audit(ctx, dir, auditors(c, c.Databases()), secrets)
	out.Plain("%s", strings.TrimSpace(report))
	return err
}

// Audit checks the shop's invariants and returns the report. It fails if one is
// violated.
func (s *Shop) Audit(ctx context.Context) (string, error) {
	return audit(ctx, s.dir, auditors(s.catalogue, s.databases()), s.secrets)
}

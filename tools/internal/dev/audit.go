package dev

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/checkout"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// auditEnv tells the audit its databases, by the credentials that the program database
// has written.
func auditEnv(secrets map[string]string) []string {
	var env []string
	for _, name := range databases {
		url := secrets["AUDITOR_"+prefix(name)+"DATABASE_URL"]
		if url == "" {
			return nil
		}
		env = append(env, "AUDIT_"+prefix(name)+"DATABASE_URL="+url)
	}
	return env
}

// Runs tells whether a stack of the folder runs.
func Runs(dir string) (bool, error) {
	dir, err := resolve(dir)
	if err != nil {
		return false, err
	}
	pid, err := owner(dir)
	return pid != 0, err
}

// Audit checks the shop's invariants in the databases of the folder's stack,
// prints what it finds, and fails if one is violated.
func Audit(ctx context.Context, dir string, out *console.Console) error {
	secrets, err := readEnvFile(filepath.Join(dir, "databases.env"))
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, filepath.Join(dir, "bin", checkout.Audit))
	c.Env = auditEnv(secrets)
	text, err := c.CombinedOutput()
	out.Plain("%s", strings.TrimSpace(string(text)))
	return err
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// envFile keeps credentials in a file of NAME=value lines that only its owner can read:
// <DATABASE>_DATABASE_URL, <DATABASE>_DATABASE_OWNER_URL and
// AUDITOR_<DATABASE>_DATABASE_URL. It keeps all other lines.
type envFile struct{ path, auditor string }

func (f *envFile) keep(_ context.Context, databases []string, adopt func(database, role, existing string) string) (credentials, error) {
	content, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return credentials{}, fmt.Errorf("SECRETS_FILE: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	if len(content) == 0 {
		lines = nil
	}
	find := func(name string) (at int, value string) {
		for at, line := range lines {
			if value, ok := strings.CutPrefix(line, name+"="); ok {
				return at, value
			}
		}
		return -1, ""
	}
	set := func(name, value string) {
		if at, _ := find(name); at >= 0 {
			lines[at] = name + "=" + value
			return
		}
		lines = append(lines, name+"="+value)
	}

	kept := newCredentials()
	var auditor string // a URL that has its password; there is one auditor for all databases
	for _, database := range databases {
		if _, existing := find(auditorVariable(database)); passwordOf(auditor) == "" {
			auditor = existing
		}
	}
	for _, database := range databases {
		_, runtime := find(runtimeVariable(database))
		_, owner := find(ownerVariable(database))
		kept.Runtime[database] = adopt(database, database, runtime)
		kept.Owner[database] = adopt(database, database+ownerSuffix, owner)
		auditor = adopt(database, f.auditor, auditor)
		kept.Auditor[database] = auditor
		set(runtimeVariable(database), kept.Runtime[database])
		set(ownerVariable(database), kept.Owner[database])
		set(auditorVariable(database), kept.Auditor[database])
	}
	if err := replaceFile(f.path, []byte(strings.Join(lines, "\n")+"\n"), content); err != nil {
		return credentials{}, fmt.Errorf("SECRETS_FILE: %w", err)
	}
	return kept, nil
}

func newCredentials() credentials {
	return credentials{Runtime: map[string]string{}, Owner: map[string]string{}, Auditor: map[string]string{}}
}

func runtimeVariable(database string) string { return strings.ToUpper(database) + "_DATABASE_URL" }
func ownerVariable(database string) string   { return strings.ToUpper(database) + "_DATABASE_OWNER_URL" }
func auditorVariable(database string) string {
	return "AUDITOR_" + strings.ToUpper(database) + "_DATABASE_URL"
}

// replaceFile replaces the file's content atomically. If the file has the content
// already, replaceFile sets only its mode.
func replaceFile(path string, content, before []byte) error {
	if bytes.Equal(content, before) {
		return os.Chmod(path, 0o600)
	}
	next, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(next.Name()) //nolint:errcheck // does not exist after a success
	defer next.Close()
	if _, err := next.Write(content); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	return os.Rename(next.Name(), path)
}

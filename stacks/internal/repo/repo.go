// Package repo finds the git working tree that a Pulumi program belongs to.
package repo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// Root returns the nearest folder at or above the working directory that has a go.work file.
// Pulumi runs a program in the folder that main in Pulumi.yaml names.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the repository: neither %s nor a folder above it has a go.work file; "+
				"run the command inside the repository", start)
		}
	}
}

// Catalogue reads what the programs in apps declare. It reports every error of a declaration,
// one per line.
func Catalogue() (*catalogue.Catalogue, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	apps := filepath.Join(root, "apps")
	c, err := catalogue.Load(os.DirFS(apps))
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("reading the catalogue in %s: %w", apps, err)
	}
	return c, err
}

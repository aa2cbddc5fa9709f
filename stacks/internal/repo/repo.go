// Package repo finds the git working tree that a Pulumi program belongs to.
package repo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// Root is the nearest folder at or above the working directory that holds both apps
// and stacks. Pulumi runs a program in the folder that main in Pulumi.yaml names.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if isDir(filepath.Join(dir, "apps")) && isDir(filepath.Join(dir, "stacks")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the repository: neither %s nor a folder above it holds apps and stacks; "+
				"run pulumi in the repository", start)
		}
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Catalogue reads what the programs in apps declare. Its error has a line per error in
// a declaration.
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

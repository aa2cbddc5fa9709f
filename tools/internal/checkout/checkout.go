// Package checkout finds the repository's checkout and what is in it.
package checkout

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Root is the checkout that the current folder lies in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "Pulumi.yaml")); err == nil {
			if _, err := os.Stat(filepath.Join(d, "tools", "pins")); err == nil {
				return d, nil
			}
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside a checkout of Loja Veloz", dir)
		}
	}
}

// Programs that run to their end: they have an image and no Rollout. Database creates
// the services' databases; Audit checks the shop's invariants, and keeps running in
// make dev.
const (
	Database = "database"
	Audit    = "audit"
)

// Programs are the folders of apps that hold a program.
func Programs(root string) ([]string, error) {
	mains, err := filepath.Glob(filepath.Join(root, "apps", "*", "main.go"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range mains {
		names = append(names, filepath.Base(filepath.Dir(m)))
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no service in %s", filepath.Join(root, "apps"))
	}
	return names, nil
}

// Services are the programs that have a Rollout.
func Services(root string) ([]string, error) {
	names, err := Programs(root)
	return slices.DeleteFunc(names, func(name string) bool { return name == Database || name == Audit }), err
}

// HostPrograms are the programs that make dev keeps running.
func HostPrograms(root string) ([]string, error) {
	names, err := Programs(root)
	return slices.DeleteFunc(names, func(name string) bool { return name == Database }), err
}

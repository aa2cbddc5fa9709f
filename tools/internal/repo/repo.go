// Package repo finds the git working tree of this repository and what it holds.
package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Root is the working tree that the current folder lies in.
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
			return "", fmt.Errorf("%s is not inside the repository of Loja Veloz", dir)
		}
	}
}

// Database is the program that creates the services' databases: it runs to its
// end, so it has an image and no Rollout.
const Database = "database"

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

// Services are the programs that serve.
func Services(root string) ([]string, error) {
	names, err := Programs(root)
	return slices.DeleteFunc(names, func(name string) bool { return name == Database }), err
}

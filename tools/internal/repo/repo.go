// Package repo finds the git working tree of this repository and what it holds.
package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// LocalStack is the stack of the local environment, whose file git ignores.
const LocalStack = "local"

// Root returns the nearest folder at or above the working directory that has a go.work file.
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

// Local is a path below the folder of generated things, which git ignores.
func Local(root string, elem ...string) string {
	return filepath.Join(append([]string{root, ".local"}, elem...)...)
}

// Catalogue is what the programs of apps declare about themselves.
func Catalogue(root string) (*catalogue.Catalogue, error) {
	return catalogue.Load(os.DirFS(filepath.Join(root, "apps")))
}

// Programs are the names of all programs of the shop: each has an image.
func Programs(root string) ([]string, error) {
	c, err := Catalogue(root)
	if err != nil {
		return nil, err
	}
	return c.Images(), nil
}

// Services are the names of the programs that serve: each has a Rollout. One comes after
// those that it calls.
func Services(root string) ([]string, error) {
	c, err := Catalogue(root)
	if err != nil {
		return nil, err
	}
	return catalogue.Names(c.Services()), nil
}

// AWSStacks are the environments whose stack files are kept in git.
func AWSStacks(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "Pulumi."), ".yaml"); name != LocalStack {
			names = append(names, name)
		}
	}
	return names, nil
}

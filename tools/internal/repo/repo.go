// Package repo finds the git working tree of this repository and what it holds.
package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// LocalStack is the stack of the local environment. Git ignores its file.
const LocalStack = "local"

// mark is the file by which the top folder of the working tree is found.
const mark = "go.work"

// Root is the nearest folder at or above the working directory that holds go.work.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, mark)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("finding the repository: neither %s nor a folder above it holds %s; "+
				"run the command inside the repository of Loja Veloz", start, mark)
		}
	}
}

// Local returns a path below .local, the folder of generated files, which git ignores.
func Local(root string, elem ...string) string {
	return filepath.Join(append([]string{root, ".local"}, elem...)...)
}

// Catalogue reads what the programs in apps declare about themselves. Its error has a
// line per error in a declaration.
func Catalogue(root string) (*catalogue.Catalogue, error) {
	return catalogue.Load(os.DirFS(filepath.Join(root, "apps")))
}

// Programs returns the names of all programs that have an image.
func Programs(root string) ([]string, error) {
	c, err := Catalogue(root)
	if err != nil {
		return nil, err
	}
	return c.Images(), nil
}

// Services returns the names of the programs that have a Rollout. A service comes after
// the services that it calls.
func Services(root string) ([]string, error) {
	c, err := Catalogue(root)
	if err != nil {
		return nil, err
	}
	return catalogue.Names(c.Services()), nil
}

// AWSStacks returns the environments in AWS: those whose stack files are in git.
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

// Package scaffold creates new services.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

//go:embed template
var templates embed.FS

// reserved are the first segments of paths that every service answers itself, or that no
// service may publish.
var reserved = []string{"health", "ready", "metrics", "docs", "admin"}

// firstPort is the first port on the host that a service may get.
const firstPort = 8081

// Service creates apps/NAME with main.go, main_test.go and service.yaml, and returns
// their paths. No other file changes: service.yaml adds the service to the catalogue. If
// Service fails, it leaves nothing behind.
func Service(root, name string) ([]string, error) {
	if err := catalogue.CheckName(name); err != nil {
		return nil, fmt.Errorf("NAME=%w", err)
	}
	c, err := repo.Catalogue(root)
	if err != nil {
		return nil, err
	}
	if slices.Contains(reserved, name) {
		return nil, fmt.Errorf("NAME=%s: /%s is a path of every service; choose another name", name, name)
	}
	for _, p := range c.Programs() {
		if slices.ContainsFunc(p.Public, func(path catalogue.Path) bool { return firstSegment(path.Value) == name }) {
			return nil, fmt.Errorf("NAME=%s: the path /%s belongs to %s; choose another name", name, name, p.Name)
		}
	}
	dir := filepath.Join(root, "apps", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("NAME=%s: %w", name, err)
	}
	created, err := write(dir, struct {
		Name string
		Port int
	}{name, freePort(c)})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return created, nil
}

func firstSegment(path string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return first
}

// freePort is the lowest port from firstPort on that no program declares.
func freePort(c *catalogue.Catalogue) int {
	port := firstPort
	for slices.ContainsFunc(c.Programs(), func(p catalogue.Program) bool { return p.Port == port }) {
		port++
	}
	return port
}

// write renders the templates into dir and returns the files that it created.
func write(dir string, data any) ([]string, error) {
	all, err := template.ParseFS(templates, "template/*.tmpl")
	if err != nil {
		return nil, err
	}
	var created []string
	for _, file := range []string{"main.go", "main_test.go", catalogue.File} {
		var b bytes.Buffer
		if err := all.ExecuteTemplate(&b, file+".tmpl", data); err != nil {
			return nil, err
		}
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			return nil, err
		}
		created = append(created, path)
	}
	return created, nil
}

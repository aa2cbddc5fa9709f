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

// reserved are first segments of paths that every service answers itself, or that no
// service may show.
var reserved = []string{"health", "ready", "metrics", "docs", "admin"}

// firstPort is where the search for a port of the host begins.
const firstPort = 8081

// Service creates apps/NAME with main.go, main_test.go and service.yaml, by which
// everything else finds the service, and returns the paths of the three. If it fails,
// it leaves nothing behind.
func Service(root, name string) ([]string, error) {
	if err := catalogue.CheckName(name); err != nil {
		return nil, fmt.Errorf("NAME=%w", err)
	}
	apps := filepath.Join(root, "apps")
	c, err := repo.Catalogue(root)
	if err != nil {
		return nil, err
	}
	if slices.Contains(reserved, name) {
		return nil, fmt.Errorf("NAME=%s: every service has its own path /%s", name, name)
	}
	for _, p := range c.Programs() {
		if slices.ContainsFunc(p.Public, func(path catalogue.Path) bool { return firstSegment(path.Value) == name }) {
			return nil, fmt.Errorf("NAME=%s: the path /%s belongs to %s", name, name, p.Name)
		}
	}
	dir := filepath.Join(apps, name)
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

// freePort is the first port of the host that no program has.
func freePort(c *catalogue.Catalogue) int {
	port := firstPort
	for slices.ContainsFunc(c.Programs(), func(p catalogue.Program) bool { return p.Port == port }) {
		port++
	}
	return port
}

// write executes the templates.
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

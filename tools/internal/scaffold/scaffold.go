// Package scaffold makes new services.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"text/template"
)

//go:embed template
var templates embed.FS

// name is what a service may be called: it is a label of DNS, a folder and a
// Kubernetes object, and stays short since Rollouts appends to it.
var name = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

const longestName = 40

// taken are first parts of paths that another service, or every service, has, and
// the program that makes databases.
var taken = []string{"health", "ready", "metrics", "admin", "echo", "static", "checkout", "orders", "api", "docs", "internal", "database"}

// Service makes the service's folder under apps and declares it to the stack.
// It returns the files that it made or changed, and changes nothing if it
// fails.
func Service(root, service string) ([]string, error) {
	if !name.MatchString(service) || len(service) > longestName {
		return nil, fmt.Errorf("NAME=%q is no name of a service: lower-case letters, digits and single hyphens, a letter first, %d characters at most", service, longestName)
	}
	if slices.Contains(taken, service) {
		return nil, fmt.Errorf("NAME=%s: the path /%s has another use", service, service)
	}
	dir := filepath.Join(root, "apps", service)
	if _, err := os.Stat(dir); err == nil {
		return nil, fmt.Errorf("NAME=%s: apps/%s exists already", service, service)
	}
	declared := filepath.Join(root, "stacks", "environment", "services.go")
	source, err := os.ReadFile(declared)
	if err != nil {
		return nil, err
	}
	changed, err := declare(source, service)
	if err != nil {
		return nil, fmt.Errorf("declaring %s in %s: %w", service, declared, err)
	}
	files := map[string][]byte{}
	for _, file := range []string{"main.go", "main_test.go"} {
		t, err := template.ParseFS(templates, "template/"+file+".tmpl")
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, struct{ Name string }{service}); err != nil {
			return nil, err
		}
		files[filepath.Join(dir, file)] = b.Bytes()
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	made := []string{declared}
	for path, b := range files {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		made = append(made, path)
	}
	if err := os.WriteFile(declared, changed, 0o644); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return made, nil
}

// declare appends the service to the stack's list of services.
func declare(source []byte, service string) ([]byte, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "services.go", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var list *ast.CompositeLit
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "services" && len(v.Values) == 1 {
			list, _ = v.Values[0].(*ast.CompositeLit)
		}
		return list == nil
	})
	if list == nil {
		return nil, errors.New("it has no list called services")
	}
	entry := fmt.Sprintf(`	{
		name: %q,
		public: []gateway.Path{
			{Match: gateway.Prefix, Value: %q},
		},
		size: config.DefaultService(),
	},
`, service, "/"+service)
	end := fset.Position(list.Rbrace).Offset
	return format.Source(append(append(append([]byte{}, source[:end]...), entry...), source[end:]...))
}

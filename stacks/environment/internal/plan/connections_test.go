package plan

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
	"github.com/loja-veloz/platform/stacks/internal/repo"
)

// TestDefaultPoolIsThatOfTheServices reads the number from the source, because no other module
// can import apps/internal.
func TestDefaultPoolIsThatOfTheServices(t *testing.T) {
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "apps", "internal", "postgres", "postgres.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	const name = "defaultMaxConnections"
	for _, decl := range file.Decls {
		constants, ok := decl.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			value := spec.(*ast.ValueSpec)
			if value.Names[0].Name != name {
				continue
			}
			literal, ok := value.Values[0].(*ast.BasicLit)
			if !ok || literal.Value != strconv.Itoa(defaultPool) {
				t.Errorf("%s in %s is not %d, which this package assumes", name, path, defaultPool)
			}
			return
		}
	}
	t.Errorf("%s has no constant %s", path, name)
}

// small returns a catalogue of one service with a database, and its configuration.
func small(t *testing.T, env map[string]string) (*config.Config, *catalogue.Catalogue) {
	t.Helper()
	programs, err := catalogue.Load(fstest.MapFS{
		"orders/service.yaml":   {Data: []byte("port: 8081\ndatabase: true\n")},
		"database/service.yaml": {Data: []byte("kind: setup\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	size := config.DefaultService()
	size.MaxReplicas, size.Env = 2, env
	return config.Defaults(map[string]config.Service{"orders": size}), programs
}

func TestConnectionsAreRefusedWithTheirSum(t *testing.T) {
	cfg, programs := small(t, nil)
	// Two pods and a canary's, with 8 each; a migration; the setup; 3 reserved.
	if err := checkConnections(cfg, programs, Server{MaxConnections: 29}); err != nil {
		t.Errorf("29 connections are refused: %v", err)
	}
	err := checkConnections(cfg, programs, Server{MaxConnections: 28, Limit: "the server"})
	want := "database connections: up to 29 are needed (3 pods of orders with 8 each, 1 migrations, 1 setup, " +
		"3 that PostgreSQL reserves for superusers), but the server accepts 28"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("28 connections give\n%v\nwant\n%s", err, want)
	}
	if err := checkConnections(cfg, programs, Server{}); err != nil {
		t.Errorf("a server of unknown size is refused: %v", err)
	}
}

func TestAPoolIsAWholeNumber(t *testing.T) {
	for _, value := range []string{"0", "-1", "many", "1.5"} {
		cfg, programs := small(t, map[string]string{poolVariable: value, "TOKEN": "hunter2"})
		err := checkConnections(cfg, programs, Server{MaxConnections: 1000})
		want := `loja-veloz:services.orders.env.DATABASE_MAX_CONNECTIONS is "` + value + `": use a whole number from 1`
		if err == nil || err.Error() != want {
			t.Errorf("a pool of %s gives %v, want %s", value, err, want)
		}
	}
}

package scaffold

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

const declared = `
port: 8081
public: [{exact: /}, {prefix: /echo}, {prefix: /api/orders, strip: /api}]
`

func newRepo(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"apps/sample-web-app", "apps/internal"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "apps/sample-web-app/service.yaml"), []byte(declared), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestServiceIsWrittenAndDeclared(t *testing.T) {
	root := newRepo(t)
	created, err := Service(root, "gift-cards")
	if err != nil {
		t.Fatal(err)
	}
	if len(created) != 3 {
		t.Errorf("created %v, want main.go, main_test.go and service.yaml", created)
	}
	for _, file := range created {
		if filepath.Ext(file) != ".go" {
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), file, nil, 0); err != nil {
			t.Errorf("%s is not Go: %v", file, err)
		}
	}
	c, err := repo.Catalogue(root)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := c.Program("gift-cards")
	if !ok || p.Kind != catalogue.Service || p.Port != 8082 {
		t.Errorf("gift-cards is declared as %+v, want a service on the first free port, 8082", p)
	}
	if len(p.Public) != 1 || p.Public[0] != (catalogue.Path{Value: "/gift-cards", Prefix: true}) {
		t.Errorf("gift-cards publishes %+v, want the prefix /gift-cards", p.Public)
	}
}

func TestBadNamesAreRefusedAndChangeNothing(t *testing.T) {
	for _, bad := range []string{
		"", "Gift", "gift_cards", "-gift", "gift-", "a--b", "9lives", "internal", "metrics", "echo", "api", "sample-web-app", "../up",
		strings.Repeat("a", 41),
	} {
		root := newRepo(t)
		if _, err := Service(root, bad); err == nil || !strings.Contains(err.Error(), "NAME=") {
			t.Errorf("Service(%q) = %v, want a refusal that names NAME", bad, err)
		}
		entries, err := os.ReadDir(filepath.Join(root, "apps"))
		if err != nil || len(entries) != 2 {
			t.Errorf("Service(%q) leaves %v, %v", bad, entries, err)
		}
		if b, _ := os.ReadFile(filepath.Join(root, "apps/sample-web-app/service.yaml")); string(b) != declared {
			t.Errorf("Service(%q) changed another service", bad)
		}
	}
}

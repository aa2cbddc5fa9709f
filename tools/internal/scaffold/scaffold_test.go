package scaffold

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const declared = `package main

var services = []service{
	{name: "sample-web-app"},
}

var others = []service{}
`

func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"apps/sample-web-app", "stacks/environment"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "stacks/environment/services.go"), []byte(declared), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestServiceIsWrittenAndDeclared(t *testing.T) {
	root := checkout(t)
	made, err := Service(root, "gift-cards")
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 3 {
		t.Errorf("made %v, want main.go, main_test.go and services.go", made)
	}
	for _, file := range made {
		if _, err := parser.ParseFile(token.NewFileSet(), file, nil, 0); err != nil {
			t.Errorf("%s is not Go: %v", file, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "stacks/environment/services.go"))
	if err != nil {
		t.Fatal(err)
	}
	old, added := strings.Index(string(b), `"sample-web-app"`), strings.Index(string(b), `"gift-cards"`)
	if old < 0 || added < old || added > strings.Index(string(b), "others") {
		t.Errorf("gift-cards is not the last of services:\n%s", b)
	}
}

func TestBadNamesAreRefusedAndChangeNothing(t *testing.T) {
	for _, bad := range []string{"", "Gift", "gift_cards", "-gift", "gift-", "a--b", "9lives", "internal", "metrics", "sample-web-app", "../up", strings.Repeat("a", longestName+1)} {
		root := checkout(t)
		if _, err := Service(root, bad); err == nil || !strings.Contains(err.Error(), "NAME=") {
			t.Errorf("Service(%q) = %v, want a refusal that names NAME", bad, err)
		}
		if b, _ := os.ReadFile(filepath.Join(root, "stacks/environment/services.go")); string(b) != declared {
			t.Errorf("Service(%q) changed services.go", bad)
		}
	}
}

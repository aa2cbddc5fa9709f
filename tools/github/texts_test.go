package github_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestOwnersOwnFiles: a pattern that matches nothing protects nothing.
func TestOwnersOwnFiles(t *testing.T) {
	for line := range strings.Lines(read(t, ".github/CODEOWNERS")) {
		pattern, owners, ok := strings.Cut(strings.TrimSpace(line), " ")
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		if !ok || !regexp.MustCompile(`^(@[\w-]+/[\w-]+ ?)+$`).MatchString(owners) {
			t.Errorf("CODEOWNERS: %q: name teams, as @organisation/team", line)
		}
		if paths, err := filepath.Glob(filepath.Join(root, pattern)); err != nil || len(paths) == 0 {
			t.Errorf("CODEOWNERS: %s matches no file (%v)", pattern, err)
		}
	}
}

// TestIssueForms checks what GitHub demands of a form; it does not show one that breaks a rule.
func TestIssueForms(t *testing.T) {
	forms, err := filepath.Glob(filepath.Join(root, ".github", "ISSUE_TEMPLATE", "*.yml"))
	if err != nil || len(forms) < 2 {
		t.Fatalf("forms: %v, %v", forms, err)
	}
	for _, path := range forms {
		name := filepath.Base(path)
		if name == "config.yml" {
			continue
		}
		var form struct {
			Name, Description string
			Body              []struct {
				Type, ID   string
				Attributes struct {
					Label   string
					Options []string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(read(t, ".github/ISSUE_TEMPLATE/"+name)), &form); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s: name, description or body is missing", name)
		}
		ids := map[string]bool{}
		for _, field := range form.Body {
			if field.ID == "" || ids[field.ID] || field.Attributes.Label == "" {
				t.Errorf("%s: %+v: the id must be unique, and the label set", name, field)
			}
			ids[field.ID] = true
			switch field.Type {
			case "input", "textarea":
			case "dropdown":
				if len(field.Attributes.Options) < 2 {
					t.Errorf("%s: %s has no options", name, field.ID)
				}
			default:
				t.Errorf("%s: %s has the type %q", name, field.ID, field.Type)
			}
		}
	}
}

// TestDevContainerHasOurGo: make never fetches another Go.
func TestDevContainerHasOurGo(t *testing.T) {
	var container struct {
		Features map[string]struct{ Version string }
	}
	if err := json.Unmarshal([]byte(read(t, ".devcontainer/devcontainer.json")), &container); err != nil {
		t.Fatal(err)
	}
	work := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "go.work"))
	if got := container.Features["ghcr.io/devcontainers/features/go:1"].Version; work == nil || got != work[1] {
		t.Errorf("the dev container has Go %q, and go.work asks for %v", got, work)
	}
}

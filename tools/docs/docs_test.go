// Package docs_test checks the documentation against the code.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files returns the files below the folders whose names end in suffix, relative to the
// repository.
func files(t *testing.T, suffix string, folders ...string) []string {
	t.Helper()
	var found []string
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".local") {
				return filepath.SkipDir
			}
			if strings.HasSuffix(path, suffix) {
				relative, err := filepath.Rel(root, path)
				found = append(found, relative)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// markdown returns all documents: those below the folders, and those at the root.
func markdown(t *testing.T) []string {
	t.Helper()
	found := files(t, ".md", ".github", "docs", "apps", "infra", "stacks", "tools")
	top, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil || len(top) == 0 {
		t.Fatalf("the documents at the root: %v, %v", top, err)
	}
	for _, path := range top {
		found = append(found, filepath.Base(path))
	}
	return found
}

// all returns the first groups of a pattern's matches as a set.
func all(pattern, text string) map[string]bool {
	found := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[match[1]] = true
	}
	return found
}

// compare fails for each name that only one side has.
func compare(t *testing.T, left, right string, a, b map[string]bool) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !b[name] {
			t.Errorf("%s has %s, which %s lacks", left, name, right)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if !a[name] {
			t.Errorf("%s has %s, which %s lacks", right, name, left)
		}
	}
}

func TestCommandsAreTheMakefilesTargets(t *testing.T) {
	targets := all(`(?m)^([a-z0-9-]+):.*## `, read(t, "Makefile"))
	delete(targets, "help")
	rows := ""
	for line := range strings.Lines(read(t, "docs/commands.md")) {
		if strings.HasPrefix(line, "| `make ") {
			rows += strings.SplitN(line, "|", 3)[1] + "\n"
		}
	}
	compare(t, "the Makefile", "docs/commands.md", targets, all("`make ([a-z0-9-]+)`", rows))
}

func TestEveryMakeCommandInTextsExists(t *testing.T) {
	targets := all(`(?m)^([a-z0-9-]+):`, read(t, "Makefile"))
	others := append(files(t, ".yml", ".github"), ".pre-commit-config.yaml", ".devcontainer/devcontainer.json", ".ci/run")
	for _, file := range append(markdown(t), others...) {
		for target := range all("(?m)(?:`|^|run: |entry: |\"|env |&& )make ([a-z][a-z0-9-]*)", read(t, file)) {
			if !targets[target] {
				t.Errorf("%s says make %s, which is not a target of the Makefile", file, target)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the fragments of a page's headings, as GitHub computes them.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		found[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return found
}

func TestEveryLinkHasATarget(t *testing.T) {
	for _, file := range markdown(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, file), -1) {
			address, err := url.Parse(match[1])
			if err != nil {
				t.Errorf("%s links to %s: %v", file, match[1], err)
				continue
			}
			if address.Scheme != "" {
				continue
			}
			target := file
			if address.Path != "" {
				target = filepath.Join(filepath.Dir(file), address.Path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", file, match[1], err)
				continue
			}
			if address.Fragment != "" && !anchors(read(t, target))[address.Fragment] {
				t.Errorf("%s links to %s: %s has no such heading", file, match[1], target)
			}
		}
	}
}

// sources returns the parsed Go files of the folders, without tests and generated code.
func sources(t *testing.T, folders ...string) []*ast.File {
	t.Helper()
	var parsed []*ast.File
	for _, path := range files(t, ".go", folders...) {
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".gen.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	if len(parsed) == 0 {
		t.Fatalf("no Go files in %v", folders)
	}
	return parsed
}

// literal returns the value of a string literal or of a concatenation of string literals, and
// "" for any other expression.
func literal(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			value, _ := strconv.Unquote(e.Value)
			return value
		}
	case *ast.BinaryExpr:
		if left, right := literal(e.X), literal(e.Y); left != "" && right != "" {
			return left + right
		}
	}
	return ""
}

var variable = regexp.MustCompile(`^[A-Z][A-Z0-9_]{2,}$`)

// variables returns the environment variables that the Go files of the folders read: the
// first arguments of calls of the readers.
func variables(t *testing.T, readers []string, folders ...string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range sources(t, folders...) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if name := literal(call.Args[0]); ok && slices.Contains(readers, method.Sel.Name) && variable.MatchString(name) {
				found[name] = true
			}
			return true
		})
	}
	return found
}

func TestCommandsSettingsAreDocumented(t *testing.T) {
	known := variables(t, []string{"Getenv", "choice", "flag", "count", "read"},
		"tools/internal/settings", "tools/internal/toolchain", "tools/internal/dev")
	delete(known, "PULUMI_BACKEND_URL") // Pulumi documents it
	_, table, _ := strings.Cut(read(t, "docs/commands.md"), "\n## Settings\n")
	rows := ""
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") {
			rows += strings.SplitN(line, "|", 3)[1]
		}
	}
	compare(t, "the code", "docs/commands.md", known, all("`([A-Z][A-Z0-9_]+)`", rows))
}

// TestCommandsForPodsNameAnObject: the services are Rollouts, of which kubectl exec, port-forward and
// logs know nothing, so that deploy/NAME is not found. service/NAME-stable finds a pod.
func TestCommandsForPodsNameAnObject(t *testing.T) {
	services := map[string]bool{}
	for _, path := range files(t, "service.yaml", "apps") {
		services[filepath.Base(filepath.Dir(path))] = !strings.Contains(read(t, path), "\nkind: platform")
	}
	target := regexp.MustCompile(`kubectl [^\n\x60]*(?:exec|port-forward|logs) [^\n\x60]*?(deploy|deployment|service|svc|pod|rollout)/([a-z-]+)`)
	seen := 0
	for _, path := range append(markdown(t), files(t, ".go", "infra", "apps", "tools")...) {
		for _, found := range target.FindAllStringSubmatch(read(t, path), -1) {
			name, stable := strings.CutSuffix(found[2], "-stable")
			if services[name] {
				seen++
			}
			if services[name] && (found[1] != "service" || !stable) {
				t.Errorf("%s: %q: name service/%s-stable", path, found[0], name)
			}
		}
	}
	if seen == 0 {
		t.Error("no command was found: the expression does not match any more")
	}
}

func TestPinsAreDocumented(t *testing.T) {
	table := read(t, "docs/toolchain.md")
	for _, tool := range slices.Concat([]toolchain.Tool{
		toolchain.Kubernetes, toolchain.Ko, toolchain.Flagger, toolchain.Cosign, toolchain.PolicyController, toolchain.Trivy, toolchain.Govulncheck,
		toolchain.ArgoCD,
	}, toolchain.Pulumi,
		toolchain.Images, toolchain.Lint, toolchain.Generators, toolchain.Telemetry) {
		if !strings.Contains(table, " | "+tool.Version+" | `"+tool.Pin+"` | ") {
			t.Errorf("docs/toolchain.md has no row with the version %s of %s and its pin %s", tool.Version, tool.Name, tool.Pin)
		}
	}
	if !strings.Contains(read(t, "docs/local-cluster.md"), "Kubernetes "+toolchain.KubernetesVersion) {
		t.Errorf("docs/local-cluster.md does not name Kubernetes %s", toolchain.KubernetesVersion)
	}
}

func TestServicesSettingsAreDocumented(t *testing.T) {
	page := read(t, "apps/README.md") + read(t, "apps/api-gateway/README.md")
	documented := all("`([A-Z][A-Z0-9_]{2,})`", page)
	readers := []string{"Text", "Label", "Int", "Duration", "Choice", "HTTPURL", "IP", "Float", "Bool", "List", "Secret"}
	for _, name := range slices.Sorted(maps.Keys(variables(t, readers, "apps"))) {
		if !documented[name] {
			t.Errorf("a service reads %s, which neither apps/README.md nor apps/api-gateway/README.md documents", name)
		}
	}
}

func TestProblemCodesAreDocumented(t *testing.T) {
	codes := map[string]bool{}
	for _, file := range sources(t, "apps/internal/problem") {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
					codes[literal(spec.Values[0])] = true
				}
			}
			return true
		})
	}
	compare(t, "apps/internal/problem", "docs/problems.md", codes, all("(?m)^\\| `([a-z_]+)` \\| [0-9]", read(t, "docs/problems.md")))
}

// TestMetricsAreDocumented checks the metrics that a service declares by their whole names.
// It skips names that are composed of a prefix, such as gateway_*: one row documents them all.
func TestMetricsAreDocumented(t *testing.T) {
	page := read(t, "docs/services.md") + read(t, "apps/api-gateway/README.md")
	metric := regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)
	for _, file := range sources(t, "apps") {
		ast.Inspect(file, func(n ast.Node) bool {
			name := ""
			switch e := n.(type) {
			case *ast.CompositeLit:
				if kind, ok := e.Type.(*ast.SelectorExpr); ok && strings.HasSuffix(kind.Sel.Name, "Opts") {
					name = field(e, "Name")
				}
			case *ast.CallExpr:
				if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "NewDesc" {
					name = literal(e.Args[0])
				}
			}
			if metric.MatchString(name) && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("%s is declared in apps and documented in neither docs/services.md nor apps/api-gateway/README.md", name)
			}
			return true
		})
	}
}

// field returns the string in a field of a composite literal.
func field(literals *ast.CompositeLit, name string) string {
	for _, element := range literals.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && key.Name == name {
				return literal(pair.Value)
			}
		}
	}
	return ""
}

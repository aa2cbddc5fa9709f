package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// repository returns a git repository with the files in one commit.
func repository(t *testing.T, files map[string]string) checker {
	t.Helper()
	for _, name := range []string{"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"} {
		if value, set := os.LookupEnv(name); set { // in a hook of git
			t.Setenv(name, value) // restores it
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := checker{Options: Options{Root: t.TempDir(), Out: console.New(t.Output())}, path: os.Getenv("PATH")}
	c.repository = os.DirFS(c.Root)
	for name, text := range files {
		write(t, c, name, text)
	}
	git(t, c, "init", "-q", "-b", "main")
	git(t, c, "add", "-A")
	git(t, c, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "first")
	return c
}

func write(t *testing.T, c checker, name, text string) {
	t.Helper()
	path := filepath.Join(c.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, c checker, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = c.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func TestFilesAreThoseOfTheWorkingTree(t *testing.T) {
	c := repository(t, map[string]string{"same": "a", "changed": "a", "removed": "a", ".gitignore": "ignored\n"})
	write(t, c, "changed", "b")
	write(t, c, "a new one", "b")
	write(t, c, "ignored", "b")
	if err := os.Remove(filepath.Join(c.Root, "removed")); err != nil {
		t.Fatal(err)
	}
	base, err := c.base(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.files(t.Context(), base)
	if want := []string{"a new one", "changed", "removed"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("files are %v, %v, want %v", got, err, want)
	}
	c.Against = "nowhere"
	if _, err := c.base(t.Context()); err == nil || !strings.Contains(err.Error(), `AGAINST is "nowhere"`) {
		t.Errorf("an unknown commit: %v", err)
	}
}

// TestGeneratedFiles: a file that its generator changes is an error, once.
func TestGeneratedFiles(t *testing.T) {
	c := repository(t, map[string]string{
		"m/go.mod": "module m\n\ngo 1.26\n",
		"m/m.go":   "package m\n\n//go:generate cp source copy\n",
		"m/source": "old\n", "m/copy": "old\n",
	})
	write(t, c, "m/source", "new\n")
	c.changed = []module{{Dir: "m", Packages: []string{"."}, Generate: []string{"."}}}
	if err := c.generated(t.Context()); err == nil || err.Error() != "m/copy was out of date, and has been rewritten" {
		t.Errorf("the first run: %v", err)
	}
	if err := c.generated(t.Context()); err != nil {
		t.Errorf("the second run: %v", err)
	}
}

// TestFailuresAreWhole: the error has what the program printed.
func TestFailuresAreWhole(t *testing.T) {
	c := repository(t, map[string]string{"a": ""})
	err := c.run(t.Context(), ".", nil, "sh", "-c", "for i in 1 2 3; do echo line $i; done; exit 1")
	if err == nil || !strings.Contains(err.Error(), "line 1\nline 2\nline 3") {
		t.Errorf("the failure is %v", err)
	}
	if err := c.run(t.Context(), ".", nil, "true"); err != nil {
		t.Error(err)
	}
}

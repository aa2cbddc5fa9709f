package gitserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/gitserver"
)

// TestReadersNeedNoTokenAndWritersDo pushes and clones with git itself.
func TestReadersNeedNoTokenAndWritersDo(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "git")
	for range 2 { // the second time, everything is there
		if err := gitserver.Init(t.Context(), folder, "a.git", "main"); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(folder, "token")); err != nil || info.Mode() != 0o600 {
		t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	handler, err := gitserver.Handler(folder)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	token, err := gitserver.Token(folder)
	if err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(t.TempDir(), "work")
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	as := func(password string) string {
		u, _ := url.Parse(server.URL + "/a.git")
		if password != "" {
			u.User = url.UserPassword(gitserver.User, password)
		}
		return u.String()
	}
	if out, err := git("clone", "--quiet", as(""), work); err != nil {
		t.Fatalf("a clone without a token: %v\n%s", err, out)
	}
	if out, err := git("-C", work, "commit", "--quiet", "--allow-empty", "-m", "one"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, password := range []string{"", "wrong", token + "x"} {
		if out, err := git("-C", work, "push", "--quiet", as(password), "HEAD:main"); err == nil {
			t.Errorf("a push with the password %q succeeds: %s", password, out)
		}
	}
	if out, err := git("-C", work, "push", "--quiet", as(token), "HEAD:main"); err != nil {
		t.Fatalf("a push with the token: %v\n%s", err, out)
	}
	if out, err := git("ls-remote", as(""), "main"); err != nil || !strings.Contains(out, "refs/heads/main") {
		t.Errorf("the branch after the push: %v, %q", err, out)
	}
	answer, err := http.Get(server.URL + "/token")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("GET /token answers %s: the token can be read", answer.Status)
	}
}

package platform

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/settings"
)

// TestForksReviewIsInTheSummary: without a token nobody is asked, and what other steps have written there stays.
func TestForksReviewIsInTheSummary(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("GitHub is asked for %s", r.URL) }))
	defer server.Close()
	file, summary := filepath.Join(t.TempDir(), "comment.md"), filepath.Join(t.TempDir(), "summary")
	write(t, file, "the review")
	write(t, summary, "before\n")
	if err := Post(t.Context(), workspaceOf(t, io.Discard), settings.Comment{File: file, Summary: summary, API: server.URL, PullRequest: 12}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(summary); err != nil || string(b) != "before\nthe review\n" {
		t.Errorf("the summary is %q (%v)", b, err)
	}
}

// TestReviewGoesWhereItIsSaid: to the pull request, or into an issue.
func TestReviewGoesWhereItIsSaid(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodGet && r.URL.Path != "/user" {
			fmt.Fprint(w, "[]")
			return
		}
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "comment.md")
	write(t, file, "<!-- loja-preview stack=dev -->\n")
	for path, c := range map[string]settings.Comment{
		"/repos/a/b/issues/12/comments": {PullRequest: 12}, "/repos/a/b/issues": {Issue: "dev is not what git says"},
	} {
		asked = nil
		c.File, c.Token, c.Repository, c.API = file, "token", "a/b", server.URL
		if err := Post(t.Context(), workspaceOf(t, io.Discard), c); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(asked, ", "), "GET /user, GET "+path+", POST "+path; got != want {
			t.Errorf("GitHub is asked for %s, want %s", got, want)
		}
	}
}

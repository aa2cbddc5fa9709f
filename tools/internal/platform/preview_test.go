package platform

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// TestCommentIsWrittenWhateverHappens runs previews that succeed, fail half-way, print no plan,
// and do not start.
func TestCommentIsWrittenWhateverHappens(t *testing.T) {
	const plan = `{"steps":[{"op":"delete","urn":"urn:pulumi:dev::loja-veloz::aws:rds/instance:Instance::db",` +
		`"oldState":{"custom":true,"type":"aws:rds/instance:Instance","inputs":{"engine":"postgres"}}}]}`
	for _, c := range []struct {
		name, script string
		start, err   string
		says         []string
	}{
		{name: "success", script: "echo '" + plan + "'", says: []string{"data at risk", "loses the database", "against an empty state"}},
		{name: "half-way", script: "echo '" + plan + "'; echo 'error: ExpiredToken' >&2; exit 1", err: "ExpiredToken",
			says: []string{"it failed", "get new ones", "This plan is incomplete", "loses the database"}},
		{name: "no plan", script: "true", err: "printed no plan", says: []string{"it failed", "There is no plan."}},
		{name: "not started", start: "node is missing: install it", err: "node is missing", says: []string{"it failed", "node is missing: install it"}},
	} {
		file := filepath.Join(t.TempDir(), "comment.md")
		err := comment(t.Context(), Workspace{Out: console.New(io.Discard)}, settings.Preview{Stack: "dev", Comment: file},
			func(context.Context, Workspace, settings.Preview) (command.Command, error) {
				if c.start != "" {
					return command.Command{}, errors.New(c.start)
				}
				return command.Command{Args: []string{"sh", "-c", c.script}}, nil
			})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: the error is %v, want %q", c.name, err, c.err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: the comment does not say %q:\n%s", c.name, want, text)
			}
		}
		full, err := os.ReadFile(filepath.Join(filepath.Dir(file), "comment.full.md"))
		if err != nil || !strings.Contains(string(text), "comment.full.md") && c.name == "success" {
			t.Errorf("%s: the full text is not named, or not there: %v", c.name, err)
		}
		if c.name == "success" && !strings.Contains(string(full), "- engine: postgres") {
			t.Errorf("the full text does not have what is deleted:\n%s", full)
		}
	}
}

func TestUnlockedStackFileHasNoSecrets(t *testing.T) {
	got := string(unlocked([]byte(`secretsprovider: awskms://alias/x
encryptedkey: abc
config:
  a:b: plain
  a:token:
    secure: v1:xyz
  a:nested:
    inner: {secure: v1:xyz}
    other: 1
`)))
	want := `config:
  a:b: plain
  a:token: stands-in-for-a-secret
  a:nested:
    inner: stands-in-for-a-secret
    other: 1
`
	if got != want {
		t.Errorf("the copy is\n%s\nwant\n%s", got, want)
	}
}

// A plan without an account may not ask for its credentials.
func TestAPreviewIsOffline(t *testing.T) {
	s := &Stack{dir: t.TempDir(), name: "dev"}
	file := filepath.Join(s.dir, "Pulumi.dev.yaml")
	write := func(text string) error {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return s.offline()
	}
	if err := write("config:\n  loja-veloz:cloud:\n    accountID: \"012345678901\"\n  loja-veloz:cluster: {version: \"1.30\"}\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"offline: true", `accountID: "012345678901"`, `version: "1.30"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("the copy has no %s:\n%s", want, got)
		}
	}
	if err := write("config: {}\n"); err == nil || !strings.Contains(err.Error(), "Pulumi.dev.yaml has no loja-veloz:cloud") {
		t.Errorf("a stack file without an account: %v", err)
	}
}

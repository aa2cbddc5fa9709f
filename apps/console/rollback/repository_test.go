package rollback_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/console/rollback"
	"github.com/loja-veloz/platform/infra/rollout"
)

func digestOf(n int) string { return fmt.Sprintf("sha256:%064d", n) }

// releases is a bare repository, and a clone in which a release writes a service's manifests.
type releases struct {
	t          *testing.T
	bare, work string
}

func newReleases(t *testing.T) *releases {
	t.Helper()
	r := &releases{t, filepath.Join(t.TempDir(), "bare.git"), filepath.Join(t.TempDir(), "work")}
	r.git("", "init", "--quiet", "--bare", "--initial-branch=main", r.bare)
	r.git("", "clone", "--quiet", r.bare, r.work)
	r.git(r.work, "checkout", "--quiet", "-B", "main")
	return r
}

func (r *releases) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=release", "GIT_AUTHOR_EMAIL=r@example.com", "GIT_COMMITTER_NAME=release",
		"GIT_COMMITTER_EMAIL=r@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// release commits a version of a service, with a third file that belongs to it.
func (r *releases) release(service, digest, settings string) {
	r.t.Helper()
	folder := filepath.Join(r.work, "services", service)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for name, text := range map[string]string{
		"kustomization.yaml": "resources: [rollout.yaml, configmap.yaml]\nimages:\n- name: localhost:5000/" + service + "\n  digest: " + digest + "\n",
		"rollout.yaml": "kind: Service\n---\nkind: Rollout\nspec:\n  template:\n    spec:\n      containers:\n" +
			"      - envFrom:\n        - configMapRef: {name: " + settings + "}\n",
		"configmap.yaml": "metadata: {name: " + settings + "}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.git(r.work, "add", "-A")
	r.git(r.work, "commit", "--quiet", "-m", service+" "+digest)
	r.git(r.work, "push", "--quiet", "origin", "main")
}

func (r *releases) at(commit, file string) string {
	return r.git(r.bare, "show", commit+":services/"+file)
}

func (r *releases) repository() *rollback.Repository {
	token := filepath.Join(r.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return &rollback.Repository{URL: r.bare, Branch: "main", Path: "services", User: "loja", TokenFile: token}
}

func change(service string, aborted, stable rollout.Version) rollback.Change {
	return rollback.Change{
		Service: service, Aborted: aborted, Stable: stable, Trace: "4bf92f3577b34da6",
		Reason: "errors: 37 of 120 requests to the new version\nare bad (31.2 %), tolerated are 0.1 %",
		At:     time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC),
	}
}

// TestTheStableVersionIsRestoredWhole: image, settings and every other file of the directory, and
// nothing of another service.
func TestTheStableVersionIsRestoredWhole(t *testing.T) {
	r := newReleases(t)
	stable, bad := rollout.Version{Digest: digestOf(1), Settings: "estoque-a"}, rollout.Version{Digest: digestOf(2), Settings: "estoque-b"}
	r.release("estoque", stable.Digest, stable.Settings)
	r.release("pedidos", digestOf(7), "pedidos-a")
	origin := r.git(r.work, "rev-parse", "HEAD") // the newest commit with the stable version
	r.release("estoque", bad.Digest, bad.Settings)
	if err := os.WriteFile(filepath.Join(r.work, "services", "estoque", "new.yaml"), []byte("kind: New\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.release("estoque", bad.Digest, bad.Settings) // the same version with one file more
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	commit, err := r.repository().Restore(t.Context(), change("estoque", bad, stable))
	if err != nil || commit == "" {
		t.Fatalf("Restore: %q, %v", commit, err)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("the clone is still there: %v (%v)", left, err)
	}
	r.git(r.bare, "fsck", "--strict")
	if head := r.git(r.bare, "rev-parse", "main"); head != commit {
		t.Errorf("the branch is at %s, want %s", head, commit)
	}
	if diff := r.git(r.bare, "diff", "--stat", origin, commit, "--", "services/estoque"); diff != "" {
		t.Errorf("the directory differs from that of the stable release:\n%s", diff)
	}
	if text := r.at(commit, "pedidos/kustomization.yaml"); !strings.Contains(text, digestOf(7)) {
		t.Errorf("another service changed:\n%s", text)
	}
	message := r.git(r.bare, "log", "-1", "--format=%an%n%B", commit)
	for _, part := range []string{
		"rollback\nestoque: back to the stable version", "Reason: errors: 37 of 120 requests to the new version are bad (31.2 %), tolerated are 0.1 %",
		"Trace: 4bf92f3577b34da6", "Aborted: " + bad.Digest + ", settings estoque-b", "Restored: " + stable.Digest + ", settings estoque-a",
		"Restored-From: " + origin, "Aborted-At: 2026-11-29T12:00:00Z",
	} {
		if !strings.Contains(message, part) {
			t.Errorf("the message lacks %q:\n%s", part, message)
		}
	}
	if again, err := r.repository().Restore(t.Context(), change("estoque", bad, stable)); again != "" || err != nil {
		t.Errorf("the second time, Restore commits %q (%v), want nothing", again, err)
	}
}

// TestANewerReleaseIsLeftAlone: what is not the aborted version is not rolled back.
func TestANewerReleaseIsLeftAlone(t *testing.T) {
	r := newReleases(t)
	for n := range 3 {
		r.release("estoque", digestOf(n+1), "estoque-a")
	}
	c := change("estoque", rollout.Version{Digest: digestOf(2), Settings: "estoque-a"}, rollout.Version{Digest: digestOf(1), Settings: "estoque-a"})
	if commit, err := r.repository().Restore(t.Context(), c); commit != "" || err != nil {
		t.Errorf("Restore: %q, %v, want nothing", commit, err)
	}
}

// TestSettingsAloneAreRestored: the image is that of the stable version.
func TestSettingsAloneAreRestored(t *testing.T) {
	r := newReleases(t)
	r.release("estoque", digestOf(1), "estoque-a")
	r.release("estoque", digestOf(1), "estoque-b")
	c := change("estoque", rollout.Version{Digest: digestOf(1), Settings: "estoque-b"}, rollout.Version{Digest: digestOf(1), Settings: "estoque-a"})
	commit, err := r.repository().Restore(t.Context(), c)
	if err != nil || !strings.Contains(r.at(commit, "estoque/configmap.yaml"), "estoque-a") {
		t.Errorf("Restore: %q, %v", commit, err)
	}
}

// TestHistoryThatWasRewritten: with the settings of the stable version the digest is enough; without
// them a person has to act, and nothing is pushed.
func TestHistoryThatWasRewritten(t *testing.T) {
	r := newReleases(t)
	r.release("estoque", digestOf(2), "estoque-b")
	bad := rollout.Version{Digest: digestOf(2), Settings: "estoque-b"}
	_, err := r.repository().Restore(t.Context(), change("estoque", bad, rollout.Version{Digest: digestOf(1), Settings: "estoque-a"}))
	if err == nil || !strings.Contains(err.Error(), "its history may have been rewritten. Release the stable version again") {
		t.Errorf("the error is %v", err)
	}
	commit, err := r.repository().Restore(t.Context(), change("estoque", bad, rollout.Version{Digest: digestOf(1), Settings: "estoque-b"}))
	if err != nil || !strings.Contains(r.at(commit, "estoque/kustomization.yaml"), "digest: "+digestOf(1)) {
		t.Errorf("Restore: %q, %v", commit, err)
	}
}

// TestAPushThatLosesARaceIsTriedAgain: on what is there by then. The hook takes git's lock of the branch, as another
// push does, and lets go of it at the next one. A push that the server does not want is not repeated at once.
func TestAPushThatLosesARaceIsTriedAgain(t *testing.T) {
	r := newReleases(t)
	r.release("estoque", digestOf(1), "estoque-a")
	r.release("estoque", digestOf(2), "estoque-a")
	hook := func(script string) {
		if err := os.WriteFile(filepath.Join(r.bare, "hooks", "pre-receive"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hook("if [ -e refs/heads/main.lock ]; then rm refs/heads/main.lock; else touch refs/heads/main.lock; fi")
	c := change("estoque", rollout.Version{Digest: digestOf(2), Settings: "estoque-a"}, rollout.Version{Digest: digestOf(1), Settings: "estoque-a"})
	if commit, err := r.repository().Restore(t.Context(), c); commit == "" || err != nil {
		t.Errorf("after a lost race: %q, %v", commit, err)
	}
	hook("echo once >> ../pushes; exit 1")
	r.git(r.work, "pull", "--quiet", "origin", "main")
	c.Aborted, c.Stable = c.Stable, c.Aborted
	_, err := r.repository().Restore(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "pushing to the branch main: ") || !strings.Contains(err.Error(), "declined") {
		t.Errorf("a branch that refuses every push: %v", err)
	}
	if pushes, err := os.ReadFile(filepath.Join(r.bare, "..", "pushes")); err != nil || string(pushes) != "once\n" {
		t.Errorf("it was pushed %q (%v)", pushes, err)
	}
}

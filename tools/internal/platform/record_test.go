package platform

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

const stackText = `config:
  # What it runs.
  loja-veloz:images:
    pedidos: registry.example/pedidos@sha256:old
    estoque: registry.example/estoque@sha256:same
  loja-veloz:cloud:
    region: us-east-1
`

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// released is a clone with a stack file, whose origin is a bare repository, and the record of a release.
func released(t *testing.T, images map[string]string) (w Workspace, origin string) {
	t.Helper()
	for name, value := range map[string]string{
		"GITHUB_ACTIONS": "true", "GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_NOSYSTEM": "1",
		"GIT_AUTHOR_NAME": "", "GIT_COMMITTER_NAME": "", "GIT_AUTHOR_EMAIL": "", "GIT_COMMITTER_EMAIL": "",
	} {
		t.Setenv(name, value)
	}
	for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	record, err := json.Marshal(map[string]any{"commit": "abc123", "images": images})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, ".local"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, ".local", "release.json"), string(record))
	origin = filepath.Join(t.TempDir(), "shop", "platform.git")
	run(t, root, "git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
	run(t, root, "git", "init", "--quiet", "--initial-branch=main")
	const address = "https://git.example.com/shop/platform.git"
	run(t, root, "git", "remote", "add", "origin", address)
	run(t, root, "git", "config", "url."+origin+".insteadOf", address)
	write(t, filepath.Join(root, "Pulumi.dev.yaml"), stackText)
	run(t, root, "git", "add", "Pulumi.dev.yaml")
	commit(t, root, "first")
	run(t, root, "git", "push", "--quiet", "origin", "main")
	return Workspace{Root: root, Out: console.New(io.Discard)}, origin
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, root, message string) {
	t.Helper()
	run(t, root, "git", "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message", message)
}

var newImages = map[string]string{
	"pedidos": "registry.example/pedidos@sha256:new", "estoque": "registry.example/estoque@sha256:same", "console": "registry.example/console@sha256:new",
}

// TestDigestsReachGitOnTopOfOthers: somebody pushes between the fetch and the push, or during the push. Their commit stays, and
// the commit with the digests changes nothing else.
func TestDigestsReachGitOnTopOfOthers(t *testing.T) {
	for _, hook := range []string{"post-commit", "pre-push"} {
		t.Run(hook, func(t *testing.T) { raced(t, hook) })
	}
}

// race lets somebody push a commit to origin in the hook of a clone, once.
func race(t *testing.T, w Workspace, origin, when string) {
	t.Helper()
	other := t.TempDir()
	run(t, other, "git", "clone", "--quiet", origin, ".")
	write(t, filepath.Join(other, "theirs"), "theirs\n")
	run(t, other, "git", "add", "theirs")
	commit(t, other, "theirs")
	once := filepath.Join(t.TempDir(), "once")
	hook := "#!/bin/sh\n[ -e " + once + " ] || { touch " + once + "; unset GIT_DIR GIT_INDEX_FILE; git -C " + other + " push --quiet origin main; }\n"
	if err := os.WriteFile(filepath.Join(w.Root, ".git", "hooks", when), []byte(hook), 0o700); err != nil {
		t.Fatal(err)
	}
}

func raced(t *testing.T, when string) {
	t.Helper()
	w, origin := released(t, newImages)
	race(t, w, origin, when)
	if err := Record(t.Context(), w, settings.Record{Stack: "dev", Push: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := run(t, origin, "git", "log", "--format=%an: %s", "main"), "github-actions[bot]: dev: images of abc123\nx: theirs\nx: first\n"; got != want {
		t.Errorf("main of origin has\n%s, want\n%s", got, want)
	}
	want := strings.NewReplacer("sha256:old", "sha256:new", "estoque@sha256:same\n", "estoque@sha256:same\n    console: registry.example/console@sha256:new\n").
		Replace(stackText)
	if got := run(t, origin, "git", "show", "main:Pulumi.dev.yaml"); got != want {
		t.Errorf("the stack file of origin is\n%s\nwant\n%s", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(w.Root, "Pulumi.dev.yaml")); err != nil || string(b) != want {
		t.Errorf("the update would run from (%v)\n%s", err, b)
	}
	if head := run(t, w.Root, "git", "log", "--format=%s"); head != "first\n" {
		t.Errorf("the working tree is at\n%s", head)
	}
	// The same again pushes nothing.
	if err := Record(t.Context(), w, settings.Record{Stack: "dev", Push: true}); err != nil {
		t.Error(err)
	}
	if n := strings.Count(run(t, origin, "git", "log", "--format=%s", "main"), "\n"); n != 3 {
		t.Errorf("main of origin has %d commits, want 3", n)
	}
}

func TestRefusedPushSaysThatNothingWasDeployed(t *testing.T) {
	w, origin := released(t, newImages)
	if err := os.WriteFile(filepath.Join(origin, "hooks", "pre-receive"), []byte("#!/bin/sh\necho protected branch >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := Record(t.Context(), w, settings.Record{Stack: "dev", Push: true})
	if err == nil || !strings.Contains(err.Error(), "protected branch") || !strings.Contains(err.Error(), "Nothing was deployed") {
		t.Errorf("the error is %v", err)
	}
}

// TestAnOlderReleaseIsRefused, as when an old job is run again, from a checkout without history as a job has it. A
// newer one is recorded.
func TestAnOlderReleaseIsRefused(t *testing.T) {
	w, origin := released(t, newImages)
	commits := []string{strings.TrimSpace(run(t, w.Root, "git", "rev-parse", "HEAD"))}
	for _, name := range []string{"second", "third"} {
		write(t, filepath.Join(w.Root, name), name)
		run(t, w.Root, "git", "add", name)
		commit(t, w.Root, name)
		commits = append(commits, strings.TrimSpace(run(t, w.Root, "git", "rev-parse", "HEAD")))
	}
	run(t, w.Root, "git", "push", "--quiet", "origin", "main")
	record := func(commit, digest string) error {
		job := Workspace{Root: t.TempDir(), Out: w.Out}
		run(t, job.Root, "git", "clone", "--quiet", "--depth=1", "file://"+origin, ".")
		images := map[string]string{"pedidos": "registry.example/pedidos@sha256:" + digest, "estoque": "registry.example/estoque@sha256:same"}
		text, err := json.Marshal(map[string]any{"commit": commit, "images": images})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(job.Root, ".local"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, job.releaseFile(), string(text))
		return Record(t.Context(), job, settings.Record{Stack: "dev", Push: true})
	}
	if err := record(commits[1], "second"); err != nil {
		t.Fatal(err)
	}
	err := record(commits[0], "first")
	if err == nil || !strings.Contains(err.Error(), "main has the images of "+commits[1]) {
		t.Errorf("an older release: %v", err)
	}
	if err := record(commits[2], "third"); err != nil {
		t.Errorf("a newer release: %v", err)
	}
	want := "dev: images of " + commits[2] + "\ndev: images of " + commits[1] + "\nthird\nsecond\nfirst\n"
	if got := run(t, origin, "git", "log", "--format=%s", "main"); got != want {
		t.Errorf("main of origin has\n%s, want\n%s", got, want)
	}
}

// TestAClonesHistoryStays: a developer's clone keeps it, and does not become shallow.
func TestAClonesHistoryStays(t *testing.T) {
	w, _ := released(t, newImages)
	write(t, filepath.Join(w.Root, "second"), "second")
	run(t, w.Root, "git", "add", "second")
	commit(t, w.Root, "second")
	run(t, w.Root, "git", "push", "--quiet", "origin", "main")
	if err := Record(t.Context(), w, settings.Record{Stack: "dev", Push: true}); err != nil {
		t.Fatal(err)
	}
	if shallow := run(t, w.Root, "git", "rev-parse", "--is-shallow-repository"); shallow != "false\n" {
		t.Errorf("the clone is shallow: %s", shallow)
	}
}

func TestRecordNeedsAWholeRelease(t *testing.T) {
	w, _ := released(t, map[string]string{"pedidos": "registry.example/pedidos@sha256:new"})
	if err := Record(t.Context(), w, settings.Record{Stack: "dev"}); err == nil || !strings.Contains(err.Error(), "has an image of estoque, and the release has none") {
		t.Errorf("a release without an image: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(w.Root, "Pulumi.dev.yaml")); err != nil || string(b) != stackText {
		t.Errorf("the stack file was half-written (%v):\n%s", err, b)
	}
	if err := os.Remove(filepath.Join(w.Root, ".local", "release.json")); err != nil {
		t.Fatal(err)
	}
	if err := Record(t.Context(), w, settings.Record{Stack: "dev"}); err == nil || !strings.Contains(err.Error(), "make publish writes it") {
		t.Errorf("without a release: %v", err)
	}
}

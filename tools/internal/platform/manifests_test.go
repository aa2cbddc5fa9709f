package platform

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

const (
	deliveredText = `config:
  loja-veloz:delivery: {mode: gitops, git: {url: "https://git.example.com/Shop/platform.git"}}
  loja-veloz:images:
    console: registry.example/console@sha256:old
  loja-veloz:cloud:
    region: us-east-1
`
	devManifests = "stacks/environment/manifests/dev"
)

// delivered is released with a stack that Argo CD delivers, whose services have the digest old.
func delivered(t *testing.T, stack string) (w Workspace, origin string) {
	t.Helper()
	w, origin = released(t, newImages)
	write(t, filepath.Join(w.Root, "Pulumi.dev.yaml"), stack)
	for _, service := range []string{"pedidos", "estoque"} {
		folder := filepath.Join(w.Root, devManifests, service)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "kustomization.yaml"), kustomized(service, "old"))
		write(t, filepath.Join(folder, "rollout.yaml"), "settings: before\n")
	}
	write(t, filepath.Join(w.Root, devManifests, "estoque", "poddisruptionbudget.yaml"), "kind: old\n")
	run(t, w.Root, "git", "add", "--all", "--", "Pulumi.dev.yaml", "stacks")
	commit(t, w.Root, "gitops")
	run(t, w.Root, "git", "push", "--quiet", "origin", "main")
	return w, origin
}

func kustomized(service, digest string) string {
	return "images:\n- digest: sha256:" + digest + "\n  name: registry.example/" + service + "\n"
}

// rendersDigests stands in for the program of the stack, which takes a minute to compile; TestTheProgramOfTheStackRenders
// has it.
func rendersDigests(_ context.Context, _, _, folder, digests string) error {
	release, err := publish.Read(digests)
	if err != nil {
		return err
	}
	var errs []error
	for _, service := range []string{"pedidos", "estoque"} {
		_, digest, _ := strings.Cut(release.Images[service], "@sha256:")
		errs = append(errs, os.WriteFile(filepath.Join(folder, service, "kustomization.yaml"), []byte(kustomized(service, digest)), 0o600),
			os.WriteFile(filepath.Join(folder, service, "rollout.yaml"), []byte("settings: now\n"), 0o600))
	}
	// A commit may add a file, and remove one.
	errs = append(errs, os.WriteFile(filepath.Join(folder, "pedidos", "horizontalpodautoscaler.yaml"), []byte("kind: new\n"), 0o600))
	if err := os.Remove(filepath.Join(folder, "estoque", "poddisruptionbudget.yaml")); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

var pushed = settings.Record{Stack: "dev", Push: true}

// TestDigestsReachTheManifestsOnTopOfOthers: where Argo CD delivers, the services' digests go into what it reads, with
// everything else of their folders, and the stack file has those of the stack's own programs alone.
func TestDigestsReachTheManifestsOnTopOfOthers(t *testing.T) {
	for _, hook := range []string{"post-commit", "pre-push"} {
		t.Run(hook, func(t *testing.T) {
			w, origin := delivered(t, deliveredText)
			race(t, w, origin, hook)
			if err := record(t.Context(), w, pushed, rendersDigests); err != nil {
				t.Fatal(err)
			}
			if got, want := run(t, origin, "git", "log", "--format=%an: %s", "main"),
				"github-actions[bot]: dev: images of abc123\nx: theirs\nx: gitops\nx: first\n"; got != want {
				t.Errorf("main of origin has\n%s, want\n%s", got, want)
			}
			if got, want := run(t, origin, "git", "show", "--format=", "--name-only", "main"), "Pulumi.dev.yaml\n"+devManifests+"/estoque/kustomization.yaml\n"+
				devManifests+"/estoque/poddisruptionbudget.yaml\n"+devManifests+"/estoque/rollout.yaml\n"+
				devManifests+"/pedidos/horizontalpodautoscaler.yaml\n"+devManifests+"/pedidos/kustomization.yaml\n"+devManifests+"/pedidos/rollout.yaml\n"; got != want {
				t.Errorf("the commit changes\n%s, want\n%s", got, want)
			}
			want := map[string]string{
				"Pulumi.dev.yaml": strings.Replace(deliveredText, "sha256:old", "sha256:new", 1),
				devManifests + "/pedidos/kustomization.yaml": kustomized("pedidos", "new"),
				devManifests + "/estoque/kustomization.yaml": kustomized("estoque", "same"),
			}
			for file, text := range want {
				if got := run(t, origin, "git", "show", "main:"+file); got != text {
					t.Errorf("%s of origin is\n%s\nwant\n%s", file, got, text)
				}
			}
			if b, err := os.ReadFile(filepath.Join(w.Root, "Pulumi.dev.yaml")); err != nil || string(b) != want["Pulumi.dev.yaml"] {
				t.Errorf("the update would run from (%v)\n%s", err, b)
			}
			// The same again pushes nothing.
			if err := record(t.Context(), w, pushed, rendersDigests); err != nil {
				t.Error(err)
			}
			if n := strings.Count(run(t, origin, "git", "log", "--format=%s", "main"), "\n"); n != 4 {
				t.Errorf("main of origin has %d commits, want 4", n)
			}
		})
	}
}

// TestWithoutAPushTheManifestsAreWrittenHere, and nothing reaches origin.
func TestWithoutAPushTheManifestsAreWrittenHere(t *testing.T) {
	w, origin := delivered(t, deliveredText)
	if err := record(t.Context(), w, settings.Record{Stack: "dev"}, rendersDigests); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(w.Root, devManifests, "pedidos", "kustomization.yaml")); err != nil || string(b) != kustomized("pedidos", "new") {
		t.Errorf("pedidos has (%v)\n%s", err, b)
	}
	if got := run(t, origin, "git", "log", "--format=%s", "main"); got != "gitops\nfirst\n" {
		t.Errorf("main of origin has\n%s", got)
	}
}

func TestABranchThatRefusesTheManifests(t *testing.T) {
	w, origin := delivered(t, deliveredText)
	if err := os.WriteFile(filepath.Join(origin, "hooks", "pre-receive"), []byte("#!/bin/sh\necho protected branch >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := record(t.Context(), w, pushed, rendersDigests)
	if err == nil || !strings.Contains(err.Error(), "protected branch") || !strings.Contains(err.Error(), "Nothing was deployed") {
		t.Errorf("the error is %v", err)
	}
}

// TestWhatWasTakenBackIsNotRecordedAgain, as when the job that updates runs after a canary was aborted, or a person runs
// an old job again. A newer release goes on.
func TestWhatWasTakenBackIsNotRecordedAgain(t *testing.T) {
	w, origin := delivered(t, deliveredText)
	pushed := pushed
	write(t, filepath.Join(w.Root, "Pulumi.prod.yaml"), stackText)
	run(t, w.Root, "git", "add", "Pulumi.prod.yaml")
	commit(t, w.Root, "prod")
	run(t, w.Root, "git", "push", "--quiet", "origin", "main")
	first := strings.TrimSpace(run(t, w.Root, "git", "rev-parse", "HEAD"))
	release := func(commit string) error {
		text, err := os.ReadFile(w.releaseFile())
		if err != nil {
			t.Fatal(err)
		}
		write(t, w.releaseFile(), strings.Replace(string(text), "abc123", commit, 1))
		err = record(t.Context(), w, pushed, rendersDigests)
		write(t, w.releaseFile(), string(text))
		return err
	}
	if err := release(first); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	run(t, other, "git", "clone", "--quiet", origin, ".")
	write(t, filepath.Join(other, devManifests, "pedidos", "kustomization.yaml"), kustomized("pedidos", "old"))
	run(t, other, "git", "add", "--all")
	commit(t, other, "pedidos: back to the stable version, the canary was aborted")
	run(t, other, "git", "push", "--quiet", "origin", "main")
	by := strings.TrimSpace(run(t, other, "git", "rev-parse", "--short", "HEAD"))
	err := release(first)
	if err == nil || !strings.Contains(err.Error(), "main had pedidos of the release of "+first+", which was taken back ("+by+
		", pedidos: back to the stable version, the canary was aborted)") || strings.Contains(err.Error(), "estoque") {
		t.Errorf("the error is %v", err)
	}
	pushed.Stack = "prod" // which is approved too late
	if err := release(first); err == nil || !strings.Contains(err.Error(), "in dev: main had pedidos of the release of "+first) {
		t.Errorf("prod: %v", err)
	}
	pushed.Stack = "dev"
	if now := strings.TrimSpace(run(t, origin, "git", "rev-parse", "--short", "main")); now != by {
		t.Errorf("main has moved to %s", now)
	}
	if err := release("def456"); err != nil {
		t.Errorf("another release: %v", err)
	}
	if text := run(t, origin, "git", "show", "main:"+devManifests+"/pedidos/kustomization.yaml"); text != kustomized("pedidos", "new") {
		t.Errorf("pedidos has\n%s", text)
	}
}

// TestAnOlderReleaseOfManifestsIsRefused, also if the newer one has changed nothing but manifests.
func TestAnOlderReleaseOfManifestsIsRefused(t *testing.T) {
	w, origin := delivered(t, strings.Replace(deliveredText, "sha256:old", "sha256:new", 1))
	older := strings.TrimSpace(run(t, w.Root, "git", "rev-parse", "HEAD~1"))
	newer := strings.TrimSpace(run(t, w.Root, "git", "rev-parse", "HEAD"))
	text, err := os.ReadFile(w.releaseFile())
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.releaseFile(), strings.Replace(string(text), "abc123", newer, 1))
	if err := record(t.Context(), w, pushed, rendersDigests); err != nil {
		t.Fatal(err)
	}
	if files := run(t, origin, "git", "show", "--format=", "--name-only", "main"); strings.Contains(files, "Pulumi.dev.yaml") {
		t.Fatalf("the stack file changed too: %s", files)
	}
	write(t, w.releaseFile(), strings.NewReplacer("abc123", older, "sha256:new", "sha256:older").Replace(string(text)))
	if err := record(t.Context(), w, pushed, rendersDigests); err == nil || !strings.Contains(err.Error(), "main has the images of "+newer) {
		t.Errorf("an older release: %v", err)
	}
}

// TestManifestsThatAreElsewhere: each error names the setting, and nothing is pushed.
func TestManifestsThatAreElsewhere(t *testing.T) {
	for git, want := range map[string]string{
		`url: "https://git.example.com/shop/deployments.git"`:                   "loja-veloz:delivery.git.url is https://git.example.com/shop/deployments.git, and origin is the repository git.example.com/shop/platform",
		`url: "https://git.example.com/shop/platform", branch: deployed`:        "loja-veloz:delivery.git.branch is deployed: make record PUSH=1 commits to main alone",
		`url: "https://git.example.com/shop/platform", path: "deploy/dev/shop"`: "loja-veloz:delivery.git.path is deploy/dev/shop, which is no folder of this repository",
	} {
		w, origin := delivered(t, strings.Replace(deliveredText, `url: "https://git.example.com/Shop/platform.git"`, git, 1))
		before := run(t, origin, "git", "rev-parse", "main")
		err := record(t.Context(), w, pushed, rendersDigests)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", git, err)
		}
		if now := run(t, origin, "git", "rev-parse", "main"); now != before {
			t.Errorf("%s: main has moved", git)
		}
	}
}

// TestManifestsNeedAWholeRelease: a program without an image is refused before anything is written.
func TestManifestsNeedAWholeRelease(t *testing.T) {
	w, _ := delivered(t, deliveredText)
	write(t, w.releaseFile(), `{"commit": "abc123", "images": {"pedidos": "registry.example/pedidos@sha256:new"}}`)
	err := record(t.Context(), w, settings.Record{Stack: "dev"}, rendersDigests)
	if err == nil || !strings.Contains(err.Error(), "Pulumi.dev.yaml has an image of console, and the release has none") ||
		!strings.Contains(err.Error(), devManifests+" has estoque, and the release has no image of it") {
		t.Errorf("the error is %v", err)
	}
	if status := run(t, w.Root, "git", "status", "--porcelain", "--untracked-files=no"); status != "" {
		t.Errorf("it has written\n%s", status)
	}
}

func TestARepositoryHasMoreThanOneAddress(t *testing.T) {
	for _, address := range []string{
		"https://github.com/Loja/platform", "https://github.com/loja/platform.git", "git@github.com:loja/platform.git", "ssh://git@github.com/loja/platform/",
		"https://user:token@github.com/loja/platform",
	} {
		if name := repositoryName(address); name != "github.com/loja/platform" {
			t.Errorf("%s is %s", address, name)
		}
	}
	for _, address := range []string{"https://git.example.com/loja/platform", "https://x:token@git.example.com/platform.git"} {
		if name := repositoryName(address); name == "github.com/loja/platform" || strings.Contains(name, "token") {
			t.Errorf("%s is %s", address, name)
		}
	}
}

// TestTheProgramOfTheStackRenders: a second release changes nothing but digests. The stack has no file, so that no
// program for AWS is compiled; another test renders those of dev and prod (stacks/environment).
func TestTheProgramOfTheStackRenders(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles the program of the stacks")
	}
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := repo.Programs(root)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{folder: t.TempDir()}
	digests := filepath.Join(t.TempDir(), "release.json")
	for _, digit := range []string{"6", "7"} {
		images := map[string]string{}
		for _, program := range programs {
			images[program] = "registry.example/" + program + "@sha256:" + strings.Repeat(digit, 64)
		}
		record, err := json.Marshal(map[string]any{"commit": "abc123", "images": images})
		if err != nil {
			t.Fatal(err)
		}
		write(t, digests, string(record))
		if digit == "7" {
			run(t, m.folder, "git", "init", "--quiet")
			run(t, m.folder, "git", "add", "--all")
		}
		if err := renderManifests(t.Context(), root, "nowhere", m.folder, digests); err != nil {
			t.Fatal(err)
		}
		all, err := m.digests()
		if err != nil || len(all) == 0 {
			t.Fatalf("the manifests have %v (%v)", all, err)
		}
		for program, image := range all {
			if image != images[program] {
				t.Errorf("%s has %s, want %s", program, image, images[program])
			}
		}
	}
	want := ""
	all, _ := m.digests()
	for _, program := range slices.Sorted(maps.Keys(all)) {
		want += "1\t1\t" + program + "/kustomization.yaml\n"
	}
	if changed := run(t, m.folder, "git", "diff", "--numstat"); changed != want {
		t.Errorf("it changes\n%s, want\n%s", changed, want)
	}
	if err := renderManifests(t.Context(), root, "nowhere", m.folder, filepath.Join(t.TempDir(), "none")); err == nil ||
		!strings.Contains(err.Error(), "rendering the manifests of nowhere: ") {
		t.Errorf("a render that fails: %v", err)
	}
}

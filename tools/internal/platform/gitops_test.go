package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/gitserver"
)

// gitServer is a git server with an empty repository.
type gitServer struct {
	t           *testing.T
	server      *httptest.Server
	folder, url string
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	g := &gitServer{t: t, folder: t.TempDir()}
	if err := gitserver.Init(t.Context(), g.folder, "d.git", "main"); err != nil {
		t.Fatal(err)
	}
	handler, err := gitserver.Handler(g.folder)
	if err != nil {
		t.Fatal(err)
	}
	g.server = httptest.NewServer(handler)
	t.Cleanup(g.server.Close)
	g.url = g.server.URL + "/d.git"
	return g
}

// clone returns a machine that releases, and what it prints.
func (g *gitServer) clone() (*deployments, *bytes.Buffer) {
	g.t.Helper()
	token, err := gitserver.Token(g.folder)
	if err != nil {
		g.t.Fatal(err)
	}
	var out bytes.Buffer
	return newDeployments(filepath.Join(g.t.TempDir(), "deployments"), g.url, "main", token, console.New(&out)), &out
}

// wants writes a service's directory; meanwhile is done before the push.
func wants(service, digest string, meanwhile func()) func(context.Context, string) error {
	return func(_ context.Context, folder string) error {
		dir := filepath.Join(folder, service)
		err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("digest: "+digest+"\n"), 0o644))
		meanwhile()
		return err
	}
}

func said(services []string) string { return "release: " + strings.Join(services, ", ") }

func nothing() {}

func (g *gitServer) bare(args ...string) string {
	g.t.Helper()
	text, err := (&deployments{dir: filepath.Join(g.folder, "d.git")}).git(g.t.Context(), args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return text
}

func TestAReleaseIsOneCommit(t *testing.T) {
	g := newGitServer(t)
	d, _ := g.clone()
	commit, services, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err != nil || strings.Join(services, " ") != "estoque" || g.bare("rev-parse", "main") != commit {
		t.Fatalf("the first release: %q %v %v", commit, services, err)
	}
	if subject := g.bare("log", "-1", "--format=%an: %s", "main"); subject != "release: release: estoque" {
		t.Errorf("the commit is %q", subject)
	}
	again, services, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err != nil || len(services) != 0 || again != commit {
		t.Errorf("the same release again: %q %v %v, want the commit %s and no service", again, services, err, commit)
	}
}

// TestTwoReleasesAtOnce: the one whose push is rejected writes again on what the other has pushed, and
// neither is lost.
func TestTwoReleasesAtOnce(t *testing.T) {
	g := newGitServer(t)
	first, out := g.clone()
	second, _ := g.clone()
	raced := false
	_, services, err := first.push(t.Context(), said, wants("estoque", "one", func() {
		if raced {
			return
		}
		raced = true
		if _, _, err := second.push(t.Context(), said, wants("pedidos", "two", nothing)); err != nil {
			t.Fatal(err)
		}
	}))
	if err != nil || strings.Join(services, " ") != "estoque" {
		t.Fatalf("the second try: %v, %v", services, err)
	}
	if !strings.Contains(out.String(), "the branch main has moved: writing the release again") {
		t.Errorf("it says %q", out)
	}
	if files := g.bare("ls-tree", "-r", "--name-only", "main"); files != "services/estoque/kustomization.yaml\nservices/pedidos/kustomization.yaml" {
		t.Errorf("the branch has\n%s", files)
	}
	number := 0
	_, _, err = first.push(t.Context(), said, wants("estoque", "three", func() {
		number++
		if _, _, err := second.push(t.Context(), said, wants("pedidos", fmt.Sprint(number), nothing)); err != nil {
			t.Fatal(err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "rejected the release 3 times, because others push to it: run make deploy again") {
		t.Errorf("a branch that always moves: %v", err)
	}
}

// TestAForcePushedBranchIsSaid: the release goes on from what is there.
func TestAForcePushedBranchIsSaid(t *testing.T) {
	g := newGitServer(t)
	d, out := g.clone()
	first, _, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err != nil {
		t.Fatal(err)
	}
	lost, _, err := d.push(t.Context(), said, wants("pedidos", "two", nothing))
	if err != nil {
		t.Fatal(err)
	}
	g.bare("update-ref", "refs/heads/main", first)
	if _, _, err := d.push(t.Context(), said, wants("estoque", "three", nothing)); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("the branch main was force-pushed: it no longer has the commit %.12s (release: pedidos). The release goes on from what is there", lost)
	if !strings.Contains(out.String(), want) {
		t.Errorf("it says %q, want %q", out, want)
	}
	if files := g.bare("ls-tree", "-r", "--name-only", "main"); strings.Contains(files, "pedidos") || g.bare("rev-parse", "main~1") != first {
		t.Errorf("the release is not on what was there:\n%s", files)
	}
}

func TestAGitServerThatDoesNotAnswer(t *testing.T) {
	g := newGitServer(t)
	d, _ := g.clone()
	g.server.Close()
	_, _, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(err.Error(), "make up starts it again") {
		t.Errorf("the error is %v", err)
	}
	if token, _ := gitserver.Token(g.folder); strings.Contains(fmt.Sprint(err), token) {
		t.Error("the error has the token")
	}
}

func TestWhatArgoCDHasApplied(t *testing.T) {
	for _, c := range []struct {
		status, state string
		failed        bool
	}{
		{`{"sync":{"status":"Synced","revision":"new"}}`, "", false},
		{`{"sync":{"status":"Synced","revision":"old"}}`, "Synced at old, operation ", false},
		{`{"sync":{"status":"OutOfSync","revision":"new"},"operationState":{"phase":"Running","syncResult":{"revision":"new"}}}`,
			"OutOfSync at new, operation Running", false},
		{`{"sync":{"status":"OutOfSync","revision":"new"},"operationState":{"phase":"Failed","message":"admission refuses","syncResult":{"revision":"new"}}}`,
			"admission refuses", true},
		{`{"sync":{"status":"OutOfSync","revision":"new"},"operationState":{"phase":"Failed","message":"before","syncResult":{"revision":"old"}}}`,
			"OutOfSync at new, operation Failed", false},
		{`{"sync":{"status":"Unknown","revision":"new"},"conditions":[{"type":"ComparisonError","message":"policy denied request: quarantined"}]}`,
			"policy denied request: quarantined", true},
		{`{"sync":{"status":"Unknown"},"conditions":[{"type":"ComparisonError","message":"no such path"}]}`, "no such path", false},
	} {
		var a application
		if err := json.Unmarshal([]byte(`{"status":`+c.status+`}`), &a); err != nil {
			t.Fatal(err)
		}
		if state, failed := a.at(func(revision string) bool { return revision == "new" }); state != c.state || failed != c.failed {
			t.Errorf("%s is %q, %v; want %q, %v", c.status, state, failed, c.state, c.failed)
		}
	}
}

// TestWhatIsQuarantinedIsNotCommitted: every such service is named at once, for its image or its settings.
// A service that the release does not change is none of its business.
func TestWhatIsQuarantinedIsNotCommitted(t *testing.T) {
	const digest = "sha256:9f31c2a07be4"
	entries := `{"data":{"estoque.9f31c2a07be4":"{\"what\":\"` + digest + `\",\"reason\":\"errors: 3 of 4\"}",
		"pedidos.pedidos-b":"{\"what\":\"pedidos-b\",\"reason\":\"errors: 3 of 4\"}","old.old-b":"old"}}`
	c := &rollouts{kubectl: func(context.Context, ...string) (string, error) { return entries, nil }}
	writes := func(versions map[string][2]string) func(context.Context, string) error {
		return func(_ context.Context, folder string) error {
			var errs []error
			for service, v := range versions {
				dir := filepath.Join(folder, service)
				errs = append(errs, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "kustomization.yaml"),
					[]byte("images:\n- digest: "+v[0]+"\n  name: localhost:5000/"+service+"\n"), 0o644))
				if v[1] != "" {
					errs = append(errs, os.WriteFile(filepath.Join(dir, "rollout.yaml"), []byte("# a comment\nkind: Rollout\n"+
						"spec: {template: {spec: {containers: [{envFrom: [{configMapRef: {name: "+v[1]+"}}]}]}}}\n"), 0o644))
				}
			}
			return errors.Join(errs...)
		}
	}
	g := newGitServer(t)
	d, _ := g.clone()
	first, _, err := d.push(t.Context(), said, writes(map[string][2]string{
		"old": {"sha256:1", "old-b"}, "pedidos": {"sha256:1", "pedidos-a"}, "audit": {"sha256:1", ""},
	}))
	if err != nil {
		t.Fatal(err)
	}
	d.admit = c.admitted
	_, _, err = d.push(t.Context(), said, writes(map[string][2]string{
		"old": {"sha256:1", "old-b"}, "pedidos": {"sha256:1", "pedidos-b"}, "estoque": {digest, "estoque-a"}, "audit": {"sha256:2", ""},
	}))
	var refused *rollout.QuarantinedError
	if !errors.As(err, &refused) {
		t.Fatalf("the error is %v", err)
	}
	for _, part := range []string{"estoque: quarantined and not shipped again: image sha256:9f31c2a07be4", "make release SERVICE=estoque",
		"pedidos: quarantined and not shipped again: settings pedidos-b"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "old") || strings.Contains(err.Error(), "audit") {
		t.Errorf("another service is refused: %v", err)
	}
	if now := g.bare("rev-parse", "main"); now != first {
		t.Errorf("the branch has moved to %s", now)
	}
	// The next release begins with what git has.
	if _, services, err := d.push(t.Context(), said, writes(map[string][2]string{"audit": {"sha256:3", ""}})); err != nil ||
		strings.Join(services, " ") != "audit" {
		t.Errorf("the next release: %v, %v", services, err)
	}
}

func TestWhatIsRendered(t *testing.T) {
	for service, want := range map[string]string{"pedidos": "pedidos-", "audit": "", "none": ""} {
		image, settings, err := rendered(filepath.Join("../../../stacks/environment/manifests/dev", service))
		if err != nil || (settings == "") != (want == "") || !strings.HasPrefix(settings, want) ||
			strings.Contains(image, "/"+service+"@sha256:") == (service == "none") {
			t.Errorf("%s has the image %q and the settings %q (%v)", service, image, settings, err)
		}
	}
}

// TestALaterCommitHasTheRelease: one that this machine has not seen, and not one before it or beside it.
func TestALaterCommitHasTheRelease(t *testing.T) {
	g := newGitServer(t)
	d, _ := g.clone()
	other, _ := g.clone()
	before, _, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err != nil {
		t.Fatal(err)
	}
	commit, _, err := d.push(t.Context(), said, wants("estoque", "two", nothing))
	if err != nil {
		t.Fatal(err)
	}
	later, _, err := other.push(t.Context(), said, wants("pedidos", "one", nothing))
	if err != nil {
		t.Fatal(err)
	}
	g.bare("update-ref", "refs/heads/main", before)
	beside, _, err := other.push(t.Context(), said, wants("estoque", "three", nothing))
	if err != nil {
		t.Fatal(err)
	}
	known, _ := d.git(t.Context(), "rev-parse", "refs/remotes/origin/main")
	for revision, want := range map[string]bool{"": false, before: false, commit: true, beside: false, "0123456789012345678901234567890123456789": false} {
		if has := d.has(t.Context(), revision, commit); has != want {
			t.Errorf("%q has the commit: %t, want %t", revision, has, want)
		}
	}
	g.bare("update-ref", "refs/heads/main", later)
	if !d.has(t.Context(), later, commit) {
		t.Error("a later commit does not have it")
	}
	if now, _ := d.git(t.Context(), "rev-parse", "refs/remotes/origin/main"); now != known {
		t.Errorf("the clone's branch has moved to %s: the next release would not say that it was force-pushed", now)
	}
}

// TestAServerThatRefuses: a push that no newer commit explains is not tried again, and the next release
// makes the commit again.
func TestAServerThatRefuses(t *testing.T) {
	g := newGitServer(t)
	hook := filepath.Join(g.folder, "d.git", "hooks", "pre-receive")
	err := errors.Join(os.MkdirAll(filepath.Dir(hook), 0o755), os.WriteFile(hook, []byte("#!/bin/sh\necho the branch is protected\nexit 1\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := g.clone()
	tries := 0
	_, _, err = d.push(t.Context(), said, wants("estoque", "one", func() { tries++ }))
	if err == nil || !strings.Contains(err.Error(), "the branch is protected") || tries != 1 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	commit, services, err := d.push(t.Context(), said, wants("estoque", "one", nothing))
	if err != nil || len(services) != 1 || g.bare("rev-parse", "main") != commit {
		t.Errorf("the next release: %q %v %v", commit, services, err)
	}
}

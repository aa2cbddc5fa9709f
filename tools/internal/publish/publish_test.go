package publish

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/signing"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// tools returns the paths of ko and cosign, which make up builds.
func tools(t *testing.T) (ko, cosign string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs ko and cosign; make test runs it")
	}
	root, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	cache := &toolchain.Cache{Root: root, Pins: "../../pins", Out: console.New(io.Discard)}
	if err := cache.Ensure(t.Context(), toolchain.Ko, toolchain.Cosign); err != nil {
		t.Fatal(err)
	}
	if ko, err = cache.Binary(toolchain.Ko, "ko"); err != nil {
		t.Fatal(err)
	}
	if cosign, err = cache.Binary(toolchain.Cosign, "cosign"); err != nil {
		t.Fatal(err)
	}
	return ko, cosign
}

// options are those for a module with one program, in a new folder.
func options(t *testing.T, ko, cosign string) Options {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"apps/go.mod": "module example.com/apps\n\ngo 1.26.0\n", "apps/.ko.yaml": "defaultLdflags: [-s, -w]\n",
		"apps/hello/main.go": "package main\n\nfunc main() { println(\"hello\") }\n", "apps/hello/kodata/page.html": "<p>",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("COSIGN_PASSWORD", "")
	key := signing.LocalKey(filepath.Join(root, "signing"))
	if err := key.Ensure(t.Context(), cosign); err != nil {
		t.Fatal(err)
	}
	return Options{
		Apps: filepath.Join(root, "apps"), Programs: []string{"hello"}, Ko: ko, Anonymous: true, Scratch: filepath.Join(root, "publish"),
		Record: filepath.Join(root, "release.json"), Out: console.New(io.Discard),
		Signers: []signing.Cosign{{Program: cosign, Key: key, Tagged: true}},
		Source: Source{
			Commit: strings.Repeat("1", 40), Time: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), Go: "go1.26.3",
			Remote: "https://github.com/loja-veloz/platform.git",
		},
	}
}

// serve returns the name of a registry in this process, whose requests go through check first.
func serve(t *testing.T, check func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	r := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if check == nil || check(w, req) {
			r.ServeHTTP(w, req)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestTwoMachinesOneDigest builds in two folders, with two caches, by two users, in two time zones.
func TestTwoMachinesOneDigest(t *testing.T) {
	ko, cosign := tools(t)
	var digests []string
	for _, machine := range [][]string{{"USER=ana", "TZ=America/Sao_Paulo", "LANG=pt_BR.UTF-8"}, {"USER=runner", "TZ=UTC", "HTTP_PROXY=http://127.0.0.1:1"}} {
		o := options(t, ko, cosign)
		home := t.TempDir()
		o.Env = slices.Concat(machine, []string{"HOME=" + home, "GOCACHE=" + filepath.Join(home, "cache"), "GOPATH=" + filepath.Join(home, "go"), "GOFLAGS=-tags=other"})
		refs, err := Build(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, refs["hello"])
	}
	if !strings.HasPrefix(digests[0], "sha256:") || digests[0] != digests[1] {
		t.Errorf("two machines build %v", digests)
	}
}

func TestPublish(t *testing.T) {
	ko, cosign := tools(t)
	o := options(t, ko, cosign)
	o.Registry = serve(t, nil) + "/loja-veloz"
	release, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	image := release.Images["hello"]
	read, err := Read(o.Record)
	if err != nil || read.Images["hello"] != image || read.Commit != o.Source.Commit || !read.Time.Equal(o.Source.Time) {
		t.Errorf("the record is %+v, %v; want %+v", read, err, release)
	}
	ref, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var processors []string
	for _, child := range manifest.Manifests {
		processors = append(processors, child.Platform.Architecture)
		of := ref.Context().Digest(child.Digest.String()).String()
		if err := o.Signers[0].VerifyAttestation(t.Context(), of, signing.SBOM); err != nil {
			t.Errorf("the image for %s: %v", child.Platform.Architecture, err)
		}
	}
	if strings.Join(processors, " ") != "amd64 arm64" {
		t.Errorf("the image is for %v", processors)
	}
	if err := o.Signers[0].VerifyAttestation(t.Context(), image, signing.Provenance); err != nil {
		t.Error(err)
	}
	if err := o.Signers[0].Verify(t.Context(), image); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.Scratch); err == nil {
		t.Errorf("%s is still there", o.Scratch)
	}
	if again, err := Run(t.Context(), o); err != nil || again.Images["hello"] != image {
		t.Errorf("the same again: %v, %v", again, err)
	}

	// An image that an earlier version of this program pushed gets the tag that keeps it.
	keeps := ref.Context().Tag(ReleasePrefix + o.Source.Commit)
	isKept := func(when string) {
		t.Helper()
		if kept, err := remote.Head(keeps); err != nil || kept.Digest.String() != ref.Identifier() {
			t.Errorf("%s, the tag %s is %v, %v; want %s", when, keeps.TagStr(), kept, err, ref.Identifier())
		}
	}
	isKept("published")
	if err := remote.Delete(keeps); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	isKept("published again")

	// What nobody can build again is no release.
	dirty := o
	dirty.Source.Commit += "-dirty"
	if _, err := Run(t.Context(), dirty); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref.Context().Tag(ReleasePrefix + dirty.Source.Commit)); !missing(err) {
		t.Errorf("a tree with changes is released: %v", err)
	}

	// Somebody moves the commit's tag to another image.
	other, err := random.Index(64, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref.Context().Tag(o.Source.Commit), other); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "somebody has moved the tag") {
		t.Errorf("with a moved tag: %v", err)
	}
}

// TestNothingHalfWritten: a registry that refuses at any point leaves the record of the release before.
func TestNothingHalfWritten(t *testing.T) {
	ko, cosign := tools(t)
	for name, refuses := range map[string]func(*http.Request) bool{
		"before the build": func(*http.Request) bool { return true },
		"an image": func(req *http.Request) bool {
			return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/manifests/"+strings.Repeat("1", 40))
		},
		"a signature": func(req *http.Request) bool {
			return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, ".sig")
		},
	} {
		o := options(t, ko, cosign)
		o.Registry = serve(t, func(w http.ResponseWriter, req *http.Request) bool {
			if !refuses(req) {
				return true
			}
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors": [{"code": "DENIED", "message": "Your authorization token has expired."}]}`)
			return false
		}) + "/loja-veloz"
		const before = `{"commit": "before"}`
		if err := os.WriteFile(o.Record, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "does not accept this login: it has expired") {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(o.Record); err != nil || string(b) != before {
			t.Errorf("%s: the record is %q, %v", name, b, err)
		}
	}
}

func TestWhatARegistryAnswers(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // no logins of this machine
	o := Options{Programs: []string{"hello"}}
	for status, want := range map[int]string{
		401: "does not accept this login", 403: "refuses this login", 404: "the repository does not exist",
		405: "it may be read-only, full or busy", // Docker's registry in its read-only mode
		507: "it may be read-only, full or busy",
	} {
		o.Registry = serve(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return false })
		if err := o.mayPush(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), o.Registry) {
			t.Errorf("%d: %v", status, err)
		}
	}
	o.Anonymous = true
	o.Registry = serve(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return false })
	if err := o.mayPush(t.Context()); err == nil || !strings.Contains(err.Error(), "asks for a login, and a registry on this machine is used without a login") {
		t.Errorf("a registry on this machine with a login: %v", err)
	}
	o.Registry = "localhost:1"
	if err := o.mayPush(t.Context()); err == nil || !strings.Contains(err.Error(), "localhost:1 does not answer") {
		t.Errorf("without a registry: %v", err)
	}
}

func TestSource(t *testing.T) {
	root := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "apps"), 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("remote", "add", "origin", "https://ana:secret@github.com/loja-veloz/platform.git")
	s, err := ReadSource(t.Context(), root)
	if err != nil || s.Dirty() || len(s.Commit) != 40 || s.Time.IsZero() || s.Remote != "https://github.com/loja-veloz/platform.git" {
		t.Errorf("a clean tree: %+v, %v", s, err)
	}
	b, err := json.Marshal(s.provenance("pedidos", "registry.example.com"))
	if err != nil || !strings.Contains(string(b), `"gitCommit":"`+s.Commit+`"`) || strings.Contains(string(b), "secret") {
		t.Errorf("the provenance is %s, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(root, "apps", "new.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSource(t.Context(), root); err != nil || !s.Dirty() || len(s.Commit) != len("-dirty")+40 {
		t.Errorf("a tree with a new file: %+v, %v", s, err)
	}
	if withoutCredentials("/home/ana/platform") != "" || withoutCredentials("git@github.com:o/r.git") != "" {
		t.Error("a path or a user's name is in the provenance")
	}
}

func TestReadRefusesWhatIsNoRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "release.json")
	for _, text := range []string{`{"pedidos": "r/pedidos@sha256:0"}`, `{"commit": "abc123"}`, `{"images": {"pedidos": "r/pedidos@sha256:0"}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "no record of a release: make publish writes it again") {
			t.Errorf("%s is read: %v", text, err)
		}
	}
}

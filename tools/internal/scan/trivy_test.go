package scan

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.etcd.io/bbolt"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

var update = flag.Bool("update", false, "write Trivy's reports into testdata")

// invented are vulnerabilities for tests: severity, module, and the version that has the fix.
var invented = map[string]struct{ severity, module, fixed string }{
	"CVE-2026-10001": {"HIGH", "example.com/parser", "1.2.1"},
	"CVE-2026-10002": {"CRITICAL", "example.com/parser", ""},
	"CVE-2026-10003": {"MEDIUM", "example.com/parser", "1.2.1"},
	"CVE-2026-10004": {"CRITICAL", "stdlib", "1.99.0"},
}

// TestTrivy runs the real one over files and over an image. It loads its database of vulnerabilities from
// a registry in this process. TestGate reads its reports
// where there is no Trivy; -update writes them.
func TestTrivy(t *testing.T) {
	cache, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	tools := &toolchain.Cache{Root: cache, Pins: "../../pins", Out: console.New(io.Discard)}
	if !tools.Has(toolchain.Trivy) {
		t.Skip("needs Trivy, which takes a quarter of an hour to compile: .local/loja tool scan")
	}
	program, err := tools.Binary(toolchain.Trivy, "trivy")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.Replace(strings.TrimPrefix(server.URL, "http://"), "127.0.0.1", "localhost", 1)
	root := t.TempDir()
	t.Setenv("TRIVY_CACHE_DIR", filepath.Join(root, "cache"))

	tree := filepath.Join(root, "tree")
	files(t, tree, map[string]string{
		"apps/go.mod":             "module example.com/apps\n\ngo 1.26.0\n\nrequire example.com/parser v1.2.0\n",
		"stacks/notes.txt":        "the token of nobody\n" + token + "\n",
		"tools/pins/trivy/go.mod": "module example.com/pin\n\ngo 1.26.0\n\nrequire example.com/parser v1.2.0\n",
		"pod.yaml":                pod,
		"meant.yaml":              pod,
		"testdata/pod.yaml":       pod,
		".trivyignore":            "CVE-2026-10001\ngithub-pat\n",
		"allowed.yaml":            "allowed: []\n",
		"misconfigurations.yaml":  "misconfigurations: [{id: KSV-0017, paths: [meant.yaml]}]\n",
	})
	o := Options{
		Root: tree, Images: []string{hello(t, host)}, Trivy: program, Allowed: filepath.Join(tree, "allowed.yaml"),
		Meant: filepath.Join(tree, "misconfigurations.yaml"), Reports: filepath.Join(root, "reports"), Now: today, Out: console.New(io.Discard),
	}

	found := []string{
		"pod.yaml: KSV-0017, a misconfiguration, HIGH: Container 'web' of Pod 'web' should set 'securityContext.privileged' to false; " +
			"change it, or say in .github/misconfigurations.yaml why it is meant so",
		"stacks/notes.txt:2: github-pat, a secret: remove it, and replace it where it was valid (GitHub Personal Access Token)",
	}
	t.Setenv("TRIVY_DB_REPOSITORY", "localhost:1/trivy-db:2")
	err = Run(t.Context(), o)
	var unavailable *UnavailableError
	var refused *RefusedError
	if !errors.As(err, &unavailable) || unavailable.Tool != "Trivy" || !errors.As(err, &refused) || refused.Error() != strings.Join(found, "\n") {
		t.Errorf("without a database, what needs none: %v", err)
	}

	push(t, host+"/trivy-db:2", database(t))
	t.Setenv("TRIVY_DB_REPOSITORY", host+"/trivy-db:2")
	err = Run(t.Context(), o)
	equal(t, lines(err), append(found,
		"apps/go.mod: CVE-2026-10001 in example.com/parser v1.2.0, HIGH: update to 1.2.1",
		o.Images[0]+" ko-app/hello: CVE-2026-10004 in stdlib v"+strings.TrimPrefix(runtime.Version(), "go")+", CRITICAL: update to 1.99.0",
	))
	if *update {
		for _, name := range []string{"trivy-tree.json", "trivy-modules.json", "trivy-image-1.json"} {
			b, err := os.ReadFile(filepath.Join(o.Reports, name))
			if err := errors.Join(err, os.WriteFile(filepath.Join("testdata", name), b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// token has the form of GitHub's personal access tokens, and was never one.
var token = "ghp_" + strings.Repeat("Ab1", 12)

// pod is as Trivy wants one, but takes the whole node.
const pod = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 20000, runAsGroup: 20000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: web
    image: registry.k8s.io/web:1
    resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      privileged: true
      readOnlyRootFilesystem: true
      runAsGroup: 20000
      runAsNonRoot: true
      runAsUser: 20000
      seccompProfile: {type: RuntimeDefault}
`

func files(t *testing.T, root string, texts map[string]string) {
	t.Helper()
	for path, text := range texts {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// database returns an image with the database, as Trivy's project publishes it.
func database(t *testing.T) v1.Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trivy.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	const source = "go::GitHub Security Advisory Go"
	err = db.Update(func(tx *bbolt.Tx) error {
		put := func(value any, key string, buckets ...string) error {
			b, err := json.Marshal(value)
			if err != nil {
				return err
			}
			bucket, err := tx.CreateBucketIfNotExists([]byte(buckets[0]))
			for _, name := range buckets[1:] {
				if err == nil {
					bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
				}
			}
			if err != nil {
				return err
			}
			return bucket.Put([]byte(key), b)
		}
		errs := []error{put(map[string]string{"ID": "ghsa", "Name": "GitHub Security Advisory Go"}, source, "data-source")}
		for id, v := range invented {
			advisory := map[string][]string{"VulnerableVersions": {">= 0"}}
			if v.fixed != "" {
				advisory = map[string][]string{"VulnerableVersions": {"< " + v.fixed}, "PatchedVersions": {v.fixed}}
			}
			errs = append(errs, put(advisory, id, source, v.module),
				put(map[string]string{"Title": "an invented vulnerability, for tests", "Severity": v.severity}, id, "vulnerability"))
		}
		return errors.Join(errs...)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	metadata, err := json.Marshal(map[string]any{"Version": 2, "UpdatedAt": now, "NextUpdate": now.Add(24 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return with(t, "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip", map[string][]byte{"trivy.db": b, "metadata.json": metadata})
}

// hello pushes an image with one Go program, as ko builds them, and returns its name by digest.
func hello(t *testing.T, host string) string {
	t.Helper()
	root := t.TempDir()
	files(t, root, map[string]string{"go.mod": "module example.com/hello\n\ngo 1.26.0\n", "main.go": "package main\n\nfunc main() {}\n"})
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "hello", ".")
	build.Dir, build.Env = root, append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(root, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	return push(t, host+"/hello:1", with(t, types.OCILayer, map[string][]byte{"ko-app/hello": b}))
}

// with returns an image with one layer of files.
func with(t *testing.T, mediaType types.MediaType, contents map[string][]byte) v1.Image {
	t.Helper()
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	for path, b := range contents {
		err := archive.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(b))})
		if _, written := archive.Write(b); errors.Join(err, written) != nil {
			t.Fatal(err, written)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	packed, err := tarball.LayerFromOpener(open, tarball.WithMediaType(mediaType))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: packed, Annotations: map[string]string{"org.opencontainers.image.title": "layer.tar.gz"}, // Trivy asks for a name
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t *testing.T, tag string, img v1.Image) string {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err := errors.Join(err, remote.Write(ref, img)); err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).String()
}

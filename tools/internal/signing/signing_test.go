package signing

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// program returns the path of cosign, which make up builds.
func program(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs cosign; make test runs it")
	}
	root, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	cache := &toolchain.Cache{Root: root, Pins: "../../pins", Out: console.New(io.Discard)}
	if err := cache.Ensure(t.Context(), toolchain.Cosign); err != nil {
		t.Fatal(err)
	}
	path, err := cache.Binary(toolchain.Cosign, "cosign")
	if err != nil {
		t.Fatal(err)
	}
	return path
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

// push pushes a new image and returns its name by digest.
func push(t *testing.T, tag string) string {
	t.Helper()
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Digest(digest.String()).String()
}

func signer(t *testing.T) Cosign {
	t.Helper()
	t.Setenv("COSIGN_PASSWORD", "")
	c := Cosign{Program: program(t), Tagged: true, Key: LocalKey(filepath.Join(t.TempDir(), "signing"))}
	if err := c.Key.Ensure(t.Context(), c.Program); err != nil {
		t.Fatal(err)
	}
	return c
}

func refused(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("taken; want an error with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %q; it lacks %q", err, part)
		}
	}
}

func TestSignaturesOfAKey(t *testing.T) {
	c := signer(t)
	host := serve(t, nil)
	image, unsigned := push(t, host+"/loja/pedidos:one"), push(t, host+"/loja/pedidos:two")
	if err := c.Sign(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(t.Context(), image); err != nil {
		t.Errorf("a signed image: %v", err)
	}
	refused(t, c.Verify(t.Context(), unsigned), unsigned+" is not signed", "make publish")

	// The tag of the signed image moves to another one.
	refused(t, c.Verify(t.Context(), host+"/loja/pedidos:one"), "has no digest", "can be moved")
	moved := push(t, host+"/loja/pedidos:one")
	refused(t, c.Verify(t.Context(), moved), moved+" is not signed")
	if err := c.Verify(t.Context(), image); err != nil {
		t.Errorf("the signed image after its tag moved: %v", err)
	}

	other := Cosign{Program: c.Program, Tagged: true, Key: LocalKey(t.TempDir())}
	if err := other.Key.Ensure(t.Context(), c.Program); err != nil {
		t.Fatal(err)
	}
	if err := other.Sign(t.Context(), unsigned); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Verify(t.Context(), unsigned), unsigned+" is signed, but not by the key of "+c.Key.Public)
}

func TestSignMissing(t *testing.T) {
	c := signer(t)
	host := serve(t, nil)
	image, unsigned := push(t, host+"/loja/pedidos:one"), push(t, host+"/loja/pedidos:two")
	gone := host + "/loja/pedidos@sha256:" + strings.Repeat("0", 64)
	sign := func(images ...string) {
		t.Helper()
		if err := c.SignMissing(t.Context(), images); err != nil {
			t.Fatal(err)
		}
	}
	sign(image, image, gone)
	if err := c.Verify(t.Context(), image); err != nil {
		t.Error(err)
	}
	refused(t, c.Verify(t.Context(), unsigned), "is not signed")
	program := c.Program
	c.Program = "/there/is/none"
	sign(image)
	c.Program = program
	ref, err := name.NewDigest(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(ref.Context().Tag(strings.Replace(ref.DigestStr(), ":", "-", 1) + ".sig")); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Verify(t.Context(), image), "is not signed")
	sign(image)
	if err := c.Verify(t.Context(), image); err != nil {
		t.Errorf("after the registry lost the signature: %v", err)
	}
}

func TestAttestations(t *testing.T) {
	c := signer(t)
	image := push(t, serve(t, nil)+"/loja/pedidos:one")
	file := filepath.Join(t.TempDir(), "predicate.json")
	if err := os.WriteFile(file, []byte(`{"buildDefinition": {"buildType": "x"}, "runDetails": {"builder": {"id": "y"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Attest(t.Context(), image, Provenance, file); err != nil {
		t.Fatal(err)
	}
	if err := c.VerifyAttestation(t.Context(), image, Provenance); err != nil {
		t.Error(err)
	}
	refused(t, c.VerifyAttestation(t.Context(), image, SBOM), SBOM)
	// A statement about an image is no signature. cosign verify takes it for one in the form of a bundle.
	refused(t, c.Verify(t.Context(), image), "is not signed")
	c.Tagged = false
	refused(t, c.Verify(t.Context(), image), image+" has no signature of the key of")
	if err := c.Sign(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(t.Context(), image); err != nil {
		t.Errorf("a signature in the form of a bundle: %v", err)
	}
}

func TestRegistriesThatRefuse(t *testing.T) {
	c := signer(t)
	for _, r := range []struct {
		status     int
		body, want string
	}{
		{http.StatusUnauthorized, `{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}`, "does not accept this login"},
		// ECR says so, with 403, when its token is older than 12 hours.
		{http.StatusForbidden, `{"errors": [{"code": "DENIED", "message": "Your authorization token has expired."}]}`, "does not accept this login"},
		{http.StatusForbidden, `{"errors": [{"code": "DENIED", "message": "not authorized to perform ecr:PutImage"}]}`, "refuses this login"},
	} {
		closed := false
		host := serve(t, func(w http.ResponseWriter, _ *http.Request) bool {
			if closed {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(r.status)
				_, _ = io.WriteString(w, r.body)
			}
			return !closed
		})
		image := push(t, host+"/loja/pedidos:one")
		closed = true
		refused(t, c.Sign(t.Context(), image), host, r.want)
		refused(t, c.Verify(t.Context(), image), host, r.want)
	}
	refused(t, c.Verify(t.Context(), "localhost:1/loja/pedidos@sha256:"+strings.Repeat("0", 64)), "localhost:1 does not answer")
}

func TestTheKeyStaysOnThisMachine(t *testing.T) {
	c := signer(t)
	for _, path := range []string{c.Key.Private, c.Key.Password} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want 0600", path, info, err)
		}
	}
	before, err := os.ReadFile(c.Key.Public)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Key.Ensure(t.Context(), c.Program); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(c.Key.Public); err != nil || string(after) != string(before) {
		t.Errorf("a second run has changed the key (%v)", err)
	}
	if err := os.Remove(c.Key.Public); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Key.Ensure(t.Context(), c.Program), c.Key.Public, "there is only one")
}

// TestKeylessFlags: a job without network cannot sign by a token, so only the flags are looked at.
func TestKeylessFlags(t *testing.T) {
	c := Cosign{Identity: "^https://github.com/o/r/", Issuer: GitHubIssuer}
	if got := strings.Join(c.signing(), " "); got != "--yes" {
		t.Errorf("signing with %q: a key or a switched off log is none of keyless", got)
	}
	got := strings.Join(c.verifying(), " ")
	if got != "--certificate-identity-regexp=^https://github.com/o/r/ --certificate-oidc-issuer="+GitHubIssuer {
		t.Errorf("verifying with %q", got)
	}
}

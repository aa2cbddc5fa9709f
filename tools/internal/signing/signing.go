// Package signing signs images with cosign, attests what they contain and where they come from, and
// verifies both. Nothing in it starts a build or needs a cluster.
package signing

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// GitHubIssuer is the issuer of the tokens of GitHub's workflows.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// Cosign signs by a key in a file, or else by the OIDC token of the job that runs it.
type Cosign struct {
	Program string // cosign itself
	Key     *Key   // nil: keyless
	// Tagged signatures have cosign's older form, a tag of their own, the only one that policy-controller
	// 0.13 verifies by a key. Others are bundles that refer to their image.
	Tagged bool
	// Identity and Issuer say whose keyless signatures are accepted: a regular expression of the
	// certificate's subject, which is the workflow, and the issuer of its token.
	Identity, Issuer string
}

// Key is a pair of keys in files. The private one is encrypted with the password in another file,
// or in COSIGN_PASSWORD.
type Key struct{ Private, Public, Password string }

// LocalKey returns the key pair of a machine, which lies in one folder.
func LocalKey(folder string) *Key {
	file := func(name string) string { return filepath.Join(folder, name) }
	return &Key{Private: file("cosign.key"), Public: file("cosign.pub"), Password: file("cosign.password")}
}

// Ensure creates the key pair, and its password if COSIGN_PASSWORD is not set, unless they exist.
func (k *Key) Ensure(ctx context.Context, program string) error {
	private, public := exists(k.Private), exists(k.Public)
	switch {
	case private && public:
		return nil
	case private || public:
		return fmt.Errorf("of the signing key's files %s and %s there is only one: restore the other, or delete this one for a new pair; "+
			"what the old one has signed is then refused", k.Private, k.Public)
	}
	if err := os.MkdirAll(filepath.Dir(k.Private), 0o700); err != nil {
		return err
	}
	if os.Getenv("COSIGN_PASSWORD") == "" {
		secret := make([]byte, 24)
		rand.Read(secret)
		if err := os.WriteFile(k.Password, []byte(hex.EncodeToString(secret)), 0o600); err != nil {
			return err
		}
	}
	env, err := k.environ()
	if err != nil {
		return err
	}
	_, err = command.Command{
		Args: []string{program, "generate-key-pair", "--output-key-prefix", strings.TrimSuffix(k.Private, ".key")}, Env: env,
	}.Text(ctx)
	if err != nil {
		return fmt.Errorf("creating the signing key: %w", err)
	}
	return os.Chmod(k.Private, 0o600)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// environ returns the variable with the password, which a command line would show to everybody.
func (k *Key) environ() ([]string, error) {
	if os.Getenv("COSIGN_PASSWORD") != "" {
		return nil, nil
	}
	b, err := os.ReadFile(k.Password)
	if err != nil {
		return nil, fmt.Errorf("the password of %s: %w; restore it, or set COSIGN_PASSWORD", k.Private, err)
	}
	return []string{"COSIGN_PASSWORD=" + strings.TrimSpace(string(b))}, nil
}

// signing returns the flags of cosign sign and cosign attest.
func (c Cosign) signing() []string {
	flags := []string{"--yes"}
	if c.Key != nil {
		// No log that the public reads: the images are this machine's, and it may have no network.
		flags = append(flags, "--key="+c.Key.Private, "--tlog-upload=false", "--use-signing-config=false")
	}
	return flags
}

// Sign signs images, which are named by digest.
func (c Cosign) Sign(ctx context.Context, images ...string) error {
	args := append([]string{"sign"}, c.signing()...)
	if c.Tagged {
		args = append(args, "--new-bundle-format=false")
	}
	if err := c.run(ctx, append(args, images...)...); err != nil {
		return fmt.Errorf("signing: %w", explain(images[0], err))
	}
	return nil
}

// SignMissing signs those of the images that this key has not signed, or whose signature the registry
// has lost. It asks the registry alone, which takes milliseconds, and remembers beside the key what it has
// signed. An image that the registry does not have is left out: it cannot run either.
func (c Cosign) SignMissing(ctx context.Context, images []string) error {
	list := filepath.Join(filepath.Dir(c.Key.Private), "signed")
	b, err := os.ReadFile(list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	signed := strings.Fields(string(b))
	var unsigned []string
	for _, image := range images {
		ref, err := name.NewDigest(image)
		if err != nil {
			return err
		}
		if slices.Contains(unsigned, image) || !there(ctx, ref) ||
			slices.Contains(signed, image) && there(ctx, ref.Context().Tag(strings.Replace(ref.DigestStr(), ":", "-", 1)+".sig")) {
			continue
		}
		unsigned = append(unsigned, image)
	}
	if len(unsigned) == 0 {
		return nil
	}
	if err := c.Sign(ctx, unsigned...); err != nil {
		return err
	}
	f, err := os.OpenFile(list, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(unsigned, "\n") + "\n")
	return errors.Join(err, f.Close())
}

func there(ctx context.Context, ref name.Reference) bool {
	_, err := remote.Head(ref, remote.WithContext(ctx), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	return err == nil
}

// Kinds of attestations, as cosign names them.
const (
	SBOM       = "spdxjson"
	Provenance = "slsaprovenance1"
)

// Attest signs the statement in a file about an image, and stores both beside it.
func (c Cosign) Attest(ctx context.Context, image, kind, file string) error {
	args := append(append([]string{"attest"}, c.signing()...), "--type="+kind, "--predicate="+file, image)
	if err := c.run(ctx, args...); err != nil {
		return fmt.Errorf("attesting: %w", explain(image, err))
	}
	return nil
}

// Verify returns nil if the image, named by digest, has a signature of the key or identity.
func (c Cosign) Verify(ctx context.Context, image string) error {
	if !byDigest.MatchString(image) {
		return fmt.Errorf("%s has no digest, and its tag can be moved: name the image as REPOSITORY@sha256:DIGEST", image)
	}
	args := []string{"verify", "--new-bundle-format=false"}
	if !c.Tagged {
		// cosign verify takes any attestation of the signer for a signature.
		args = []string{"verify-attestation", "--type=" + signatureType}
	}
	err := c.run(ctx, append(append(args, c.verifying()...), image)...)
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case 10:
			return fmt.Errorf("%s is not signed, or not in that registry, so it does not run: ship what make publish, make deploy or CI "+
				"has built and signed", image)
		case 12:
			return fmt.Errorf("%s is signed, but not by %s: find out who pushed it, and ship an image that make publish or CI has signed",
				image, c.signer())
		}
	}
	var failed *command.Error
	if !c.Tagged && errors.As(err, &failed) && (strings.Contains(failed.Tail, "no matching attestations") ||
		strings.Contains(failed.Tail, "none of the attestations matched")) {
		return fmt.Errorf("%s has no signature of %s, so it does not run: ship what CI has built and signed", image, c.signer())
	}
	return explain(image, err)
}

// signatureType is the predicate of a signature in the form of a bundle.
const signatureType = "https://sigstore.dev/cosign/sign/v1"

// VerifyAttestation returns nil if the image has an attestation of this kind, signed by the key or identity.
func (c Cosign) VerifyAttestation(ctx context.Context, image, kind string) error {
	args := append(append([]string{"verify-attestation", "--type=" + kind}, c.verifying()...), image)
	if err := c.run(ctx, args...); err != nil {
		return fmt.Errorf("the %s attestation: %w", kind, explain(image, err))
	}
	return nil
}

func (c Cosign) verifying() []string {
	if c.Key != nil {
		return []string{"--key=" + c.Key.Public, "--insecure-ignore-tlog=true"}
	}
	return []string{"--certificate-identity-regexp=" + c.Identity, "--certificate-oidc-issuer=" + c.Issuer}
}

func (c Cosign) signer() string {
	if c.Key != nil {
		return "the key of " + c.Key.Public
	}
	return c.Identity
}

func (c Cosign) run(ctx context.Context, args ...string) error {
	var env []string
	if c.Key != nil && args[0] != "verify" && args[0] != "verify-attestation" {
		password, err := c.Key.environ()
		if err != nil {
			return err
		}
		env = password
	}
	_, err := command.Command{Args: append([]string{c.Program}, args...), Env: env}.Text(ctx)
	return err
}

var byDigest = regexp.MustCompile(`^[^@\s]+@sha256:[0-9a-f]{64}$`)

// explain turns what a registry answered to cosign into a sentence.
func explain(image string, err error) error {
	var e *command.Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	registry, _, _ := strings.Cut(image, "/")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(e.Tail, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("UNAUTHORIZED", "401 Unauthorized", "token has expired", "ExpiredToken"):
		return Expired(registry, err)
	case has("DENIED", "403 Forbidden"):
		return Denied(registry, err)
	case has("connection refused", "no such host", "i/o timeout"):
		return Silent(registry, err)
	case has("decrypt"):
		return fmt.Errorf("the password does not open the signing key: restore the file of the password, or unset COSIGN_PASSWORD: %w", err)
	}
	return err
}

// Expired says what to do when a registry does not know the caller.
func Expired(registry string, err error) error {
	return fmt.Errorf("the registry %s does not accept this login: it has expired, or there is none. Log in again "+
		"(in AWS: aws ecr get-login-password | ko login %[1]s --username AWS --password-stdin) and run the command again: %w", registry, err)
}

// Denied says what to do when a registry knows the caller and refuses.
func Denied(registry string, err error) error {
	return fmt.Errorf("the registry %s refuses this login: it may not write there, or the repository does not exist. "+
		"Use a role that may push, and create the repository (in AWS: the stack bootstrap does): %w", registry, err)
}

// Silent says what to do when a registry does not answer.
func Silent(registry string, err error) error {
	return fmt.Errorf("the registry %s does not answer: start it (make cluster-up starts the local one), or set REGISTRY: %w", registry, err)
}

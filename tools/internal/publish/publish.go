// Package publish builds the images of all programs for both processors, pushes them to a registry,
// signs them, and records their digests.
package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/images"
	"github.com/loja-veloz/platform/tools/internal/signing"
)

// Architectures are those of the nodes in any environment, as Go names them.
var Architectures = []string{"amd64", "arm64"}

// ReleasePrefix is the prefix of the tags that keep an image from ECR's cleanup: that of infra/registry.
const ReleasePrefix = "release-"

// Options say what to publish, and where.
type Options struct {
	Registry string   // that gets the images: host and folder
	Apps     string   // folder of the Go module with a folder per program
	Programs []string // to build
	Ko       string   // ko itself
	Source   Source
	// Signers sign every image, each in its own form. The first one also attests.
	Signers []signing.Cosign
	Scratch string // folder for what is built; deleted at the start and at the end
	Record  string // path of the file for the Release
	Env     []string
	Out     *console.Console
	// Anonymous registries need no credentials.
	Anonymous bool
}

// Release records what was published. The workflows and the GitOps step read it.
type Release struct {
	Commit   string    `json:"commit"`   // of the sources; ends with -dirty if the working tree differed from it
	Time     time.Time `json:"time"`     // of the commit, in UTC
	Go       string    `json:"go"`       // version that compiled the programs
	Registry string    `json:"registry"` // that has the images
	// Images are the images by their program, each as REGISTRY/PROGRAM@sha256:DIGEST.
	Images map[string]string `json:"images"`
}

// Read reads the record of a release.
func Read(path string) (*Release, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the record of the last release: %w; make publish writes it", err)
	}
	var r Release
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w; make publish writes it again", path, err)
	}
	if r.Commit == "" || len(r.Images) == 0 {
		return nil, fmt.Errorf("%s has no commit or no images, so it is no record of a release: make publish writes it again", path)
	}
	return &r, nil
}

// Run publishes. The images go to the registry first, then what is said about them and their
// signatures, and the record is written last: it never names what is not there. A run after a failed one
// pushes only what is missing.
func Run(ctx context.Context, o Options) (_ *Release, err error) {
	if err := o.mayPush(ctx); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(o.Scratch); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.Scratch)) }()
	stage, err := openStage(ctx, filepath.Join(o.Scratch, "blobs"))
	if err != nil {
		return nil, err
	}
	defer stage.close()
	built, err := o.build(ctx, stage)
	if err != nil {
		return nil, err
	}
	release := &Release{
		Commit: o.Source.Commit, Time: o.Source.Time.UTC(), Go: o.Source.Go, Registry: o.Registry, Images: map[string]string{},
	}
	for _, program := range o.Programs {
		if release.Images[program], err = o.push(ctx, stage, program, built[program]); err != nil {
			return nil, err
		}
	}
	for _, program := range o.Programs {
		if err := o.attest(ctx, stage, program, built[program], release.Images[program]); err != nil {
			return nil, err
		}
	}
	for _, signer := range o.Signers {
		if err := o.sign(ctx, signer, slices.Sorted(maps.Values(release.Images))); err != nil {
			return nil, err
		}
	}
	return release, release.write(o.Record)
}

// Build returns the digest of each program's image without pushing anything.
func Build(ctx context.Context, o Options) (map[string]string, error) {
	stage, err := openStage(ctx, filepath.Join(o.Scratch, "blobs"))
	if err != nil {
		return nil, err
	}
	defer stage.close()
	return o.build(ctx, stage)
}

func (o Options) build(ctx context.Context, stage *stage) (map[string]string, error) {
	if err := images.Registry(stageName).PushBase(ctx, stage.options(ctx)...); err != nil {
		return nil, err
	}
	ko := images.Ko{
		Program: o.Ko, Registry: stageName, Anonymous: true, Apps: o.Apps, Scratch: o.Scratch, Out: o.Out, Architectures: Architectures,
		Env: slices.Concat(o.Env, o.Source.environ(), stage.environ()),
	}
	refs, err := ko.Build(ctx, o.Programs)
	if err != nil {
		return nil, err
	}
	for program, ref := range refs {
		_, refs[program], _ = strings.Cut(ref, "@")
	}
	return refs, nil
}

// mayPush asks the registry before anything is built.
func (o Options) mayPush(ctx context.Context) error {
	for _, program := range o.Programs {
		repository, err := name.NewRepository(o.Registry + "/" + program)
		if err != nil {
			return fmt.Errorf("REGISTRY: %w", err)
		}
		transport := remote.DefaultTransport.(*http.Transport).Clone()
		if err := remote.CheckPushPermission(repository.Tag("latest"), o.keychain(), transport); err != nil {
			return o.explain(err)
		}
	}
	return ctx.Err()
}

func (o Options) keychain() authn.Keychain {
	if o.Anonymous {
		return authn.NewMultiKeychain()
	}
	return authn.DefaultKeychain
}

func (o Options) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(o.keychain())}
}

// push copies a program's image from the stage, unless the registry has it, and returns its reference.
// An image of a clean tree may be released, so it also gets the tag that keeps it.
func (o Options) push(ctx context.Context, stage *stage, program, digest string) (string, error) {
	repository, err := name.NewRepository(o.Registry + "/" + program)
	if err != nil {
		return "", err
	}
	image := repository.Digest(digest).String()
	tags := []name.Tag{repository.Tag(o.Source.Commit)}
	if !o.Source.Dirty() {
		tags = append(tags, repository.Tag(ReleasePrefix+o.Source.Commit))
	}
	began, pushed := time.Now(), false
	for _, tag := range tags {
		switch there, err := remote.Head(tag, o.options(ctx)...); {
		case err == nil && there.Digest.String() == digest:
			continue
		case err == nil && !o.Source.Dirty():
			return "", fmt.Errorf("%s is %s, and this machine has built %s from the same commit: somebody has moved the tag, or built with another "+
				"Go than %s. Compare the provenance of both (cosign verify-attestation), and delete the tag if the other is wrong",
				tag, there.Digest, digest, o.Source.Go)
		case err != nil && !missing(err):
			return "", o.explain(err)
		}
		index, err := stage.index(ctx, program, digest)
		if err != nil {
			return "", err
		}
		if err := remote.WriteIndex(tag, index, o.options(ctx)...); err != nil {
			return "", o.explain(fmt.Errorf("pushing %s: %w", tag, err))
		}
		pushed = true
	}
	if pushed {
		o.Out.Step("pushed %s (%s)", image, console.Round(time.Since(began)))
	} else {
		o.Out.Step("%s is there", image)
	}
	return image, nil
}

// attest says what is in the image for each processor, and where the whole comes from.
func (o Options) attest(ctx context.Context, stage *stage, program, digest, image string) error {
	signer := o.Signers[0]
	if signer.VerifyAttestation(ctx, image, signing.Provenance) == nil {
		return nil // an earlier run has got so far: the provenance comes last
	}
	index, err := stage.index(ctx, program, digest)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	repository, _, _ := strings.Cut(image, "@")
	for _, child := range manifest.Manifests {
		file := filepath.Join(o.Scratch, program+"-"+child.Platform.Architecture+".spdx.json")
		if err := stage.sbom(ctx, program, child.Digest, file); err != nil {
			return err
		}
		if err := signer.Attest(ctx, repository+"@"+child.Digest.String(), signing.SBOM, file); err != nil {
			return err
		}
	}
	file := filepath.Join(o.Scratch, program+".provenance.json")
	if err := writeJSON(file, o.Source.provenance(program, o.Registry)); err != nil {
		return err
	}
	if err := signer.Attest(ctx, image, signing.Provenance, file); err != nil {
		return err
	}
	o.Out.Step("attested what is in %s, and where it comes from", program)
	return nil
}

// sign signs the images that are not signed yet: the tags of signatures cannot be written twice where
// tags are immutable.
func (o Options) sign(ctx context.Context, signer signing.Cosign, all []string) error {
	unsigned := slices.DeleteFunc(all, func(image string) bool { return signer.Verify(ctx, image) == nil })
	if len(unsigned) == 0 {
		return nil
	}
	if err := signer.Sign(ctx, unsigned...); err != nil {
		return err
	}
	for _, image := range unsigned {
		if err := signer.Verify(ctx, image); err != nil {
			return err
		}
	}
	o.Out.Step("signed %d images", len(unsigned))
	return nil
}

func (r *Release) write(path string) error {
	next := path + ".next"
	if err := writeJSON(next, r); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func missing(err error) bool {
	var refused *transport.Error
	return errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound
}

// explain turns what a registry answered into a sentence.
func (o Options) explain(err error) error {
	host, _, _ := strings.Cut(o.Registry, "/")
	var refused *transport.Error
	var unreachable *net.OpError
	switch {
	case errors.As(err, &refused):
		switch status := refused.StatusCode; {
		case status == http.StatusUnauthorized && o.Anonymous:
			return fmt.Errorf("the registry %s asks for a login, and a registry on this machine is used without a login: "+
				"let it take anonymous pushes, or set REGISTRY to another: %w", host, err)
		case status == http.StatusUnauthorized || strings.Contains(refused.Error(), "expired"):
			return signing.Expired(host, err)
		case status == http.StatusForbidden || status == http.StatusNotFound:
			return signing.Denied(host, err)
		}
		return fmt.Errorf("the registry %s did not take the images: it may be read-only, full or busy. Look at its log, and run the command "+
			"again, which pushes what is missing: %w", host, err)
	case errors.As(err, &unreachable):
		return signing.Silent(host, err)
	}
	return fmt.Errorf("the registry %s: %w", host, err)
}

// stageName is the name of the stage for ko. Images contain the name of their base image, so it is
// the same everywhere; only the proxy's address differs.
const stageName = "stage.localhost/loja"

// A stage is a registry inside this process, to which ko pushes. From there go-containerregistry copies
// to the registry of the release, which then gets nothing but whole images.
type stage struct {
	server *http.Server
	proxy  *url.URL
}

func openStage(ctx context.Context, folder string) (*stage, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// A proxy's requests have whole URLs, of which the registry reads the path.
	silent := registry.Logger(log.New(io.Discard, "", 0))
	handler := registry.New(silent, registry.WithBlobHandler(registry.NewDiskBlobHandler(folder)))
	answer := func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodConnect { // clients try HTTPS first
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		handler.ServeHTTP(w, req)
	}
	s := &stage{
		server: &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute},
		proxy:  &url.URL{Scheme: "http", Host: l.Addr().String()},
	}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

func (s *stage) close() { _ = s.server.Close() }

// environ sends requests by HTTP through the stage. Go downloads modules by HTTPS.
func (s *stage) environ() []string {
	return []string{"HTTP_PROXY=" + s.proxy.String(), "http_proxy=" + s.proxy.String(), "NO_PROXY=", "no_proxy="}
}

func (s *stage) options(ctx context.Context) []remote.Option {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyURL(s.proxy)
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(t)}
}

func (s *stage) index(ctx context.Context, program, digest string) (v1.ImageIndex, error) {
	ref, err := name.NewDigest(stageName + "/" + program + "@" + digest)
	if err != nil {
		return nil, err
	}
	return remote.Index(ref, s.options(ctx)...)
}

// sbom writes the SPDX document that ko has attached to an image into a file.
func (s *stage) sbom(ctx context.Context, program string, digest v1.Hash, file string) error {
	ref, err := name.NewTag(stageName + "/" + program + ":" + digest.Algorithm + "-" + digest.Hex + ".sbom")
	if err != nil {
		return err
	}
	attached, err := remote.Image(ref, s.options(ctx)...)
	if err != nil {
		return fmt.Errorf("what ko says is in %s: %w", program, err)
	}
	layers, err := attached.Layers()
	if err != nil || len(layers) != 1 {
		return errors.Join(err, fmt.Errorf("what ko says is in %s has %d parts, want 1", program, len(layers)))
	}
	document, err := layers[0].Uncompressed()
	if err != nil {
		return err
	}
	defer document.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, document)
	return errors.Join(err, f.Close())
}

package platform

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/settings"
	"github.com/loja-veloz/platform/tools/internal/signing"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Publish builds the images of all programs for both processors, pushes them to a registry with what
// they contain and where they come from, signs them, and records their digests in .local/release.json.
func Publish(ctx context.Context, w Workspace, s settings.Publish) error {
	if s.Keyless && os.Getenv("GITHUB_ACTIONS") == "true" && os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL") == "" {
		return errors.New("this job has no token to sign with: give it `permissions: id-token: write`, " +
			"which a pull request from a fork never has")
	}
	if err := provide(ctx, w, []toolchain.Tool{toolchain.Ko, toolchain.Cosign}); err != nil {
		return err
	}
	signers, err := w.signers(ctx, s)
	if err != nil {
		return err
	}
	programs, err := repo.Programs(w.Root)
	if err != nil {
		return err
	}
	source, err := publish.ReadSource(ctx, w.Root)
	if err != nil {
		return err
	}
	if source.Dirty() {
		if s.Keyless {
			return errors.New("the working tree differs from its commit, and a release is of a commit: git status shows what has changed")
		}
		w.Out.Step("the working tree differs from its commit: the images are those of %s", source.Commit)
	}
	release, err := publish.Run(ctx, publish.Options{
		Registry: s.Registry, Anonymous: loopback(s.Registry), Apps: filepath.Join(w.Root, "apps"), Programs: programs, Ko: w.program("ko"),
		Source: source, Signers: signers, Scratch: w.Local("publish"), Record: w.releaseFile(), Out: w.Out,
	})
	if err != nil {
		return err
	}
	w.Out.Step("published %d images of %s; %s has their digests", len(release.Images), release.Commit, w.releaseFile())
	return nil
}

// Verify checks the signatures of images, by default of those of the last release.
func Verify(ctx context.Context, w Workspace, s settings.Publish) error {
	images := s.Images
	if len(images) == 0 {
		release, err := publish.Read(w.releaseFile())
		if err != nil {
			return err
		}
		images = slices.Sorted(maps.Values(release.Images))
	}
	if err := provide(ctx, w, []toolchain.Tool{toolchain.Cosign}); err != nil {
		return err
	}
	signers, err := w.signers(ctx, s)
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		for _, signer := range signers {
			errs = append(errs, signer.Verify(ctx, image))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	w.Out.Step("all %d images are signed", len(images))
	return nil
}

// signingFolder has this machine's key, below .local.
const signingFolder = "signing"

func (w Workspace) releaseFile() string { return w.Local("release.json") }

// signers are the identities that sign images, each in its own form: this machine's key, or a workflow's token and the
// key that it has in addition, which signs in both forms.
func (w Workspace) signers(ctx context.Context, s settings.Publish) ([]signing.Cosign, error) {
	cosign := signing.Cosign{Program: w.program("cosign")}
	if s.Keyless {
		cosign.Identity, cosign.Issuer = s.Signer, signing.GitHubIssuer
		if !s.SecondKey {
			return []signing.Cosign{cosign}, nil
		}
		second := cosign
		second.Key = &signing.Key{Private: "env://COSIGN_PRIVATE_KEY", Public: "env://COSIGN_PUBLIC_KEY"}
		// Image Updater looks for what refers to an image, and policy-controller for a tag.
		third := second
		third.Tagged = true
		return []signing.Cosign{cosign, second, third}, nil
	}
	cosign.Key, cosign.Tagged = signing.LocalKey(w.Local(signingFolder)), true
	return []signing.Cosign{cosign}, cosign.Key.Ensure(ctx, cosign.Program)
}

// loopback reports whether a registry is on this machine, where it needs no credentials.
func loopback(registry string) bool {
	host, _, _ := strings.Cut(registry, "/")
	return strings.HasPrefix(host, "localhost:") || strings.HasPrefix(host, "127.0.0.1:")
}

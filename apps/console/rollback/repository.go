package rollback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/infra/rollout"
)

// A Repository is the git repository from which the services are deployed.
type Repository struct {
	// URL and Branch say where the manifests are, and Path in which folder, which has a directory
	// per service.
	URL, Branch, Path string
	// User and the file TokenFile are the credentials of a push. The file is read for each one.
	User, TokenFile string
}

// A Change is a rollback of one service.
type Change struct {
	Service string
	// Aborted is the version whose canary was aborted, and Stable the one that has all traffic.
	Aborted, Stable rollout.Version
	// Reason is the judge's sentence, and Trace the id of a trace of a failing request, or empty.
	Reason, Trace string
	// At is when the controller aborted the canary.
	At time.Time
}

// tries is how often a rollback is begun anew because somebody else pushes at the same time.
const tries = 5

// Restore commits the stable version of a service, unless the branch has another version than the
// aborted one by now. It returns the commit, or "" if there was nothing to do.
//
// It restores the service's whole directory as it was when the stable version was released: an
// update changes settings and objects together with the image, and half of it would be a version
// that nobody has tried.
func (r *Repository) Restore(ctx context.Context, c Change) (commit string, err error) {
	for range tries {
		var raced bool
		commit, raced, err = r.restore(ctx, c)
		if err == nil || !raced {
			return commit, err
		}
	}
	return "", fmt.Errorf("the branch %s moved %d times meanwhile: %w", r.Branch, tries, err)
}

// restore is one try; raced tells whether somebody else has pushed meanwhile.
func (r *Repository) restore(ctx context.Context, c Change) (commit string, raced bool, err error) {
	token, err := os.ReadFile(r.TokenFile)
	if err != nil {
		return "", false, fmt.Errorf("reading the token of the git repository: %w", err)
	}
	auth := &http.BasicAuth{Username: r.User, Password: strings.TrimSpace(string(token))}
	// A repository with all of a platform's history is larger than this program may be.
	folder, err := os.MkdirTemp("", "rollback-")
	if err != nil {
		return "", false, err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	objects := filesystem.NewStorage(osfs.New(folder), cache.NewObjectLRU(4*cache.MiByte))
	branch := plumbing.NewBranchReferenceName(r.Branch)
	repository, err := git.CloneContext(ctx, objects, nil, &git.CloneOptions{
		URL: r.URL, Auth: auth, ReferenceName: branch, SingleBranch: true, NoCheckout: true, Tags: git.NoTags,
	})
	if err != nil {
		return "", false, fmt.Errorf("cloning the branch %s: %w", r.Branch, explain(err))
	}
	head, err := repository.Head()
	if err != nil {
		return "", false, err
	}
	last, err := repository.CommitObject(head.Hash())
	if err != nil {
		return "", false, err
	}
	commit, err = r.commit(ctx, objects, last, c)
	if err != nil || commit == "" {
		return "", false, err
	}
	if err := objects.SetReference(plumbing.NewHashReference(branch, plumbing.NewHash(commit))); err != nil {
		return "", false, err
	}
	if err := repository.PushContext(ctx, &git.PushOptions{Auth: auth}); err != nil {
		return "", hasMoved(err), fmt.Errorf("pushing to the branch %s: %w", r.Branch, explain(err))
	}
	return commit, false, nil
}

// hasMoved tells whether a push failed because the branch has moved: git's own words, and go-git's.
func hasMoved(err error) bool {
	return slices.ContainsFunc([]string{"non-fast-forward", "fetch first", "failed to update ref", "cannot lock ref", "reference has changed"},
		func(words string) bool { return strings.Contains(err.Error(), words) })
}

// explain says what a person can do about a login that is refused.
func explain(err error) error {
	if errors.Is(err, transport.ErrAuthenticationRequired) || errors.Is(err, transport.ErrAuthorizationFailed) {
		return fmt.Errorf("the git server refuses the login; write a new token that may push, in AWS as another version of the secret, "+
			"which delivery.git.pushSecretVersion names: %w", err)
	}
	return err
}

// commit stores a commit on top of the last one that brings the stable version back, and returns it, or ""
// if there is nothing to bring back.
func (r *Repository) commit(ctx context.Context, objects storer.EncodedObjectStorer, last *object.Commit, c Change) (string, error) {
	folder := path.Join(r.Path, c.Service)
	present, err := versionAt(last, folder)
	if err != nil || !c.ships(present) {
		return "", err
	}
	origin, err := find(ctx, last, folder, c.Stable)
	if err != nil {
		return "", err
	}
	root, err := last.Tree()
	if err != nil {
		return "", err
	}
	switch {
	case origin != nil:
		root, err = restored(objects, root, origin, folder)
	case present.Settings == c.Stable.Settings:
		root, err = withDigest(objects, root, path.Join(folder, kustomization), present.Digest, c.Stable.Digest)
	default:
		err = fmt.Errorf("no commit of the branch %s has %s with the stable image %s and the settings %s: its history may have been "+
			"rewritten. Release the stable version again", r.Branch, c.Service, c.Stable.Digest, c.Stable.Settings)
	}
	if err != nil {
		return "", err
	}
	by := object.Signature{Name: Author, Email: Author + "@loja-veloz.invalid", When: time.Now()}
	hash, err := store(objects, &object.Commit{
		Author: by, Committer: by, Message: c.message(origin), TreeHash: root.Hash, ParentHashes: []plumbing.Hash{last.Hash},
	})
	return hash.String(), err
}

// ships tells whether a version has what was aborted.
func (c Change) ships(v rollout.Version) bool {
	if c.Aborted.Digest != c.Stable.Digest {
		return v.Digest == c.Aborted.Digest
	}
	return c.Aborted.Settings != c.Stable.Settings && v.Settings == c.Aborted.Settings
}

// message is the commit's: what was aborted, why, and what is there again.
func (c Change) message(origin *object.Commit) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: back to the stable version, the canary was aborted\n\nReason: %s\n", c.Service, oneLine(c.Reason))
	if c.Trace != "" {
		fmt.Fprintf(&b, "Trace: %s\n", c.Trace)
	}
	fmt.Fprintf(&b, "Aborted: %s, settings %s\nAborted-At: %s\nRestored: %s, settings %s\n", c.Aborted.Digest, c.Aborted.Settings,
		c.At.UTC().Format(time.RFC3339), c.Stable.Digest, c.Stable.Settings)
	if origin != nil {
		fmt.Fprintf(&b, "Restored-From: %s\n", origin.Hash)
	}
	return b.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

const kustomization = "kustomization.yaml"

// versionAt reads what a commit deploys in a service's folder.
func versionAt(commit *object.Commit, folder string) (v rollout.Version, err error) {
	var images struct {
		Images []struct{ Digest string }
	}
	text, err := contents(commit, path.Join(folder, kustomization))
	if err == nil {
		err = yaml.Unmarshal([]byte(text), &images)
	}
	if err != nil {
		return v, err
	}
	if len(images.Images) != 1 || images.Images[0].Digest == "" {
		return v, fmt.Errorf("%s has no single image with a digest", path.Join(folder, kustomization))
	}
	if text, err = contents(commit, path.Join(folder, "rollout.yaml")); err != nil {
		return v, err
	}
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var any map[string]any
		if err := d.Decode(&any); errors.Is(err, io.EOF) {
			return v, fmt.Errorf("%s has no Rollout", path.Join(folder, "rollout.yaml"))
		} else if err != nil {
			return v, fmt.Errorf("%s: %w", path.Join(folder, "rollout.yaml"), err)
		}
		if any["kind"] != "Rollout" {
			continue
		}
		var r rollout.Rollout
		raw, err := json.Marshal(any)
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		return rollout.Version{Digest: images.Images[0].Digest, Settings: r.Version().Settings}, err
	}
}

func contents(commit *object.Commit, name string) (string, error) {
	file, err := commit.File(name)
	if err != nil {
		return "", fmt.Errorf("%s at commit %s: %w", name, commit.Hash, err)
	}
	return file.Contents()
}

// find returns the newest commit that deploys a version, or nil. It follows first parents.
func find(ctx context.Context, from *object.Commit, folder string, wanted rollout.Version) (*object.Commit, error) {
	for commit := from; ; {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("looking for the stable version in the history: %w", context.Cause(ctx))
		}
		if v, err := versionAt(commit, folder); err == nil && v == wanted {
			return commit, nil
		}
		if commit.NumParents() == 0 {
			return nil, nil
		}
		var err error
		if commit, err = commit.Parent(0); err != nil {
			return nil, err
		}
	}
}

// restored returns a tree in which a folder is what it was at a commit.
func restored(objects storer.EncodedObjectStorer, root *object.Tree, at *object.Commit, folder string) (*object.Tree, error) {
	tree, err := at.Tree()
	if err != nil {
		return nil, err
	}
	entry, err := tree.FindEntry(folder)
	if err != nil {
		return nil, err
	}
	return with(objects, root, folder, entry.Hash)
}

// withDigest returns a tree in which the one digest of a kustomization is another.
func withDigest(objects storer.EncodedObjectStorer, root *object.Tree, name, from, to string) (*object.Tree, error) {
	file, err := root.File(name)
	if err != nil {
		return nil, err
	}
	text, err := file.Contents()
	if err != nil {
		return nil, err
	}
	if strings.Count(text, from) != 1 {
		return nil, fmt.Errorf("%s does not name %s exactly once", name, from)
	}
	blob := objects.NewEncodedObject()
	blob.SetType(plumbing.BlobObject)
	w, err := blob.Writer()
	if err == nil {
		_, err = io.WriteString(w, strings.Replace(text, from, to, 1))
	}
	if err != nil {
		return nil, err
	}
	hash, err := objects.SetEncodedObject(blob)
	if err != nil {
		return nil, err
	}
	return with(objects, root, name, hash)
}

// with returns a tree that has another object at a path that it has already.
func with(objects storer.EncodedObjectStorer, tree *object.Tree, at string, hash plumbing.Hash) (*object.Tree, error) {
	name, below, nested := strings.Cut(at, "/")
	if nested {
		child, err := tree.Tree(name)
		if err != nil {
			return nil, err
		}
		if child, err = with(objects, child, below, hash); err != nil {
			return nil, err
		}
		hash = child.Hash
	}
	changed := &object.Tree{Entries: slices.Clone(tree.Entries)}
	for i, entry := range changed.Entries {
		if entry.Name == name {
			changed.Entries[i].Hash = hash
		}
	}
	stored, err := store(objects, changed)
	if err != nil {
		return nil, err
	}
	return object.GetTree(objects, stored)
}

// store encodes a tree or a commit.
func store(objects storer.EncodedObjectStorer, o interface {
	Encode(plumbing.EncodedObject) error
}) (plumbing.Hash, error) {
	encoded := objects.NewEncodedObject()
	if err := o.Encode(encoded); err != nil {
		return plumbing.ZeroHash, err
	}
	return objects.SetEncodedObject(encoded)
}

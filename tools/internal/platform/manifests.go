package platform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// A renderer writes the manifests of a stack into a folder, by the program and the stack file of a working tree, with the
// images of a record of make publish.
type renderer func(ctx context.Context, root, stack, folder, digests string) error

// renderManifests is make render in a working tree.
func renderManifests(ctx context.Context, root, stack, folder, digests string) error {
	program := filepath.Join(root, ".local", "environment")
	for _, args := range [][]string{
		{"go", "build", "-o", program, "./stacks/environment"},
		{program, "render", "-stack", stack, "-out", folder, "-digests", digests},
	} {
		if err := (command.Command{Args: args, Dir: root, Env: goEnv}).Run(ctx); err != nil {
			return fmt.Errorf("rendering the manifests of %s: %w", stack, err)
		}
	}
	return nil
}

// manifests are those of a stack that Argo CD delivers, in a working tree.
type manifests struct {
	path, folder string // from the tree's root, and absolute
	url, branch  string // what Argo CD reads
}

// manifests returns those of the stack in a working tree, or nil if Pulumi delivers.
func (r *recording) manifests(root string) (*manifests, error) {
	configured, err := Pulumi{stackFile: filepath.Join(root, r.stackFile())}.configured()
	if err != nil {
		return nil, err
	}
	setting := func(key string) string { return valueAt(configured, project+":delivery."+key) }
	if setting("mode") != settings.GitOps {
		return nil, nil
	}
	m := &manifests{
		path: cmp.Or(setting("git.path"), path.Join("stacks/environment/manifests", r.stack)),
		url:  setting("git.url"), branch: cmp.Or(setting("git.branch"), mainBranch),
	}
	m.folder = filepath.Join(root, filepath.FromSlash(m.path))
	if info, err := os.Stat(m.folder); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s:delivery.git.path is %s, which is no folder of this repository: make record writes manifests here alone. "+
			"Where another repository has them, make render OUT=FOLDER DIGESTS=.local/release.json writes into a clone of it", project, m.path)
	}
	return m, nil
}

// digests are the images of the programs in the folder, by their names.
func (m *manifests) digests() (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(m.folder, "*", "kustomization.yaml"))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, file := range files {
		folder := filepath.Dir(file)
		if all[filepath.Base(folder)], _, err = rendered(folder); err != nil {
			return nil, fmt.Errorf("reading what is rendered: %w", err)
		}
	}
	return all, nil
}

// ofOrigin refuses manifests that Argo CD reads from elsewhere than the branch to which the images are pushed.
func (m *manifests) ofOrigin(ctx context.Context, root string) error {
	origin, err := gitText(ctx, root, "config", "--get", "remote.origin.url")
	if err != nil {
		return fmt.Errorf("reading the address of origin: %w", err)
	}
	// A repository has more than one address, and that of origin may have a token in it.
	if want, has := repositoryName(m.url), repositoryName(origin); want != has {
		return fmt.Errorf("%s:delivery.git.url is %s, and origin is the repository %s: make record PUSH=1 commits to origin alone",
			project, m.url, has)
	}
	if m.branch != mainBranch {
		return fmt.Errorf("%s:delivery.git.branch is %s: make record PUSH=1 commits to %s alone", project, m.branch, mainBranch)
	}
	return nil
}

// repositoryName is what two addresses of a repository have in common, host/owner/name in small letters: neither the
// scheme nor the user, who may have a token.
func repositoryName(address string) string {
	if !strings.Contains(address, "://") { // user@host:owner/name, or a folder
		address = "ssh://" + strings.Replace(address, ":", "/", 1)
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(u.Hostname()+u.Path, "/"), ".git"))
}

// complete refuses a release without the image of a program that the stack has, before anything is written.
func (r *recording) complete(m *manifests, has map[string]string, stackFile string) error {
	_, _, err := withImages(r.release, stackFile, has)
	errs := []error{err}
	for _, program := range slices.Sorted(maps.Keys(has)) {
		if r.release.Images[program] == "" {
			errs = append(errs, fmt.Errorf("%s has %s, and the release has no image of it: add apps/%s, or remove the folder",
				m.path, program, program))
		}
	}
	return errors.Join(errs...)
}

// refuseTakenBack refuses a release whose images main had at a commit and has no more: its canary was aborted, or a person
// has reverted it. To write them again would ship what was taken back.
func (r *recording) refuseTakenBack(ctx context.Context, at, folder string) error {
	var errs []error
	for _, program := range slices.Sorted(maps.Keys(r.release.Images)) {
		_, digest, _ := strings.Cut(r.release.Images[program], "@")
		file := path.Join(folder, program, "kustomization.yaml")
		had, err := gitText(ctx, r.w.Root, "show", at+":"+file)
		if err != nil || !strings.Contains(had, digest) {
			continue // it is not in the manifests, or the release was of a tree with changes
		}
		if now, err := gitText(ctx, r.w.Root, "show", "FETCH_HEAD:"+file); err == nil && strings.Contains(now, digest) {
			continue
		}
		by, err := gitText(ctx, r.w.Root, "log", "-1", "--format=%h, %s", "FETCH_HEAD", "--", file)
		if err != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("%s had %s of the release of %s, which was taken back (%s): it is not written again. "+
			"Release another commit, or revert that one", mainBranch, program, r.release.Commit, by))
	}
	return errors.Join(errs...)
}

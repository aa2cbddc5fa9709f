package images

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Redis is the upstream name of the image of Argo CD's cache.
const Redis = "docker.io/library/redis:7.0.15"

const (
	// redisProgram is redis-server under the name by which Debian's redis-tools, whose installation
	// starts no server, has it: the program goes by its own name.
	redisProgram = "redis-check-rdb"
	redisServer  = "/usr/local/bin/redis-server"
)

// argoCDNames are the programs that the binary is, by its name.
var argoCDNames = []string{"argocd-application-controller", "argocd-repo-server", "argocd-git-ask-pass", "kustomize"}

// PushArgoCD packs the image from the binary, and from the git of this machine with the libraries
// that it loads: Argo CD's repository server fetches with it.
func (r Registry) PushArgoCD(ctx context.Context, binary string) error {
	files, err := argoCDFiles(ctx, binary)
	if err != nil {
		return fmt.Errorf("collecting the files of %s: %w", toolchain.ArgoCD.Image, err)
	}
	return r.PushProcess(ctx, toolchain.ArgoCD.Image, Process{Env: []string{"PATH=/usr/local/bin:/usr/bin"}}, files...)
}

func argoCDFiles(ctx context.Context, binary string) ([]File, error) {
	program, err := Program(binary, toolchain.ArgoCD.Path)
	if err != nil {
		return nil, err
	}
	files := append(Base(), program, File{Path: "tmp/", Mode: 0o1777}, File{Path: "home/argocd/", Mode: 0o755})
	for _, name := range argoCDNames {
		files = append(files, File{Path: "usr/local/bin/" + name, Link: toolchain.ArgoCD.Path})
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("this machine has no git: install it: %w", err)
	}
	folder, err := command.Command{Args: []string{git, "--exec-path"}}.Text(ctx)
	if err != nil {
		return nil, err
	}
	remote := filepath.Join(folder, "git-remote-http")
	linked, err := withLibraries(ctx, map[string]string{git: "/usr/bin/git", remote: remote})
	if err != nil {
		return nil, err
	}
	return slices.Concat(files, linked, []File{
		{Path: strings.TrimPrefix(folder, "/") + "/git", Link: "/usr/bin/git"},
		{Path: strings.TrimPrefix(folder, "/") + "/git-remote-https", Link: remote},
	}), nil
}

// PushRedis packs the image from this machine's program, which Debian's redis-tools has.
func (r Registry) PushRedis(ctx context.Context) error {
	program, err := exec.LookPath(redisProgram)
	if err != nil {
		return fmt.Errorf("this machine has no %s: install redis-tools: %w", redisProgram, err)
	}
	files, err := withLibraries(ctx, map[string]string{program: redisServer})
	if err != nil {
		return fmt.Errorf("collecting the files of %s: %w", Redis, err)
	}
	return r.PushProcess(ctx, Redis, Process{Entrypoint: []string{redisServer}}, append(Base(), files...)...)
}

// withLibraries returns programs of this machine, each with its path in the image, and the libraries
// that they load.
func withLibraries(ctx context.Context, programs map[string]string) ([]File, error) {
	var files []File
	for path, at := range programs {
		// Debian's alternatives are links.
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, err
		}
		libraries, err := hostLibraries(ctx, real, []string{real}) // no library is inside of it
		if err != nil {
			return nil, err
		}
		program, err := Program(real, at)
		if err != nil {
			return nil, err
		}
		for _, f := range append(libraries, program) {
			if !slices.ContainsFunc(files, func(known File) bool { return known.Path == f.Path }) {
				files = append(files, f)
			}
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

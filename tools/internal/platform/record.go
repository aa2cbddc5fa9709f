package platform

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// mainBranch is the branch that says what runs.
const mainBranch = "main"

// Record writes the digests of the last make publish into the stack file of an environment and, if told so,
// commits that alone to the branch main of origin, on top of what others have pushed meanwhile.
func Record(ctx context.Context, w Workspace, r settings.Record) error {
	release, err := publish.Read(w.releaseFile())
	if err != nil {
		return err
	}
	name := "Pulumi." + r.Stack + ".yaml"
	changed, err := writeImages(release, filepath.Join(w.Root, name))
	if err != nil {
		return err
	}
	w.Out.Step("%s has the images of %s, %d of them new", name, release.Commit, changed)
	if !r.Push {
		return nil
	}
	return pushImages(ctx, w, release, r.Stack)
}

var (
	imagesBlock = regexp.MustCompile(`(?m)^  ` + project + `:images:[ \t]*\n((?:    [^\n]*\n)*)`)
	// moved is what git says when others have pushed before, or in the same moment.
	moved     = regexp.MustCompile(`fetch first|non-fast-forward|cannot lock ref`)
	imageLine = regexp.MustCompile(`(?m)^    ([a-z0-9-]+):[ \t]*(\S+)[ \t]*$`)
)

// writeImages replaces the images in a stack file, whose other lines stay as they are, and returns how many are
// other ones.
func writeImages(release *publish.Release, path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	text, name := string(b), filepath.Base(path)
	block := imagesBlock.FindStringSubmatchIndex(text)
	if block == nil {
		return 0, fmt.Errorf("%s has no %s:images", name, project)
	}
	changed, named := 0, map[string]bool{}
	var errs []error
	lines := imageLine.ReplaceAllStringFunc(text[block[2]:block[3]], func(line string) string {
		parts := imageLine.FindStringSubmatch(line)
		named[parts[1]] = true
		image, ok := release.Images[parts[1]]
		if !ok {
			errs = append(errs, fmt.Errorf("%s has an image of %s, and the release has none: remove its line, or add apps/%s",
				name, parts[1], parts[1]))
		}
		if image != parts[2] {
			changed++
		}
		return "    " + parts[1] + ": " + image
	})
	for _, program := range slices.Sorted(maps.Keys(release.Images)) {
		if !named[program] {
			lines += "    " + program + ": " + release.Images[program] + "\n"
			changed++
		}
	}
	if len(errs) > 0 || changed == 0 {
		return 0, errors.Join(errs...)
	}
	return changed, replaceFile(path, text[:block[2]]+lines+text[block[3]:])
}

// pushImages commits the images to main of origin. Its files are in a folder of their own: the working tree, from
// which the update runs, stays at its commit.
func pushImages(ctx context.Context, w Workspace, release *publish.Release, stack string) error {
	git := func(dir string, args ...string) error {
		return command.Command{Args: append([]string{"git", "-C", dir}, args...)}.Run(ctx)
	}
	var who []string
	if os.Getenv("GITHUB_ACTIONS") == "true" { // a job has no name of its own
		who = []string{"-c", "user.name=github-actions[bot]", "-c", "user.email=41898282+github-actions[bot]@users.noreply.github.com"}
	}
	tree := w.Local("record")
	defer func() { _ = git(w.Root, "worktree", "remove", "--force", tree) }()
	var rejected error
	for range 3 {
		_ = git(w.Root, "worktree", "remove", "--force", tree) // of a run that was killed
		if err := git(w.Root, "fetch", "--depth=1", "origin", mainBranch); err != nil {
			return fmt.Errorf("reading %s of origin: %w", mainBranch, err)
		}
		if err := git(w.Root, "worktree", "add", "--detach", tree, "FETCH_HEAD"); err != nil {
			return err
		}
		changed, err := writeImages(release, filepath.Join(tree, "Pulumi."+stack+".yaml"))
		if err != nil {
			return err
		}
		if changed == 0 {
			w.Out.Step("%s of origin has these images already", mainBranch)
			return nil
		}
		message := fmt.Sprintf("%s: images of %s", stack, release.Commit)
		if err := git(tree, append(who, "commit", "--quiet", "--message", message, "--", "Pulumi."+stack+".yaml")...); err != nil {
			return err
		}
		rejected = git(tree, "push", "origin", "HEAD:refs/heads/"+mainBranch)
		if rejected == nil {
			w.Out.Step("pushed %q to %s", message, mainBranch)
			return nil
		}
		if !moved.MatchString(rejected.Error()) {
			return fmt.Errorf("pushing the digests: %w\nNothing was deployed. If the branch is protected, let the workflow push to it; "+
				"then run the job again", rejected)
		}
		w.Out.Step("somebody has pushed to %s meanwhile: once more on top of that", mainBranch)
	}
	return fmt.Errorf("pushing the digests: %s moved three times meanwhile, and nothing was deployed: run the job again: %w",
		mainBranch, rejected)
}

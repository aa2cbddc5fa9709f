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
	"strings"

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
		_, err := gitText(ctx, dir, args...)
		return err
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
		if err := fetchMain(ctx, w.Root); err != nil {
			return err
		}
		if err := refuseOlder(ctx, w.Root, release, stack); err != nil {
			return err
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
		message := recordSubject(stack) + release.Commit
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

// gitText runs git, whose messages are those in English that moved knows.
func gitText(ctx context.Context, dir string, args ...string) (string, error) {
	return command.Command{Args: append([]string{"git", "-C", dir}, args...), Env: []string{"LC_ALL=C"}}.Text(ctx)
}

// fetchMain fetches main of origin with its history, which a job's checkout does not have.
func fetchMain(ctx context.Context, root string) error {
	shallow, err := gitText(ctx, root, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return err
	}
	args := []string{"fetch", "origin", mainBranch}
	if shallow == "true" {
		args = []string{"fetch", "--unshallow", "origin", mainBranch}
	}
	if _, err := gitText(ctx, root, args...); err != nil {
		return fmt.Errorf("reading %s of origin: %w", mainBranch, err)
	}
	return nil
}

// recordSubject begins the subject of a commit with digests; the commit of the release follows.
func recordSubject(stack string) string { return stack + ": images of " }

// refuseOlder refuses a release of a commit that comes before the one whose images main has, as when an old job is run
// again. Of a commit that main does not have, nothing is known.
func refuseOlder(ctx context.Context, root string, release *publish.Release, stack string) error {
	subject, err := gitText(ctx, root, "log", "-1", "--format=%s", "--grep=^"+recordSubject(stack), "FETCH_HEAD",
		"--", "Pulumi."+stack+".yaml")
	if err != nil {
		return err
	}
	clean := func(commit string) string { return strings.TrimSuffix(commit, "-dirty") }
	recorded, found := strings.CutPrefix(subject, recordSubject(stack))
	if !found || clean(recorded) == clean(release.Commit) {
		return nil
	}
	if _, err := gitText(ctx, root, "merge-base", "--is-ancestor", clean(release.Commit), clean(recorded)); err != nil {
		return nil //nolint:nilerr // it is no ancestor, or unknown
	}
	return fmt.Errorf("%s has the images of %s for %s already, and the release of %s is an older one: nothing was deployed. "+
		"To go back, revert what is wrong on %s; its release follows", mainBranch, recorded, stack, release.Commit, mainBranch)
}

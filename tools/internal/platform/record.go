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
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// mainBranch is the branch that says what runs.
const mainBranch = "main"

// Record writes the digests of the last make publish into the stack file of an environment and, if Argo CD delivers
// there, those of the services into its manifests instead. If told so, it commits that alone to the branch main of
// origin, on top of what others have pushed meanwhile.
func Record(ctx context.Context, w Workspace, r settings.Record) error {
	return record(ctx, w, r, renderManifests)
}

// record is Record with what make render does.
func record(ctx context.Context, w Workspace, r settings.Record, render renderer) error {
	release, err := publish.Read(w.releaseFile())
	if err != nil {
		return err
	}
	rec := recording{w: w, release: release, stack: r.Stack, render: render}
	if r.Push { // the update reads no manifests
		render = nil
	}
	changed, err := rec.write(ctx, w.Root, render)
	if err != nil {
		return err
	}
	w.Out.Step("%s has the images of %s, %d of them new", rec.stackFile(), release.Commit, changed)
	if !r.Push {
		return nil
	}
	return rec.push(ctx)
}

// recording is a release on its way into git, for one stack.
type recording struct {
	w       Workspace
	release *publish.Release
	stack   string
	render  renderer
}

func (r *recording) stackFile() string { return "Pulumi." + r.stack + ".yaml" }

// write writes the images into a working tree, and returns how many are other ones. Without a renderer, the manifests
// stay as they are.
func (r *recording) write(ctx context.Context, root string, render renderer) (int, error) {
	file := filepath.Join(root, r.stackFile())
	m, err := r.manifests(root)
	if err != nil {
		return 0, err
	}
	if m == nil {
		return writeImages(r.release, file, nil)
	}
	before, err := m.digests()
	if err != nil {
		return 0, err
	}
	if err := r.complete(m, before, file); err != nil {
		return 0, err
	}
	if render == nil {
		return writeImages(r.release, file, before)
	}
	if err := render(ctx, root, r.stack, m.folder, r.w.releaseFile()); err != nil {
		return 0, err
	}
	after, err := m.digests()
	if err != nil {
		return 0, err
	}
	changed, err := writeImages(r.release, file, after)
	for program, image := range after {
		if before[program] != image {
			changed++
		}
	}
	return changed, err
}

// there tells whether a working tree has the images already.
func (r *recording) there(root string) (bool, error) {
	m, err := r.manifests(root)
	if err != nil {
		return false, err
	}
	var has map[string]string
	if m != nil {
		if has, err = m.digests(); err != nil {
			return false, err
		}
	}
	for program, image := range has {
		if r.release.Images[program] != image {
			return false, nil
		}
	}
	_, changed, err := withImages(r.release, filepath.Join(root, r.stackFile()), has)
	return changed == 0, err
}

var (
	imagesBlock = regexp.MustCompile(`(?m)^  ` + project + `:images:[ \t]*\n((?:    [^\n]*\n)*)`)
	// moved is what git says when others have pushed before, or in the same moment.
	moved     = regexp.MustCompile(`fetch first|non-fast-forward|cannot lock ref`)
	imageLine = regexp.MustCompile(`(?m)^    ([a-z0-9-]+):[ \t]*(\S+)[ \t]*$`)
)

// writeImages replaces the images in a stack file, whose other lines stay as they are, and returns how many are
// other ones. Those of programs in manifests are not its own.
func writeImages(release *publish.Release, path string, manifests map[string]string) (int, error) {
	text, changed, err := withImages(release, path, manifests)
	if err != nil || changed == 0 {
		return 0, err
	}
	return changed, replaceFile(path, text)
}

// withImages returns what writeImages writes.
func withImages(release *publish.Release, path string, manifests map[string]string) (string, int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", 0, err
	}
	text, name := string(b), filepath.Base(path)
	block := imagesBlock.FindStringSubmatchIndex(text)
	if block == nil {
		return "", 0, fmt.Errorf("%s has no %s:images", name, project)
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
		if _, elsewhere := manifests[parts[1]]; elsewhere {
			return line
		}
		if image != parts[2] {
			changed++
		}
		return "    " + parts[1] + ": " + image
	})
	for _, program := range slices.Sorted(maps.Keys(release.Images)) {
		if _, elsewhere := manifests[program]; !named[program] && !elsewhere {
			lines += "    " + program + ": " + release.Images[program] + "\n"
			changed++
		}
	}
	return text[:block[2]] + lines + text[block[3]:], changed, errors.Join(errs...)
}

// push commits the images to main of origin. Its files are in a folder of their own: the working tree, from which the
// update runs, stays at its commit.
func (r *recording) push(ctx context.Context) error {
	w := r.w
	git := func(dir string, args ...string) error {
		_, err := gitText(ctx, dir, args...)
		return err
	}
	var who []string
	if os.Getenv("GITHUB_ACTIONS") == "true" { // a job has no name of its own
		who = []string{"-c", "user.name=github-actions[bot]", "-c", "user.email=41898282+github-actions[bot]@users.noreply.github.com"}
	}
	folder, tree := w.Local("record"), w.Local("record", "tree")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	lock, err := process.AwaitLock(ctx, folder, func(held *process.HeldError) {
		w.Out.Step("waiting for process %d, which records too", held.PID)
	})
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	defer func() { _ = git(w.Root, "worktree", "remove", "--force", tree) }()
	var rejected error
	for range 3 {
		_ = git(w.Root, "worktree", "remove", "--force", tree) // of a run that was killed
		if err := fetchMain(ctx, w.Root); err != nil {
			return err
		}
		if err := git(w.Root, "worktree", "add", "--detach", tree, "FETCH_HEAD"); err != nil {
			return err
		}
		files, err := r.files(ctx, tree)
		if err != nil {
			return err
		}
		if err := r.refuse(ctx, files); err != nil {
			return err
		}
		if err := r.refuseTakenBackElsewhere(ctx, tree); err != nil {
			return err
		}
		there, err := r.there(tree)
		if err != nil {
			return err
		}
		if there {
			w.Out.Step("%s of origin has these images already", mainBranch)
			return nil
		}
		if _, err := r.write(ctx, tree, r.render); err != nil {
			return err
		}
		if err := git(tree, append([]string{"add", "--all", "--"}, files...)...); err != nil {
			return err
		}
		message := recordSubject(r.stack) + r.release.Commit
		if err := git(tree, append(append(who, "commit", "--quiet", "--message", message, "--"), files...)...); err != nil {
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

// files are what a recording may change in a working tree, from its root.
func (r *recording) files(ctx context.Context, tree string) ([]string, error) {
	files := []string{r.stackFile()}
	m, err := r.manifests(tree)
	if err != nil || m == nil {
		return files, err
	}
	return append(files, m.path), m.ofOrigin(ctx, r.w.Root)
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

// recorded returns the last commit with digests that touches the files, and the commit of the release that it has; both
// are empty if there is none.
func (r *recording) recorded(ctx context.Context, files []string) (at, released string, err error) {
	last := []string{"log", "-1", "--format=%H %s", "--grep=^" + recordSubject(r.stack), "FETCH_HEAD", "--"}
	line, err := gitText(ctx, r.w.Root, append(last, files...)...)
	if err != nil {
		return "", "", err
	}
	at, subject, _ := strings.Cut(line, " ")
	released, found := strings.CutPrefix(subject, recordSubject(r.stack))
	if !found {
		return "", "", nil
	}
	return at, clean(released), nil
}

func clean(commit string) string { return strings.TrimSuffix(commit, "-dirty") }

// refuse refuses a release of a commit that comes before the one whose images main has, as when an old job is run
// again, and one that was taken back since main had it. Of a commit that main does not have, nothing is known.
func (r *recording) refuse(ctx context.Context, files []string) error {
	at, recorded, err := r.recorded(ctx, files)
	if err != nil || at == "" {
		return err
	}
	release := clean(r.release.Commit)
	if recorded == release {
		if len(files) > 1 {
			return r.refuseTakenBack(ctx, at, files[1])
		}
		return nil
	}
	if _, err := gitText(ctx, r.w.Root, "merge-base", "--is-ancestor", release, recorded); err != nil {
		return nil //nolint:nilerr // it is no ancestor, or unknown
	}
	return fmt.Errorf("%s has the images of %s for %s already, and the release of %s is an older one: nothing was deployed. "+
		"To go back, revert what is wrong on %s; its release follows", mainBranch, recorded, r.stack, r.release.Commit, mainBranch)
}

// refuseTakenBackElsewhere refuses a release that was taken back in another environment, as in dev while prod waited
// for its approval.
func (r *recording) refuseTakenBackElsewhere(ctx context.Context, tree string) error {
	stackFiles, err := filepath.Glob(filepath.Join(tree, "Pulumi.*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range stackFiles {
		other := *r
		other.stack = strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "Pulumi."), ".yaml")
		m, err := other.manifests(tree)
		if err != nil || m == nil || other.stack == r.stack || m.ofOrigin(ctx, r.w.Root) != nil {
			continue // it is not delivered from these manifests, so they say nothing about it
		}
		at, recorded, err := other.recorded(ctx, []string{m.path})
		if err != nil {
			return err
		}
		if at == "" || recorded != clean(r.release.Commit) {
			continue
		}
		if err := other.refuseTakenBack(ctx, at, m.path); err != nil {
			return fmt.Errorf("in %s: %w", other.stack, err)
		}
	}
	return nil
}

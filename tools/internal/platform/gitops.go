package platform

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/infra/rollout"
	"github.com/loja-veloz/platform/tools/internal/cluster"
	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/gitserver"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

const (
	// argoNamespace is that of Argo CD and its Applications.
	argoNamespace = "argocd"
	// servicesFolder is the folder of the repository with a directory for each service.
	servicesFolder = "services"
	// syncPatience is how long Argo CD may take to apply a commit. A change of the schema, which comes
	// before the Rollout, may take 10 minutes.
	syncPatience = 13 * time.Minute
)

// delivers reads whether Argo CD delivers: DELIVERY, or else the stack file.
func (s *shipment) delivers() error {
	configured, err := Pulumi{stackFile: stackFile(s.w)}.configured()
	if err != nil {
		return err
	}
	s.mode = s.w.Delivery
	if s.mode == "" {
		s.mode = valueAt(configured, project+":delivery.mode")
	}
	if s.gitops() && !s.w.bundled() {
		return errors.New("delivery by GitOps needs the bundled cluster, which has the git server: unset KUBE_CONTEXT, or DELIVERY=pulumi")
	}
	return nil
}

func (s *shipment) gitops() bool { return s.mode == settings.GitOps }

// prepareDelivery puts the credentials into the cluster that are in no plan and no state: those of
// the git repository's writer, and the password of Argo CD's cache.
func (s *shipment) prepareDelivery(ctx context.Context) error {
	if !s.gitops() {
		return nil
	}
	c, err := s.w.cluster()
	if err != nil {
		return err
	}
	token, err := gitserver.Token(c.GitFolder())
	if err != nil {
		return err
	}
	k, err := openKubectl(s.w)
	if err != nil {
		return err
	}
	secret := func(name string, data map[string]string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": argoNamespace}, "stringData": data,
		}
	}
	objects := []any{
		map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": argoNamespace}},
		secret("git-writer", map[string]string{"username": gitserver.User, "password": token}),
	}
	there, err := k.Text(ctx, "-n", argoNamespace, "get", "secret", "argocd-redis", "--ignore-not-found", "-o", "name")
	if err != nil {
		return err
	}
	if there == "" {
		objects = append(objects, secret("argocd-redis", map[string]string{"auth": rand.Text()}))
	}
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return err
	}
	apply := k.Command("apply", "--server-side", "--force-conflicts", "-f", "-")
	apply.Stdin = strings.NewReader(string(list))
	return apply.Run(ctx)
}

// release commits the digests of the images built, and waits until Argo CD has applied them. Without
// GitOps it does nothing.
func (s *shipment) release(ctx context.Context) error {
	if !s.gitops() {
		return nil
	}
	c, err := openRollouts(s.w)
	if err != nil {
		return err
	}
	d, err := s.openDeployments(ctx)
	if err != nil {
		return err
	}
	d.admit = c.admitted
	began := time.Now()
	commit, released, err := d.push(ctx, s.message, s.render)
	if err != nil {
		return err
	}
	if len(released) == 0 {
		s.w.Out.Step("git has these versions already, at commit %.12s", commit)
	} else {
		s.w.Out.Step("committed %s as %.12s", strings.Join(released, ", "), commit)
	}
	if err := s.awaitSync(ctx, d, commit, released); err != nil {
		return err
	}
	s.w.Out.Step("Argo CD has applied it, %s after the release began", console.Round(time.Since(began)))
	return nil
}

// watchRelease watches what Argo CD has applied. Without GitOps, pulumi up has watched it.
func (s *shipment) watchRelease(ctx context.Context) error {
	if !s.gitops() {
		return nil
	}
	return watchAll(ctx, s.w, s.pulumi, s.shipped, true)
}

// admitted refuses services whose folder has an image or settings that are quarantined.
func (c *rollouts) admitted(ctx context.Context, folder string, services []string) error {
	quarantine, err := c.quarantine(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, service := range services {
		image, settings, err := rendered(filepath.Join(folder, service))
		if err != nil {
			errs = append(errs, fmt.Errorf("reading what is rendered of %s: %w", service, err))
		}
		for _, e := range quarantine.Blocked(service, image, settings) {
			errs = append(errs, fmt.Errorf("%s: %w", service, &rollout.QuarantinedError{Service: service, Entry: e}))
		}
	}
	return errors.Join(errs...)
}

// rendered reads a service's image and the name of its settings. What does not run any more has
// neither, and a program without a Rollout no settings.
func rendered(folder string) (image, settings string, err error) {
	for _, name := range []string{"kustomization.yaml", "rollout.yaml"} {
		text, err := os.ReadFile(filepath.Join(folder, name)) // #nosec G304 -- a file of the clone
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		var fields any
		if err := yaml.Unmarshal(text, &fields); err != nil {
			return "", "", fmt.Errorf("%s: %w", name, err)
		}
		raw, err := json.Marshal(fields)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w", name, err)
		}
		var object struct {
			rollout.Rollout
			Images []struct{ Name, Digest string }
		}
		if err := json.Unmarshal(raw, &object); err != nil {
			return "", "", fmt.Errorf("%s: %w", name, err)
		}
		for _, i := range object.Images {
			image = i.Name + "@" + i.Digest
		}
		settings = object.Version().Settings
	}
	return image, settings, nil
}

// render writes the manifests into a clone of the repository. A program whose image was not built
// keeps the digest that git has, which may be that of a rollback.
func (s *shipment) render(ctx context.Context, folder string) error {
	digests := s.w.Local("digests.json") // release.json is what make publish has written
	text, err := json.Marshal(s.digests)
	if err != nil {
		return err
	}
	if err := os.WriteFile(digests, text, 0o600); err != nil {
		return err
	}
	render := s.pulumi.base
	render.Args = []string{s.w.Local("environment"), "render", "-stack", stack, "-out", folder, "-digests", digests}
	return render.Run(ctx)
}

// message is that of a release's commit.
func (s *shipment) message(released []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "release: %s\n\n", strings.Join(released, ", "))
	for _, service := range released {
		if image, built := s.digests[service]; built {
			fmt.Fprintf(&b, "%s: %s\n", service, image)
		}
	}
	fmt.Fprintf(&b, "Released-By: %s\n", rollout.Actor(os.Getenv))
	return b.String()
}

// application is what is read of an Application of Argo CD.
type application struct {
	Metadata struct{ Name string }
	Status   struct {
		Sync           struct{ Status, Revision string }
		OperationState struct {
			Phase, Message string
			SyncResult     struct{ Revision string }
		}
		Conditions []struct{ Type, Message string }
	}
}

// awaitSync tells Argo CD to look now, and waits until it has applied a commit for the Applications that
// are released. A later commit, of another release or a rollback, has it too. It also waits for the
// first sync of every other one: all services are watched afterwards.
func (s *shipment) awaitSync(ctx context.Context, d *deployments, commit string, released []string) error {
	k, err := openKubectl(s.w)
	if err != nil {
		return err
	}
	if _, err := k.Text(ctx, "-n", argoNamespace, "annotate", "--overwrite", "applications.argoproj.io", "--all",
		"argocd.argoproj.io/refresh=normal"); err != nil {
		return err
	}
	var refused error
	err = process.Await(ctx, syncPatience, rollout.PollInterval, func(ctx context.Context) error {
		text, err := k.Text(ctx, "-n", argoNamespace, "get", "applications.argoproj.io", "-o", "json")
		if err != nil {
			return err
		}
		var list struct{ Items []application }
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return err
		}
		var waiting []string
		for _, a := range list.Items {
			if !slices.Contains(released, a.Metadata.Name) && a.ended() {
				continue
			}
			state, failed := a.at(func(revision string) bool { return d.has(ctx, revision, commit) })
			if failed {
				refused = fmt.Errorf("Argo CD cannot apply %s: %s", a.Metadata.Name, state)
			} else if state != "" {
				waiting = append(waiting, a.Metadata.Name+": "+state)
			}
		}
		if refused == nil && len(waiting) > 0 {
			return errors.New(strings.Join(waiting, "; "))
		}
		return nil
	}, nil)
	if refused != nil {
		return refused
	}
	if err != nil {
		return fmt.Errorf("Argo CD has not applied commit %.12s: %w", commit, err)
	}
	return nil
}

// ended tells whether an Application has been synced before, and is not now.
func (a application) ended() bool {
	phase := a.Status.OperationState.Phase
	return phase != "" && phase != "Running"
}

// at returns "" if an Application has applied a revision that has a commit, and otherwise its state.
// failed tells that it has tried, and tries no more.
func (a application) at(has func(revision string) bool) (state string, failed bool) {
	operation := a.Status.OperationState
	switch {
	case (operation.Phase == "Failed" || operation.Phase == "Error") && has(operation.SyncResult.Revision):
		return operation.Message, true
	case a.Status.Sync.Status == "Synced" && has(a.Status.Sync.Revision):
		return "", false
	}
	for _, c := range a.Status.Conditions {
		if strings.HasSuffix(c.Type, "Error") {
			// Its comparison is a dry run, which a policy of the API server may refuse.
			return c.Message, strings.Contains(c.Message, "denied request") && has(a.Status.Sync.Revision)
		}
	}
	return fmt.Sprintf("%s at %.12s, operation %s", a.Status.Sync.Status, a.Status.Sync.Revision, operation.Phase), false
}

// deployments is a clone of the repository that Argo CD deploys from.
type deployments struct {
	dir, url, branch string
	env              []string
	out              *console.Console
	// admit refuses the services of the folder before they are committed; nil refuses none.
	admit func(ctx context.Context, folder string, services []string) error
}

// openDeployments returns the clone in .local, whose origin is the bundled cluster's git server.
func (s *shipment) openDeployments(context.Context) (*deployments, error) {
	c, err := s.w.cluster()
	if err != nil {
		return nil, err
	}
	token, err := gitserver.Token(c.GitFolder())
	if err != nil {
		return nil, err
	}
	return newDeployments(s.w.Local("deployments"), cluster.GitURL, cluster.GitBranch, token, s.w.Out), nil
}

func newDeployments(dir, url, branch, token string, out *console.Console) *deployments {
	basic := base64.StdEncoding.EncodeToString([]byte(gitserver.User + ":" + token))
	const who = "release"
	return &deployments{dir: dir, url: url, branch: branch, out: out, env: []string{
		// Nothing that a person has set for other repositories counts, and no argument has the token.
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http." + url + ".extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic " + basic,
		"GIT_AUTHOR_NAME=" + who, "GIT_AUTHOR_EMAIL=" + who + "@loja-veloz.invalid",
		"GIT_COMMITTER_NAME=" + who, "GIT_COMMITTER_EMAIL=" + who + "@loja-veloz.invalid",
	}}
}

func (d *deployments) git(ctx context.Context, args ...string) (string, error) {
	return command.Command{Args: append([]string{"git", "-C", d.dir}, args...), Env: d.env}.Text(ctx)
}

// has tells whether a revision is a commit or comes after it. It changes no branch of the clone.
func (d *deployments) has(ctx context.Context, revision, commit string) bool {
	if revision == "" || revision == commit {
		return revision == commit
	}
	if _, err := d.git(ctx, "cat-file", "-e", revision+"^{commit}"); err != nil {
		if _, err := d.git(ctx, "fetch", "--quiet", "--refmap=", "origin", "refs/heads/"+d.branch); err != nil {
			return false
		}
	}
	_, err := d.git(ctx, "merge-base", "--is-ancestor", commit, revision)
	return err == nil
}

// pushTries is how often a release is begun anew because the branch has moved.
const pushTries = 3

// push commits what write makes of the services' folder, and returns the commit and the services that
// it changes. If the branch has moved meanwhile, it writes again on what is there.
func (d *deployments) push(
	ctx context.Context, message func(services []string) string, write func(ctx context.Context, folder string) error,
) (commit string, services []string, err error) {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return "", nil, err
	}
	lock, err := process.AwaitLock(ctx, d.dir, func(held *process.HeldError) {
		d.out.Step("waiting for process %d, which releases too", held.PID)
	})
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = lock.Release() }()
	for range pushTries {
		if err := d.update(ctx); err != nil {
			return "", nil, err
		}
		folder := filepath.Join(d.dir, servicesFolder)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", nil, err
		}
		if err := write(ctx, folder); err != nil {
			return "", nil, err
		}
		if _, err := d.git(ctx, "add", "--all", "--", servicesFolder); err != nil {
			return "", nil, err
		}
		changed, err := d.git(ctx, "diff", "--cached", "--name-only", "--no-renames")
		if err != nil {
			return "", nil, err
		}
		if services = directories(changed); len(services) == 0 {
			commit, err := d.git(ctx, "rev-parse", "HEAD")
			return commit, nil, err
		}
		if d.admit != nil {
			if err := d.admit(ctx, folder, services); err != nil {
				return "", nil, err
			}
		}
		if _, err := d.git(ctx, "commit", "--quiet", "--no-verify", "-m", message(services)); err != nil {
			return "", nil, err
		}
		_, err = d.git(ctx, "push", "--quiet", "origin", "HEAD:refs/heads/"+d.branch)
		switch {
		case err == nil:
			commit, err := d.git(ctx, "rev-parse", "HEAD")
			return commit, services, err
		case !moved.MatchString(err.Error()):
			return "", nil, fmt.Errorf("pushing to %s: %w; if the git server does not answer, make up starts it again", d.url, err)
		}
		d.out.Step("the branch %s has moved: writing the release again on what is there now", d.branch)
	}
	return "", nil, fmt.Errorf("the branch %s of %s rejected the release %d times, because others push to it: run make deploy again",
		d.branch, d.url, pushTries)
}

// directories returns the services of changed files.
func directories(changed string) []string {
	found := map[string]bool{}
	for line := range strings.Lines(changed) {
		if parts := strings.Split(strings.TrimSpace(line), "/"); len(parts) > 2 && parts[0] == servicesFolder {
			found[parts[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// update makes the clone what the branch has. It says so if the branch was rewritten since this
// machine has seen it.
func (d *deployments) update(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(d.dir, ".git")); err != nil {
		if _, err := d.git(ctx, "init", "--quiet", "--initial-branch="+d.branch); err != nil {
			return err
		}
		if _, err := d.git(ctx, "remote", "add", "origin", d.url); err != nil {
			return err
		}
	}
	// The lock is a file of this folder.
	if err := os.WriteFile(filepath.Join(d.dir, ".git", "info", "exclude"), []byte("/lock\n"), 0o600); err != nil {
		return err
	}
	remote := "refs/remotes/origin/" + d.branch
	known, _ := d.git(ctx, "rev-parse", "--quiet", "--verify", remote) // there is none before the first fetch
	if _, err := d.git(ctx, "fetch", "--quiet", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*"); err != nil {
		return fmt.Errorf("the git server %s does not answer: %w; make up starts it again", d.url, err)
	}
	there, _ := d.git(ctx, "rev-parse", "--quiet", "--verify", remote)
	if known != "" {
		if _, err := d.git(ctx, "merge-base", "--is-ancestor", known, remote); err != nil {
			subject, _ := d.git(ctx, "log", "-1", "--format=%s", known)
			d.out.Step("the branch %s was force-pushed: it no longer has the commit %.12s (%s). The release goes on from what is there; "+
				"git -C %s log %.12s shows what is lost", d.branch, known, subject, d.dir, known)
		}
	}
	if there == "" { // nothing was released yet
		if _, err := d.git(ctx, "symbolic-ref", "HEAD", "refs/heads/"+d.branch); err != nil {
			return err
		}
		// A commit whose push has failed is made again.
		_, err := d.git(ctx, "update-ref", "-d", "refs/heads/"+d.branch)
		return err
	}
	if _, err := d.git(ctx, "checkout", "--quiet", "--force", "-B", d.branch, remote); err != nil {
		return err
	}
	_, err := d.git(ctx, "clean", "--quiet", "-fd")
	return err
}

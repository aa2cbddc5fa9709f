package publish

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// Source is what the images are built from.
type Source struct {
	Commit string    // ends with -dirty if the working tree differs from it
	Time   time.Time // of the commit
	Go     string    // version of Go
	Remote string    // URL of the repository, without credentials; empty if it has none
}

// ReadSource asks git and Go about the working tree at root.
func ReadSource(ctx context.Context, root string) (Source, error) {
	git := func(args ...string) (string, error) {
		return command.Command{Args: append([]string{"git"}, args...), Dir: root}.Text(ctx)
	}
	line, err := git("log", "-1", "--format=%H %ct")
	if err != nil {
		return Source{}, fmt.Errorf("make publish records the commit that it builds: %w", err)
	}
	commit, seconds, _ := strings.Cut(line, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Source{}, fmt.Errorf("git log printed %q: %w", line, err)
	}
	s := Source{Commit: commit, Time: time.Unix(unix, 0).UTC()}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return Source{}, err
	}
	if changed != "" {
		s.Commit += dirty
	}
	version := command.Command{Args: []string{"go", "env", "GOVERSION"}, Dir: filepath.Join(root, "apps"), Env: []string{"GOWORK=off"}}
	if s.Go, err = version.Text(ctx); err != nil {
		return Source{}, err
	}
	if url, err := git("remote", "get-url", "origin"); err == nil {
		s.Remote = withoutCredentials(url)
	}
	return s, nil
}

const dirty = "-dirty"

// Dirty reports whether the sources are those of no commit.
func (s Source) Dirty() bool { return strings.HasSuffix(s.Commit, dirty) }

// withoutCredentials returns a URL of HTTPS without user and password. Another address is a path of
// this machine, or names no user that matters, and is left out.
func withoutCredentials(url string) string {
	rest, found := strings.CutPrefix(url, "https://")
	if !found {
		return ""
	}
	if _, after, found := strings.Cut(rest, "@"); found {
		rest = after
	}
	return "https://" + rest
}

// environ are the variables that decide what Go compiles, with the values that it has for nobody's
// machine in particular, and the time that ko writes into images.
func (s Source) environ() []string {
	return []string{
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.Time.Unix()), fmt.Sprintf("KO_DATA_DATE_EPOCH=%d", s.Time.Unix()),
		"GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off", "GOTOOLCHAIN=local", "GODEBUG=", "KOCACHE=",
		"TZ=UTC", // ko writes the time with the zone of the machine
	}
}

// provenance returns the predicate of SLSA's provenance, version 1 (https://slsa.dev/spec/v1.0/provenance).
// A digest is of a commit alone, so a dirty tree has none.
func (s Source) provenance(program, registry string) map[string]any {
	source := map[string]any{"uri": "git+" + s.Remote}
	if s.Remote == "" {
		source["uri"] = "git"
	}
	if !s.Dirty() {
		source["digest"] = map[string]string{"gitCommit": s.Commit}
	}
	builder, invocation := "https://github.com/loja-veloz/platform/make-publish@v1", "local"
	if repository := os.Getenv("GITHUB_REPOSITORY"); repository != "" { // variables of GitHub's workflows
		server := os.Getenv("GITHUB_SERVER_URL")
		builder = server + "/" + os.Getenv("GITHUB_WORKFLOW_REF")
		invocation = server + "/" + repository + "/actions/runs/" + os.Getenv("GITHUB_RUN_ID") + "/attempts/" + os.Getenv("GITHUB_RUN_ATTEMPT")
	}
	return map[string]any{
		"buildDefinition": map[string]any{
			"buildType":            "https://github.com/loja-veloz/platform/make-publish@v1",
			"externalParameters":   map[string]any{"program": program, "registry": registry, "commit": s.Commit},
			"internalParameters":   map[string]any{"environment": s.environ()},
			"resolvedDependencies": []any{source, map[string]any{"name": "go", "uri": "https://go.dev/dl/#" + s.Go}},
		},
		"runDetails": map[string]any{
			"builder":  map[string]any{"id": builder},
			"metadata": map[string]any{"invocationId": invocation},
		},
	}
}

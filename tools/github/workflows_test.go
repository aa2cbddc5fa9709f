// Package github_test checks what GitHub and its robots read: workflows, owners, templates and
// Renovate's configuration.
package github_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/contract"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// makeTargets returns the Makefile's targets.
func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	targets := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[found[1]] = true
	}
	return targets
}

type workflow struct {
	On          yaml.Node      `yaml:"on"`
	Permissions yaml.Node      `yaml:"permissions"`
	Concurrency yaml.Node      `yaml:"concurrency"`
	Jobs        map[string]job `yaml:"jobs"`
}

type job struct {
	If          string    `yaml:"if"`
	Permissions yaml.Node `yaml:"permissions"`
	Concurrency yaml.Node `yaml:"concurrency"`
	Timeout     int       `yaml:"timeout-minutes"`
	Steps       []step    `yaml:"steps"`
}

type step struct {
	Uses yaml.Node         `yaml:"uses"`
	Run  string            `yaml:"run"`
	With map[string]string `yaml:"with"`
}

var (
	pinned  = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}$`)
	version = regexp.MustCompile(`^# v\d+(\.\d+){0,2}$`)
	// A command may run as root, with variables that it names.
	makeCommand = regexp.MustCompile(`^(?:sudo (?:--[\w=,-]+ )*(?:env (?:"[^"]*" |\w+=\S+ )*)?)?make ([a-z][a-z0-9-]*)(?: [A-Z_]+=(?:"[^"]*"|\S+))*$`)
	// What a workflow that a pull request starts may write: its comment, its findings, and a token for
	// a role that can only read.
	writableByPullRequest = []string{"pull-requests", "security-events", "id-token"}
)

// faults returns what is wrong with a workflow, a line per rule that it breaks.
func faults(text string, targets map[string]bool) []string {
	var w workflow
	if err := yaml.Unmarshal([]byte(text), &w); err != nil {
		return []string{err.Error()}
	}
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if w.Permissions.Kind != yaml.MappingNode || len(w.Permissions.Content) > 0 {
		fault("permissions of the workflow must be {}: each job names its own")
	}
	triggers := keys(w.On)
	for _, name := range slices.Sorted(maps.Keys(w.Jobs)) {
		j := w.Jobs[name]
		if w.Concurrency.IsZero() && j.Concurrency.IsZero() {
			fault("job %s: neither it nor the workflow has concurrency", name)
		}
		if j.Timeout < 1 {
			fault("job %s: timeout-minutes is missing", name)
		}
		found = append(found, permissionFaults(name, j.Permissions, triggers)...)
		if slices.Contains(triggers, "pull_request") && writes(j, "id-token") &&
			(!strings.HasPrefix(j.If, ours) || strings.Contains(j.If, "||")) {
			fault("job %s: a pull request from a fork must not have id-token: write: begin its if with %s", name, ours)
		}
		if writes(j, "contents") && writes(j, "id-token") {
			fault("job %s: contents: write and id-token: write: what runs in it could change both git and AWS", name)
		}
		if j.updates() && (cancels(w.Concurrency) || cancels(j.Concurrency) || w.Concurrency.IsZero() && j.Concurrency.IsZero()) {
			fault("job %s: an update must not be cancelled: set cancel-in-progress: false", name)
		}
		for i, s := range j.Steps {
			for _, f := range stepFaults(s, j, triggers, targets) {
				fault("job %s, step %d: %s", name, i+1, f)
			}
		}
	}
	return found
}

// ours is the condition that excludes forks.
const ours = "github.event.pull_request.head.repo.full_name == github.repository"

// updates reports whether a job changes a stack.
func (j job) updates() bool {
	return slices.ContainsFunc(j.Steps, func(s step) bool { return strings.Contains(s.Run, "make update") })
}

// cancels reports whether a run that is under way can be cancelled by the next one.
func cancels(concurrency yaml.Node) bool {
	for i := 0; i+1 < len(concurrency.Content); i += 2 {
		if concurrency.Content[i].Value == "cancel-in-progress" {
			return concurrency.Content[i+1].Value != "false"
		}
	}
	return false
}

// keys returns the keys of a mapping, the items of a list, or a scalar.
func keys(n yaml.Node) []string {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}
	}
	var found []string
	for i, c := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 0 {
			found = append(found, c.Value)
		}
	}
	return found
}

func permissionFaults(job string, permissions yaml.Node, triggers []string) []string {
	if permissions.Kind != yaml.MappingNode {
		return []string{fmt.Sprintf("job %s: permissions must list scopes", job)}
	}
	var found []string
	for i := 0; i < len(permissions.Content); i += 2 {
		scope, access := permissions.Content[i].Value, permissions.Content[i+1]
		if access.Value != "write" {
			continue
		}
		if access.LineComment == "" {
			found = append(found, fmt.Sprintf("job %s: %s: write has no comment that says what it writes", job, scope))
		}
		if slices.Contains(triggers, "pull_request") && !slices.Contains(writableByPullRequest, scope) {
			found = append(found, fmt.Sprintf("job %s: a pull request must not have %s: write", job, scope))
		}
	}
	return found
}

func stepFaults(s step, j job, triggers []string, targets map[string]bool) []string {
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if uses := s.Uses.Value; uses != "" && !strings.HasPrefix(uses, "./") {
		if !pinned.MatchString(uses) {
			fault("%s is not pinned by a commit", uses)
		} else if !version.MatchString(s.Uses.LineComment) {
			fault("%s has no comment with its version, such as # v4.2.2", uses)
		}
	}
	if strings.HasPrefix(s.Uses.Value, "actions/checkout@") {
		if s.With["persist-credentials"] != "false" && !writes(j, "contents") {
			fault("checkout must have persist-credentials: false")
		}
		privileged := slices.Contains(triggers, "pull_request_target") || slices.Contains(triggers, "workflow_run")
		if privileged && (s.With["ref"] != "" || s.With["repository"] != "") {
			fault("checkout of %s%s, with the rights of the main branch", s.With["repository"], s.With["ref"])
		}
	}
	for line := range strings.Lines(s.Run) {
		line = strings.TrimSpace(line)
		target := makeCommand.FindStringSubmatch(line)
		switch {
		case strings.Contains(line, "${{"):
			fault("%q: an expression in a command can be code; pass it by env", line)
		case target == nil:
			fault("%q is not a make target, which would run on a laptop too", line)
		case !targets[target[1]]:
			fault("make %s is not a target of the Makefile", target[1])
		}
	}
	return found
}

func writes(j job, scope string) bool {
	for i := 0; i+1 < len(j.Permissions.Content); i += 2 {
		if j.Permissions.Content[i].Value == scope && j.Permissions.Content[i+1].Value == "write" {
			return true
		}
	}
	return false
}

// workflows returns the paths of all workflows.
func workflows(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("workflows: %v, %v", paths, err)
	}
	for i := range paths {
		if paths[i], err = filepath.Rel(root, paths[i]); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func TestWorkflows(t *testing.T) {
	for _, name := range workflows(t) {
		for _, fault := range faults(read(t, name), makeTargets(t)) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// TestImagesAreScannedBeforeTheyAreReleased: the jobs that deploy get the digests as an artifact.
func TestImagesAreScannedBeforeTheyAreReleased(t *testing.T) {
	var w workflow
	if err := yaml.Unmarshal([]byte(read(t, ".github/workflows/release.yml")), &w); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range w.Jobs["publish"].Steps {
		action, _, _ := strings.Cut(s.Uses.Value, "@")
		steps = append(steps, action+s.Run)
	}
	publish, scan, upload := slices.Index(steps, "make publish"), slices.Index(steps, "make scan"), slices.Index(steps, "actions/upload-artifact")
	if publish < 0 || scan < publish || upload < scan {
		t.Errorf("the steps of publish are %q: want make publish, make scan, and then the upload", steps)
	}
}

// TestARollbackIsNoRelease: a rollback commits manifests alone, with a token whose pushes start workflows. Its release
// would give the code that was taken back other digests, which no quarantine knows.
func TestARollbackIsNoRelease(t *testing.T) {
	var w struct {
		On struct {
			Push struct {
				PathsIgnore []string `yaml:"paths-ignore"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, ".github/workflows/release.yml")), &w); err != nil {
		t.Fatal(err)
	}
	if want := []string{"stacks/environment/manifests/**"}; !slices.Equal(w.On.Push.PathsIgnore, want) {
		t.Errorf("a push is ignored if it changes %q alone, want %q", w.On.Push.PathsIgnore, want)
	}
}

// TestRulesOfWorkflows breaks each rule once.
func TestRulesOfWorkflows(t *testing.T) {
	const good = `
on:
  pull_request:
permissions: {}
concurrency: ci
jobs:
  ci:
    timeout-minutes: 5
    permissions:
      contents: read
      pull-requests: write # the comment
    steps:
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2
        with: {persist-credentials: false}
      - run: sudo --preserve-env=HOME,CI env "PATH=$PATH" make ci
      - run: |
          make preview STACK=dev DIFF=1
`
	targets := makeTargets(t)
	if found := faults(good, targets); len(found) > 0 {
		t.Fatalf("a good workflow has faults:\n%s", strings.Join(found, "\n"))
	}
	for _, c := range []struct{ old, broken, want string }{
		{"permissions: {}", "permissions: {contents: read}", "permissions of the workflow"},
		{"permissions: {}", "permissions: read-all", "permissions of the workflow"},
		{"concurrency: ci\n", "", "has concurrency"},
		{"    timeout-minutes: 5\n", "", "timeout-minutes"},
		{"    permissions:\n      contents: read\n      pull-requests: write # the comment\n", "", "must list scopes"},
		{" # the comment", "", "no comment that says what it writes"},
		{"contents: read", "contents: write # pushes", "must not have contents: write"},
		{"@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "@v4", "not pinned by a commit"},
		{" # v4.2.2", "", "no comment with its version"},
		{" # v4.2.2", " # main", "no comment with its version"},
		{"        with: {persist-credentials: false}\n", "", "persist-credentials"},
		{"DIFF=1", "REF=${{ github.head_ref }}", "can be code"},
		{"pull-requests: write # the comment", "id-token: write # a role", "a pull request from a fork must not have id-token: write"},
		{"pull-requests: write # the comment", "id-token: write # a role\n    if: " + ours + " || github.actor == 'ana'", "begin its if with"},
		{"concurrency: ci", "concurrency: {group: ci, cancel-in-progress: true}\nenv: {A: b}", ""},
		{"make preview STACK=dev DIFF=1", "pulumi preview -s dev", "is not a make target"},
		{"make preview STACK=dev DIFF=1", "make preview && curl example.com", "is not a make target"},
		{"make preview", "make previews", "make previews is not a target"},
	} {
		broken := strings.Replace(good, c.old, c.broken, 1)
		found := faults(broken, targets)
		if c.want == "" && len(found) == 0 {
			continue
		}
		if len(found) != 1 || !strings.Contains(found[0], c.want) {
			t.Errorf("%q instead of %q: faults are %q, want one with %q", c.broken, c.old, found, c.want)
		}
	}
	update := strings.NewReplacer("  pull_request:", "  push:", "make preview STACK=dev DIFF=1", "make update STACK=dev YES=1",
		"concurrency: ci", "concurrency: {group: ci, cancel-in-progress: '${{ true }}'}").Replace(good)
	if found := faults(update, targets); len(found) != 1 || !strings.Contains(found[0], "an update must not be cancelled") {
		t.Errorf("an update that the next one cancels: faults are %q", found)
	}
	both := strings.NewReplacer("  pull_request:", "  push:", "contents: read", "contents: write # pushes",
		"pull-requests: write # the comment", "id-token: write # a role").Replace(good)
	if found := faults(both, targets); len(found) != 1 || !strings.Contains(found[0], "could change both git and AWS") {
		t.Errorf("a job that pushes and has a role: faults are %q", found)
	}
	target := strings.NewReplacer("pull_request:", "pull_request_target:",
		"{persist-credentials: false}", "{persist-credentials: false, ref: '${{ github.event.pull_request.head.sha }}'}").Replace(good)
	if found := faults(target, targets); len(found) != 1 || !strings.Contains(found[0], "rights of the main branch") {
		t.Errorf("a checkout of the head by pull_request_target: faults are %q", found)
	}
}

// schemaFields returns the fields of the contract, each with the fields of its objects: environments.*.upRoleARN.
func schemaFields(t *testing.T) map[string]bool {
	t.Helper()
	type property struct {
		Properties map[string]json.RawMessage
		Additional json.RawMessage `json:"additionalProperties"`
	}
	var schema struct {
		Defs map[string]property `json:"$defs"`
	}
	if err := json.Unmarshal(contract.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	var walk func(path string, p property)
	walk = func(path string, p property) {
		below := maps.Clone(p.Properties)
		if below == nil {
			below = map[string]json.RawMessage{}
		}
		if len(p.Additional) > 0 && p.Additional[0] == '{' {
			below["*"] = p.Additional
		}
		for name, raw := range below {
			var nested property
			if err := json.Unmarshal(raw, &nested); err != nil {
				t.Fatal(err)
			}
			found[path+name] = true
			walk(path+name+".", nested)
		}
	}
	for _, kind := range []contract.Kind{contract.Account, contract.AWS} {
		walk("", schema.Defs[string(kind)])
	}
	return found
}

var (
	// A field of a variable that holds a contract, as fromJSON(vars.LOJA_ACCOUNT).environments[matrix.stack].upRoleARN.
	contractField = regexp.MustCompile(`fromJSON\((?:[^()]|\([^()]*\))*\)((?:\.\w+|\[[\w.]+\])+)`)
	stepOutput    = regexp.MustCompile(`steps\.outputs\.outputs\.(\w+)`)
	variableName  = regexp.MustCompile(`\b(vars|secrets)(?:\.(\w+)|\[format\('(\w+?_)\{0\}', matrix\.stack\)\])`)
)

// TestWorkflowsReadTheContract: what they read of make outputs is in its schema.
func TestWorkflowsReadTheContract(t *testing.T) {
	fields, seen := schemaFields(t), 0
	for _, name := range workflows(t) {
		text := read(t, name)
		var paths []string
		for _, match := range contractField.FindAllStringSubmatch(text, -1) {
			path := regexp.MustCompile(`\[[\w.]+\]`).ReplaceAllString(match[1], ".*")
			path = regexp.MustCompile(`^\.environments\.(dev|prod)\.`).ReplaceAllString(path, ".environments.*.")
			paths = append(paths, strings.TrimPrefix(path, "."))
		}
		for _, match := range stepOutput.FindAllStringSubmatch(text, -1) {
			paths = append(paths, match[1])
		}
		for _, path := range paths {
			if seen++; !fields[path] {
				t.Errorf("%s reads %s, which outputs.schema.json does not have", name, path)
			}
		}
		if n := strings.Count(text, "fromJSON("); n != len(contractField.FindAllString(text, -1)) {
			t.Errorf("%s: %d of %d uses of fromJSON are understood", name, len(contractField.FindAllString(text, -1)), n)
		}
	}
	if seen < 10 {
		t.Errorf("the workflows read %d fields of the contract: the expression does not match any more", seen)
	}
}

// TestVariablesOfWorkflowsAreDocumented: a person has to set them, and no secret.
func TestVariablesOfWorkflowsAreDocumented(t *testing.T) {
	page := read(t, "docs/delivery.md")
	used := map[string]bool{}
	for _, name := range workflows(t) {
		text := read(t, name)
		matches := variableName.FindAllStringSubmatch(text, -1)
		if n := len(regexp.MustCompile(`\b(vars|secrets)[.\[]`).FindAllString(text, -1)); n != len(matches) {
			t.Errorf("%s: %d of %d uses of variables are understood", name, len(matches), n)
		}
		for _, match := range matches {
			variable := match[2]
			if match[3] != "" {
				variable = match[3] + "ENVIRONMENT"
			}
			if match[1] == "secrets" {
				t.Errorf("%s reads the secret %s: jobs have tokens of their own by OIDC", name, variable)
			}
			if variable == "LOJA_DEV" || variable == "LOJA_PROD" {
				variable = "LOJA_ENVIRONMENT"
			}
			used[variable] = true
		}
	}
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(LOJA_\\w+)`").FindAllStringSubmatch(page, -1) {
		documented[match[1]] = true
	}
	if !maps.Equal(used, documented) {
		t.Errorf("the workflows use the variables %v, docs/delivery.md has %v", slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(documented)))
	}
}

// TestEnvironmentsAreThoseOfBootstrap: the trust policies of its roles name them.
func TestEnvironmentsAreThoseOfBootstrap(t *testing.T) {
	trust := read(t, "stacks/bootstrap/testdata/trust.json")
	for _, name := range workflows(t) {
		var w struct {
			Jobs map[string]struct {
				Environment yaml.Node `yaml:"environment"`
			} `yaml:"jobs"`
		}
		if err := yaml.Unmarshal([]byte(read(t, name)), &w); err != nil {
			t.Fatal(err)
		}
		for job, j := range w.Jobs {
			environment := j.Environment.Value
			for i := 0; i+1 < len(j.Environment.Content); i += 2 {
				if j.Environment.Content[i].Value == "name" {
					environment = j.Environment.Content[i+1].Value
				}
			}
			if environment == "" || environment == "bootstrap" { // whose role is not of this repository
				continue
			}
			for _, stack := range []string{"dev", "prod"} {
				environment := strings.ReplaceAll(environment, "${{ matrix.stack }}", stack)
				if !strings.Contains(trust, ":environment:"+environment+`"`) {
					t.Errorf("%s, job %s: no role of bootstrap trusts the environment %s", name, job, environment)
				}
			}
		}
	}
}

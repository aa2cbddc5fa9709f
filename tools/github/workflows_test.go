// Package github_test checks what GitHub and its robots read: workflows, owners, templates and
// Renovate's configuration.
package github_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
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
		for i, s := range j.Steps {
			for _, f := range stepFaults(s, j, triggers, targets) {
				fault("job %s, step %d: %s", name, i+1, f)
			}
		}
	}
	return found
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

func TestWorkflows(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("workflows: %v, %v", paths, err)
	}
	for _, path := range paths {
		name, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults(read(t, name), makeTargets(t)) {
			t.Errorf("%s: %s", name, fault)
		}
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
		{"make preview STACK=dev DIFF=1", "pulumi preview -s dev", "is not a make target"},
		{"make preview STACK=dev DIFF=1", "make preview && curl example.com", "is not a make target"},
		{"make preview", "make previews", "make previews is not a target"},
	} {
		broken := strings.Replace(good, c.old, c.broken, 1)
		found := faults(broken, targets)
		if len(found) != 1 || !strings.Contains(found[0], c.want) {
			t.Errorf("%q instead of %q: faults are %q, want one with %q", c.broken, c.old, found, c.want)
		}
	}
	target := strings.NewReplacer("pull_request:", "pull_request_target:",
		"{persist-credentials: false}", "{persist-credentials: false, ref: '${{ github.event.pull_request.head.sha }}'}").Replace(good)
	if found := faults(target, targets); len(found) != 1 || !strings.Contains(found[0], "rights of the main branch") {
		t.Errorf("a checkout of the head by pull_request_target: faults are %q", found)
	}
}

package contract

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// printed are the outputs of the stacks over mocks, which the tests of the module stacks write.
var printed = map[string]struct {
	kind Kind
	file string
}{
	"account": {Account, "bootstrap/testdata/outputs.json"},
	"dev":     {AWS, "environment/testdata/outputs-dev.json"},
	"prod":    {AWS, "environment/testdata/outputs-prod.json"},
	"runner":  {AWS, "environment/testdata/outputs-dev-runner.json"}, // dev, with a runner
	"local":   {Local, "environment/testdata/outputs-local.json"},
}

func read(t *testing.T, stack string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../stacks", printed[stack].file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// names are the fields of version 1 that are always there. Renaming or removing one needs another version.
var names = map[Kind][]string{
	Account: {
		"accountId", "backendURL", "environments", "kind", "pushRoleARN", "region", "registry", "repositoryURLs", "schemaVersion",
		"secretsProvider", "stack",
	},
	AWS: {
		"accountId", "clusterName", "gatewayURL", "images", "kind", "namespaces", "region", "registryURLs", "roleARNs", "schemaVersion",
		"services", "stack", "vpcID",
	},
	Local: {"gatewayURL", "images", "kind", "kubeContext", "namespaces", "schemaVersion", "services", "stack"},
}

// TestEveryStackKeepsTheContract: what the programs export is what the schema says, under the names of
// this version, and nothing else leaves the stack.
func TestEveryStackKeepsTheContract(t *testing.T) {
	for stack, p := range printed {
		c, err := Select(p.kind, stack, "make update STACK="+stack, read(t, stack))
		if err != nil {
			t.Errorf("%s: %v", stack, err)
			continue
		}
		want := names[p.kind]
		if stack == "runner" {
			want = slices.Sorted(slices.Values(append(slices.Clone(want), "runnerProject")))
		}
		if got := slices.Sorted(maps.Keys(c)); !slices.Equal(got, want) {
			t.Errorf("%s has the fields %v, version %d has %v", stack, got, SchemaVersion, want)
		}
		if text := string(c.JSON()); regexp.MustCompile(`(?i)\[secret\]|kubeconfig|password|"[^"]*(AKIA|BEGIN )`).MatchString(text) {
			t.Errorf("%s: the contract shows a secret:\n%s", stack, text)
		}
		for line := range strings.Lines(string(c.GitHub())) {
			if !regexp.MustCompile(`^[A-Za-z]+=[^\n]+\n$`).MatchString(line) {
				t.Errorf("%s: GitHub would not read the line %q", stack, line)
			}
		}
	}
}

func TestGitHubReadsObjectsByFromJSON(t *testing.T) {
	c := Outputs{"region": encoded("us-east-1"), "roleARNs": json.RawMessage("{\n \"up\": \"x\"\n}"), "schemaVersion": encoded(1)}
	if got, want := string(c.GitHub()), "region=us-east-1\nroleARNs={\"up\":\"x\"}\nschemaVersion=1\n"; got != want {
		t.Errorf("the lines are %q, want %q", got, want)
	}
}

// TestErrorsNameTheOutputAndTheUpdate changes the outputs of dev.
func TestErrorsNameTheOutputAndTheUpdate(t *testing.T) {
	const update = "make update STACK=dev YES=1"
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"never updated": {func(all map[string]any) { clear(all) }, []string{"the stack dev has no outputs, because no update has ended: run " + update}},
		"missing": {
			func(all map[string]any) { delete(all, "clusterName"); delete(all, "gatewayURL") },
			[]string{"has no output clusterName", "has no output gatewayURL", "run " + update},
		},
		"secret": {func(all map[string]any) { all["images"] = map[string]any{"pedidos": secret} }, []string{"the output images of the stack dev is secret"}},
		"invalid": {
			func(all map[string]any) { all["roleARNs"].(map[string]any)["up"] = "nobody"; all["region"] = 7 },
			[]string{"the output roleARNs.up is not what", "the output region is not what", "run " + update},
		},
	} {
		var all map[string]any
		if err := json.Unmarshal(read(t, "dev"), &all); err != nil {
			t.Fatal(err)
		}
		c.change(all)
		changed, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Select(AWS, "dev", update, changed)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error is %v, want one with %q", name, err, want)
			}
		}
	}
}

// TestDifferencesAreThoseOfFieldsThatStay: a variable with an earlier contract is compared with the stack.
func TestDifferencesAreThoseOfFieldsThatStay(t *testing.T) {
	now, err := Select(AWS, "dev", "", read(t, "runner"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"the same":      {func(map[string]any) {}, nil},
		"a release":     {func(all map[string]any) { all["images"] = map[string]any{}; delete(all, "services") }, nil},
		"another":       {func(all map[string]any) { all["vpcID"] = "vpc-1"; all["roleARNs"].(map[string]any)["up"] = "x" }, []string{"roleARNs", "vpcID"}},
		"before it had": {func(all map[string]any) { delete(all, "runnerProject") }, []string{"runnerProject"}},
		"no longer":     {func(all map[string]any) { all["old"] = 1 }, []string{"old"}},
	} {
		var all map[string]any
		if err := json.Unmarshal(now.JSON(), &all); err != nil {
			t.Fatal(err)
		}
		c.change(all)
		earlier, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := now.Differences(earlier); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v differ (%v), want %v", name, got, err, c.want)
		}
	}
	if _, err := now.Differences([]byte("arn:aws:...")); err == nil {
		t.Error("a text that is no contract is accepted")
	}
}

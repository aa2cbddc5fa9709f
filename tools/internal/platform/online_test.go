package platform

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/settings"
)

// programs puts scripts on PATH, in front of everything else.
func programs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// workspaceOf is one whose steps go to out, and whose folders are empty.
func workspaceOf(t *testing.T, out io.Writer) Workspace {
	t.Helper()
	return Open(t.TempDir(), settings.Machine{Cache: t.TempDir()}, console.New(out))
}

// onPath are a Pulumi with its plugins, whose other commands are a script's, and an AWS CLI that knows the
// caller.
func onPath(pulumi string) map[string]string {
	return map[string]string{
		"pulumi":             `[ "$1" = version ] && echo v3.258.0 && exit; ` + pulumi,
		"pulumi-language-go": "true", providerProgram: "true", "kubectl": "true",
		"aws": `echo '{"Arn": "arn:aws:sts::111122223333:assumed-role/loja-veloz-ci-dev-up/1"}'`,
	}
}

// TestNothingIsUpdatedWithoutACaller: without credentials, or with those that have expired, Pulumi is not
// even started.
func TestNothingIsUpdatedWithoutACaller(t *testing.T) {
	for said, want := range map[string]string{
		"Unable to locate credentials. You can configure credentials by running \"aws configure\".":                                                "There are no valid credentials",
		"An error occurred (ExpiredToken) when calling the GetCallerIdentity operation: The security token included in the request is expired":     "The credentials have expired: get new ones",
		"An error occurred (InvalidClientTokenId) when calling the GetCallerIdentity operation: The security token included in the request is bad": "There are no valid credentials",
	} {
		started := filepath.Join(t.TempDir(), "started")
		scripts := onPath("touch " + started)
		scripts["aws"] = "echo '" + said + "' >&2; exit 254"
		programs(t, scripts)
		err := Update(t.Context(), workspaceOf(t, io.Discard), settings.Update{Stack: "dev", Yes: true})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "before anything changes") {
			t.Errorf("%s: the error is %v, want one with %q", said, err, want)
		}
		if _, err := os.Stat(started); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: Pulumi was started", said)
		}
	}
}

// TestUpdateNeedsYes: without it the plan is printed and nothing is applied.
func TestUpdateNeedsYes(t *testing.T) {
	for yes, want := range map[bool]string{
		false: "--non-interactive preview --diff --stack dev --refresh", true: "--non-interactive up --yes --diff --suppress-permalink=true --stack dev",
	} {
		programs(t, onPath(`echo "asked: $*"`))
		var out bytes.Buffer
		if err := Update(t.Context(), workspaceOf(t, &out), settings.Update{Stack: "dev", Yes: yes, Refresh: !yes}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "asked: "+want+"\n") || strings.Contains(out.String(), "make update STACK=dev YES=1") == yes ||
			!strings.Contains(out.String(), "loja-veloz-ci-dev-up/1 runs this") {
			t.Errorf("with YES=%v, make update says:\n%s", yes, out.String())
		}
	}
}

// TestSecondUpdateIsToldOfTheLock: the words are those of the backend of Pulumi 3.258.0; TestDrift of e2e
// sees them.
func TestSecondUpdateIsToldOfTheLock(t *testing.T) {
	programs(t, onPath(`echo "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or `+
		`delete the lock file with 'pulumi cancel'." >&2; exit 255`))
	err := Update(t.Context(), workspaceOf(t, io.Discard), settings.Update{Stack: "dev", Yes: true})
	if err == nil || !strings.Contains(err.Error(), "Another update holds the lock of the stack: wait for its end") {
		t.Errorf("the error is %v", err)
	}
}

// TestDriftIsAnErrorOfItsOwn runs previews that find drift, none, and fail.
func TestDriftIsAnErrorOfItsOwn(t *testing.T) {
	const changed = `{"steps":[{"op":"update","urn":"urn:pulumi:dev::loja-veloz::aws:rds/instance:Instance::db",` +
		`"oldState":{"custom":true,"type":"aws:rds/instance:Instance","inputs":{"backupRetentionPeriod":1}},` +
		`"newState":{"custom":true,"type":"aws:rds/instance:Instance","inputs":{"backupRetentionPeriod":7}}}],"changeSummary":{"same":4}}`
	for name, c := range map[string]struct {
		script string
		drift  []string
		err    string
		says   []string
	}{
		"drift": {
			script: `case "$*" in *"preview --refresh --exclude **kubernetes:helm.sh/v3:Release::** --exclude **kubernetes:core/v1:Secret::** --stack dev"*) echo '` + changed + `' ;; *) exit 9 ;; esac`, drift: []string{"update db"},
			err: "dev has drifted: an update would change 1 of its resources: update db.", says: []string{"backupRetentionPeriod: 1 → 7", "as they are now, Secrets and Helm releases apart"},
		},
		"none":   {script: `echo '{"steps":[],"changeSummary":{"same":4}}'`, says: []string{"nothing changes"}},
		"failed": {script: "echo 'error: ExpiredToken' >&2; exit 255", err: "get new ones", says: []string{"it failed", "get new ones"}},
	} {
		programs(t, onPath(c.script))
		file := filepath.Join(t.TempDir(), "drift.md")
		err := Drift(t.Context(), workspaceOf(t, io.Discard), settings.Drift{Stack: "dev", Comment: file})
		var drift *DriftError
		if errors.As(err, &drift) != (c.drift != nil) || drift != nil && !slices.Equal(drift.Names, c.drift) {
			t.Errorf("%s: the drift is %v, want %v", name, err, c.drift)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: the error is %v, want %q", name, err, c.err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.says {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: the review does not say %q:\n%s", name, want, text)
			}
		}
	}
}

// TestOutputsAreAloneOnStandardOutput: everything else goes to the console, and a stack that is not there is
// named with the command that creates it.
func TestOutputsAreAloneOnStandardOutput(t *testing.T) {
	file, err := filepath.Abs("../../../stacks/environment/testdata/outputs-dev.json")
	if err != nil {
		t.Fatal(err)
	}
	programs(t, onPath(`[ "$*" = "--non-interactive stack output --json --stack dev" ] && exec cat `+file+
		`; echo "error: no stack named 'prod' found" >&2; exit 255`))
	w := workspaceOf(t, io.Discard)
	var out bytes.Buffer
	if err := Outputs(t.Context(), w, settings.Outputs{Stack: "dev"}, &out); err != nil {
		t.Fatal(err)
	}
	var selected map[string]any
	if err := json.Unmarshal(out.Bytes(), &selected); err != nil || selected["stack"] != "dev" || selected["kubeconfig"] != nil {
		t.Errorf("the outputs are (%v):\n%s", err, out.String())
	}
	if err := Outputs(t.Context(), w, settings.Outputs{Stack: "dev", Expect: out.String()}, io.Discard); err != nil {
		t.Errorf("the same contract is expected: %v", err)
	}
	stale := strings.Replace(out.String(), `"vpcID": "`, `"vpcID": "old-`, 1)
	if err := Outputs(t.Context(), w, settings.Outputs{Stack: "dev", Expect: stale}, io.Discard); err == nil ||
		!strings.Contains(err.Error(), `vpcID differ. Set the variable again: gh variable set LOJA_DEV --body "$(make outputs STACK=dev)"`) {
		t.Errorf("a variable that is older than the stack: %v", err)
	}
	written := filepath.Join(t.TempDir(), "github")
	if err := os.WriteFile(written, []byte("before=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := Outputs(t.Context(), w, settings.Outputs{Stack: "dev", GitHub: true, File: written}, &out); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(written)
	if err != nil || !strings.HasPrefix(string(lines), "before=1\naccountId=111122223333\n") || out.Len() > 0 {
		t.Errorf("the file of GitHub's outputs is (%v):\n%s\nand standard output:\n%s", err, lines, out.String())
	}
	err = Outputs(t.Context(), w, settings.Outputs{Stack: "prod"}, &out)
	if err == nil || !strings.Contains(err.Error(), "there is no stack prod in this backend: run make update STACK=prod YES=1") {
		t.Errorf("a stack that is not there: %v", err)
	}
}

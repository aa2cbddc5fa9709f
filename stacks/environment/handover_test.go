package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

func TestTheProviderChoosesTheProgram(t *testing.T) {
	const password = "hunter2"
	failed := errors.New("compiling failed")
	for name, c := range map[string]struct {
		config    string
		aws, here bool
		wantErr   string
	}{
		"aws":             {config: `{"loja-veloz:cloud": "{\"provider\": \"aws\"}"}`, aws: true, wantErr: "compiling failed"},
		"none":            {config: `{"loja-veloz:cloud": "{\"provider\": \"none\"}"}`, here: true},
		"no cloud":        {config: `{"loja-veloz:waitForRollout": "true"}`, here: true},
		"unknown":         {config: `{"loja-veloz:cloud": "{\"provider\": \"gcp\"}"}`, here: true}, // config.Load refuses it
		"not JSON":        {config: `{"loja-veloz:secret": "` + password, wantErr: "decoding PULUMI_CONFIG"},
		"not text values": {config: `{"loja-veloz:secret": ["` + password + `"]}`, wantErr: "decoding PULUMI_CONFIG"},
	} {
		t.Setenv("PULUMI_CONFIG", c.config)
		var aws, here bool
		err := start(func() error { aws = true; return failed }, func(program.NewTarget) { here = true })
		if aws != c.aws || here != c.here {
			t.Errorf("%s: command aws is started: %t, this program runs: %t", name, aws, here)
		}
		if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
			t.Errorf("%s: the error is %v, want %q", name, err, c.wantErr)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error contains the configuration: %v", name, err)
		}
	}
}

// source writes a module with command aws below a new root.
func source(t *testing.T, code string) (root string) {
	t.Helper()
	t.Setenv("GOWORK", "off")
	root = t.TempDir()
	folder := filepath.Join(root, "stacks", "environment")
	if err := os.MkdirAll(filepath.Join(folder, "aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": "module example.com/environment\n", "aws/main.go": code} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestBuildAWSCompilesTheProgramOfTheRepository(t *testing.T) {
	root := source(t, "package main\n\nfunc main() { print(\"aws\") }\n")
	built, err := buildAWS(root)
	if err != nil {
		t.Fatal(err)
	}
	if built != filepath.Join(root, ".local", "environment-aws") {
		t.Errorf("the program is %s", built)
	}
	if out, err := exec.CommandContext(t.Context(), built).CombinedOutput(); err != nil || string(out) != "aws" { // #nosec G204 -- just built
		t.Errorf("the program prints %q (%v)", out, err)
	}
}

func TestBuildAWSReportsTheCompilersErrorAndNoConfiguration(t *testing.T) {
	t.Setenv("PULUMI_CONFIG", `{"loja-veloz:secret": "hunter2"}`)
	root := source(t, "package main\n\nfunc main() { missing() }\n")
	_, err := buildAWS(root)
	if err == nil {
		t.Fatal("a program that does not compile was built")
	}
	for _, want := range []string{"go build ./aws in " + filepath.Join(root, "stacks", "environment"), "undefined: missing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error contains the configuration: %v", err)
	}
}

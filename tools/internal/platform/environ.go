package platform

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
)

// Environ returns the variables that plain pulumi and kubectl need to work on the local
// environment. On first use it creates the passphrase of the stack's secrets in a file with
// mode 0600.
func Environ(w Workspace) ([]string, error) {
	if err := createPassphrase(w); err != nil {
		return nil, err
	}
	kubeconfig, err := w.kubeconfig()
	if err != nil {
		return nil, err
	}
	// Pulumi prefers this variable, which may be that of another project, to the file.
	if err := os.Unsetenv("PULUMI_CONFIG_PASSPHRASE"); err != nil {
		return nil, err
	}
	env := []string{
		"PATH=" + w.Local("bin") + string(os.PathListSeparator) + os.Getenv("PATH"),
		"KUBECONFIG=" + kubeconfig,
		"PULUMI_BACKEND_URL=file://" + w.Local("state"),
		"PULUMI_CONFIG_PASSPHRASE_FILE=" + passphrase(w),
		"PULUMI_SKIP_UPDATE_CHECK=true",
		"NO_PROXY=" + os.Getenv("NO_PROXY"), "no_proxy=" + os.Getenv("no_proxy"), // cluster.BypassProxy
	}
	if executable(w.Local("bin", "pulumi")) {
		// PULUMI_HOME has all plugins, so Pulumi need not download any.
		env = append(env, "PULUMI_HOME="+pulumiHome(w), "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true")
	}
	return env, nil
}

// goEnv keeps the compilation of the workspace from what a person, or the target of make that runs a
// test, has set for another one: Go refuses -mod=mod in a workspace, and without the workspace it would
// compile all of Pulumi again, of other versions.
var goEnv = []string{"GOFLAGS=-mod=readonly", "GOWORK="}

func passphrase(w Workspace) string { return w.Local("passphrase") }

func createPassphrase(w Workspace) error {
	if _, err := os.Stat(passphrase(w)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(w.Local("state"), 0o700); err != nil {
		return err
	}
	secret := make([]byte, 24)
	rand.Read(secret)
	if err := os.WriteFile(passphrase(w), []byte(hex.EncodeToString(secret)), 0o600); err != nil {
		return err
	}
	// This passphrase cannot decrypt the secrets in a stack file of an earlier one.
	return removeFile(stackFile(w))
}

// removeFile deletes a file that may be missing.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

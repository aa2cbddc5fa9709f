//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/platform"
)

// TestDrift updates the account's stack against the stand-in, by the real engine, as make update does, and
// compares it with git, as make drift does, after people have changed and deleted objects by hand.
func TestDrift(t *testing.T) {
	w := workspace(t)
	if err := os.RemoveAll(w.Local("e2e-drift")); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	w.Out = console.New(&said)
	cloud, err := platform.OpenCloud(t.Context(), w, "e2e-drift")
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(w.Root, "stacks", "bootstrap")
	account, err := cloud.Stack(t.Context(), project, project, "account", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := account.Outputs(t.Context()); err == nil || !strings.Contains(err.Error(), "has no outputs, because no update has ended: run make update STACK=account YES=1") {
		t.Errorf("outputs before the first update: %v", err)
	}
	if err := account.Update(t.Context(), false, false); err != nil {
		t.Fatal(err)
	}
	world := w.Local("e2e-drift", "world")
	if files, _ := filepath.Glob(filepath.Join(world, "*", "*", "*.json")); len(files) > 0 || !strings.Contains(said.String(), "Nothing has changed: this was the plan.") {
		t.Errorf("without YES=1, %d objects were created, and it says:\n%s", len(files), said.String())
	}
	if err := account.Update(t.Context(), true, false); err != nil {
		t.Fatal(err)
	}
	outputs, err := account.Outputs(t.Context())
	if err != nil || !bytes.Contains(outputs.JSON(), []byte(`"upRoleARN": "arn:aws:iam::111122223333:role/loja-veloz-ci-prod-up"`)) {
		t.Errorf("the outputs (%v):\n%s", err, outputs.JSON())
	}

	comment := filepath.Join(t.TempDir(), "drift.md")
	if err := account.Drift(t.Context(), comment); err != nil {
		t.Errorf("after an update: %v", err)
	}
	byHand(t, filepath.Join(world, "ecr", "LifecyclePolicy", "*.json"), nil)
	// What is excluded is not read, as Drift leaves out the Helm releases of an environment.
	exclude := []string{"preview", "--refresh", "--expect-no-changes", "--stack", "account", "--exclude"}
	if said, err := account.Pulumi(append(exclude, "**aws:ecr/lifecyclePolicy:LifecyclePolicy::**")...).Text(t.Context()); err != nil {
		t.Errorf("without what was deleted: %v\n%s", err, said)
	}
	if said, err := account.Pulumi(append(exclude, "**kubernetes:helm.sh/v3:Release::**")...).Text(t.Context()); err == nil {
		t.Errorf("without Helm releases, what was deleted is not missed:\n%s", said)
	}
	byHand(t, filepath.Join(world, "s3", "BucketVersioningV2", "*.json"), func(text string) string { return strings.ReplaceAll(text, `"Enabled"`, `"Suspended"`) })
	err = account.Drift(t.Context(), comment)
	var drift *platform.DriftError
	if !errors.As(err, &drift) || !slices.ContainsFunc(drift.Names, func(name string) bool { return strings.HasPrefix(name, "update ") }) ||
		!slices.ContainsFunc(drift.Names, func(name string) bool { return strings.HasPrefix(name, "create ") }) {
		t.Errorf("the drift is %v", err)
	}
	text, err := os.ReadFile(comment)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<!-- loja-preview stack=account -->\n", `versioningConfiguration.status: "Suspended" → "Enabled"`, "aws:ecr/lifecyclePolicy:LifecyclePolicy"} {
		if !strings.Contains(strings.ReplaceAll(string(text), "Suspended → Enabled", `"Suspended" → "Enabled"`), want) {
			t.Errorf("the review of the drift does not say %q:\n%s", want, text)
		}
	}

	// A second update, while the first one holds the lock.
	locks := w.Local("e2e-drift", "state", ".pulumi", "locks", "organization", "loja-veloz-bootstrap", "account")
	if err := os.MkdirAll(locks, 0o700); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(locks, "00000000-0000-4000-8000-000000000001.json")
	if err := os.WriteFile(lock, []byte(`{"pid":1,"username":"ana","hostname":"runner","timestamp":"2026-11-29T12:00:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	if err := account.Update(t.Context(), true, false); err == nil || !strings.Contains(err.Error(), "Another update holds the lock of the stack: wait for its end") ||
		!strings.Contains(said.String(), "ana@runner") {
		t.Errorf("a second update: %v\n%s", err, said.String())
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := account.Update(t.Context(), true, true); err != nil {
		t.Fatal(err)
	}
	if err := account.Drift(t.Context(), comment); err != nil {
		t.Errorf("after the update that took the changes back: %v", err)
	}
}

// byHand changes one of the objects that a pattern matches, or deletes it.
func byHand(t *testing.T, pattern string, change func(string) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s matches no object (%v)", pattern, err)
	}
	if change == nil {
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		t.Fatal(fmt.Errorf("%s is as before:\n%s", files[0], text))
	}
	if err := os.WriteFile(files[0], []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}

package platform

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWipeKeepsTheSigningKey: with it, nothing new could be signed for an environment that runs only what it has signed.
func TestWipeKeepsTheSigningKey(t *testing.T) {
	local := t.TempDir()
	for _, folder := range []string{signingFolder, "state"} {
		if err := os.Mkdir(filepath.Join(local, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(local, folder, "file"), folder)
	}
	for _, folder := range []string{local, filepath.Join(local, "none")} {
		if err := removeAllBut(folder, signingFolder); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(local, "*", "*"))
	if want := filepath.Join(local, signingFolder, "file"); err != nil || len(left) != 1 || left[0] != want {
		t.Errorf("what is left is %q (%v), want %s", left, err, want)
	}
}

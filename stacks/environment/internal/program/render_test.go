package program

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/loja-veloz/platform/infra/infratest"
)

// TestDigestsAreARecordOrAMap: make publish writes the one, make deploy the other.
func TestDigestsAreARecordOrAMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "digests.json")
	for _, text := range []string{
		`{"commit": "abc123", "time": "2026-11-29T00:00:00Z", "go": "go1.26", "registry": "r", "images": {"pedidos": "r/pedidos@` + digest + `"}}`,
		`{"pedidos": "r/pedidos@` + digest + `"}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		images, err := readDigests(path)
		if err != nil || len(images) != 1 || images["pedidos"] != "r/pedidos@"+digest {
			t.Errorf("of %s: %v, %v", text, images, err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"commit": "abc123", "images": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := readDigests(path)
	infratest.Refused(t, err, "has to be a record of make publish, or a JSON object of images by program")
}

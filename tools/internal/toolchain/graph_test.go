package toolchain

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/command"
)

// source is how many megabytes of Go source each tool adds to those before it, at most: what it
// added when docs/toolchain.md was written, and up to a twentieth more.
var source = map[string]float64{
	"kubernetes": 104, "pulumi-resource-kubernetes": 16.5, "metrics-server": 1.3, "coredns": 2.8, "rollouts-controller": 8.4,
	"prometheus": 12, "policy-controller": 8.8, "cosign": 4.7, "jaeger-all-in-one": 5.6, "traefik": 46.5, "ko": 26, "pulumi": 39.5, "pulumi-language-go": 10.3, "otel-collector": 13.2,
}

// TestToolsCompileNoMore lists the packages of each tool that a first make up compiles, with its changes, so that a part which was left out does not come back with another version.
func TestToolsCompileNoMore(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles or lists too much for make check; make test runs it")
	}
	c := &Cache{Root: t.TempDir(), Pins: filepath.Join("..", "..", "pins")}
	tools := InOrder(slices.Concat([]Tool{Kubernetes, Ko, Cosign, PolicyController}, Pulumi, Images))
	if len(tools) != len(source) {
		t.Errorf("%d tools have a limit, and make up compiles %d", len(source), len(tools))
	}
	seen, sum := map[string]bool{}, 0.0
	for _, tool := range tools {
		work := t.TempDir()
		modfile, err := c.modfile(t.Context(), tool, work)
		if err != nil {
			t.Fatal(err)
		}
		out, err := command.Command{
			Args: []string{"go", "list", "-deps", "-json=ImportPath,Dir,GoFiles,Module", "-modfile", modfile, tool.Package},
			Dir:  filepath.Join(c.Pins, tool.Pin), Env: append(slices.Clone(BuildEnv), "GOOS=linux", "GOARCH=amd64"), // the limits are those of one platform
		}.Text(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var added int64
		for d := json.NewDecoder(strings.NewReader(out)); ; {
			var p struct {
				ImportPath, Dir string
				GoFiles         []string
				Module          *struct {
					Version string
					Replace *struct{ Version, Path string }
				}
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			key := p.ImportPath
			if m := p.Module; m != nil && m.Replace != nil {
				key += m.Replace.Version + m.Replace.Path
			} else if m != nil {
				key += m.Version
			}
			if seen[key] {
				continue
			}
			seen[key] = true
			for _, f := range p.GoFiles {
				if info, err := os.Stat(filepath.Join(p.Dir, f)); err == nil { // cgo's files are not there
					added += info.Size()
				}
			}
		}
		megabytes := float64(added) / 1e6
		sum += megabytes
		t.Logf("%-28s %6.1f MB", tool.Name, megabytes)
		if megabytes > source[tool.Name] {
			t.Errorf("%s adds %.1f MB of Go source to the tools before it, and may add %.0f", tool.Name, megabytes, source[tool.Name])
		}
	}
	t.Logf("%-28s %6.1f MB", "all", sum)
}

package platform

import (
	"context"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/publish"
	"github.com/loja-veloz/platform/tools/internal/scan"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Scan looks for known vulnerabilities, secrets and misconfigurations in the Go modules, the working tree and
// the images of the last release, and judges them.
func Scan(ctx context.Context, w Workspace) error {
	if err := provide(ctx, w, []toolchain.Tool{toolchain.Govulncheck, toolchain.Trivy}); err != nil {
		return err
	}
	files, err := command.Command{Args: []string{"git", "ls-files", "go.mod", "*/go.mod"}, Dir: w.Root}.Text(ctx)
	if err != nil {
		return err
	}
	var modules []string
	for _, file := range strings.Fields(files) {
		if !strings.HasPrefix(file, "tools/pins/") { // they are third-party programs
			modules = append(modules, path.Dir(file))
		}
	}
	var images []string
	if _, err := os.Stat(w.releaseFile()); err == nil {
		release, err := publish.Read(w.releaseFile())
		if err != nil {
			return err
		}
		images = slices.Sorted(maps.Values(release.Images))
	} else {
		w.Out.Step("there is no release of make publish, so no image is scanned")
	}
	return scan.Run(ctx, scan.Options{
		Root: w.Root, Modules: modules, Images: images, Trivy: w.program("trivy"), Govulncheck: w.program("govulncheck"),
		Allowed: filepath.Join(w.Root, ".github", "vulnerabilities.yaml"),
		Meant:   filepath.Join(w.Root, ".github", "misconfigurations.yaml"), Reports: w.Local("scan"), Now: time.Now(), Out: w.Out,
	})
}

// Package browsertest starts Chromium for tests, and loads the scripts that judge pages.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Program is the name of Chromium on PATH.
const Program = "chromium"

// Start starts Chromium without a window, for at most 5 minutes, and returns the context of its
// first tab. The browser ends with the test. The test fails if Chromium is not on PATH.
func Start(t testing.TB) context.Context {
	t.Helper()
	program, err := exec.LookPath(Program)
	if err != nil {
		t.Fatal("chromium is missing: apt-get install -y --no-install-recommends chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("no-proxy-server", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to run its sandbox as root
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	return ctx
}

// Script installs an npm package, and returns the text of the file at path in its node_modules.
// The pins are found from the folder of a package directly below tools.
func Script(t testing.TB, p toolchain.Package, path string) string {
	t.Helper()
	root, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	cache := &toolchain.Cache{Root: root, Pins: "../pins", Out: console.New(os.Stderr)}
	folder, err := cache.Install(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join(folder, "node_modules", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

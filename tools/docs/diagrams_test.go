package docs_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/loja-veloz/platform/tools/internal/browsertest"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// diagrams returns the mermaid blocks of the documents, by file and line.
func diagrams(t *testing.T) map[string]string {
	t.Helper()
	block := regexp.MustCompile("(?ms)^```mermaid\n(.*?)^```$")
	found := map[string]string{}
	for _, file := range markdown(t) {
		text := read(t, file)
		for _, at := range block.FindAllStringSubmatchIndex(text, -1) {
			found[fmt.Sprintf("%s:%d", file, strings.Count(text[:at[0]], "\n")+1)] = text[at[2]:at[3]]
		}
	}
	return found
}

// TestDiagramsRender draws every diagram of the documents with mermaid, in Chromium. If
// DIAGRAM_SHOTS names a folder, it gets a picture of each.
func TestDiagramsRender(t *testing.T) {
	if _, err := exec.LookPath(browsertest.Program); err != nil && os.Getenv("CI") == "" {
		t.Skip("chromium is not on PATH; with CI set, that is an error")
	}
	all := diagrams(t)
	if len(all) < 10 {
		t.Fatalf("the documents have %d diagrams: the expression does not match any more", len(all))
	}
	ctx := browsertest.Start(t)
	mermaid := browsertest.Script(t, toolchain.Mermaid, "@mermaid-js/tiny/dist/mermaid.tiny.js")
	if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](mermaid+"; mermaid.initialize({startOnLoad: false}); undefined")); err != nil {
		t.Fatal(err)
	}
	draw := func(source string) (string, error) {
		text, err := json.Marshal(source)
		if err != nil {
			return "", err
		}
		// The answer is why mermaid refuses the source, or "".
		return chromedp.Run(ctx, chromedp.Evaluate[string](`mermaid.render("diagram", `+string(text)+`).then(
			({svg}) => { document.body.innerHTML = svg; const box = document.querySelector("svg").getBoundingClientRect();
				return box.width > 0 && box.height > 0 ? "" : "nothing is drawn" },
			error => String(error.message || error))`, chromedp.EvalAwaitPromise))
	}
	for at, source := range all {
		fault, err := draw(source)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if fault != "" {
			t.Errorf("%s: %s", at, fault)
		}
		if folder := os.Getenv("DIAGRAM_SHOTS"); folder != "" {
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			name := strings.NewReplacer("/", "-", ":", "-").Replace(at) + ".png"
			if err := os.WriteFile(filepath.Join(folder, name), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, broken := range []string{"flowchart LR\n  a[one --> b\n", "sequenceDiagram\n  A->>\n", "flowchat LR\n  a --> b\n"} {
		if fault, err := draw(broken); err != nil || fault == "" {
			t.Errorf("a broken diagram is drawn (%v):\n%s", err, broken)
		}
	}
}

package scan

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

var today = time.Date(2026, 11, 29, 15, 0, 0, 0, time.UTC)

func recorded(t *testing.T, file string) []Finding {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := ReadTrivy
	if strings.HasPrefix(file, "govulncheck") {
		read = func(r io.Reader) ([]Finding, error) { return ReadGovulncheck("apps", r) }
	}
	findings, err := read(f)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

func allow(t *testing.T, text string) []Allowed {
	t.Helper()
	list, err := ReadAllowed(strings.NewReader(text), today)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// trivy are the reports that the real one has written in TestTrivy.
func trivy(t *testing.T) []Finding {
	t.Helper()
	return slices.Concat(recorded(t, "trivy-tree.json"), recorded(t, "trivy-modules.json"), recorded(t, "trivy-image-1.json"))
}

// TestGate: what can be fixed and is grave, or is called, and a grave secret or misconfiguration are refused, and
// nothing else.
func TestGate(t *testing.T) {
	v := Judge(append(trivy(t), recorded(t, "govulncheck.json")...), nil, today)
	got := lines(v.Err())
	if len(got) != 5 || !image.MatchString(got[3]) {
		t.Fatalf("refused are\n%s", strings.Join(got, "\n"))
	}
	equal(t, slices.Delete(got, 3, 4), []string{
		"pod.yaml: KSV-0017, a misconfiguration, HIGH: Container 'web' of Pod 'web' should set 'securityContext.privileged' to false; " +
			"change it, or say in .github/misconfigurations.yaml why it is meant so",
		"stacks/notes.txt:2: github-pat, a secret: remove it, and replace it where it was valid (GitHub Personal Access Token)",
		"apps/go.mod: CVE-2026-10001 in example.com/parser v1.2.0, HIGH: update to 1.2.1",
		"apps: GO-2026-9001 in stdlib v1.26.3, which our code calls: update to v1.99.0",
	})
	var noted []string
	for _, f := range v.Noted {
		noted = append(noted, f.ID)
	}
	slices.Sort(noted)
	// Without a fix, MEDIUM, imported and not called, and in both pods an image of a registry that Trivy does not trust, MEDIUM.
	if got := strings.Join(noted, " "); got != "CVE-2026-10002 CVE-2026-10003 GO-2026-9002 KSV-0125 KSV-0125" || v.Passed != 0 {
		t.Errorf("noted are %s, and %d passed", got, v.Passed)
	}
}

var image = regexp.MustCompile(`^localhost:\d+/hello@sha256:[0-9a-f]{64} ko-app/hello: CVE-2026-10004 in stdlib v1\.\d+\.\d+, CRITICAL: update to 1\.99\.0$`)

func TestAllowList(t *testing.T) {
	findings := append(recorded(t, "trivy-modules.json"), recorded(t, "trivy-image-1.json")...)
	findings = append(findings, recorded(t, "govulncheck.json")...)
	v := Judge(findings, allow(t, `
allowed:
  - {id: CVE-2026-10001, reason: The parser reads only our own files., expires: 2026-11-29}
  - {id: CVE-2026-10004, reason: It ends at the gateway., expires: 2026-11-28}
  - {id: CVE-2026-9001, reason: The URLs are constants of ours., expires: 2027-01-31}
  - {id: CVE-2026-10002, reason: There is no fix for it., expires: 2027-01-31}
`), today)
	if v.Passed != 2 { // on its last day, and by its other name
		t.Errorf("%d findings passed, want 2", v.Passed)
	}
	if len(v.Unused) != 1 || v.Unused[0].ID != "CVE-2026-10002" { // what has no fix passes by itself
		t.Errorf("unused are %v", v.Unused)
	}
	got := lines(v.Err())
	if len(got) != 2 || !strings.HasPrefix(got[0], "CVE-2026-10004 was allowed until 2026-11-28 (It ends at the gateway.), and is still there: ") ||
		!strings.HasSuffix(got[1], "CRITICAL: update to 1.99.0") {
		t.Errorf("after the last day: %v", got)
	}
	secret := []Finding{{ID: "aws-access-key-id", Severity: "CRITICAL", Secret: true}}
	if Judge(secret, allow(t, "allowed: [{id: aws-access-key-id, reason: It is only a test key., expires: 2026-12-01}]"), today).Err() == nil {
		t.Error("a secret is allowed")
	}
}

func TestListsThatAreWrong(t *testing.T) {
	_, err := ReadAllowed(strings.NewReader(`
allowed:
  - {reason: There is no name here., expires: 2026-12-01}
  - {id: CVE-1, reason: later, expires: 2026-12-01}
  - {id: CVE-2, reason: It does no harm., expires: soon}
  - {id: CVE-3, reason: It does no harm., expires: 2027-12-01}
  - {id: CVE-3, reason: It does no harm., expires: 2026-12-01}
`), today)
	equal(t, lines(err), []string{
		"allowed[0] has no id",
		"allowed[1] (CVE-1) needs a reason, in a sentence",
		`allowed[2] (CVE-2) has expires "soon": write a day, such as 2026-12-29`,
		"allowed[3] (CVE-3) expires on 2027-12-01: allow it for 90 days at most",
		"allowed[4] names CVE-3 a second time",
	})
	if _, err := ReadAllowed(strings.NewReader("allowed: [{id: x, until: never}]"), today); err == nil || !strings.Contains(err.Error(), "until") {
		t.Errorf("an unknown field: %v", err)
	}
}

func TestTheListsOfThisRepository(t *testing.T) {
	f, err := os.Open("../../../.github/vulnerabilities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ReadAllowed(f, time.Now()); err != nil {
		t.Error(err)
	}

	// Trivy's list could also silence secrets and vulnerabilities, or a misconfiguration everywhere.
	b, err := os.ReadFile("../../../.github/misconfigurations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var meant struct {
		Misconfigurations []struct {
			ID, Statement string
			Paths         []string
		}
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&meant); err != nil {
		t.Fatalf("misconfigurations.yaml has more than misconfigurations: %v", err)
	}
	for _, m := range meant.Misconfigurations {
		if m.ID == "" || len(m.Paths) == 0 || len(strings.Fields(m.Statement)) < 3 {
			t.Errorf("misconfigurations.yaml: %+v needs an id, paths and a statement", m)
		}
	}
}

func TestReportsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{"": "Trivy's report", `{"SchemaVersion": 3}`: "version 3"} {
		if _, err := ReadTrivy(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{"": "on apps: it is empty", `{"config": {}} {`: "on apps"} {
		if _, err := ReadGovulncheck("apps", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestRun scans a module by the real govulncheck, with a database in a folder, and a stand-in for Trivy.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("needs govulncheck; make test runs it")
	}
	cache, err := toolchain.DefaultRoot()
	if err != nil {
		t.Fatal(err)
	}
	tools := &toolchain.Cache{Root: cache, Pins: "../../pins", Out: console.New(io.Discard)}
	if err := tools.Ensure(t.Context(), toolchain.Govulncheck); err != nil {
		t.Fatal(err)
	}
	govulncheck, err := tools.Binary(toolchain.Govulncheck, "govulncheck")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("apps/go.mod", "module example.com/apps\n\ngo 1.26.0\n")
	write("apps/main.go", "package main\n\nimport (\n\t\"html\"\n\t\"net/url\"\n)\n\nfunc main() {\n\t_, _ = url.Parse(html.EscapeString(\"\"))\n}\n")
	database := os.DirFS("testdata/vulndb")
	if err := os.CopyFS(filepath.Join(root, "db"), database); err != nil {
		t.Fatal(err)
	}
	trivy := func(script string) string { return write("trivy", "#!/bin/sh\n"+script+"\n") }
	const report = `while [ "$1" != --output ]; do shift; done; echo '{"SchemaVersion": 2, "ArtifactName": "."}' >"$2"`
	o := Options{
		Root: root, Modules: []string{"apps"}, Trivy: trivy(report), Govulncheck: govulncheck, Database: "file://" + filepath.Join(root, "db"),
		Allowed: write("allowed.yaml", "allowed: []"), Reports: filepath.Join(root, "reports"), Now: today, Out: console.New(io.Discard),
	}
	var refused *RefusedError
	err = Run(t.Context(), o)
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "apps: GO-2026-9001 in stdlib") || strings.Contains(err.Error(), "GO-2026-9002") {
		t.Errorf("a function that is called, and one that is not: %v", err)
	}
	o.Allowed = write("allowed.yaml", "allowed: [{id: GO-2026-9001, reason: The address is a constant., expires: 2026-12-24}]")
	if err := Run(t.Context(), o); err != nil {
		t.Errorf("with the finding allowed: %v", err)
	}

	var unavailable *UnavailableError
	o.Database = "http://127.0.0.1:1"
	if err := Run(t.Context(), o); !errors.As(err, &unavailable) || unavailable.Tool != "govulncheck" {
		t.Errorf("without govulncheck's database: %v", err)
	}
	o.Database, o.Trivy = "file://"+filepath.Join(root, "db"), trivy("echo 'FATAL failed to download vulnerability DB' >&2; exit 1")
	if err := Run(t.Context(), o); !errors.As(err, &unavailable) || unavailable.Tool != "Trivy" || errors.As(err, &refused) {
		t.Errorf("without Trivy's database: %v", err)
	}
	o.Trivy = trivy("exit 0")
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "wrote no report") {
		t.Errorf("a Trivy that does nothing: %v", err)
	}
}

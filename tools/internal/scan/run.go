package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/console"
)

// Options say what to scan.
type Options struct {
	Root               string   // of the repo
	Modules            []string // folders of Go modules below it
	Images             []string // by digest
	Trivy, Govulncheck string   // the programs
	Database           string   // URL of govulncheck's database; empty: vuln.go.dev
	Allowed            string   // path of the list of vulnerabilities that pass for a time
	Meant              string   // path of Trivy's list of misconfigurations that are meant so
	Reports            string   // folder for the reports
	Now                time.Time
	Out                *console.Console
}

// Run scans the Go modules, the working tree and the images, and judges what was found. Every scan runs,
// also after one has failed. A database that cannot be had is an *UnavailableError.
func Run(ctx context.Context, o Options) error {
	list, err := os.Open(o.Allowed)
	if err != nil {
		return err
	}
	defer list.Close()
	allowed, err := ReadAllowed(list, o.Now)
	if err != nil {
		return fmt.Errorf("%s:\n%w", o.Allowed, err)
	}
	// A report of an earlier run could be taken for one of this.
	if err := errors.Join(os.RemoveAll(o.Reports), os.MkdirAll(o.Reports, 0o755)); err != nil {
		return err
	}
	var findings []Finding
	var errs []error
	take := func(found []Finding, err error) {
		findings = append(findings, found...)
		errs = append(errs, err)
	}
	for _, folder := range o.Modules {
		o.Out.Step("govulncheck %s", folder)
		found, err := o.govulncheck(ctx, folder)
		take(found, err)
		if unavailable(err) {
			break // the other modules would wait for the same
		}
	}
	for _, scan := range o.scans() {
		o.Out.Step("trivy looks for %s in %s", scan.what, scan.target)
		found, err := o.trivy(ctx, scan)
		take(found, err)
		if unavailable(err) {
			break
		}
	}
	verdict := Judge(findings, allowed, o.Now)
	if errors.Join(errs...) == nil { // or else the finding may be in what was not scanned
		for _, a := range verdict.Unused {
			o.Out.Step("%s allows %s, which nothing has any more: delete the entry", o.Allowed, a.ID)
		}
	}
	o.Out.Step("%d findings: %d refused, %d allowed for a time, %d without a fix, of low severity or not called; the reports are in %s",
		len(findings), len(verdict.Refused), verdict.Passed, len(verdict.Noted), o.Reports)
	return errors.Join(append(errs, verdict.Err())...)
}

func unavailable(err error) bool {
	var u *UnavailableError
	return errors.As(err, &u)
}

func (o Options) govulncheck(ctx context.Context, folder string) ([]Finding, error) {
	args := []string{o.Govulncheck, "-format", "json"}
	if o.Database != "" {
		args = append(args, "-db", o.Database)
	}
	var out bytes.Buffer
	err := command.Command{
		Args: append(args, "./..."), Dir: filepath.Join(o.Root, folder), Stdout: &out,
		Env: []string{"GOWORK=" + o.workspace(folder), "GOFLAGS=-mod=readonly"},
	}.Run(ctx)
	if err != nil {
		// The second is what govulncheck says when a connection is refused.
		if says(err, "fetching vulnerabilities", "unrecognized vulndb format") {
			return nil, &UnavailableError{Tool: "govulncheck", Database: "https://vuln.go.dev does not answer", Err: err}
		}
		return nil, fmt.Errorf("govulncheck in %s: %w", folder, err)
	}
	report := filepath.Join(o.Reports, "govulncheck-"+strings.ReplaceAll(folder, "/", "-")+".json")
	if err := os.WriteFile(report, out.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return ReadGovulncheck(folder, &out)
}

// says reports whether a program that failed has printed one of these texts.
func says(err error, texts ...string) bool {
	var e *command.Error
	return errors.As(err, &e) && slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(e.Tail, text) })
}

// workspace is the value of GOWORK with which a module is built.
func (o Options) workspace(folder string) string {
	if folder == "infra" || folder == "stacks" {
		return filepath.Join(o.Root, "go.work")
	}
	return "off"
}

// A trivyScan is one run of Trivy.
type trivyScan struct {
	what, target string
	args         []string // the command, its flags, and what it scans
	report       string   // name of its report
}

// scans returns the runs of Trivy. What needs no database comes first, in a run of its own, because a run
// that also looks for vulnerabilities ends before it has looked at anything if it cannot have theirs.
func (o Options) scans() []trivyScan {
	// The pins' programs run on the machines of developers; Renovate proposes newer ones.
	tree := []string{"."}
	for _, folder := range []string{".local", "tools/pins", "**/node_modules", "**/testdata", "**/testcharts"} {
		tree = append(tree, "--skip-dirs", folder)
	}
	// Without --skip-check-update, newer checks would be downloaded, and refuse today what passed yesterday.
	first := append([]string{"fs", "--scanners", "secret,misconfig", "--skip-check-update"}, tree...)
	all := []trivyScan{
		{"secrets and misconfigurations", o.Root, first, "trivy-tree.json"},
		{"vulnerabilities", o.Root, append([]string{"fs", "--scanners", "vuln"}, tree...), "trivy-modules.json"},
	}
	for i, image := range o.Images {
		args := []string{"image", "--scanners", "vuln", "--image-src", "remote", image}
		all = append(all, trivyScan{"vulnerabilities", image, args, fmt.Sprintf("trivy-image-%d.json", i+1)})
	}
	return all
}

func (o Options) trivy(ctx context.Context, scan trivyScan) ([]Finding, error) {
	report := filepath.Join(o.Reports, scan.report)
	always := []string{
		"--format", "json", "--output", report, "--no-progress", "--skip-version-check", "--disable-telemetry",
		"--ignorefile", o.Meant, // also where it says nothing: or else a .trivyignore would do
	}
	err := command.Command{Args: slices.Concat([]string{o.Trivy}, scan.args, always), Dir: o.Root}.Run(ctx)
	if err != nil {
		if says(err, "failed to download vulnerability DB", "failed to download artifact") {
			const where = "its registry does not give it (mirror.gcr.io and ghcr.io, or what TRIVY_DB_REPOSITORY names)"
			return nil, &UnavailableError{Tool: "Trivy", Database: where, Err: err}
		}
		return nil, fmt.Errorf("trivy, looking for %s in %s: %w", scan.what, scan.target, err)
	}
	f, err := os.Open(report)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("trivy, looking for %s in %s, wrote no report", scan.what, scan.target)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadTrivy(f)
}

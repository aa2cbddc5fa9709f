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
	Allowed            string   // path of the list
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
	for i, target := range append([]string{o.Root}, o.Images...) {
		kind := "image"
		if i == 0 {
			kind = "fs"
		}
		o.Out.Step("trivy %s %s", kind, target)
		found, err := o.trivy(ctx, kind, target, filepath.Join(o.Reports, fmt.Sprintf("trivy-%d.json", i)))
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
			return nil, &UnavailableError{Tool: "govulncheck", Database: "https://vuln.go.dev", Err: err}
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

func (o Options) trivy(ctx context.Context, kind, target, report string) ([]Finding, error) {
	args := []string{o.Trivy, kind, "--no-progress", "--format", "json", "--output", report}
	if kind == "fs" {
		// The pins' programs run on the machines of developers; Renovate proposes newer ones.
		args = append(args, "--scanners", "vuln,secret", "--skip-dirs", ".local", "--skip-dirs", "tools/pins", "--skip-dirs", "**/testdata")
		target = "."
	} else {
		args = append(args, "--scanners", "vuln", "--image-src", "remote")
	}
	err := command.Command{Args: append(args, target), Dir: o.Root}.Run(ctx)
	if err != nil {
		if says(err, "failed to download vulnerability DB", "failed to download artifact") {
			return nil, &UnavailableError{Tool: "Trivy", Database: "mirror.gcr.io and ghcr.io, repository aquasec/trivy-db,", Err: err}
		}
		return nil, fmt.Errorf("trivy %s %s: %w", kind, target, err)
	}
	f, err := os.Open(report)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("trivy %s %s wrote no report", kind, target)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadTrivy(f)
}

// Package scan judges what Trivy and govulncheck have found: one gate for both, with a list of what is
// allowed for a time.
package scan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Finding is a known vulnerability, a secret or a misconfiguration in something of ours.
type Finding struct {
	ID       string   // CVE-..., GHSA-..., GO-..., or the rule of a secret or misconfiguration
	Aliases  []string // other names of the same vulnerability
	Where    string   // image, file or module
	Package  string   // with its version; empty if it is no vulnerability
	Fixed    string   // version that has the fix; empty: there is none
	Severity string   // as Trivy grades it; empty for govulncheck, whose database has no grades
	Title    string
	// Called says that our code reaches the vulnerable function. Trivy does not know.
	Called        bool
	Secret        bool
	Misconfigured bool
}

// fails reports whether the gate refuses the finding: a secret or misconfiguration that is HIGH or CRITICAL,
// and a vulnerability with a fix that is, or whose function our code calls.
func (f Finding) fails() bool {
	grave := f.Severity == "HIGH" || f.Severity == "CRITICAL"
	return f.Package == "" && grave || f.Fixed != "" && (grave || f.Called)
}

func (f Finding) String() string {
	if f.Secret {
		return fmt.Sprintf("%s: %s, a secret: remove it, and replace it where it was valid (%s)", f.Where, f.ID, f.Title)
	}
	if f.Misconfigured {
		return fmt.Sprintf("%s: %s, a misconfiguration, %s: %s; change it, or say in .github/misconfigurations.yaml why it is meant so",
			f.Where, f.ID, f.Severity, f.Title)
	}
	s := fmt.Sprintf("%s: %s in %s", f.Where, f.ID, f.Package)
	if f.Severity != "" {
		s += ", " + f.Severity
	}
	if f.Called {
		s += ", which our code calls"
	}
	if f.Fixed == "" {
		return s + ": there is no fix yet"
	}
	return s + ": update to " + f.Fixed
}

// ReadTrivy reads a report of trivy --format json.
func ReadTrivy(r io.Reader) ([]Finding, error) {
	var report struct {
		SchemaVersion int
		ArtifactName  string
		Results       []struct {
			Target          string
			Vulnerabilities []struct{ VulnerabilityID, PkgName, InstalledVersion, FixedVersion, Severity, Title string }
			Secrets         []struct {
				RuleID, Severity, Title string
				StartLine               int
			}
			Misconfigurations []struct{ ID, Severity, Message string }
		}
	}
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return nil, fmt.Errorf("reading Trivy's report: %w", err)
	}
	if report.SchemaVersion != 2 {
		return nil, fmt.Errorf("reading Trivy's report: its schema has version %d, and this gate knows 2", report.SchemaVersion)
	}
	var all []Finding
	for _, result := range report.Results {
		where := result.Target
		if report.ArtifactName != "." && report.ArtifactName != result.Target {
			where = report.ArtifactName + " " + where
		}
		for _, v := range result.Vulnerabilities {
			all = append(all, Finding{
				ID: v.VulnerabilityID, Where: where, Package: v.PkgName + " " + v.InstalledVersion, Fixed: v.FixedVersion,
				Severity: v.Severity, Title: v.Title,
			})
		}
		for _, s := range result.Secrets {
			all = append(all, Finding{
				ID: s.RuleID, Where: fmt.Sprintf("%s:%d", where, s.StartLine), Severity: s.Severity, Title: s.Title, Secret: true,
			})
		}
		for _, m := range result.Misconfigurations {
			all = append(all, Finding{ID: m.ID, Where: where, Severity: m.Severity, Title: m.Message, Misconfigured: true})
		}
	}
	return all, nil
}

// ReadGovulncheck reads a report of govulncheck -format json about the module in a folder.
func ReadGovulncheck(folder string, r io.Reader) ([]Finding, error) {
	type entry struct {
		ID, Summary string
		Aliases     []string
	}
	entries, found, order := map[string]entry{}, map[string]Finding{}, []string(nil)
	began := false
	for d := json.NewDecoder(r); ; {
		var m struct {
			Config  *struct{}
			OSV     *entry
			Finding *struct {
				OSV   string
				Fixed string `json:"fixed_version"`
				Trace []struct{ Module, Version, Function string }
			}
		}
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading govulncheck's report on %s: %w", folder, err)
		}
		began = began || m.Config != nil
		switch {
		case m.OSV != nil:
			entries[m.OSV.ID] = *m.OSV
		case m.Finding != nil && len(m.Finding.Trace) > 0: // one for the module, one for each package and function
			first := m.Finding.Trace[0]
			key := m.Finding.OSV + " " + first.Module
			f, seen := found[key]
			if !seen {
				order = append(order, key)
			}
			f.ID, f.Where, f.Package, f.Fixed = m.Finding.OSV, folder, first.Module+" "+first.Version, m.Finding.Fixed
			f.Called = f.Called || first.Function != ""
			found[key] = f
		}
	}
	if !began {
		return nil, fmt.Errorf("reading govulncheck's report on %s: it is empty", folder)
	}
	var all []Finding
	for _, key := range order {
		f := found[key]
		f.Aliases, f.Title = entries[f.ID].Aliases, entries[f.ID].Summary
		all = append(all, f)
	}
	return all, nil
}

// Allowed is a vulnerability that passes the gate until a day.
type Allowed struct {
	ID      string `yaml:"id"`      // of the vulnerability: CVE-..., GHSA-... or GO-...
	Reason  string `yaml:"reason"`  // why it does no harm here, in a sentence
	Expires string `yaml:"expires"` // last day on which it passes, as 2027-01-31; at most 90 days ahead

	last time.Time
}

// longest is how far ahead an entry may expire.
const longest = 90 * 24 * time.Hour

// ReadAllowed reads the list, and reports everything that is wrong with it.
func ReadAllowed(r io.Reader, today time.Time) ([]Allowed, error) {
	var list struct {
		Allowed []Allowed `yaml:"allowed"`
	}
	d := yaml.NewDecoder(r)
	d.KnownFields(true)
	if err := d.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var errs []error
	refuse := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("allowed[%d] "+format, append([]any{i}, args...)...))
	}
	seen := map[string]bool{}
	for i := range list.Allowed {
		a := &list.Allowed[i]
		if a.ID == "" {
			refuse(i, "has no id")
		} else if seen[a.ID] {
			refuse(i, "names %s a second time", a.ID)
		}
		seen[a.ID] = true
		if len(strings.Fields(a.Reason)) < 3 {
			refuse(i, "(%s) needs a reason, in a sentence", a.ID)
		}
		var err error
		if a.last, err = time.Parse(time.DateOnly, a.Expires); err != nil {
			refuse(i, "(%s) has expires %q: write a day, such as %s", a.ID, a.Expires, today.AddDate(0, 1, 0).Format(time.DateOnly))
		} else if a.last.After(today.Add(longest)) {
			refuse(i, "(%s) expires on %s: allow it for 90 days at most", a.ID, a.Expires)
		}
	}
	return list.Allowed, errors.Join(errs...)
}

// A Verdict is what the gate says about findings.
type Verdict struct {
	Refused []Finding // that fail
	Expired []Allowed // entries of the list that ended, and whose finding is still there
	Unused  []Allowed // entries that nothing needs
	Passed  int       // findings allowed by the list
	Noted   []Finding // without a fix, or of low severity, or not called
}

// Judge applies the list to the findings.
func Judge(findings []Finding, allowed []Allowed, today time.Time) Verdict {
	var v Verdict
	day := today.UTC().Truncate(24 * time.Hour)
	used := map[string]bool{}
	for _, f := range findings {
		if !f.fails() {
			v.Noted = append(v.Noted, f)
			continue
		}
		i := slices.IndexFunc(allowed, func(a Allowed) bool { return f.Package != "" && (a.ID == f.ID || slices.Contains(f.Aliases, a.ID)) })
		switch {
		case i < 0:
			v.Refused = append(v.Refused, f)
			continue
		case day.After(allowed[i].last):
			v.Refused = append(v.Refused, f)
			if !used[allowed[i].ID] {
				v.Expired = append(v.Expired, allowed[i])
			}
		default:
			v.Passed++
		}
		used[allowed[i].ID] = true
	}
	for _, a := range allowed {
		if !used[a.ID] {
			v.Unused = append(v.Unused, a)
		}
	}
	return v
}

// RefusedError says what the gate has refused.
type RefusedError struct{ error }

// Err returns what a person has to do, a line each, as a *RefusedError, or nil.
func (v Verdict) Err() error {
	if len(v.Refused) == 0 {
		return nil
	}
	var errs []error
	for _, a := range v.Expired {
		errs = append(errs, fmt.Errorf("%s was allowed until %s (%s), and is still there: update what has it, "+
			"or allow it again with today's reason", a.ID, a.Expires, a.Reason))
	}
	for _, f := range v.Refused {
		errs = append(errs, errors.New(f.String()))
	}
	return &RefusedError{errors.Join(errs...)}
}

// UnavailableError says that a tool could not have its database of vulnerabilities, and why.
type UnavailableError struct {
	Tool, Database string
	Err            error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s has no database of vulnerabilities: %s. No vulnerability was looked for there: run this again where the "+
		"database can be reached: %s", e.Tool, e.Database, e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

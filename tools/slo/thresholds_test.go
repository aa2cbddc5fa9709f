package main

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/infra/slo"
)

// thresholds are the forms in which a program could write the objectives' numbers again.
type thresholds struct {
	// telling are numbers with three digits or more, such as 99.9 and 43.2: nothing else has them.
	telling map[string]string
	// common are numbers such as 0.05, and durations: another matter may have them, so they
	// count only on a line that speaks of objectives.
	common map[string]string
}

var (
	// A number is not part of a word, a version, an address, or another number.
	numbers = regexp.MustCompile(`(?:^|[^\w.%-])(\d+(?:\.\d+)?)(ms|s)?(?:$|[^\w.]|\.(?:$|\D))`)
	// ranks are arguments of a quantile: 0.95 is the percentile, not the target.
	ranks  = regexp.MustCompile(`quantile\(0\.\d+,|percentile\(\d+\)`)
	inGo   = regexp.MustCompile(`(\d+)\*time\.(Millisecond|Second)`)
	matter = regexp.MustCompile(`(?i)latenc|availab|percentile|\bp(50|95|99)|quantile|error.?rate|objective|\bslo\b|\bsli|budget|threshold|slower|tolerat`)
)

// find returns what a file repeats, one line each. Comments may quote a number.
func (t thresholds) find(name string, content []byte) []string {
	lines := strings.Split(string(content), "\n")
	if filepath.Ext(name) == ".go" {
		lines = goLines(content)
	}
	var found []string
	for i, line := range lines {
		if filepath.Ext(name) != ".go" {
			line, _, _ = strings.Cut(line, "#")
		}
		report := func(text, what string) {
			found = append(found, fmt.Sprintf("%s:%d: %s is %s", name, i+1, text, what))
		}
		speaks := matter.MatchString(line)
		line = ranks.ReplaceAllString(line, "")
		// A match takes the character after it, so look again from there.
		for rest := line; ; {
			at := numbers.FindStringSubmatchIndex(rest)
			if at == nil {
				break
			}
			number, unit := canonical(rest[at[2]:at[3]]), ""
			if at[4] >= 0 {
				unit = rest[at[4]:at[5]]
			}
			if what, there := t.telling[number+unit]; there {
				report(number+unit, what)
			} else if what, there := t.common[number+unit]; there && speaks {
				report(number+unit, what)
			}
			rest = rest[at[3]:]
		}
		for _, match := range inGo.FindAllStringSubmatch(line, -1) {
			text := match[1] + map[string]string{"Millisecond": "ms", "Second": "s"}[match[2]]
			if what, there := t.common[text]; there && speaks {
				report(match[0], what)
			}
		}
	}
	return found
}

// canonical writes a number as the maps have it: 0.050 is 0.05.
func canonical(number string) string {
	x, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return number
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// goLines are the tokens of each line of Go code, without comments and without spaces around
// operators.
func goLines(content []byte) []string {
	lines := make([]string, bytes.Count(content, []byte("\n"))+1)
	files := token.NewFileSet()
	file := files.AddFile("", files.Base(), len(content))
	var s scanner.Scanner
	s.Init(file, content, nil, 0)
	for {
		position, kind, text := s.Scan()
		switch kind {
		case token.EOF:
			return lines
		case token.IDENT, token.INT, token.FLOAT, token.STRING, token.CHAR:
		default:
			text = kind.String()
		}
		line := &lines[file.Line(position)-1]
		if n := len(*line); n > 0 && kind != token.PERIOD && kind != token.MUL && (*line)[n-1] != '.' && (*line)[n-1] != '*' {
			*line += " "
		}
		*line += text
	}
}

// written collects the forms of objectives' numbers.
func written(all ...slo.Objectives) thresholds {
	t := thresholds{map[string]string{}, map[string]string{}}
	number := func(x float64, what string) {
		text := strconv.FormatFloat(math.Round(x*1e9)/1e9, 'f', -1, 64) // without the dust of binary fractions
		into := t.common
		if len(strings.TrimLeft(strings.ReplaceAll(text, ".", ""), "0")) >= 3 && strings.Contains(text, ".") {
			into = t.telling
		}
		into[text] = what
	}
	duration := func(d time.Duration, what string) {
		t.common[fmt.Sprintf("%dms", d.Milliseconds())] = what
		number(d.Seconds(), what+" in seconds")
	}
	for _, o := range all {
		for _, objective := range o.List() {
			number(objective.Target(), "the target of "+objective.Name)
			number(objective.Target()/100, "the target of "+objective.Name)
			number(100*objective.Tolerated, "what "+objective.Name+" tolerates")
			number(objective.Tolerated, "what "+objective.Name+" tolerates")
			budget := objective.Budget()
			// Whole minutes and small rates say nothing: 3 and 504 are everywhere.
			for unit, length := range map[string]float64{"minutes": budget.Minutes(), "seconds": budget.Seconds()} {
				if length != math.Trunc(length) {
					number(length, "the budget of "+objective.Name+" in "+unit)
				}
			}
			for _, alert := range objective.Alerts() {
				if alert.Burn > 10 {
					number(alert.Burn, "a rate of an alert")
				}
				number(alert.Burn*objective.Tolerated, "a limit of an alert")
			}
		}
		duration(o.LatencyThreshold, "latency.threshold")
		duration(o.P50, "p50")
		duration(o.P99, "p99")
	}
	return t
}

// home are the files that may state a number.
var home = []string{
	"apps/catalogue/read.go",             // the defaults of the objectives
	"infra/slo/alerts.go",                // the rates of alerts
	"tools/internal/benchshop/orders.go", // what the benchmark asks of this machine, which no service promises
}

// notOurs are folders whose numbers the product does not use, such as the findings, which run other
// people's programs, or that are rendered from it: the manifests.
var notOurs = []string{".git", ".local", "findings", "manifests", "testdata", "testcharts"}

// TestNoThresholdStandsElsewhere: an objective is changed in one place. Generated files, tests
// and service.yaml may have the numbers.
func TestNoThresholdStandsElsewhere(t *testing.T) {
	defaults, err := defaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	all := []slo.Objectives{defaults}
	for _, service := range services(t, "") {
		all = append(all, slo.Objectives(*service.Objectives))
	}
	forms, files := written(all...), 0
	err = filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, "../../"))
		if entry.IsDir() {
			if strings.HasSuffix(entry.Name(), "test") || slices.Contains(notOurs, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		kinds := []string{".go", ".yaml", ".yml", ".json", ".js", ".html", ".sh", ".sql"}
		if strings.HasSuffix(name, "_test.go") || entry.Name() == "service.yaml" || slices.Contains(home, name) ||
			!slices.Contains(kinds, filepath.Ext(name)) && entry.Name() != "Makefile" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		first, _, _ := bytes.Cut(content, []byte("\n"))
		if lower := bytes.ToLower(first); bytes.Contains(lower, []byte("generated")) {
			return nil
		}
		files++
		for _, found := range forms.find(name, content) {
			t.Errorf("%s: derive it from the objectives", found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 300 {
		t.Errorf("only %d files were read", files)
	}
}

// TestAThresholdIsFound: what a careless change would write is found, and what only looks like
// it is not.
func TestAThresholdIsFound(t *testing.T) {
	defaults, err := defaultObjectives()
	if err != nil {
		t.Fatal(err)
	}
	forms := written(defaults)
	for _, planted := range []struct{ name, content string }{
		{"a.go", "package a\nconst target = 99.9\n"},
		{"a.go", "package a\nvar good = ratio >= 0.999\n"},
		{"a.go", "package a\nvar query = `sum(errors) / sum(all) > 0.0144`\n"},
		{"a.go", "package a\nvar latencyLimit = 200 * time.Millisecond\n"},
		{"a.go", "package a\nvar p99 = 500*time.Millisecond\n"},
		{"a.go", "package a\nvar text = \"99.9 % availability\"\n"},
		{"a.go", "package a\nvar minutes = 43.2\n"},
		{"a.yaml", "successCondition: result[0] <= 0.05 # the latency\nlatency: {tolerated: 0.05}\n"},
		{"a.yaml", "expr: histogram_quantile(0.99, rate(x[5m])) > 0.5\n"},
		{"a.yaml", "latency: 200ms\n"},
		{"a.yaml", "burn: 14.4\n"},
	} {
		if found := forms.find(planted.name, []byte(planted.content)); len(found) != 1 {
			t.Errorf("in %q is found: %v", planted.content, found)
		}
	}
	for _, innocent := range []struct{ name, content string }{
		{"a.go", "package a\n// 99.9 % of them\nconst retries = 5\n"},
		{"a.go", "package a\nvar pause = 200 * time.Millisecond\n"},
		{"a.go", "package a\nvar version = \"v1.99.9\"\n"},
		{"a.yaml", "image: shop:3.43.2 # 99.9\nport: 500\n"},
		{"a.yaml", "cidr: 10.0.95.0/24\n"},
	} {
		if found := forms.find(innocent.name, []byte(innocent.content)); len(found) > 0 {
			t.Errorf("in %q is found: %v", innocent.content, found)
		}
	}
}

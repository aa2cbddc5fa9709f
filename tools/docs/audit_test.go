package docs_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// points are those of each list of the audits, by the letter of the list.
var points = map[string]int{"A": 11, "B": 9, "C": 6, "D": 6, "E": 11, "F": 16, "H": 3, "I": 6, "R": 15}

var (
	auditRow  = regexp.MustCompile(`^\| ([A-Z][0-9]+) \|`)
	testFunc  = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	namedTest = regexp.MustCompile("`(Test\\w+)`")
	evidence  = regexp.MustCompile("`Test\\w+`|\\]\\(|\\b[A-R][0-9]+\\b") // a test, a link, or another point
	verdict   = regexp.MustCompile(`^ *\*\*(mended|refused|open)\*\*`)
)

// Every point of the audits has a verdict, and what is mended names a test or a file that shows it; the
// links are checked with all others.
func TestEveryPointOfTheAuditsIsAnswered(t *testing.T) {
	tests := map[string]bool{}
	for _, file := range files(t, "_test.go", "apps", "infra", "stacks", "tools") {
		for _, found := range testFunc.FindAllStringSubmatch(read(t, file), -1) {
			tests[found[1]] = true
		}
	}
	var answered []string
	for line := range strings.Lines(read(t, "docs/aws/audit.md")) {
		row := auditRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		point := row[1]
		answered = append(answered, point)
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		answer := cells[len(cells)-1]
		if !verdict.MatchString(answer) {
			t.Errorf("%s is neither mended, refused nor open: %s", point, answer)
		}
		if strings.Contains(answer, "**mended**") && !evidence.MatchString(answer) {
			t.Errorf("%s is mended, and nothing shows it: %s", point, answer)
		}
		for _, named := range namedTest.FindAllStringSubmatch(answer, -1) {
			if !tests[named[1]] {
				t.Errorf("%s names %s, which is no test", point, named[1])
			}
		}
	}
	for letter, n := range points {
		for i := 1; i <= n; i++ {
			point := fmt.Sprint(letter, i)
			if !slices.Contains(answered, point) {
				t.Errorf("%s has no row", point)
			}
		}
	}
	slices.Sort(answered)
	if unique := slices.Compact(slices.Clone(answered)); len(unique) != len(answered) {
		t.Errorf("a point has two rows: %v", answered)
	}
}

package review

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pmezard/go-difflib/difflib"
)

// code is a value on one line, which Markdown leaves alone: no mention, link or HTML.
func code(s string) string {
	s = visible(strings.NewReplacer("\r", "", "\n", "⏎", "`", "'", "|", "¦").Replace(s))
	if strings.TrimSpace(s) == "" {
		s = `"` + s + `"`
	}
	return "`" + s + "`"
}

// inFence is a text that cannot end the block of code around it.
func inFence(s string) string { return visible(strings.ReplaceAll(s, "```", "'''")) }

// visible writes out characters that have no form of their own, such as those that change the direction of
// what follows: a value could look like another one.
func visible(s string) string {
	if !strings.ContainsFunc(s, formless) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if formless(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func formless(r rune) bool { return unicode.Is(unicode.Cf, r) }

// inline is a list of names as code.
func inline(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = code(name)
	}
	return strings.Join(all, ", ")
}

// clip shortens a line to about n bytes, without splitting a character or leaving code open.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	cut := n
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	kept := s[:cut] + "…"
	if strings.Count(kept, "`")%2 == 1 {
		kept += "`"
	}
	return fmt.Sprintf("%s (%d more characters)", kept, len(s)-cut)
}

func clipLines(s string, lines, each int) string {
	all := strings.Split(s, "\n")
	for i := range all {
		all[i] = clip(all[i], each)
	}
	if len(all) > lines {
		all = append(all[:lines], fmt.Sprintf("… and %d more lines", len(all)-lines))
	}
	return strings.Join(all, "\n")
}

// fenced is a block of code. The text cannot end it.
func fenced(language, s string) string {
	return "```" + language + "\n" + inFence(strings.TrimRight(s, "\n")) + "\n```\n"
}

// A part is a section of the comment whose blocks are left out where there is no room. A block
// stands for one or more changes.
type part struct {
	title    string
	language string // of a fence around the blocks; none if it is "-"
	open     bool   // shown without a click
	blocks   []block
}

type block struct {
	text    string
	changes int
}

// fill returns the part with the blocks for which there is room, and the number of changes of
// the others.
func (p part) fill(room int) (string, int) {
	before, after := "\n<details><summary>"+p.title+"</summary>\n\n", "\n</details>\n"
	if p.open {
		before, after = "\n#### "+p.title+"\n\n", ""
	}
	if p.language != "-" {
		before, after = before+"```"+p.language+"\n", "```\n"+after
	}
	var body strings.Builder
	left := 0
	for _, b := range p.blocks {
		if len(before)+body.Len()+len(b.text)+len(after) > room {
			left += b.changes
			continue
		}
		body.WriteString(b.text)
	}
	if body.Len() == 0 {
		return "", left
	}
	return before + body.String() + after, left
}

const (
	// shownCreations is up to how many new resources are shown with their properties. More are
	// a new environment, of which the names say enough.
	shownCreations = 5
	context        = 2 // lines of a text before and after a difference
)

// parts are the sections below the risks. whole leaves nothing out.
func (w *writer) parts(whole bool) []part {
	canaries := part{title: "Canaries", language: "-", open: true, blocks: w.canaries()}
	objectives := part{title: "Objectives", language: "-", open: true, blocks: w.objectives()}
	replaced := part{title: "What is replaced", language: "diff"}
	objects := part{title: "Manifests that change", language: "diff"}
	cloud := part{title: "Other resources that change", language: "diff"}
	created := part{title: "What is new", language: "-"}
	inputs := part{title: "Properties of what is new", language: "diff"}
	gone := part{title: "Properties of what is deleted", language: "diff"}
	var news []*Change
	for _, same := range w.alike() {
		c := same[0]
		b := block{text: difference(same, whole), changes: len(same)}
		switch {
		case c.Op == "create":
			news = append(news, same...)
		case c.Op == "replace":
			replaced.blocks = append(replaced.blocks, b)
		case c.removes():
			if whole { // the risks list all
				gone.blocks = append(gone.blocks, block{text: inputLines(c, "-", c.Old, whole), changes: 1})
			}
		case strings.HasPrefix(c.Type, "kubernetes:"):
			objects.blocks = append(objects.blocks, b)
		default:
			cloud.blocks = append(cloud.blocks, b)
		}
	}
	by := map[string][]string{}
	for _, c := range news {
		by[c.Type] = append(by[c.Type], c.Name)
		if whole || len(news) <= shownCreations {
			inputs.blocks = append(inputs.blocks, block{text: inputLines(c, "+", c.New, whole), changes: 0})
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		created.blocks = append(created.blocks, block{text: fmt.Sprintf("- %s: %s\n", code(kind), inline(by[kind])), changes: len(by[kind])})
	}
	for _, p := range []*part{&replaced, &objects, &cloud, &created} {
		n := 0
		for _, b := range p.blocks {
			n += b.changes
		}
		p.title = fmt.Sprintf("%s (%d)", p.title, n)
	}
	return []part{canaries, objectives, replaced, objects, cloud, created, inputs, gone, w.warnings()}
}

// alike groups the changes that differ in their names alone.
func (w *writer) alike() [][]*Change {
	var groups [][]*Change
	at := map[string]int{}
	for _, c := range w.plan.Changes {
		key := c.Op + "\x00" + c.Type
		for _, p := range c.Properties {
			key += "\x00" + p.Path + "\x00" + p.Old + "\x00" + p.New
		}
		if c.Op == "create" || c.Op == "delete" || c.Properties == nil {
			key = c.URN
		}
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

// difference is what changes in resources that change alike, as lines of a diff.
func difference(same []*Change, whole bool) string {
	c := same[0]
	names := make([]string, len(same))
	for i, c := range same {
		names[i] = c.Name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "@@ %s %s %s @@\n", c.Op, c.Type, strings.Join(names, ", "))
	if strings.HasPrefix(c.Op, "import") {
		fmt.Fprintf(&b, "! takes over the existing object %s\n", c.ID)
	}
	for _, p := range c.Properties {
		writeProperty(&b, p, slices.ContainsFunc(c.Forced, func(path string) bool { return overlaps(p.Path, path) }), whole)
	}
	if len(c.Properties) == 0 {
		b.WriteString("  nothing that can be shown: see its dependencies\n")
	}
	return inFence(b.String())
}

func writeProperty(b *strings.Builder, p Property, forced, whole bool) {
	note := ""
	if forced {
		note = "  # causes the replacement"
	}
	if p.Drift {
		note += "  # the object differs from what was last asked for"
	}
	before, after := oneLine(p.Old, whole), oneLine(p.New, whole)
	switch {
	case strings.Contains(p.Old, "\n") && strings.Contains(p.New, "\n"):
		removed, added := counts(p.Old, p.New)
		fmt.Fprintf(b, "! %s: %d lines removed, %d added%s\n", p.Path, removed, added, note)
		lines := unified(p.Old, p.New)
		if !whole {
			lines = clipLines(lines, 40, 200)
		}
		b.WriteString(lines + "\n")
	case p.Old == "":
		fmt.Fprintf(b, "+ %s: %s%s\n", p.Path, after, note)
	case p.New == "":
		fmt.Fprintf(b, "- %s: %s%s\n", p.Path, before, note)
	default:
		fmt.Fprintf(b, "! %s: %s → %s%s\n", p.Path, before, after, note)
	}
}

func oneLine(s string, whole bool) string {
	s = strings.NewReplacer("\r", "", "\n", "⏎").Replace(s)
	if !whole {
		s = strings.ReplaceAll(clip(s, 200), "`", "'")
	}
	return s
}

// inputLines lists the properties of a resource that is new or goes.
func inputLines(c *Change, sign string, inputs map[string]any, whole bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "@@ %s %s %s @@\n", c.Op, c.Type, c.Name)
	leaves(place{}, anyMap(inputs), func(at place, text string) {
		unset := text == "false" || text == `""` // of Helm releases, most are
		if !hidden(at.path) && !strings.HasPrefix(at.path, "tagsAll") && (whole || !unset) {
			fmt.Fprintf(&b, "%s %s: %s\n", sign, at.path, oneLine(text, whole))
		}
	})
	return inFence(b.String())
}

// maxLines is up to how many lines two texts are compared line by line, after what they begin
// and end with. More have changed as a whole.
const maxLines = 3000

// lineChanges compares two texts.
func lineChanges(a, b []string) []difflib.OpCode {
	start, end := 0, 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	x, y := a[start:len(a)-end], b[start:len(b)-end]
	codes := []difflib.OpCode{{Tag: 'e', I1: 0, I2: start, J1: 0, J2: start}}
	if len(x)+len(y) > maxLines {
		codes = append(codes, difflib.OpCode{Tag: 'r', I1: start, I2: start + len(x), J1: start, J2: start + len(y)})
	} else {
		for _, op := range difflib.NewMatcher(x, y).GetOpCodes() {
			codes = append(codes, difflib.OpCode{Tag: op.Tag, I1: op.I1 + start, I2: op.I2 + start, J1: op.J1 + start, J2: op.J2 + start})
		}
	}
	return append(codes, difflib.OpCode{Tag: 'e', I1: len(a) - end, I2: len(a), J1: len(b) - end, J2: len(b)})
}

// unified is the difference of two texts, with some lines around it.
func unified(before, after string) string {
	a, b := lines(before), lines(after)
	codes := lineChanges(a, b)
	var out []string
	for i, op := range codes {
		if op.Tag != 'e' {
			out = append(out, prefixed("-   ", a[op.I1:op.I2])...)
			out = append(out, prefixed("+   ", b[op.J1:op.J2])...)
			continue
		}
		same := a[op.I1:op.I2]
		head, tail := context, context
		if i == 0 {
			head = 0
		}
		if i == len(codes)-1 {
			tail = 0
		}
		if len(same) > head+tail {
			out = append(out, prefixed("    ", same[:head])...)
			if head > 0 && tail > 0 {
				out = append(out, "  ⋮")
			}
			same = same[len(same)-tail:]
		}
		out = append(out, prefixed("    ", same)...)
	}
	return strings.Join(out, "\n")
}

func prefixed(prefix string, lines []string) []string {
	all := make([]string, len(lines))
	for i, line := range lines {
		all[i] = prefix + line
	}
	return all
}

func lines(s string) []string { return strings.Split(strings.TrimRight(s, "\n"), "\n") }

// counts are the lines that a text loses and gains.
func counts(before, after string) (removed, added int) {
	for _, op := range lineChanges(lines(before), lines(after)) {
		if op.Tag != 'e' {
			removed += op.I2 - op.I1
			added += op.J2 - op.J1
		}
	}
	return removed, added
}

// warnings are the engine's, each once.
func (w *writer) warnings() part {
	p := part{title: "Warnings", language: "-"}
	times := map[string]int{}
	var order []string
	for _, d := range w.plan.Diagnostics {
		if d.Severity == "warning" {
			if times[d.Message]++; times[d.Message] == 1 {
				order = append(order, d.Message)
			}
		}
	}
	for _, message := range order {
		line := "- " + code(clip(message, 500))
		if times[message] > 1 {
			line += fmt.Sprintf(" (%d times)", times[message])
		}
		p.blocks = append(p.blocks, block{text: line + "\n"})
	}
	return p
}

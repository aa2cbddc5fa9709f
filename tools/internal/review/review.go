// Package review turns the output of pulumi preview --json into a comment for a pull request:
// first the risks that its rules find, then what changes. It calls nothing and reads no file;
// docs/previews.md explains the comment to those who read it.
package review

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Limit is the longest comment, in bytes. GitHub refuses a comment of more than 65,536
// characters, which are never more than the bytes.
const Limit = 65536

// Options are what a plan does not say about itself.
type Options struct {
	// Stack is the name of the stack.
	Stack string
	// Against is a sentence about the state that the plan was compared with; empty if it is the
	// environment's own.
	Against string
	// Failure is what the preview said when it failed; empty if it succeeded.
	Failure string
	// Rest is the name of the file with the full text.
	Rest string
	// Cost is the price of the stack before and after; nil leaves its row out.
	Cost *Cost
}

// Cost is what the stack costs in USD a month, before the update and after it.
type Cost struct {
	Before, After float64
	// Prices says where the prices come from and of which day they are.
	Prices string
	// Unknown says why the cost is not known; then there are no figures.
	Unknown string
}

// Marker is the first line of a stack's comments: who posts one replaces the comment that begins
// with it.
func Marker(stack string) string { return "<!-- loja-preview stack=" + stack + " -->" }

// A Comment is the text for the pull request and the full text for those who need more.
type Comment struct {
	Text, Full string
	// Left says that not even the names of all risks fit: Text says so, and must not be approved.
	Left bool
}

// Write writes the comment on a plan. A nil plan is one that could not be read; Options.Failure
// says why.
func Write(p *Plan, o Options) Comment {
	if p == nil {
		p = &Plan{}
	}
	w := writer{plan: p, Options: o, risks: p.Risks(), depths: map[Class]depth{}}
	for _, known := range classes {
		w.depths[known.class] = whole
	}
	full := w.write(1<<40, true)
	for _, d := range []depth{long, short, names, bare} {
		// The last class is the first that is told in fewer words.
		for _, known := range slices.Backward(classes) {
			w.depths[known.class] = d
			if d != long && w.fits() {
				break
			}
		}
		if w.fits() {
			return Comment{Text: w.write(Limit, false), Full: full}
		}
	}
	w.left = true
	text := clip(clip(w.head(), Limit/2)+w.listed(), Limit-200)
	return Comment{Text: text + "\n\n(the rest is in the full text)\n", Full: full, Left: true}
}

// depth is how much is said about each risk.
type depth struct {
	line, lines int // characters per line and lines per risk
	// grouped lists names alone, by reason; bare without the reasons.
	grouped, bare bool
}

var (
	whole = depth{line: 1 << 40, lines: 1 << 40}
	long  = depth{line: 600, lines: 40}
	short = depth{line: 160, lines: 3}
	names = depth{grouped: true}
	bare  = depth{grouped: true, bare: true}
)

type writer struct {
	Options
	plan  *Plan
	risks []Finding
	// depths are how much is said about the risks of each class.
	depths map[Class]depth
	left   bool
}

// reserve is kept for the sentence about what does not fit.
const reserve = 200

// fits says that what must be in the comment fits, at the present depths.
func (w *writer) fits() bool {
	return len(w.head())+len(w.listed())+len(w.foot())+reserve <= Limit
}

// write puts the parts together: what must be there, then what fits. whole shortens no value.
func (w *writer) write(limit int, whole bool) string {
	text := w.head() + w.listed()
	foot := w.foot()
	room := limit - len(text) - len(foot) - reserve
	left := 0
	for _, part := range w.parts(whole) {
		var written int
		body, n := part.fill(room)
		written, left = len(body), left+n
		text += body
		room -= written
	}
	if left > 0 {
		text += fmt.Sprintf("\n%d of the changes do not fit here: %s has them.\n", left, w.rest())
	}
	return text + foot
}

func (w *writer) rest() string {
	if w.Rest == "" {
		return "the full text"
	}
	return "the file " + code(w.Rest)
}

func (w *writer) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n### Preview of %s: %s\n", Marker(w.Stack), code(w.Stack), w.verdict())
	if w.left {
		fmt.Fprintf(&b, "\n**Do not approve this from the comment alone**: not even the names of what is at risk fit. Read %s.\n", w.rest())
	}
	b.WriteString(w.failure())
	if w.Against != "" {
		fmt.Fprintf(&b, "\n%s\n", w.Against)
	}
	if w.plan.Corrupt {
		b.WriteString("\nPulumi doubts the state of the stack: run `pulumi refresh` before an update.\n")
	}
	if counted := w.counts(); counted != "" {
		fmt.Fprintf(&b, "\n%s\n", counted)
	}
	if len(w.risks) > 0 || w.Cost != nil {
		b.WriteString("\n| risk | resources | a reviewer asks |\n|---|---|---|\n")
	}
	for _, known := range classes {
		touched := map[*Change]bool{}
		for _, f := range w.risks {
			if f.Class == known.class {
				touched[f.Change] = true
			}
		}
		if len(touched) > 0 {
			fmt.Fprintf(&b, "| **%s** | %d | %s |\n", known.class, len(touched), known.asks)
		}
	}
	b.WriteString(w.cost())
	return b.String()
}

func (w *writer) verdict() string {
	switch {
	case w.failed():
		return "it failed"
	case len(w.plan.Changes) == 0:
		return "nothing changes"
	case len(w.risks) == 0:
		return "no risk that the rules know"
	case slices.ContainsFunc(w.risks, func(f Finding) bool { return f.Class == Data }):
		return "data at risk"
	}
	return "look at the risks"
}

func (w *writer) cost() string {
	if w.Cost == nil {
		return ""
	}
	row := fmt.Sprintf("%+.2f USD a month, %.2f → %.2f, at the prices of %s", w.Cost.After-w.Cost.Before, w.Cost.Before, w.Cost.After,
		w.Cost.Prices)
	if w.Cost.Unknown != "" {
		row = "not known: " + oneLine(w.Cost.Unknown, false)
	}
	return fmt.Sprintf("| **Cost** | | %s |\n", row)
}

// counts is a sentence about how many resources the update touches.
func (w *writer) counts() string {
	by := map[string]int{}
	var order []string
	for _, c := range w.plan.Changes {
		if by[c.Op]++; by[c.Op] == 1 {
			order = append(order, c.Op)
		}
	}
	slices.SortFunc(order, func(a, b string) int { return cmp.Or(removal(b)-removal(a), strings.Compare(a, b)) })
	var parts []string
	for _, op := range order {
		parts = append(parts, fmt.Sprintf("%d to %s", by[op], op))
	}
	if w.plan.Unchanged > 0 && !w.failed() {
		parts = append(parts, fmt.Sprintf("%d unchanged", w.plan.Unchanged))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + "."
}

func removal(op string) int {
	if (&Change{Op: op}).removes() {
		return 1
	}
	return 0
}

// listed lists the risks by class.
func (w *writer) listed() string {
	var b strings.Builder
	for _, known := range classes {
		var of []Finding
		for _, f := range w.risks {
			if f.Class == known.class {
				of = append(of, f)
			}
		}
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n#### %s\n\n", known.class)
		d := w.depths[known.class]
		if d.grouped {
			b.WriteString(grouped(of, d.bare))
			continue
		}
		for _, same := range folded(of) {
			writeFinding(&b, same, d)
		}
	}
	return b.String()
}

// folded groups findings that differ in the resource's name alone.
func folded(all []Finding) [][]Finding {
	var groups [][]Finding
	at := map[string]int{}
	for _, f := range all {
		key := strings.Join(append([]string{f.Change.Op, f.Change.Type, f.What}, f.Details...), "\x00")
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

func writeFinding(b *strings.Builder, same []Finding, d depth) {
	f := same[0]
	fmt.Fprintf(b, "- %s %s %s", f.Change.op(), code(f.Change.Type), inline(namesOf(same)))
	if f.What != "" {
		fmt.Fprintf(b, ": %s", f.What)
	}
	b.WriteString("\n")
	for i, line := range f.Details {
		if i == d.lines {
			fmt.Fprintf(b, "  - and %d more in the full text\n", len(f.Details)-i)
			break
		}
		fmt.Fprintf(b, "  - %s\n", clip(line, d.line))
	}
}

func namesOf(all []Finding) []string {
	var found []string
	for _, f := range all {
		if !slices.Contains(found, f.Change.Name) {
			found = append(found, f.Change.Name)
		}
	}
	return found
}

// grouped lists every name, by reason; bare lists it once, without the reason.
func grouped(all []Finding, bare bool) string {
	var order []string
	by := map[string][]string{}
	seen := map[*Change]bool{}
	for _, f := range all {
		key := f.Change.op() + " " + code(f.Change.Type)
		if !bare && f.What != "" {
			key += ", " + f.What
		}
		if bare && seen[f.Change] {
			continue
		}
		seen[f.Change] = true
		if by[key] == nil {
			order = append(order, key)
		}
		by[key] = append(by[key], f.Change.Name)
	}
	var b strings.Builder
	for _, key := range order {
		fmt.Fprintf(&b, "- %s: `%s`\n", key, strings.ReplaceAll(strings.Join(by[key], " "), "`", "'"))
	}
	return b.String()
}

func (c *Change) op() string {
	if c.removes() {
		return "**" + c.Op + "**"
	}
	return c.Op
}

// foot names where the rest is.
func (w *writer) foot() string {
	if len(w.plan.Changes) == 0 {
		return ""
	}
	return fmt.Sprintf("\nAll values are in %s. What the rules know: docs/previews.md.\n", w.rest())
}

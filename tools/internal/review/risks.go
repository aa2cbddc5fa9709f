package review

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Finding is a risk of one change.
type Finding struct {
	Class  Class
	Change *Change
	// What is the risk in a few words, Markdown.
	What string
	// Details say more, each a line of Markdown: what is gained, the values before and after.
	Details []string
}

// Risks returns what a reviewer must see, by class, in the order of the plan.
func (p *Plan) Risks() []Finding {
	e := evaluation{byType: map[string][]compiled{}, byForm: map[string][]int{}, created: map[string]bool{}}
	for _, c := range p.Changes {
		if c.Op == "create" {
			e.created[c.Type] = true
		}
	}
	var found []Finding
	for _, c := range p.Changes {
		found = append(found, e.removal(c)...)
		found = append(found, e.rules(c)...)
		found = append(found, grants(c)...)
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return rank(a.Class) - rank(b.Class) })
	return found
}

func rank(c Class) int {
	for i, known := range classes {
		if known.class == c {
			return i
		}
	}
	return len(classes)
}

type compiled struct {
	rule
	form *regexp.Regexp
}

// evaluation keeps which rules match which types and forms: a plan repeats both.
type evaluation struct {
	byType  map[string][]compiled
	byForm  map[string][]int
	created map[string]bool
}

// removes says that a step takes an object away. A step that a later engine may add counts, if
// it is called so.
func (c *Change) removes() bool {
	return strings.Contains(c.Op, "delete") || strings.Contains(c.Op, "replace") || c.Op == "discard"
}

// removal is the finding that an object is replaced or deleted, or loses its protection.
func (e *evaluation) removal(c *Change) []Finding {
	lost, holds := stateful[c.Type]
	var found []Finding
	if c.Unprotected && c.Op == "update" {
		found = append(found, Finding{Class: Data, Change: c, What: "no longer protected: Pulumi will replace or delete it without a refusal"})
	}
	if !c.removes() {
		return found
	}
	f := Finding{Class: Gone, Change: c}
	if holds {
		f.Class, f.What = Data, "loses "+lost
	}
	var more []string
	if c.Op == "replace" && c.DeletesFirst {
		more = append(more, "the old object is deleted before there is a new one")
	}
	if c.Leftover {
		more = append(more, "an interrupted update has left this object behind, in whose place there is a new one")
	}
	if c.Retained {
		more = append(more, "the object stays in the cloud, unmanaged (`retainOnDelete`)")
	}
	switch {
	case c.Unprotected:
		more = append(more, "this plan lifts its protection")
	case c.Protected:
		more = append(more, "it is protected, so the update refuses this until the protection is lifted")
	}
	if c.Op == "delete" && holds && e.created[c.Type] {
		more = append(more, "the plan creates another of this type: if it is the same under a new name, add an alias")
	}
	if c.Op == "replace" && c.New == nil {
		more = append(more, "the preview ended before it knew what comes in its place")
	}
	f.What = strings.Join(append(slices.DeleteFunc([]string{f.What}, func(s string) bool { return s == "" }), more...), "; ")
	for _, path := range c.Forced {
		line := "because of " + code(path)
		for _, p := range c.Properties {
			if overlaps(p.Path, path) {
				line += ": " + change(p)
				break
			}
		}
		f.Details = append(f.Details, line)
	}
	return append(found, f)
}

func (e *evaluation) rulesOf(kind string) []compiled {
	if known, ok := e.byType[kind]; ok {
		return known
	}
	var all []compiled
	for _, r := range rules {
		if slices.ContainsFunc(r.types, func(t string) bool { return pattern(t, "*").MatchString(kind) }) {
			all = append(all, compiled{r, pattern(r.path, "**")})
		}
	}
	e.byType[kind] = all
	return all
}

// pattern compiles a text in which ** stands for any characters, and * too or, if wild is **,
// for those of one name.
func pattern(s, wild string) *regexp.Regexp {
	one := `[^.\[]*`
	if wild == "*" {
		one = ".*"
	}
	quoted := strings.ReplaceAll(regexp.QuoteMeta(s), `\[\*\]`, "\x00")
	quoted = strings.ReplaceAll(strings.ReplaceAll(quoted, `\*\*`, ".*"), `\*`, one)
	return regexp.MustCompile("^" + strings.ReplaceAll(quoted, "\x00", `\[\*\]`) + "$")
}

// matching returns the indices of a type's rules that are about a path.
func (e *evaluation) matching(kind, form string) []int {
	key := kind + " " + form
	known, ok := e.byForm[key]
	if !ok {
		for i, r := range e.rulesOf(kind) {
			if r.form.MatchString(form) {
				known = append(known, i)
			}
		}
		e.byForm[key] = known
	}
	return known
}

// values are those of one rule's property: by path, and in order.
type values struct {
	at   map[string]string
	list []string
}

func (e *evaluation) values(c *Change, inputs map[string]any) map[int]values {
	by := map[int]values{}
	leaves(place{}, anyMap(inputs), func(at place, text string) {
		for _, i := range e.matching(c.Type, at.form) {
			v := by[i]
			if v.at == nil {
				v.at = map[string]string{}
			}
			v.at[at.path] = text
			v.list = append(v.list, text)
			by[i] = v
		}
	})
	return by
}

// rules returns what the table of rules finds.
func (e *evaluation) rules(c *Change) []Finding {
	all := e.rulesOf(c.Type)
	if len(all) == 0 {
		return nil
	}
	gone := c.Op == "delete"
	var old, current map[int]values
	if !gone {
		old, current = e.values(c, c.Old), e.values(c, c.New)
	}
	changed := map[int][]string{}
	for _, p := range c.Properties {
		for _, i := range e.matching(c.Type, p.form) {
			changed[i] = append(changed[i], code(p.Path)+": "+change(p))
		}
	}
	var found []Finding
	for i, r := range all {
		var details []string
		switch {
		case r.test == deleted:
			if gone {
				found = append(found, Finding{Class: r.class, Change: c, What: r.why})
			}
			continue
		case gone || c.New == nil:
			continue
		case r.test == changes:
			details = changed[i]
		default:
			details = r.compare(old[i], current[i], c.Old == nil)
		}
		if len(details) > 0 {
			found = append(found, Finding{Class: r.class, Change: c, What: r.why, Details: details})
		}
	}
	return merged(found)
}

// merged joins findings of one class and reason, of which rules about related properties have
// several.
func merged(found []Finding) []Finding {
	var kept []Finding
	for _, f := range found {
		i := slices.IndexFunc(kept, func(k Finding) bool { return k.Class == f.Class && k.What == f.What })
		if i < 0 {
			kept = append(kept, f)
			continue
		}
		kept[i].Details = append(kept[i].Details, f.Details...)
	}
	return kept
}

const later = "known only after the update: look at it then"

// compare applies the test of a rule to the values before and after, and returns a line for each
// difference that it finds.
func (r compiled) compare(old, current values, created bool) []string {
	var lines []string
	switch r.test {
	case gains, opens, loses:
		from, to := old.list, current.list
		if r.test == loses {
			from, to = to, from
		}
		for _, v := range to {
			if slices.Contains(from, v) || r.test == opens && contained(v, from) {
				continue
			}
			verb := "gains "
			if r.test == loses {
				verb = "loses "
			}
			line := code(r.path) + " " + verb + code(v)
			if strings.Contains(v, unknown) {
				if created {
					continue // in a new environment most ids are unknown, and none was there before
				}
				line = code(r.path) + " is " + later
			}
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	paths := map[string]bool{}
	for path := range old.at {
		paths[path] = true
	}
	for path := range current.at {
		paths[path] = true
	}
	if created && r.test == isNot && len(paths) == 0 && !strings.Contains(r.path, "*") {
		return []string{code(r.path) + " is not set"}
	}
	for path := range paths {
		if before, after := old.at[path], current.at[path]; r.differs(before, after, created) {
			lines = append(lines, code(path)+": "+change(Property{Old: before, New: after}))
		}
	}
	slices.Sort(lines)
	return lines
}

func (r compiled) differs(before, after string, created bool) bool {
	if strings.Contains(after, unknown) && before != after {
		return !created
	}
	was, has := slices.Contains(r.values, before), slices.Contains(r.values, after)
	switch r.test {
	case is:
		return has && !was
	case isNot:
		return !has && (was || created)
	case stops:
		return len(r.values) > 0 && was && !has || len(r.values) == 0 && before != "" && after == ""
	}
	return r.further(before, after)
}

// further says that a number has fallen or risen. A text in place of a number may have.
func (r compiled) further(before, after string) bool {
	x, errX := strconv.ParseFloat(before, 64)
	y, errY := strconv.ParseFloat(after, 64)
	if errX != nil || errY != nil {
		return before != "" && after != before && (errX == nil) != (errY == nil)
	}
	return r.test == falls && y < x || r.test == rises && y > x
}

// contained says that a range of addresses lies in one of those before.
func contained(cidr string, before []string) bool {
	inner, err := netip.ParsePrefix(cidr)
	return err == nil && slices.ContainsFunc(before, func(s string) bool {
		outer, err := netip.ParsePrefix(s)
		return err == nil && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
	})
}

// change is a difference as Markdown.
func change(p Property) string {
	before, after := code(p.Old), code(p.New)
	switch {
	case strings.Contains(p.New, unknown):
		after += " (" + later + ")"
	case p.Old == "":
		return "added, " + after
	case p.New == "":
		return "removed, was " + before
	}
	if p.Old == "" {
		return after
	}
	if strings.Contains(p.Old+p.New, "\n") {
		removed, added := counts(p.Old, p.New)
		return fmt.Sprintf("%d lines removed, %d added (below)", removed, added)
	}
	return before + " → " + after
}

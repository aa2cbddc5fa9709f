package review

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// A Plan is what a preview found, with every secret masked: nothing after Read sees one.
type Plan struct {
	// Changes are the resources that the update would touch, in the order of the preview.
	Changes []*Change
	// Unchanged is the number of resources that stay as they are, if the preview came to its end.
	Unchanged int
	// Diagnostics are the messages of the engine, the program and the plugins.
	Diagnostics []Diagnostic
	// Corrupt says that the engine doubts the state.
	Corrupt bool
}

// A Diagnostic is a message of a preview.
type Diagnostic struct {
	Severity, Message string
	// Resource is the name of the resource that it is about; empty if none.
	Resource string
}

// A Change is what happens to one resource.
type Change struct {
	// URN is Pulumi's name of the resource, Type its type token, Name its name in the program.
	URN, Type, Name string
	// Op is create, update, replace, delete, import, or another step of Pulumi's
	// engine by its own name.
	Op string
	// DeletesFirst says that a replacement deletes the old object before there is a new one.
	DeletesFirst bool
	// Protected says that the engine refuses to delete the object; Unprotected, that this plan
	// lifts that protection.
	Protected, Unprotected bool
	// Leftover says that an earlier, interrupted update has replaced the object and not deleted it.
	Leftover bool
	// Retained says that the object stays in the cloud when Pulumi deletes the resource.
	Retained bool
	// ID is the object's id in the cloud, or the id of the object to import.
	ID string
	// Old and New are the inputs, masked; nil where there are none.
	Old, New map[string]any
	// Forced are the paths of the properties that cause a replacement.
	Forced []string
	// Properties are the differences between Old and New.
	Properties []Property
}

// digest is the part of the output of pulumi preview --json that is read, as in package
// pkg/v3/display of Pulumi 3.258.0.
type digest struct {
	Steps         []step
	Diagnostics   []struct{ URN, Message, Severity string }
	ChangeSummary map[string]int
	MaybeCorrupt  bool
}

type step struct {
	Op             string
	URN            string
	OldState       *state
	NewState       *state
	ReplaceReasons []string
	DetailedDiff   map[string]struct{ Kind string }
}

type state struct {
	Custom, Protect, RetainOnDelete bool
	Delete                          bool
	Type, ID, ImportID              string
	Inputs, Outputs                 map[string]any
}

// Read reads the output of pulumi preview --json. Its errors are sentences for the comment.
func Read(output []byte) (*Plan, error) {
	output = bytes.TrimSpace(output)
	if len(output) == 0 {
		return nil, errors.New("the preview printed no plan")
	}
	var d digest
	decoder := json.NewDecoder(bytes.NewReader(output))
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		return nil, fmt.Errorf("the preview printed a plan that is cut off or no JSON: %w", err)
	}
	p := &Plan{Corrupt: d.MaybeCorrupt, Unchanged: d.ChangeSummary["same"]}
	for _, m := range d.Diagnostics {
		p.Diagnostics = append(p.Diagnostics, Diagnostic{
			Severity: m.Severity, Message: readable(strings.TrimSpace(m.Message)), Resource: name(m.URN),
		})
	}
	replaced := map[string]*Change{}
	for i := range d.Steps {
		s := &d.Steps[i]
		if s.OldState == nil && s.NewState == nil {
			continue
		}
		if !strings.Contains(s.Op, "replace") || s.Op == "remove-pending-replace" {
			if c := single(s); c != nil {
				p.Changes = append(p.Changes, c)
			}
			continue
		}
		c := replaced[s.URN]
		if c == nil {
			c = &Change{URN: s.URN, Op: "replace"}
			replaced[s.URN] = c
			p.Changes = append(p.Changes, c)
			c.DeletesFirst = s.Op == "delete-replaced"
		}
		c.join(s)
	}
	p.Changes = slices.DeleteFunc(p.Changes, func(c *Change) bool { return c.Type == "" })
	return p, nil
}

// name is the last of the four parts of a URN; it may contain their separator.
func name(urn string) string {
	parts := strings.SplitN(urn, "::", 4)
	return parts[len(parts)-1]
}

// single returns the change of a step that is not part of a replacement, or nil if nobody has
// to see it: a component has no object, and what is read or stays the same does not change. A
// refresh that finds a difference is printed as an update or a deletion.
func single(s *step) *Change {
	c := &Change{URN: s.URN, Op: s.Op}
	c.join(s)
	if c.Type == "" || (c.Op == "same" || c.Op == "refresh" || strings.HasPrefix(c.Op, "read")) && !c.Unprotected {
		return nil
	}
	if c.Op == "same" {
		c.Op = "update"
	}
	return c
}

// join adds what a step says about the resource. A replacement has up to three steps.
func (c *Change) join(s *step) {
	about := s.NewState
	if about == nil {
		about = s.OldState
	}
	if !about.Custom {
		return // a component has no object
	}
	c.Type, c.Name = about.Type, name(s.URN)
	if s.NewState != nil && s.NewState.ImportID != "" && strings.HasPrefix(s.Op, "import") {
		c.ID = s.NewState.ImportID
	}
	if s.OldState != nil {
		c.Protected = c.Protected || s.OldState.Protect
		c.Leftover = s.Op == "delete" && s.OldState.Delete // in a replacement, every old object is marked
		c.Retained = c.Retained || s.OldState.RetainOnDelete
		if c.ID == "" {
			c.ID = s.OldState.ID
		}
	}
	if s.OldState != nil && s.NewState != nil {
		c.Unprotected = c.Unprotected || s.OldState.Protect && !s.NewState.Protect
	}
	c.force(s)
	c.compare(s)
}

// force adds the properties that a step names as the reason for the replacement.
func (c *Change) force(s *step) {
	forced := map[string]bool{}
	for _, path := range append(c.Forced, s.ReplaceReasons...) {
		forced[path] = true
	}
	for path, diff := range s.DetailedDiff {
		if strings.HasSuffix(diff.Kind, "-replace") {
			forced[path] = true
		}
	}
	c.Forced = nil
	for _, path := range slices.Sorted(maps.Keys(forced)) {
		n := len(c.Forced) - 1
		if n >= 0 && path != c.Forced[n] && root(path) == c.Forced[n] { // one step names the property, another the value in it
			c.Forced = c.Forced[:n]
		}
		c.Forced = append(c.Forced, path)
	}
}

// compare fills Old, New and Properties from a step that has more to say than those before.
func (c *Change) compare(s *step) {
	var before, after map[string]any
	if s.OldState != nil {
		before = s.OldState.Inputs
	}
	if s.NewState != nil {
		after = s.NewState.Inputs
	}
	if c.Old != nil && before == nil || c.New != nil && after == nil || c.Properties != nil {
		return
	}
	m := masker{kind: c.Type}
	old, current := m.object(before, after)
	for path, diff := range s.DetailedDiff {
		if parsed, err := resource.ParsePropertyPath(path); err == nil && strings.HasPrefix(diff.Kind, "update") {
			markSecret(parsed, old, current)
		}
	}
	c.Old, c.New = old, current
	if old == nil || current == nil {
		return
	}
	c.Properties = differences(old, current)
	if c.Unprotected {
		c.Properties = append(c.Properties, Property{Path: "protect", form: "protect", Old: "true", New: "false"})
	}
	for _, path := range slices.Sorted(maps.Keys(s.DetailedDiff)) {
		parsed, err := resource.ParsePropertyPath(path)
		if err != nil || hidden(path) || strings.HasPrefix(path, "tagsAll") || slices.ContainsFunc(c.Properties,
			func(p Property) bool { return overlaps(p.Path, path) }) {
			continue
		}
		// Not in the inputs: the object differs from what the program has asked for.
		was, _ := m.values(nil, lookup(parsed, s.OldState.Outputs))
		is := lookup(parsed, current)
		c.Properties = append(c.Properties, Property{Path: path, form: anyIndex(path), Old: text(was), New: text(is), Drift: true})
	}
}

package costs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// component is the type of the EKS component, whose cluster golden plans leave out.
const component = "eks:index:Cluster"

var (
	goldenResource = regexp.MustCompile(`^ *([a-z0-9-]+:\S*:\S+) (\S+)(?: \(protected\))?$`)
	goldenInput    = regexp.MustCompile(`^ *(\S+): (.*)$`)
)

// FromGolden reads a golden plan of an environment, stacks/environment/testdata/plan-*.txt.
func FromGolden(text string) []Resource {
	var plan []Resource
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if found := goldenResource.FindStringSubmatch(line); found != nil {
			if found[1] == component {
				found[1] = "aws:eks/cluster:Cluster"
			}
			plan = append(plan, Resource{Type: found[1], Name: found[2], Inputs: map[string]string{}})
			continue
		}
		if found := goldenInput.FindStringSubmatch(line); found != nil && len(plan) > 0 {
			plan[len(plan)-1].Inputs[found[1]] = found[2]
		}
	}
	return plan
}

// FromPreview reads what pulumi preview --json --show-sames prints: the resources before the update, of
// which a first one has none, and those after it.
func FromPreview(document []byte) (before, after []Resource, err error) {
	type state struct {
		Type   string
		Inputs map[string]any
	}
	var preview struct {
		Steps []struct {
			Op, URN            string
			OldState, NewState *state
		}
	}
	if err := json.Unmarshal(document, &preview); err != nil {
		return nil, nil, fmt.Errorf("reading the preview: %w", err)
	}
	// A replacement has several steps for one URN.
	olds, news := map[string]bool{}, map[string]bool{}
	add := func(plan []Resource, seen map[string]bool, urn string, s *state) []Resource {
		if s == nil || s.Type == "" || seen[urn] {
			return plan
		}
		seen[urn] = true
		r := Resource{Type: s.Type, Name: urn[strings.LastIndex(urn, ":")+1:], Inputs: map[string]string{}}
		flatten(r.Inputs, "", s.Inputs)
		return append(plan, r)
	}
	for _, step := range preview.Steps {
		if !strings.HasPrefix(step.Op, "create") {
			before = add(before, olds, step.URN, step.OldState)
		}
		if !strings.HasPrefix(step.Op, "delete") {
			after = add(after, news, step.URN, step.NewState)
		}
	}
	if len(before)+len(after) == 0 {
		return nil, nil, fmt.Errorf("the preview has no resources: run pulumi preview with --json --show-sames")
	}
	return before, after, nil
}

// flatten collects every leaf by its path, with keys that contain dots or slashes in brackets.
func flatten(into map[string]string, path string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, nested := range v {
			switch {
			case strings.ContainsAny(key, "./"):
				flatten(into, path+"["+key+"]", nested)
			case path == "":
				flatten(into, key, nested)
			default:
				flatten(into, path+"."+key, nested)
			}
		}
	case []any:
		for i, nested := range v {
			flatten(into, fmt.Sprintf("%s[%d]", path, i), nested)
		}
	default:
		into[path] = fmt.Sprint(v)
	}
}

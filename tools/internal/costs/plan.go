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

// FromPreview reads what pulumi preview --json prints: the resources that exist after the update.
func FromPreview(document []byte) ([]Resource, error) {
	var preview struct {
		Steps []struct {
			Op, URN  string
			NewState struct {
				Type   string
				Inputs map[string]any
			}
		}
	}
	if err := json.Unmarshal(document, &preview); err != nil {
		return nil, fmt.Errorf("reading the preview: %w", err)
	}
	var plan []Resource
	for _, step := range preview.Steps {
		if strings.HasPrefix(step.Op, "delete") || step.NewState.Type == "" {
			continue
		}
		r := Resource{Type: step.NewState.Type, Name: step.URN[strings.LastIndex(step.URN, ":")+1:], Inputs: map[string]string{}}
		flatten(r.Inputs, "", step.NewState.Inputs)
		plan = append(plan, r)
	}
	if len(plan) == 0 {
		return nil, fmt.Errorf("the preview has no resources: run pulumi preview with --json --show-sames")
	}
	return plan, nil
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

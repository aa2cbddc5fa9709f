package review

import (
	"fmt"
	"slices"
	"strings"
)

const rollout = "kubernetes:argoproj.io/v1alpha1:Rollout"

// canaries say which Rollouts get a new version, and through which steps it goes.
func (w *writer) canaries() []block {
	names := map[string][]string{}
	var order []string
	for _, c := range w.plan.Changes {
		if c.Type != rollout || c.Old == nil || c.New == nil {
			continue
		}
		before, after := steps(c.Old), steps(c.New)
		said := "the next version goes "
		if slices.ContainsFunc(c.Properties, func(p Property) bool { return strings.HasPrefix(p.Path, "spec.template") }) {
			said = "a new version goes now "
		} else if before == after {
			continue
		}
		said += code(after)
		if before != after {
			said += ", before this change " + code(before)
		}
		service := strings.ReplaceAll(text(at(c.New, "metadata", "name")), "`", "'")
		said = strings.ReplaceAll(said, service+"-", "SERVICE-") // whose templates have its name
		if names[said] == nil {
			order = append(order, said)
		}
		names[said] = append(names[said], service)
	}
	var found []block
	for _, said := range order {
		found = append(found, block{text: fmt.Sprintf("- %s: %s\n", inline(names[said]), said)})
	}
	return found
}

// steps are those of a canary in words: 20 %, 30 s, gate pagamentos-gate, 100 %.
func steps(object map[string]any) string {
	canary, _ := at(object, "spec", "strategy", "canary").(map[string]any)
	list, _ := canary["steps"].([]any)
	var words []string
	for _, item := range list {
		step, _ := item.(map[string]any)
		switch {
		case step["setWeight"] != nil:
			words = append(words, text(step["setWeight"])+" %")
		case step["pause"] != nil:
			words = append(words, pause(at(step, "pause", "duration")))
		case step["analysis"] != nil:
			words = append(words, "analysis"+templates(step["analysis"]))
		default:
			words = append(words, text(step))
		}
	}
	said := strings.Join(append(words, "100 %"), " → ")
	if background := templates(canary["analysis"]); background != "" {
		said += "; watched by" + background
	}
	return said
}

func pause(duration any) string {
	switch s := text(duration); {
	case s == "":
		return "until somebody promotes it"
	case strings.Trim(s, "0123456789") == "":
		return s + " s"
	default:
		return s
	}
}

func templates(analysis any) string {
	list, _ := at(analysis, "templates").([]any)
	said := ""
	for _, template := range list {
		said += " " + text(at(template, "templateName"))
	}
	return said
}

// at returns the value below the keys, or nil.
func at(v any, keys ...string) any {
	for _, key := range keys {
		object, _ := v.(map[string]any)
		v = object[key]
	}
	return v
}
